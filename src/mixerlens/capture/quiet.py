"""Contexts that leave no trace: a silent library, and a model whose state is the same afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
    """Evaluation mode without gradients; training flags and random state are put back, also after an exception."""
    flags = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, flag in flags:
                module.training = flag
