"""Phases and amplitudes against the exponential; scatterings against the layer."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.families import FAMILIES
from mixerlens.ring import from_modes, from_ssm, kuramoto_sakaguchi, oscillate, scattering_series


def coupling(nodes=12):
    A = torch.complex(torch.full((1, nodes), -0.5), math.pi * torch.arange(nodes)).to(torch.complex128)
    one = torch.ones_like(A)
    return from_modes(A, one, one, torch.tensor([0.1], dtype=torch.float64)).coupling[0]


def test_the_polar_form_is_solved_by_the_exponential():
    torch.manual_seed(3)
    start = torch.exp(1j * 0.5 * torch.randn(12, dtype=torch.float64)) * (1 + torch.rand(12, dtype=torch.float64))
    found = oscillate(coupling(), start, torch.linspace(0, 0.1, 6, dtype=torch.float64))
    assert found.error < 1e-11
    assert float((found.exact[-1] - start).abs().max()) > 0.1  # it has moved
    assert "only nonlinearity of the layer is its decoder" in found.statement


def test_the_right_hand_side_is_the_derivative_of_the_linear_system():
    torch.manual_seed(4)
    K, drive = torch.randn(5, 5, dtype=torch.complex128), torch.randn(5, dtype=torch.complex128)
    z = torch.randn(5, dtype=torch.complex128)
    theta, r = kuramoto_sakaguchi(K, drive)(z.angle(), z.abs())
    turned = (K @ z + drive) * torch.exp(-1j * z.angle())  # z' = (r' + i r theta') exp(i theta)
    assert torch.allclose(r, turned.real, atol=1e-13)
    assert torch.allclose(theta * z.abs(), turned.imag, atol=1e-13)


def kuramoto(steps, until=0.1):
    """Phases with every amplitude set back to one after each step, the step itself exact."""
    K = coupling()
    z = torch.exp(1j * torch.linspace(0, 1, 12, dtype=torch.float64))
    step = torch.linalg.matrix_exp(K * until / steps)
    for _ in range(steps):
        z = step @ z
        z = z / z.abs()
    return z


def test_kuramotos_phases_need_renormalising_and_err_by_the_step():
    truth = kuramoto(1 << 14)
    errors = [float((kuramoto(steps) - truth).abs().max()) for steps in (16, 32, 64)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.4)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.4)
    linear = torch.linalg.matrix_exp(coupling() * 0.1) @ torch.exp(1j * torch.linspace(0, 1, 12, dtype=torch.float64))
    assert float((truth - linear / linear.abs()).abs().max()) > 0.1  # and are another system


def test_what_cannot_be_integrated_is_named():
    start = torch.ones(12, dtype=torch.complex128)
    with pytest.raises(InputError, match="times must start at 0 and rise"):
        oscillate(coupling(), start, torch.tensor([0.1, 0.2]))
    start[3] = 0
    with pytest.raises(InputError, match="node 3 is at rest"):
        oscillate(coupling(), start, torch.tensor([0.0, 0.2]))


@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "rwkv7", "s4", "kimi_delta_attention"])
def test_the_scattering_series_ends_and_is_the_layer(name):
    given = FAMILIES[name].arguments(0)
    value = given.pop("value")
    ring = from_ssm(FAMILIES[name].function(**given))
    series = scattering_series(ring, value)
    want = FAMILIES[name].recurrence_by_hand(value=value, **given)
    assert float((series.sum(0) - want).abs().max()) < 1e-14 * float(series.abs().sum(0).max())
    for terms in (1, 4):  # waves scattered p times need p + 1 tokens
        assert float(series[terms:, :, :terms].abs().max()) == 0
    assert torch.allclose(scattering_series(ring, value, 3), series[:3])


def test_free_waves_have_no_series():
    given = FAMILIES["s4d"].arguments(0)
    value = given.pop("value")
    with pytest.raises(UnsupportedError, match="no scatterer"):
        scattering_series(from_ssm(FAMILIES["s4d"].function(**given)), value)
