"""The kinds of b_j: how strongly an impulse enters.

A kind returns one number for all tokens, (batch, time, heads), or (batch, time, heads, dim), a factor a dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixerlens.design.inits import constant
from mixerlens.design.parts.evolution.decay import STEPS, Decay
from mixerlens.design.parts.evolution.delta import beta
from mixerlens.design.parts.kind import Kind, Options, Sizes, table
from mixerlens.design.signals import Signal
from mixerlens.design.values import Option, integer, number
from mixerlens.errors import InputError
from mixerlens.families import dss
from mixerlens.families.exponentials import from_peak
from mixerlens.families.ssm import expm1
from mixerlens.shapes import spread, wide

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


HOMOGENEOUS = ("identity", "real_part", "relu")  # phi(c z) = c phi(z) for c > 0


def _named(name: str, says: str, **told: Any) -> Kind:
    """b is a signal."""
    return Kind(
        name, says, lambda a, o: a[name], {}, lambda sizes, o: [Signal(name, (), sizes.heads, says=says, **told)]
    )


def _exp(a: Assembly, o: Options) -> Tensor:
    """e^i in a unit that eta takes away again: the peak where eta is a row sum, what exceeds 1 of it for a floor. Of a
    phi that is not homogeneous eta takes none away, and the unit is 1."""
    below, peak = from_peak(a["log_input"], None)
    kind = a.spec.normalizer.kind if a.spec.readout.kind in HOMOGENEOUS else "none"
    if a.log_unit is None:
        a.log_unit = peak if kind == "row_sum" else peak.clamp(min=0) if kind == "floor" else torch.zeros_like(peak)
    lowest = torch.where(torch.isneginf(below), 0, below).detach().amin()
    a.span = max(a.span, float(-lowest) if kind == "row_sum" else max(float(peak.max()), 0.0))
    return torch.exp(below + (peak - a.log_unit))


def _rest(a: Assembly, o: Options) -> Tensor:
    """sqrt(1 - |a_t|^2) input_gate_t, without cancellation where a is close to 1."""
    gate, size = a["input_gate"], a.decay().log_size
    share = torch.sqrt(-torch.expm1(2 * size))
    return share * (gate if share.dim() == gate.dim() else gate.unsqueeze(-1))


def _factors(a: Assembly) -> tuple[Tensor, Tensor, Decay]:
    decay = a.decay()
    if decay.rate is None or decay.step is None:
        raise InputError(
            f"scaling {a.spec.scaling.kind}: evolution needs decay 'rate', whose rate and step it is made of"
        )
    step = decay.step if decay.rate.dim() == decay.step.dim() else decay.step.unsqueeze(-1)
    return decay.rate, step, decay


def _hold(a: Assembly, o: Options) -> Tensor:
    """(exp(step rate) - 1) / rate: a signal held over its token."""
    rate, step, _ = _factors(a)
    exponent = rate * step
    return (expm1(exponent) if exponent.is_complex() else torch.expm1(exponent)) / rate


def _softmax_kernel(a: Assembly, o: Options) -> Tensor:
    """Each mode's kernel sums to 1 / rate over ``lags``."""
    rate, _, decay = _factors(a)
    if not rate.is_complex() or rate.shape[:2] != (1, 1) or decay.step is None or decay.step.shape[:2] != (1, 1):
        raise InputError("scaling kernel_softmax: evolution must be diagonal with frequency, constant in time")
    one = torch.ones_like(rate[0, 0])
    step = decay.step[0, 0].expand(rate.shape[2])
    return dss(rate[0, 0], one, step, a.time, normalized=o["lags"], epsilon=o["epsilon"]).key


def _implicit(a: Assembly, o: Options) -> Tensor:
    """beta / (1 + beta k^T k): the exact solution of the online regression that a delta rule takes a step of."""
    b, square = wide(a["beta"]), wide(a.key).square().sum(-1)
    heads = max(b.shape[2], square.shape[2])
    b = spread(b, heads, 2)
    return b / (1 + b * spread(square, heads, 2))


def _gate(sizes: Sizes, o: Options) -> list[Signal]:
    told: dict[str, Any] = {"transform": "sigmoid", "init": constant(0.5)}
    return [Signal("input_gate", (), sizes.heads, says="how much of token j is let in", **told)]


SCALINGS = table(
    Kind("one", "b = 1", lambda a, o: None),
    Kind("constant", "b is a number", lambda a, o: o["value"], {"value": Option(number())}),
    Kind("inverse_sqrt_dim", "b = 1 / sqrt n", lambda a, o: a.dim**-0.5),
    Kind("beta", "b_j = beta_j, the delta rule's strength", lambda a, o: a["beta"], {}, lambda s, o: [beta(s.heads)]),
    Kind(
        "implicit",
        "b_j = beta_j / (1 + beta_j k_j^T k_j), an implicit step of the delta rule",
        _implicit,
        {},
        lambda s, o: [beta(s.heads, low=0)],
    ),
    _named("step", "b_j = step_j, the length of token j (Euler)", transform="softplus", low=0, init=STEPS),
    Kind("input_gate", "b_j = input_gate_j", lambda a, o: a["input_gate"], {}, _gate),
    Kind("rest", "b_j = sqrt(1 - |a_j|^2) input_gate_j: the variance of the state stays", _rest, {}, _gate),
    Kind(
        "exp",
        "b_j = exp(log_input_j), in a unit that eta takes away again",
        _exp,
        {},
        lambda s, o: [Signal("log_input", (), s.heads, init=constant(0.0), says="i_j of b_j = e^i_j")],
    ),
    Kind("hold", "b = (exp(step rate) - 1) / rate, a number a dimension: zero-order hold", _hold),
    Kind(
        "kernel_softmax",
        "b so that each mode's kernel sums to 1 / rate over ``lags`` tokens",
        _softmax_kernel,
        {"lags": Option(integer(2)), "epsilon": Option(number(0), 0.0)},
    ),
)
