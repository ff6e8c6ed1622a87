"""The three real rings are the layer, and their couplings close as they say."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.families import FAMILIES, s5
from mixerlens.ring import from_modes, from_ssm, participation_ratio, real_ring
from mixerlens.ring.real import KINDS


def pairs(modes=8, real_first=True):
    torch.manual_seed(0)
    frequency = math.pi * torch.arange(modes, dtype=torch.float64) + (0 if real_first else 0.3)
    A = torch.complex(-0.5 + 0 * frequency, frequency).expand(2, -1)
    given = {"A": A, "B": torch.ones_like(A), "C": torch.randn(2, modes, dtype=torch.complex128)}
    return given | {"dt": torch.tensor([0.1, 0.03], dtype=torch.float64)}


def by_hand(given, u):
    """2 Re(C x), x_t = exp(dt A) x_{t-1} + (exp(dt A) - 1) / A B u_t."""
    z = given["A"] * given["dt"][:, None]
    state, rows = torch.zeros(u.shape[0], *z.shape, u.shape[-1], dtype=z.dtype), []
    for now in u.unbind(1):
        state = (
            torch.exp(z)[..., None] * state
            + ((torch.exp(z) - 1) / given["A"] * given["B"])[..., None] * now[:, :, None]
        )
        rows.append(2 * torch.einsum("hn,bhnc->bhc", given["C"], state).real)
    return torch.stack(rows, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_ring_is_the_layer(kind):
    given = pairs()
    ring = real_ring(from_modes(**given), kind)
    u = torch.randn(2, 150, 2, 3, dtype=torch.float64)
    want = by_hand(given, u)
    assert float((ring.run(u) - want).abs().max() / want.abs().max()) < 1e-12
    assert ring.nodes == {"antiperiodic": 16, "dummy": 17, "real_mode": 15}[kind]
    sampled = torch.linalg.matrix_exp(ring.generator * given["dt"][:, None, None])
    assert float((sampled - ring.step).abs().max()) < 1e-13


@pytest.mark.parametrize("kind", KINDS)
def test_how_the_ring_closes(kind):
    K = real_ring(from_modes(**pairs()), kind).generator
    n = torch.arange(K.shape[-1])
    apart = n[:, None] - n
    sign = torch.where((apart < 0) & torch.tensor(kind == "antiperiodic"), -1.0, 1.0)
    assert float((K - sign * K[:, :, 0][:, apart % len(n)]).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_a_pulse_enters_at_one_node(kind):
    ring = real_ring(from_modes(**pairs(), sampling="impulse"), kind)
    assert float(ring.inject[:, 1:].abs().max()) < 1e-14 * float(ring.inject[:, 0].abs().min())


@pytest.mark.parametrize("kind", KINDS)
def test_the_pulse_stays_sharp_on_the_short_ring_and_refocuses_after_a_lap_on_the_others(kind):
    """A lap of S4D-Lin is a time of 2. On P nodes the pulse stands on one whenever 2 / P have passed, if it does."""
    given = pairs(modes=16)
    nodes = {"antiperiodic": 32, "dummy": 33, "real_mode": 31}[kind]
    given["dt"] = torch.full((2,), 2 / nodes, dtype=torch.float64)  # one node a step
    response = real_ring(from_modes(**given, sampling="impulse"), kind).impulse_response(nodes + 1)
    carriers = participation_ratio(response.to(torch.complex128))[:, 0]
    assert float(carriers[nodes]) == pytest.approx(1, abs=1e-9)
    if kind == "real_mode":
        assert float(carriers.max()) < 1 + 1e-9
    else:
        assert 2 < float(carriers.max()) < 5
    turned = response[nodes, 0, 0] / response[0, 0, 0]
    assert float(turned) == pytest.approx(math.exp(-1), rel=1e-9)


def test_plain_two_m_periodic_nodes_have_too_few_pairs():
    """Wavenumbers of 2 M periodic nodes: 0 and M are real, M - 1 pairs remain, so M conjugate pairs do not fit."""
    M = 8
    sampled = torch.linalg.eigvals(
        torch.randn(2 * M, dtype=torch.float64)[(torch.arange(2 * M)[:, None] - torch.arange(2 * M)) % (2 * M)]
    )
    assert int((sampled.imag.abs() < 1e-9).sum()) == 2


def test_what_has_no_real_ring_is_refused():
    with pytest.raises(UnsupportedError, match=r"the first mode is not real: its frequency is 0.3"):
        real_ring(from_modes(**pairs(real_first=False)), "real_mode")
    family = FAMILIES["s5"].arguments(0)
    family.pop("value")
    B, C = torch.randn(3, 1, dtype=torch.complex128), torch.randn(4, 3, dtype=torch.complex128)
    many = from_ssm(s5(**family), B=B, C=C, scale=2.0)
    with pytest.raises(UnsupportedError, match="one real output"):
        real_ring(many)
    with pytest.raises(InputError, match="kind is 'periodic'"):
        real_ring(from_modes(**pairs()), "periodic")
    with pytest.raises(InputError, match=r"u must be \(batch, time, 2, channels\)"):
        real_ring(from_modes(**pairs())).run(torch.zeros(1, 4, 3, 1))
