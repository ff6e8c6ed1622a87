"""S4D: the convolution kernel, and the layer forward and backward."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.case import OURS, Bar, Case, Contender, Inputs, Outputs, Size
from bench.gradients import double, exact_gradients, forward_backward, leaves
from bench.peers import plain

SIZE = {"batch": 4, "time": 4096, "features": 256, "modes": 32}
QUICK = {"batch": 1, "time": 70, "features": 4, "modes": 4}
GRADIENTS = ("A", "C", "dt", "u")


def make(size: Size) -> Inputs:
    """S4D-Lin: A_n = -1/2 + i pi n, B = 1, log-uniform steps of 0.001 .. 0.1."""
    b, t, features, modes = (size[k] for k in ("batch", "time", "features", "modes"))
    low, high = math.log(1e-3), math.log(1e-1)
    A = torch.complex(torch.full((modes,), -0.5), math.pi * torch.arange(float(modes)))
    return {
        "A": A.repeat(features, 1),
        "B": torch.ones(features, modes, dtype=torch.complex64),
        "C": torch.randn(features, modes, dtype=torch.complex64),
        "dt": torch.exp(low + (high - low) * torch.rand(features)),
        "u": torch.randn(b, t, features),
        "grad": torch.randn(b, t, features),
    }


def dynamics(given: Inputs):
    from mixerlens import families

    return families.s4d(*(given[name] for name in ("A", "B", "C", "dt")), length=given["u"].shape[1])


def kernel(given: Inputs) -> Tensor:
    from mixerlens.operator.toeplitz import kernel

    return kernel(dynamics(given))[0]


def layer(given: Inputs) -> Tensor:
    return (dynamics(given).operator() @ given["u"][..., None])[..., 0]


def exact_kernel(given: Inputs) -> Outputs:
    """The impulse response of the float64 recurrence."""
    from mixerlens import references

    impulse = torch.zeros(1, given["u"].shape[1], given["dt"].shape[0], 1)
    impulse[:, 0] = 1
    named = {name: given[name] for name in ("A", "B", "C", "dt")}
    return (references.REGISTRY["s4d"](value=impulse, **named)[0, ..., 0].T,)


def recurrence(given: Inputs) -> Tensor:
    from mixerlens import references

    named = {name: given[name] for name in ("A", "B", "C", "dt")}
    return references.REGISTRY["s4d"](value=double(given)["u"][..., None], **named)[..., 0]


def with_leaves(given: Inputs) -> Inputs:
    return leaves(given, GRADIENTS)


CASES = (
    Case(
        name="s4d-kernel",
        title="S4D kernel, 256 features, 32 modes, L = 16384",
        make=make,
        size=SIZE | {"batch": 1, "time": 16384},
        quick=QUICK,
        gate=SIZE | {"batch": 1, "time": 4000, "features": 32},
        contenders=(
            Contender("mixerlens", kernel, tolerance=OURS),
            Contender("complex exponentials", plain.s4d_kernel, peer=True),
        ),
        reference=exact_kernel,
        bars=(Bar("speed", "mixerlens", 60, "complex exponentials"),),
    ),
    Case(
        name="s4d-backward",
        title="S4D, forward + backward, 256 features, 32 modes, batch 4, L = 4096",
        make=make,
        size=SIZE,
        quick=QUICK,
        gate=SIZE | {"batch": 1, "time": 1000, "features": 16},
        contenders=(
            Contender("mixerlens", forward_backward(layer, GRADIENTS), with_leaves, tolerance=OURS),
            Contender("plain S4D", forward_backward(plain.s4d, GRADIENTS), with_leaves, peer=True),
        ),
        reference=exact_gradients(recurrence, GRADIENTS),
        bars=(Bar("speed", "mixerlens", 7, "plain S4D"),),
    ),
)
