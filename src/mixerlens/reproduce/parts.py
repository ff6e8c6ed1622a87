"""What a trained classifier still gets right when a part of its forward pass is replaced by its training mean.

    y = x + c,   x = k * u + D u   linear in the input, c the encoder's bias wave
    g = f(y),    o = gain (W1 g + b1),   logits = head(mean_t (u + o))

For every degree p, f is replaced by P_p, its Chebyshev series up to degree p on each feature's own range, that is by
all interactions of up to p waves, and what is removed, f(y) - P_p(y), by its mean over the training part at each time
step and feature. P_1 has the activation's slope at zero: its waves do not interact at all. The strict split of order 2,

    x_t^2 = sum_i T_ti^2 u_i^2 + sum_{i != j} T_ti T_tj u_i u_j,

is one convolution with the squared kernel. The gain of a GLU is the pass's own, "realised", and so knows of every
wave, or its training mean. Everything in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data import Sequences
from ..errors import UnsupportedError
from ..explicit.series import chebyshev
from ..models.s4d import S4DClassifier
from ..models.s4d_layer import causal_convolution

__all__ = ["DEGREES", "ablations"]

DEGREES = (1, 2, 4, 8, 16)
_AT_ONCE = 1 << 21  # numbers of a tensor: 16 MiB


@dataclass(frozen=True, eq=False)
class _Pass:
    """u: encoded inputs. y, g: before and after the activation. gain: of the GLU, None without. sequences first."""

    u: Tensor
    x: Tensor
    y: Tensor
    g: Tensor
    gain: Tensor | None
    diagonal: Tensor  # sum_i T_ti^2 u_i^2, without the bias wave


class _Reader:
    """One block of a model, in float64."""

    def __init__(self, model: S4DClassifier) -> None:
        config = model.config
        if config.layers != 1 or config.norm != "none" or config.activation == "identity":
            raise UnsupportedError("parts are taken from one block with an activation and without a norm")
        self.model = copy.deepcopy(model).double()
        self.block: Any = self.model.layers[0]
        self.width = config.features

    def passes(self, part: Sequences) -> Iterator[_Pass]:
        """The whole part, some sequences at a time."""
        time = part.inputs.shape[1]
        system, encoder = self.block.s4d, self.model.encoder
        kernel = system.kernel(time)
        whole = kernel.clone()
        whole[:, 0] += system.D
        bias = causal_convolution(kernel, encoder.bias.expand(1, time, -1)) + system.D * encoder.bias
        for inputs in part.inputs.split(max(1, _AT_ONCE // (time * self.width))):
            wave = inputs.double() @ encoder.weight.T
            x = causal_convolution(whole, wave)
            y = x + bias
            g = self.block.activation(y)
            gain = None
            if self.block.gated:
                gain = torch.sigmoid(self.block.output(g)[..., self.width :])
            yield _Pass(wave + encoder.bias, x, y, g, gain, causal_convolution(whole.square(), wave.square()))

    def logits(self, u: Tensor, g: Tensor, gain: Tensor | None) -> Float[Tensor, "sequences classes"]:
        o = g
        if hasattr(self.block.output, "weight"):
            o = g @ self.block.output.weight[: self.width].T + self.block.output.bias[: self.width]
        return self.model.head((u + (o if gain is None else gain * o)).mean(1))


@torch.no_grad()
def ablations(model: S4DClassifier, train: Sequences, test: Sequences) -> dict[str, Any]:
    """Which test sequences are right for every part kept, with the GLU's gain realised and at its training mean.

    Keys: "up to p" for the degrees, "all" for the activation itself, "order 2, i = j" and "order 2, i != j" for the
    first degree and one half of the second, "linear waves, zero" for a removal that leaves nothing. Values: Boolean
    arrays over the test part under "realised" and "mean". "range": the largest |y| of a feature, over both parts (no
    label is looked at), which the series are made for; "disagreement": the largest difference between the logits with
    everything kept and the model's own.

    Raises UnsupportedError for more than one block, a norm, or an activation that is the identity.
    """
    reader = _Reader(model)
    # the series diverge beyond their range, and the largest test value is no knowledge of any class
    ranges = torch.stack([p.y.abs().amax((0, 1)) for part in (train, test) for p in reader.passes(part)]).amax(0)
    ranges = ranges.clamp(min=1e-3) * (1 + 1e-9)
    name = model.config.activation
    series = {degree: chebyshev(name, ranges, degree=degree) for degree in DEGREES}
    quadratic = series[2].homogeneous(1e-6)

    def kept(p: _Pass) -> dict[str, Tensor]:
        found = {f"up to {degree}": each(p.y) for degree, each in series.items()}
        # about the bias wave c: b0 + b1 y + b2 (c^2 + 2 c x) is affine in the input, b2 x^2 its order 2
        affine = quadratic[:, 0] + quadratic[:, 1] * p.y + quadratic[:, 2] * (p.y.square() - p.x.square())
        found["order 2, i = j"] = affine + quadratic[:, 2] * p.diagonal
        found["order 2, i != j"] = affine + quadratic[:, 2] * (p.x.square() - p.diagonal)
        return found

    removed: dict[str, Tensor] = {}
    gain_mean: Tensor | None = None
    for p in reader.passes(train):
        for key, values in kept(p).items():
            lost = (p.g - values).sum(0) / len(train)
            removed[key] = removed[key] + lost if key in removed else lost
        if p.gain is not None:
            some = p.gain.sum(0) / len(train)
            gain_mean = some if gain_mean is None else gain_mean + some
    gains = ("realised",) if gain_mean is None else ("realised", "mean")
    rights: dict[str, dict[str, list[Tensor]]] = {gain: {} for gain in gains}
    worst, seen = 0.0, 0
    for p in reader.passes(test):
        labels = test.labels[seen : seen + len(p.g)]
        versions = {key: values + removed[key] for key, values in kept(p).items()}
        versions |= {"all": p.g, "linear waves, zero": series[1](p.y) - series[1].coefficients[:, 0]}
        for which in gains:
            gain = p.gain if which == "realised" else gain_mean
            for key, g in versions.items():
                logits = reader.logits(p.u, g, gain)
                rights[which].setdefault(key, []).append(logits.argmax(-1) == labels)
        own = reader.model(test.inputs[seen : seen + len(p.g)].double())
        worst = max(worst, float((reader.logits(p.u, p.g, p.gain) - own).abs().max()))
        seen += len(p.g)
    found: dict[str, Any] = {
        which: {key: torch.cat(some).numpy().astype(np.bool_) for key, some in each.items()}
        for which, each in rights.items()
    }
    return found | {"range": float(ranges.max()), "disagreement": worst}
