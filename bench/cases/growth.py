"""Growth with the length, from 4,096 to 131,072 tokens: scans and linear views; beside them the generic core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import views
from bench.case import OURS, Bar, Case, Contender, Inputs, Size
from bench.cases import attention, delta, mamba1, mamba2
from bench.gradients import exact_gradients, forward_backward, leaves

LENGTHS = (4096, 32768, 131072)
CORE_LENGTHS = (2048, 4096, 8192)
# a family of each kind of evolution
CORE = {
    "mamba2": "scalar",
    "gated_linear_attention": "diagonal",
    "lru": "constant complex, by FFT",
    "mamba3": "rotating block",
    "retnet": "rotation",
    "gated_delta_net": "delta",
    "kimi_delta_attention": "diagonal plus rank one",
    "gated_delta_product": "micro-steps",
    "rwkv6": "nilpotent block",
    "titans_linear": "momentum",
    "log_linear_attention": "Fenwick",
}


def grown(
    name: str,
    title: str,
    make: Callable[[Size], Inputs],
    size: Size,
    quick: Size,
    scan: Callable[[Inputs], Tensor],
    recurrence: Callable[[Inputs], Tensor],
    gradients: tuple[str, ...],
    dynamics: Callable[[Inputs], Any],
    dense: Callable[[Inputs], Tensor],
) -> Case:
    """One mixer's scan, forward and with backward, and its linear views, at all lengths."""
    both = Contender(
        "scan, forward + backward",
        forward_backward(scan, gradients),
        lambda given: leaves(given, gradients),
        tolerance=OURS,
        reference=exact_gradients(recurrence, gradients),
    )
    ways = (
        Contender("scan, forward", scan, tolerance=OURS),
        both,
        *(views.linear(view, dynamics, dense) for view in views.LINEAR),
    )
    return Case(
        name=name,
        title=title,
        make=make,
        size=dict(size) | {"time": LENGTHS[-1]},
        quick=quick,
        gate=dict(size) | {"time": 300},
        contenders=ways,
        reference=lambda given: (recurrence(given),),
        bars=tuple(Bar("exponent", way.name, 1.1) for way in ways),
        lengths=LENGTHS,
        seconds=0.0,
        memory=False,  # the `long` cases have it at the same length
    )


def delta_dynamics(given: Inputs) -> Any:
    from mixerlens import families

    return families.gated_delta_net(**_named(given, delta.COEFFICIENTS))


def mamba2_dynamics(given: Inputs) -> Any:
    from mixerlens import families

    return families.mamba2(**_named(given, ("A", "B", "C", "dt")))


def _named(given: Inputs, names: tuple[str, ...]) -> Inputs:
    return {name: given[name] for name in names}


def core(name: str, kind: str) -> Contender:
    """op @ v forward and backward of a family in float32, with the seeded arguments of its row in the registry."""
    from mixerlens.families import FAMILIES

    family = FAMILIES[name]

    def draw(given: Inputs) -> Inputs:
        from mixerlens.families.draw import Draw

        sized = Draw(0)
        sized.batch, sized.time, sized.heads, sized.dim, sized.width = 1, given["time"], 2, 16, 16
        arguments = {k: _cast(x, torch.float32) for k, x in family.example(sized).items()}
        return {"value": arguments.pop("value").requires_grad_(), "arguments": arguments}

    def both(y: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        return y.detach(), *torch.autograd.grad(y, [value], torch.ones_like(y))

    def run(given: Inputs) -> tuple[Tensor, ...]:
        return both(family.function(**given["arguments"]).operator() @ given["value"], given["value"])

    def exact(given: Inputs) -> tuple[Tensor, ...]:
        single = draw(given)  # the same rounded numbers
        value = _cast(single["value"].detach(), torch.float64).requires_grad_()
        return both(family.recurrence_by_hand(value=value, **single["arguments"]), value)

    return Contender(f"{kind} ({family.title})", run, draw, tolerance=OURS, reference=exact)


def _cast(x: Any, dtype: torch.dtype) -> Any:
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        return x
    return x.to(dtype.to_complex() if x.is_complex() else dtype)


CASES = (
    grown(
        "growth-mamba1", "Mamba-1, 4 channels, N = 16: growth", mamba1.make,
        {"batch": 1, "channels": 4, "state": 16}, mamba1.QUICK, mamba1.ours, mamba1.plain, mamba1.GRADIENTS,
        attention.dynamics, attention.dense,
    ),
    grown(
        "growth-mamba2", "Mamba-2, 2 heads, head dim 16, N = 64: growth", mamba2.make,
        {"batch": 1, "heads": 2, "head_dim": 16, "state": 64}, mamba2.QUICK, mamba2.ours, mamba2.plain,
        mamba2.GRADIENTS, mamba2_dynamics,
        lambda given: views.alpha("mamba2", _named(given, ("A", "B", "C", "dt")), *given["dt"].shape[1:]),
    ),
    grown(
        "growth-delta", "Gated delta, 1 head, d = 64: growth", delta.make,
        {"batch": 1, "heads": 1, "dim": 64}, delta.QUICK, delta.ours, delta.recurrence, delta.GRADIENTS,
        delta_dynamics,
        lambda given: views.alpha("gated_delta_net", _named(given, delta.COEFFICIENTS), *given["beta"].shape[1:]),
    ),
    Case(
        name="growth-core",
        title="op @ v, forward + backward in v, 2 heads, dim 16: growth",
        make=lambda size: dict(size),
        size={"time": CORE_LENGTHS[-1]},
        quick={"time": 70},
        gate={"time": 300},
        contenders=tuple(core(name, kind) for name, kind in CORE.items()),
        reference=lambda given: (),
        lengths=CORE_LENGTHS,
        seconds=0.0,
        memory=False,
        note="from 2,048 to 8,192 tokens, without a bar; log-linear attention's state itself grows as log L",
    ),
)  # fmt: skip
