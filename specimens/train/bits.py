"""Bits per byte of a byte-level language model."""

from __future__ import annotations

import math
from contextlib import nullcontext
from itertools import pairwise

import torch
from architectures import CONTEXT, END
from corpus import to_ids
from torch import Tensor
from torch.nn import functional as F

WINDOW, STRIDE = 1024, 512
BANDS = (0, 256, 1024, CONTEXT)


def held_out(model, blocks: list[bytes]) -> float:
    """Mean over all bytes, each predicted from its block's earlier bytes: 512 to 1024 of them once that many exist."""
    bits = torch.cat([_strided(model, block) for block in blocks])
    return float(bits.mean())


def by_position(model, blocks: list[bytes]) -> dict[str, float]:
    """Mean in bands of the position, over windows of the whole context that do not overlap."""
    losses = []
    for block in blocks:
        ids = _ids(block)
        for start in range(0, ids.numel() - CONTEXT, CONTEXT):
            losses.append(_bits(model, ids[start : start + CONTEXT + 1]))
    table = torch.stack(losses)
    return {f"{low}-{high - 1}": float(table[:, low:high].mean()) for low, high in pairwise(BANDS)}


def of_text(model, text: bytes) -> float:
    """Mean over a text that fits the context, read in one piece."""
    return float(_bits(model, _ids(text)).mean())


def _ids(text: bytes) -> Tensor:
    return torch.cat([torch.tensor([END]), torch.from_numpy(to_ids(text))])


def _strided(model, block: bytes) -> Tensor:
    ids, done, parts = _ids(block), 0, []
    while done < ids.numel() - 1:
        end = min(max(done + STRIDE, WINDOW if done == 0 else 0), ids.numel() - 1)
        start = max(0, end - WINDOW)
        parts.append(_bits(model, ids[start : end + 1])[done - start :])
        done = end
    return torch.cat(parts)


@torch.no_grad()
def _bits(model, ids: Tensor) -> Tensor:
    """-log2 p of ids[1:], each given the ids before it: (len(ids) - 1) float64."""
    with _scan(model):
        logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0]
    return F.cross_entropy(logits.double(), ids[1:], reduction="none") / math.log(2)


def _scan(model):
    if model.config.model_type != "jamba":
        return nullcontext()
    from scan import library_scan

    return library_scan()
