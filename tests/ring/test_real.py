"""The three real rings are the layer, and their couplings close as they say."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.ring import from_modes, real_ring
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
    size = ring.inject.abs() / ring.inject.abs().amax(-1, keepdim=True)
    if kind == "antiperiodic":  # half-integer waves of equal size are a pulse that has both signs
        assert float(size[:, 0].min()) == 1
    else:
        assert float(size[:, 1:].max()) < 1e-14


def test_the_pulse_stays_sharp_on_the_short_ring_and_refocuses_on_the_others():
    given = pairs(modes=16)
    given["dt"] = torch.full((2,), 2 / 31 / 8, dtype=torch.float64)  # a lap of the 31 nodes is 248 tokens
    from mixerlens.ring import participation_ratio

    short = real_ring(from_modes(**given, sampling="impulse"), "real_mode").impulse_response(249)
    whole_steps = participation_ratio(short[::8].to(torch.complex128))
    assert float(whole_steps.max()) < 1 + 1e-9  # one node, every time the pulse stands on one
    assert int(short[8, 0].abs().argmax()) in (1, 30)
    long = real_ring(from_modes(**given, sampling="impulse"), "dummy").impulse_response(249)
    wide = participation_ratio(long.to(torch.complex128))[:, 0]
    assert float(wide[60:190].max()) > 1.5


def test_what_has_no_real_ring_is_refused():
    with pytest.raises(UnsupportedError, match=r"the first mode is not real: its frequency is 0.3"):
        real_ring(from_modes(**pairs(real_first=False)), "real_mode")
    with pytest.raises(InputError, match="kind is 'periodic'"):
        real_ring(from_modes(**pairs()), "periodic")
    with pytest.raises(InputError, match=r"u must be \(batch, time, 2, channels\)"):
        real_ring(from_modes(**pairs())).run(torch.zeros(1, 4, 3, 1))
