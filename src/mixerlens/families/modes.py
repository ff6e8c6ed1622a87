"""State space layers with many inputs and outputs: the modes are the heads, what enters them the values.

A layer x_t = L x_{t-1} + B u_t, y_t = C x_t with a diagonal L is no mixer a channel: its kernel C L^l B is a matrix. It
is one mixer a mode: v = B u per token, x_m = alpha_m v_m, and y = C x sums over the modes. B and C act on one token
each and stay outside, as projections do.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Dense, Diagonal, Evolution
from mixerlens.families.checks import forgets, positive, tensors
from mixerlens.families.family import Family, register
from mixerlens.families.ssm import held
from mixerlens.shapes import wide
from mixerlens.support import Support

__all__ = ["linoss", "lru", "s5"]


def s5(
    A: Complex[Tensor, " modes"],
    dt: Float[Tensor, " modes"],
    length: int,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """x_t = exp(dt A) x_{t-1} + (exp(dt A) - 1) / A v_t with v = B u: S5's modes, zero-order hold, a head a mode.

    A (modes,) complex with Re A < 0, dt (modes,). Values v = u B^T, complex (batch, time, modes, 1), B before the hold.
    The layer is y = 2 Re sum_m C[:, m] x_m for one mode of each conjugate pair, Re without the 2 for all of them; D u
    is outside. alpha depends on i - j only; state one complex number a mode. Source: arXiv 2208.04933.
    """
    tensors(A=A, dt=dt)
    _per_mode(A=A, dt=dt)
    if not bool((A.real < 0).all()):
        raise InputError(f"Re A must be negative, its largest value is {float(A.real.max())}")
    rate, step = wide(A).to(torch.complex128), wide(dt)
    enters = held(rate[:, None], step)
    return _mode(enters, Diagonal(rate=rate[:, None], step_size=step), A.dtype.to_complex(), length, segments)


def lru(
    log_decay: Complex[Tensor, " modes"],
    length: int,
    gain: Float[Tensor, " modes"] | None = None,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """x_t = exp(log_decay) x_{t-1} + gain v_t with v = B u: the modes of the linear recurrent unit, a head a mode.

    log_decay (modes,) complex is -exp(nu_log) + i exp(theta_log), Re <= 0, positive values raise InputError. gain
    (modes,): exp(gamma_log), by default its value at initialisation, sqrt(1 - |exp(log_decay)|^2). Values v = u B^T,
    complex (batch, time, modes, 1). The layer is y = Re sum_m C[:, m] x_m; D u is outside. alpha depends on i - j only;
    state one complex number a mode. Source: arXiv 2303.06349.
    """
    tensors(log_decay=log_decay)
    forgets("log_decay", log_decay, "its real part is -exp(nu_log)")
    log = wide(log_decay).to(torch.complex128)
    gain = torch.sqrt(-torch.expm1(2 * log.real)) if gain is None else gain
    _per_mode(log_decay=log_decay, gain=gain)
    return _mode(wide(gain)[:, None], Diagonal(log_decay=log[:, None]), log_decay.dtype.to_complex(), length, segments)


def linoss(
    A: Float[Tensor, " modes"],
    dt: Float[Tensor, " modes"],
    length: int,
    implicit: bool = True,
    segments: Int[Tensor, "batch time"] | None = None,
) -> CoefficientDynamics:
    """z_t = z_{t-1} + dt (v_t - A x), x_t = x_{t-1} + dt z_t: LinOSS, a head a forced harmonic oscillator.

    A (modes,) >= 0 is the squared frequency, dt (modes,) >= 0. The restoring force uses x = x_t when ``implicit``
    (LinOSS-IM, which damps: |eigenvalue|^2 = 1 / (1 + dt^2 A)) and x = x_{t-1} otherwise (LinOSS-IMEX, which keeps the
    volume: |eigenvalue| = 1 while dt^2 A < 4, growth beyond). Values v = u B^T, real (batch, time, modes, 1). The layer
    is y = sum_m C[:, m] x_m; D u is outside. alpha depends on i - j only; state (z, x), two real numbers an oscillator,
    kept real: at A = 0 A_t has one eigenvector only and no diagonal form. Source: arXiv 2410.03943.
    """
    tensors(A=A, dt=dt)
    _per_mode(A=A, dt=dt)
    positive("dt", dt)
    if bool((A < 0).any()):
        raise InputError(f"A must not be negative, its smallest value is {float(A.min()):.3g}: pass it after relu")
    a, h = wide(A), wide(dt)
    if implicit:
        s = 1 / (1 + h * h * a)
        rows, key = ((s, -h * a * s), (h * s, s)), (h * s, h * h * s)
    else:
        rows, key = ((torch.ones_like(h), -h * a), (h, 1 - h * h * a)), (h, h * h)
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return _mode(torch.stack(key, -1), Dense(matrix), torch.result_type(A, dt), length, segments)


def _per_mode(**given: Tensor) -> None:
    """One number a mode each."""
    if len({x.shape for x in given.values()}) != 1 or next(iter(given.values())).dim() != 1:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        raise InputError(f"{' and '.join(given)} must be (modes,): got {shapes}")


def _mode(
    key: Tensor, evolution: Evolution, dtype: torch.dtype, length: int, segments: Tensor | None
) -> CoefficientDynamics:
    """Every mode driven by its own value and read at its last dimension."""
    query = torch.eye(key.shape[-1], dtype=dtype, device=key.device)[-1]
    key = key.to(dtype if key.is_complex() else dtype.to_real())
    return CoefficientDynamics(
        query=query[None, None, None],
        key=key[None, None],
        evolution=evolution,
        support=Support(segments=segments),
        length=length,
    )


register(
    Family(
        name="s5",
        title="S5",
        function=s5,
        example=lambda d: {
            "A": torch.complex(-d.uniform(d.heads, low=0.1), 3 * d.normal(d.heads)),
            "dt": d.uniform(d.heads, low=0.01, high=0.3),
            "length": d.time,
            "value": d.complex(d.batch, d.time, d.heads, 1),
        },
        evolution="exp(dt A_m), complex, constant",
        key="(exp(dt A_m) - 1) / A_m ; 1",
        state="1 complex",
        source="arXiv 2208.04933",
        note="a head a mode, v = (B u)_m, y = 2 Re C x: the layer's kernel is matrix valued",
    ),
    Family(
        name="lru",
        title="LRU",
        function=lru,
        example=lambda d: {
            "log_decay": torch.complex(-d.uniform(d.heads, low=0.01), 3 * d.normal(d.heads)),
            "gain": d.uniform(d.heads),
            "length": d.time,
            "value": d.complex(d.batch, d.time, d.heads, 1),
        },
        evolution="lambda_m, complex, constant",
        key="gamma_m ; 1",
        state="1 complex",
        source="arXiv 2303.06349",
        note="a head a mode, v = (B u)_m, y = Re C x: the layer's kernel is matrix valued",
    ),
    *(
        Family(
            name=f"linoss_{kind.lower()}",
            title=f"LinOSS-{kind}",
            function=linoss,
            example=lambda d, implicit=implicit: {
                "A": d.uniform(d.heads, high=30),
                "dt": d.uniform(d.heads, low=0.05, high=0.35),
                "implicit": implicit,
                "length": d.time,
                "value": d.values(1),
            },
            evolution=evolution,
            key=key,
            state="2",
            source="arXiv 2410.03943",
            note="a head an oscillator, v = (B u)_m, y = C x: the layer's kernel is matrix valued",
        )
        for kind, implicit, evolution, key in (
            ("IM", True, "[[S, -dt A S], [dt S, S]], S = 1 / (1 + dt^2 A)", "(dt S, dt^2 S) ; (0, 1)"),
            ("IMEX", False, "[[1, -dt A], [dt, 1 - dt^2 A]]", "(dt, dt^2) ; (0, 1)"),
        )
    ),
)
