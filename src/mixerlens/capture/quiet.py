"""Contexts that leave no trace: a silent library, and a model whose state is the same afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from operator import is_
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, warnings or reports from transformers and its hub client; settings are put back afterwards."""
    import logging as standard

    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub = standard.getLogger("huggingface_hub")
    hub_level = hub.level
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    hub.setLevel(standard.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.setLevel(hub_level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; what a forward leaves on the modules is put back, also after an exception.

    Put back are training flags, random state, plain attributes (recurrent_gemma keeps its state there), which buffers
    there are, and weights that a model rescales for inference (rwkv).
    """
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    on_cuda = torch.cuda.is_initialized()
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"}) if on_cuda else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        if any(attributes["training"] for _, attributes, _ in kept):
            model.eval()
        try:
            yield
        finally:
            _scale_back(kept)
            for module, attributes, buffers in kept:
                _restore(vars(module), attributes)
                _restore(module._buffers, buffers)


def _restore(now: dict[str, Any], before: dict[str, Any]) -> None:
    if now.keys() == before.keys() and all(map(is_, now.values(), before.values())):
        return
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, value in before.items():
        if now.get(name) is not value:
            now[name] = value


def _scale_back(kept: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]]) -> None:
    """rwkv divides weights by powers of two when it first runs in evaluation mode; its own method multiplies back."""
    for module, attributes, _ in kept:
        before = attributes.get("layers_are_rescaled")
        if isinstance(before, bool) and getattr(module, "layers_are_rescaled", before) != before:
            module.training = not before
            module._rescale_layers()  # type: ignore[operator]
