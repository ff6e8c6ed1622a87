"""Tiny models of every family that can be accelerated, and runs of them.

This folder is not called accelerate: that name belongs to a package that transformers imports.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from capture import tiny
from mixerlens.accelerate.wide import Widened

# family -> scan, accelerated mixers, calls a mixer makes in a forward pass
FAMILIES = {
    "mamba": ("selective_scan", 2, 1),
    "falcon_mamba": ("selective_scan", 2, 1),
    "jamba": ("selective_scan", 3, 1),
    "zamba": ("selective_scan", 4, 2),
    "mamba2": ("ssd_scan", 2, 1),
    "bamba": ("ssd_scan", 2, 1),
    "zamba2": ("ssd_scan", 4, 1),
    "falcon_h1": ("ssd_scan", 2, 1),
    "granitemoehybrid": ("ssd_scan", 2, 1),
    "nemotron_h": ("ssd_scan", 2, 1),
    "qwen3_next": ("gated_delta_scan", 3, 1),
    "qwen3_5": ("gated_delta_scan", 3, 1),
    "qwen3_5_moe": ("gated_delta_scan", 3, 1),
    "qwen4_exp": ("gated_delta_scan", 3, 1),
    "olmo_hybrid": ("gated_delta_scan", 3, 1),
}
ONE_EACH = ("mamba", "mamba2", "qwen3_next")


def wide_model(name: str):
    """A float64 model whose experts take float64."""
    model = tiny.stirred(name).double()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model


def logits(model, ids, **more):
    with torch.no_grad():
        return model(input_ids=ids, **({"use_cache": False} | more))[0]


def gradients(model, ids):
    model.zero_grad()
    out = model(input_ids=ids, use_cache=False)[0]
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    (out * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative(found, wanted) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).abs().max() / wanted.abs().max())


def left_padded():
    """Ids (2, 67) and a mask that hides the first nine tokens of the second row."""
    ids, mask = tiny.ids(2, 67), torch.ones(2, 67, dtype=torch.long)
    mask[1, :9] = 0
    return ids, mask


@contextmanager
def float64_throughout() -> Iterator[None]:
    """The libraries' functions without their rounding to float32: the only run that can tell 1e-12."""
    with Widened():
        yield


def scope_of(model) -> dict:
    """The globals of the file of a model's class."""
    import sys

    return vars(sys.modules[type(model).__module__])
