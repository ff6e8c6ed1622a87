"""What a recorded call is worth: its arguments, put through a plain float64 recurrence, must give its output."""

from __future__ import annotations

import torch

from mixerlens import references
from mixerlens.capture import MixerCall


def error(call: MixerCall) -> float:
    """Largest error over heads, relative to each head's largest output, on valid tokens."""
    exact = call.to(torch.float64)
    ours = exact.predict(references.REGISTRY[call.family](value=exact.values, **exact.arguments))
    keep = torch.ones(ours.shape[:2], dtype=torch.bool) if call.valid is None else call.valid
    ours, theirs = ours[keep], exact.output[keep]
    assert torch.isfinite(theirs).all()
    return ((ours - theirs).abs().amax((0, 2)) / theirs.abs().amax((0, 2))).max().item()


def mixed_share(call: MixerCall) -> float:
    """How much of the output the coefficients account for, beside the skip: a check of nothing would be no check."""
    exact = call.to(torch.float64)
    mixed = references.REGISTRY[call.family](value=exact.values, **exact.arguments)
    return (mixed.abs().max() / (0 if exact.skip is None else exact.skip.abs().max())).item()
