"""How far rounding alone moves a model's answer: the scale against which a fault has to be told from noise.

Two correct ways to compute the same logits differ by rounding, which a deep model amplifies by an amount that depends
on its weights.  It is measured: the same forward is run once more with the result of every innermost module moved by
half a unit in the last place, up or down at random.  That is the error which one correctly rounded operation may make.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mixerlens.capture import Lens
from mixerlens.capture.lens import answer

FLOOR = 1e-5
FACTOR = 8.0
LOOSEST = {torch.float64: 1e-3, torch.float32: 1e-3}  # a check that allowed more could not fail
LOOSEST_HALF = 0.1


def rounding_noise(lens: Lens, ids: Tensor, full: Tensor) -> float:
    """Largest change of `full`, the answer to ids (1, time), relative to its largest entry, under half-unit changes.

    float32's unit is used for float64 models too: their normalisation layers round to float32.
    """
    unit = max(torch.finfo(lens.dtype).eps, torch.finfo(torch.float32).eps) / 2
    generator = torch.Generator().manual_seed(0)

    def shake(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        sign = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
        return output * (1 + unit * sign)

    with ExitStack() as undo:
        for module in lens.model.modules():
            if next(module.children(), None) is None:
                undo.callback(module.register_forward_hook(shake).remove)
        moved = answer(lens.forward(ids))
    return float((moved - full).abs().max() / full.abs().max())


def logits_tolerance(lens: Lens, ids: Tensor, full: Tensor) -> tuple[float | None, str]:
    """max(1e-5, 8 x the measured rounding noise), and the reason in words.

    None where that is so much (1e-3, in half precision 0.1) that faults would pass: then nothing can be said.
    """
    noise = rounding_noise(lens, ids, full)
    if FACTOR * noise > LOOSEST.get(lens.dtype, LOOSEST_HALF):
        dtype = str(lens.dtype).removeprefix("torch.")
        return None, (
            f"rounding alone moves this model's answer by {noise:.0e} in {dtype}, which would hide a fault; "
            "open it in a wider dtype"
        )
    if not noise > FLOOR / FACTOR:  # also where the answer is not finite, which the comparison then reports
        return FLOOR, f"tolerance: float32 floor (measured rounding noise {noise:.0e})"
    return FACTOR * noise, f"tolerance: {FACTOR:.0f} x the measured rounding noise {noise:.0e}"
