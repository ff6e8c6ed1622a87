"""The facts of the wave picture, measured: transport, laps, dispersion, aliases, and the null of a random order."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Diagonal, Rotation
from mixerlens.families import FAMILIES, legs_normal_plus_low_rank
from mixerlens.ring import (
    RingNetwork,
    circulant,
    dispersion,
    from_modes,
    from_ssm,
    history,
    participation_ratio,
    survey,
    waves,
)

N = 64
n = torch.arange(N, dtype=torch.float64)
LIN = torch.complex(torch.full_like(n, -0.5), math.pi * n)
INV = torch.complex(torch.full_like(n, -0.5), 2 * N / math.pi * (2 * N / (2 * n + 1) - 1))


def ring(A, dt, sampling="impulse"):
    one = torch.ones(1, len(A), dtype=torch.complex128)
    return from_modes(A[None], one, one, torch.tensor([dt], dtype=torch.float64), sampling=sampling).sorted()


def test_s4d_lin_is_damped_transport():
    """exp(K 2 / N) = e^(-1 / N) shift: node by node, and a lap takes 2 / dt tokens and a factor 1 / e."""
    step = torch.linalg.matrix_exp(circulant(LIN) * 2 / N)
    shift = torch.eye(N, dtype=torch.complex128).roll(-1, 0)
    assert float((step - math.exp(-1 / N) * shift).abs().max()) < 1e-13
    found = dispersion(ring(LIN, 0.01))
    assert float(found.lap_time) == pytest.approx(200)
    assert float(found.lap_decay) == pytest.approx(math.exp(-1))
    assert float(found.group_velocity.mean()) == pytest.approx(-N * 0.01 / 2)
    assert float(found.spread) < 1e-12


@pytest.mark.parametrize(("A", "after_a_lap"), [("lin", 1), ("inv", 41), ("legs", 36)])
def test_lin_stays_sharp_and_the_others_disperse(A, after_a_lap):
    modes = {"lin": LIN, "inv": INV, "legs": legs_normal_plus_low_rank(2 * N)[0]}[A]
    size = participation_ratio(ring(modes, 2 / 256).impulse_response(257))[:, 0]
    assert round(float(size[256])) == pytest.approx(after_a_lap, abs=0.6)
    if A == "lin":  # all the way, not only where every order is back at one node
        assert float(size[::4].max()) < 1 + 1e-9


def test_bilinear_steps_disperse_even_lin():
    assert float(participation_ratio(ring(LIN, 2 / N, "bilinear").impulse_response(N + 1))[N, 0]) > 20
    assert float(participation_ratio(ring(LIN, 2 / N, "zoh").impulse_response(N + 1))[N, 0]) < 3


def test_a_long_step_folds_modes_onto_one_another():
    found = dispersion(ring(LIN, 0.1))
    assert (int(found.distinct), int(found.beyond_nyquist)) == (20, 53)
    assert int(dispersion(ring(LIN, 0.01)).distinct) == N


def test_the_pulse_beside_its_null():
    found = waves(ring(LIN, 2 / 256), nulls=10)
    assert float(found.quarter) == pytest.approx(1, abs=1e-6)
    assert float(found.half) == pytest.approx(1, abs=1e-6)
    assert 26 < float(found.quarter_null) < 38
    assert 26 < float(found.half_null) < 38
    assert found.tokens[[16, 32, 64, 128], 0].tolist() == [64, 128, 256, 512]
    assert float(found.null[64, 0]) == pytest.approx(1, abs=1e-6)  # after a whole lap every order is back
    assert bool(found.travels)
    assert int(found.peak_displacement) == N // 2
    assert found.displacement[:5, 0].tolist() == [0, -1, -2, -3, -4]  # 64 nodes, 64 moments a lap


def test_waves_survive_a_jitter_of_a_few_percent_of_the_spacing_and_not_of_its_size():
    torch.manual_seed(0)
    noise = torch.randn(N, dtype=torch.float64)
    carriers = [float(waves(ring(LIN + 1j * math.pi * share * noise, 2 / 256), nulls=2).half) for share in (0, 0.03, 1)]
    assert carriers[0] == pytest.approx(1, abs=1e-6)
    assert carriers[1] < 2
    assert carriers[2] > 15


def test_aliases_are_equal_once_sampled_and_nothing_else_is():
    slow, real = ring(LIN, 1e-7), torch.arange(1, 17, dtype=torch.float64) * -2 + 0j
    assert int(dispersion(slow).distinct) == N
    assert int(dispersion(ring(real, 1.0)).distinct) == 16  # small multipliers, and none the alias of another
    single = (math.pi * n).float().double()
    assert int(dispersion(ring(torch.complex(LIN.real, single), 1.0)).distinct) == 2


def diagonal(decay=None, log_decay=None, tokens=50):
    x = decay if decay is not None else log_decay
    key = torch.randn(1, 1, 1, x.shape[-1], dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    evolution = Diagonal(decay=decay) if log_decay is None else Diagonal(log_decay=log_decay)
    return from_ssm(CoefficientDynamics(query=key, key=key, evolution=evolution, length=tokens))


@pytest.mark.parametrize("given", ["decay", "log_decay"])
def test_a_mode_that_is_erased_leaves_the_others_their_lap(given):
    log = torch.complex(torch.full((16,), -0.01, dtype=torch.float64), 0.05 * n[:16])
    log[5] = complex(-math.inf, 0)
    values = log if given == "log_decay" else torch.where(log.real.isinf(), 0, torch.exp(log))
    network = diagonal(**{given: values[None, None, None]})
    found = waves(network, nulls=2)
    assert float(found.dispersion.lap_time) == pytest.approx(2 * math.pi / 0.05, rel=1e-9)
    assert bool(found.space_time.isfinite().all())
    assert bool(found.travels)
    with pytest.raises(UnsupportedError, match="erased at once"):
        _ = network.coupling


def test_turns_of_a_rotation_that_changes_are_averaged_as_angles():
    torch.manual_seed(0)
    angle = 3.1 + 0.3 * torch.randn(1, 400, 1, 4, dtype=torch.float64)
    key = torch.randn(1, 400, 1, 8, dtype=torch.float64)
    network = from_ssm(CoefficientDynamics(query=key, key=key, evolution=Rotation(angle)), order="given")
    assert torch.allclose(dispersion(network).frequency[0], angle.mean(1)[0, 0], atol=1e-12)


def test_what_turns_is_not_called_diffusive():
    for name in ("linoss_im", "retnet"):
        given = FAMILIES[name].arguments(0)
        given.pop("value")
        found = waves(from_ssm(FAMILIES[name].function(**given)), nulls=2)
        assert not bool((found.travels | found.diffusive).any()), name
    damped = waves(ring(LIN[:8] - 80, 0.01), nulls=2)
    assert not bool(damped.diffusive.any())


def test_a_lap_of_under_four_tokens_has_no_quarter():
    found = waves(ring(LIN[:8], 1.0), nulls=2)
    assert bool(found.quarter.isnan().all() and found.half_null.isnan().all())


def test_mamba_diffuses_and_nothing_travels():
    given = FAMILIES["mamba"].arguments(1)
    given.pop("value")
    given["A"] = -torch.arange(1, 17, dtype=torch.float64).expand(3, -1)
    given["B"], given["C"] = (torch.ones(2, 41, 16, dtype=torch.float64) for _ in range(2))
    found = waves(from_ssm(FAMILIES["mamba"].function(**given)))
    assert not bool(found.travels.any())
    assert bool(found.diffusive.all())
    assert int(found.peak_displacement.max()) == 0
    assert bool(found.dispersion.lap_time.isinf().all())
    assert bool(found.quarter.isnan().all())
    assert found.to_json()["dispersion"]["lap_time"] == [None] * 3


def test_complex_modes_with_a_clock_carry_waves_again():
    """What Mamba-1 would be with S4D-Lin's rates (Mamba-3's direction): one ring, warped clock, a travelling pulse."""
    torch.manual_seed(0)
    steps = 0.02 + 0.06 * torch.rand(1, 60, 1, dtype=torch.float64)
    key, query = (torch.randn(1, 60, 1, 16, dtype=torch.complex128) for _ in range(2))
    mixer = CoefficientDynamics(query=query, key=key, evolution=Diagonal(rate=LIN[None, :16], step_size=steps))
    network = RingNetwork.from_ssm(mixer)
    assert network.error < 1e-12
    found = waves(network, nulls=3)
    assert bool(found.travels)
    passed = torch.cat([torch.zeros(1), steps[0, 1:, 0].cumsum(0)])[found.tokens[:, 0]]
    want = -(passed * 16 / 2)  # S4D-Lin: N / 2 nodes a unit of time, towards smaller j
    apart = (found.displacement[:, 0] - want + 8) % 16 - 8
    assert float(apart.abs().max()) < 0.51


def test_the_past_is_folded_modulo_one_lap():
    """Nodes hold sum_k e^(-k) u_(l + k lap): the best reading of lap k errs by 1 - e^(-2 k) (1 - e^(-2))."""
    found = history(ring(LIN[:16], 2 / 16), 16 * 30)
    for lap in range(4):
        want = 1 - math.exp(-2 * lap) * (1 - math.exp(-2))
        got = found.linear[16 * lap : 16 * lap + 16, 0]
        assert float((got - want).abs().max()) < 1e-12
        assert torch.allclose(found.at_node[16 * lap : 16 * lap + 16, 0], got, atol=1e-12)  # it stands at one node
    assert float(found.capacity) == pytest.approx(16)
    assert found.node[1:16, 0].tolist() == list(range(15, 0, -1))


def test_the_order_of_modes_decides_what_a_node_knows_and_not_what_the_ring_knows():
    system = ring(LIN[:16], 0.03, "zoh")
    ordered, shuffled = history(system, 200), history(system.shuffled(1), 200)
    assert torch.allclose(ordered.linear, shuffled.linear, atol=1e-9)
    assert float(ordered.at_node[:60].mean()) < float(shuffled.at_node[:60].mean()) - 0.1
    assert bool((ordered.at_node >= ordered.linear - 1e-9).all())


def test_the_history_is_what_least_squares_finds():
    torch.manual_seed(0)
    system = ring(LIN[:4], 0.3, "zoh")
    response = system.impulse_response(40)[:, 0].numpy()
    import numpy as np

    M = np.concatenate([response.real, response.imag], 1)
    found = history(system, 40)
    for lag in (0, 3, 11):
        target = np.eye(40)[lag]
        weights = np.linalg.lstsq(M, target, rcond=None)[0]
        assert abs(np.sum((M @ weights - target) ** 2) - float(found.linear[lag, 0])) < 1e-10


def test_bad_requests_are_named():
    with pytest.raises(InputError, match=r"laps must be at least 0\.5 and nulls at least 1, not 2 and 0"):
        waves(ring(LIN, 0.1), nulls=0)
    with pytest.raises(InputError, match="window is 0"):
        history(ring(LIN, 0.1), 0)
    given = FAMILIES["mamba"].arguments(1)
    given.pop("value")
    with pytest.raises(UnsupportedError, match="constant network with one input"):
        history(from_ssm(FAMILIES["mamba"].function(**given)), 5)


def test_json_is_plain():
    import json

    text = json.dumps(waves(ring(LIN[:8], 0.1), nulls=2).to_json() | {"h": history(ring(LIN[:8], 0.1), 12).to_json()})
    assert "travels" in text


def test_a_survey_says_what_it_looked_at():
    given = FAMILIES["mamba2"].arguments(0)
    given.pop("value")
    found = survey(FAMILIES["mamba2"].function(**given), most=2, nulls=2)
    assert (found.heads, found.of, found.ring.kind, found.history) == ([0, 2], 3, "no coupling", None)
    given = FAMILIES["softmax_attention"].arguments(0)
    given.pop("value")
    refused = survey(FAMILIES["softmax_attention"].function(**given))
    assert "a ring is linear" in refused.to_json()["reason"]


def test_kinds_are_named():
    kinds = {"s4d": "circulant", "mamba": "circulant, warped clock", "s4": "circulant + scatterer"}
    kinds |= {"delta_net": "no coupling + scatterer", "mamba2": "no coupling", "retnet": "circulant"}
    for name, kind in kinds.items():
        given = FAMILIES[name].arguments(0)
        given.pop("value")
        assert from_ssm(FAMILIES[name].function(**given)).kind == kind


def test_phases_are_those_of_the_nodes_and_a_ring_is_one_line():
    system = ring(LIN[:16], 2 / 48)
    found = waves(system, laps=1, nulls=1)
    response = system.impulse_response(found.tokens)
    at = found.space_time > 1e-9 * found.space_time.amax()
    again = torch.polar(found.space_time, found.phase)
    assert ((again - response / response[0].abs().amax())[at].abs() < 1e-12).all()
    assert repr(system) == f"RingNetwork(circulant: 1 ring of 16 nodes, error {system.error:.1e})"
    given = FAMILIES["mamba"].arguments(1)
    given.pop("value")
    said = repr(from_ssm(FAMILIES["mamba"].function(**given)))
    assert "warped clock" in said and "tokens" in said and "\n" not in said and len(said) < 120
