"""The S4D layer against the zero-order-hold recurrence it stands for."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens import families
from mixerlens.errors import InputError
from mixerlens.models.s4d_layer import S4D


def recurrence(layer: S4D, u: torch.Tensor) -> torch.Tensor:
    """x_t = Abar x_{t-1} + Bbar u_t, y = 2 Re(C x) + D u in complex128, from the parameters themselves."""
    A = -torch.exp(layer.log_decay).double() + 1j * layer.frequency.double()
    step = torch.exp(layer.log_dt).double()[:, None]
    B = torch.ones_like(A) if layer.B is None else layer.B[..., 0].double() + 1j * layer.B[..., 1].double()
    C = layer.C[..., 0].double() + 1j * layer.C[..., 1].double()
    advance = torch.exp(step * A)
    held = (advance - 1) / A * B
    state, rows = torch.zeros(u.shape[0], *A.shape, dtype=A.dtype), []
    for u_t in u.double().unbind(1):
        state = advance * state + held * u_t[..., None]
        rows.append(2 * (C * state).sum(-1).real + layer.D.double() * u_t)
    return torch.stack(rows, 1)


def relative(got, want):
    return float((got.double() - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("explicit_b", [False, True])
@pytest.mark.parametrize("time", [1, 2, 7, 64, 101])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_convolution_is_the_recurrence(explicit_b, time, dtype, bound):
    layer = S4D(6, 5, explicit_b=explicit_b).to(dtype)
    if layer.B is not None:
        torch.nn.init.normal_(layer.B)
    u = torch.randn(2, time, 6, dtype=dtype)
    y = layer(u)
    assert y.dtype == dtype
    assert relative(y, recurrence(layer, u)) < bound


def test_gradients_are_the_recurrences():
    layer = S4D(4, 3, explicit_b=True).double()
    u = torch.randn(2, 19, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 19, 4, dtype=torch.float64)
    wanted = [u, *layer.parameters()]
    got, want = (torch.autograd.grad((weight * y).sum(), wanted) for y in (layer(u), recurrence(layer, u)))
    for (name, _), a, b in zip([("u", u), *layer.named_parameters()], got, want, strict=True):
        assert relative(a, b) < 1e-11, name


def test_float32_phases_do_not_drift_over_a_long_sequence():
    """At lag 4000 a fast mode has turned by 10^4 radians, where float32 phases would be off by 1e-3."""
    layer = S4D(8, 32, step_range=(1e-2, 1e-1))
    with torch.no_grad():
        layer.log_decay.fill_(math.log(1e-3))  # long memory, so that the late lags weigh
    impulse = torch.zeros(1, 4096, 8)
    impulse[:, 0] = 1
    assert relative(layer(impulse), recurrence(layer, impulse)) < 1e-6


def test_small_steps_do_not_cancel():
    layer = S4D(4, 3, step_range=(1e-9, 1e-9)).double()
    family = layer.parameters_for_family()
    first = 2 * (family["C"] * family["dt"][:, None]).sum(-1).real  # (exp(z) - 1) / A -> dt
    assert relative(layer.kernel(1)[:, 0], first) < 1e-7


@pytest.mark.parametrize("log_decay", [-700.0, -745.0, -746.0, -math.inf])
def test_a_mode_that_neither_decays_nor_turns_is_a_sum(log_decay):
    """A = 0, or so small that dt A underflows: x_t = x_{t-1} + dt u_t."""
    layer = S4D(2, 3, step_range=(1e-3, 1e-1)).double()
    with torch.no_grad():
        layer.log_decay[:, 0] = log_decay
        layer.frequency[:, 0] = 0
    assert bool(layer.kernel(9).isfinite().all())
    with torch.no_grad():
        layer.C[:, 1:] = 0
    u = torch.randn(1, 30, 2, dtype=torch.float64)
    step = torch.exp(layer.log_dt)
    want = 2 * layer.C[:, 0, 0] * step * u.cumsum(1) + layer.D * u
    assert relative(layer(u), want) < 1e-12
    grown = torch.autograd.grad(layer(u).sum(), [layer.log_dt, layer.frequency])
    assert all(bool(x.isfinite().all()) for x in grown)
    # near 0 the state of frequency w is sum_j dt (1 + i w dt (t - j + 1/2)) u_j: its slope in w, for C imaginary
    slope = torch.autograd.grad(layer(u)[0, -1].sum(), layer.frequency)[0][:, 0]
    lag = torch.arange(29.5, 0, -1, dtype=torch.float64)[:, None]
    assert relative(slope, -2 * layer.C[:, 0, 1] * step**2 * (lag * u[0]).sum(0)) < 1e-12


@pytest.mark.parametrize("rate", [-1e-300, -5e-324])
def test_families_hold_a_mode_whose_step_underflows_as_a_sum(rate):
    """dt A is zero or denormal: x_t = x_{t-1} + dt u_t in `families.s4d` and in S5's modes, too."""
    A = torch.full((2, 1), rate, dtype=torch.complex128)
    one, dt = torch.ones_like(A), torch.tensor([1e-3, 0.1], dtype=torch.float64)
    u = torch.randn(1, 20, 2, 1, dtype=torch.float64)
    want = dt[:, None] * u.cumsum(1)
    assert relative(families.s4d(A=A, B=one, C=one, dt=dt, length=20).operator() @ u, 2 * want) < 1e-12
    found = families.s5(A=A[:, 0], dt=dt, length=20).operator() @ u.to(torch.complex128)
    assert relative(found.real, want) < 1e-12


def test_parameters_for_the_family_are_what_the_layer_uses():
    layer = S4D(6, 5, explicit_b=True)
    family = layer.parameters_for_family()
    assert {name: (tuple(t.shape), t.dtype) for name, t in family.items()} == {
        **dict.fromkeys("ABC", ((6, 5), torch.complex64)),
        "dt": ((6,), torch.float32),
    }
    assert bool((family["A"].real < 0).all())
    wide = {name: t.to(torch.complex128 if t.is_complex() else torch.float64) for name, t in family.items()}
    z = wide["A"] * wide["dt"][:, None]
    weight = wide["C"] * wide["B"] * (torch.exp(z) - 1) / wide["A"]
    lags = torch.arange(50)
    kernel = 2 * (weight[..., None] * torch.exp(z[..., None] * lags)).sum(1).real
    assert relative(layer.kernel(50), kernel) < 1e-7


def test_initial_modes_are_s4d_lin():
    layer = S4D(3, 4).double()
    A = layer.parameters_for_family()["A"]
    torch.testing.assert_close(A[1], torch.complex(torch.full((4,), -0.5), math.pi * torch.arange(4.0)).to(A.dtype))
    assert bool((layer.log_dt >= math.log(1e-3)).all() and (layer.log_dt <= math.log(1e-1)).all())


@pytest.mark.parametrize("shape", [(2, 7), (2, 7, 5), (2, 0, 6)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="6 features"):
        S4D(6, 2)(torch.zeros(shape))
