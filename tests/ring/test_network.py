"""A ring is its layer: against the plain recurrence of every family that is one, and against dense matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Dense
from mixerlens.families import FAMILIES, linoss, lru, mamba, s4d, s5
from mixerlens.models.s4d import S4D
from mixerlens.ring import RingNetwork, circulant, from_modes, from_ssm, to_modes, to_nodes

CIRCULANT = [
    *("rg_lru", "min_gru", "min_lstm", "hnet_dechunk", "linear_attention", "retnet", "lightning_attention"),
    *("gated_linear_attention", "hgrn2", "longhorn", "mesa_net", "s4d", "mamba", "mamba2", "s5", "lru", "dss"),
    *("linoss_im", "linoss_imex", "gated_slot_attention", "mamba3"),
]
SCATTERED = [
    *("delta_net", "gated_delta_net", "titans_linear_plain", "ttt_linear", "prism", "kimi_delta_attention"),
    *("gated_delta_net_2", "comba", "rwkv7", "s4"),
]


def difference(got, want) -> float:
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("name", CIRCULANT + SCATTERED)
def test_the_network_is_the_layer(name):
    family = FAMILIES[name]
    given = family.arguments(1)
    value = given.pop("value")
    ring = from_ssm(family.function(**given))
    want = family.recurrence_by_hand(value=value, **given)
    assert difference(ring.run(value).y, want) < 1e-12
    assert ring.error < 1e-12
    assert (ring.left is not None) == (name in SCATTERED)


@pytest.mark.parametrize("name", ["s4d", "s4", "delta_net"])
def test_any_order_is_the_same_layer(name):
    family = FAMILIES[name]
    given = family.arguments(2)
    value = given.pop("value")
    ring = from_ssm(family.function(**given), order="given")
    shuffled = ring.shuffled(3)
    assert difference(shuffled.run(value).y, family.recurrence_by_hand(value=value, **given)) < 1e-12
    assert not torch.allclose(shuffled.inject(), ring.inject())
    assert torch.equal(
        shuffled.order, torch.randperm(ring.nodes, generator=torch.Generator().manual_seed(3)).expand(ring.rings, -1)
    )


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - set(CIRCULANT) - set(SCATTERED) - {"differential_attention"}))
def test_every_other_family_is_refused_with_the_reason(name):
    given = FAMILIES[name].arguments(0)
    given.pop("value")
    with pytest.raises(UnsupportedError, match=r"a ring is linear|is not written as a ring here|runs forward"):
        from_ssm(FAMILIES[name].function(**given))


def small_s4d(features=2, modes=6):
    torch.manual_seed(0)
    A = torch.complex(torch.full((modes,), -0.5), math.pi * torch.arange(modes)).to(torch.complex128)
    return {
        "A": A.expand(features, -1),
        "B": torch.ones(features, modes, dtype=torch.complex128),
        "C": torch.randn(features, modes, dtype=torch.complex128),
        "dt": torch.tensor([0.1, 0.02], dtype=torch.float64),
    }


def test_the_coupling_is_circulant_and_drives_the_equation():
    given = small_s4d()
    ring = from_ssm(s4d(**given, length=9))
    K = ring.coupling
    for shift in range(1, ring.nodes):
        assert torch.allclose(K, K.roll((shift, shift), (1, 2)), atol=1e-13)
    F = torch.exp(-2j * math.pi * torch.outer(torch.arange(6.0), torch.arange(6.0)).to(torch.float64) / 6) / math.sqrt(
        6
    )
    want = F.conj().T @ torch.diag_embed(given["A"]) @ F
    assert difference(K, want) < 1e-14
    step = torch.linalg.matrix_exp(K * given["dt"][:, None, None])
    assert difference(ring.step_coupling()[0], step) < 1e-13


def test_b_of_ones_enters_at_one_node_and_any_b_can_be_ones():
    given = small_s4d()
    given["B"] = torch.randn(2, 6, dtype=torch.complex128)
    ring = from_ssm(s4d(**given, length=9))
    alone = ring.at_one_node()
    entered = alone.inject()[0, :, :, 0]
    want = torch.zeros(2, 6, dtype=torch.complex128)
    want[:, 0] = math.sqrt(6)
    assert float((entered - want).abs().max()) < 1e-15 * 6
    u = torch.randn(1, 20, 2, 1, dtype=torch.float64)
    assert difference(alone.run(u).y, ring.run(u).y) < 1e-12


def test_a_hold_spreads_the_injection_over_two_nodes():
    A = torch.complex(torch.full((1, 64), -0.5), math.pi * torch.arange(64.0)[None]).to(torch.complex128)
    one = torch.ones(1, 64, dtype=torch.complex128)
    ring = from_modes(A, one, one, torch.tensor([2 / 64]))  # one node a step
    power = ring.inject()[0, 0, :, 0].abs().square()
    both = power + power.roll(-1)  # of a node and the next
    assert float(both.max() / power.sum()) > 0.85
    assert int(both.argmax()) == 63  # node 0, and the one that the wave has reached


def test_small_heads_are_compared_by_their_own_size():
    """A head that is 1e-9 of the other and ill conditioned: what is wrong with it may not hide behind the large one."""
    jordan = torch.stack([torch.eye(2) * 0.5, torch.tensor([[0.5, 1.0], [0.0, 0.5 + 1e-7]])]).double()
    key = torch.tensor([[1.0, 1.0], [1e-9, 1e-9]], dtype=torch.float64)[None, None]
    mixer = CoefficientDynamics(query=torch.ones(1, 1, 2, 2).double(), key=key, evolution=Dense(jordan), length=1)
    with pytest.raises(UnsupportedError, match="differs from the layer"):
        from_ssm(mixer)


def test_one_input_of_a_layer_with_many_modes_enters_at_one_node():
    given = FAMILIES["s5"].arguments(0)
    given.pop("value")
    held = FAMILIES["s5"].function(**given).key[0, 0, :, 0]
    ring = from_ssm(s5(**given), B=(1 / held)[:, None], C=torch.ones(1, 3, dtype=held.dtype), scale=2.0, order="given")
    entered = ring.inject()[0, 0, :, 0].abs()
    assert float(entered[1:].max()) < 1e-14 * float(entered[0])


@pytest.mark.parametrize("sampling", ["zoh", "bilinear", "impulse"])
def test_samplings_are_what_scipy_makes_of_them(sampling):
    from scipy.signal import cont2discrete

    given = small_s4d()
    given["B"] = torch.randn(2, 6, dtype=torch.complex128)
    ring = from_modes(**given, sampling=sampling)
    for f in range(2):
        A, B, C = (given[name][f].numpy() for name in "ABC")
        system = (np.diag(A), B[:, None], C[None], np.zeros((1, 1)))
        step, enter, *_ = cont2discrete(system, float(given["dt"][f]), sampling)
        assert abs(step - np.diag(ring.multiplier()[0, f].numpy())).max() < 1e-14
        b = ring.b[0, 0, f].numpy()
        if sampling == "impulse":  # scipy lets the impulse decay for a step before it is read
            b = step @ b
        assert abs(enter - b).max() < 1e-14


@pytest.mark.parametrize(
    ("name", "function", "scale"), [("s5", s5, 2.0), ("lru", lru, 1.0), ("linoss_im", linoss, 1.0)]
)
def test_a_layer_with_many_inputs_is_one_ring(name, function, scale):
    given = FAMILIES[name].arguments(0)
    given.pop("value")
    kind = torch.float64 if name == "linoss_im" else torch.complex128
    B, C = torch.randn(3, 2, dtype=kind), torch.randn(4, 3, dtype=kind)
    ring = from_ssm(function(**given), B=B, C=C, scale=scale)
    u = torch.randn(2, given["length"], 2, dtype=torch.float64)
    modes = FAMILIES[name].recurrence_by_hand(value=(u.to(kind) @ B.mT)[..., None], **given)[..., 0]
    want = scale * (modes @ C.mT).real
    assert ring.rings == 1
    assert ring.nodes == (6 if name == "linoss_im" else 3)
    assert difference(ring.run(u[:, :, None]).y[:, :, 0], want) < 1e-12
    with pytest.raises(UnsupportedError, match="only one of them can enter at a single node"):
        ring.at_one_node()


def test_mamba_is_one_ring_with_a_warped_clock():
    given = FAMILIES["mamba"].arguments(5)
    given.pop("value")
    ring = from_ssm(mamba(**given))
    for t in (1, 7, 30):  # every step is a power of one coupling, so that all of them commute
        step = torch.linalg.matrix_exp(ring.coupling * ring.clock[1, t][:, None, None])
        assert difference(ring.step_coupling(t)[1], step) < 1e-13
    assert difference(ring.coupling, ring.coupling.mH) < 1e-15  # Hermitian: it spreads, nothing travels


def test_the_impulse_response_is_the_run():
    for name in ("s4d", "mamba", "s4", "gated_linear_attention", "mamba3"):
        given = FAMILIES[name].arguments(4)
        given.pop("value")
        ring = from_ssm(FAMILIES[name].function(**given))
        u = torch.zeros(ring.b.shape[0], 9, ring.rings, 1, dtype=torch.float64)
        u[:, 0] = 1
        want = ring.run(u, keep_states=True).states[0, ..., 0]
        assert difference(ring.impulse_response(9), want) < 1e-12
        some = torch.tensor([[0, 3, 8], [5, 5, 1]])
        picked = torch.stack([want[some[:, r], r] for r in range(3)], 1)
        assert difference(ring.impulse_response(some), picked) < 1e-12
    with pytest.raises(InputError, match="0 tokens asked for"):
        ring.impulse_response(0)


def test_a_pulse_is_followed_by_leaps_where_the_network_is_constant():
    given = FAMILIES["s4"].arguments(4)
    given.pop("value")
    ring = from_ssm(FAMILIES["s4"].function(**given))
    step = ring.step_coupling()[0] + to_nodes(ring.left[0, 0])[..., None] @ to_modes(ring.right[0, 0])[:, None]
    tokens = torch.tensor([[0, 0, 0], [1, 3, 7], [2, 6, 14], [2, 10, 300]])
    found = ring.pulse(tokens)
    for moment in range(4):
        for r in range(3):
            want = torch.linalg.matrix_power(step[r], int(tokens[moment, r]))[:, 0]
            assert difference(found[moment, r], want) < 1e-11


def test_a_module_is_its_ring():
    torch.manual_seed(1)
    layer = S4D(3, 8).double()
    u = torch.randn(2, 50, 3, dtype=torch.float64)
    ring = from_ssm(layer)
    assert difference(ring.run(u[..., None]).y[..., 0], (layer(u) - layer.D * u).detach()) < 1e-12


def test_scalar_decay_couples_no_nodes():
    given = FAMILIES["mamba2"].arguments(0)
    given.pop("value")
    K = from_ssm(FAMILIES["mamba2"].function(**given)).step_coupling(3)
    apart = K - torch.diag_embed(K.diagonal(dim1=-2, dim2=-1))
    assert float(apart.abs().max()) < 1e-16


def test_the_transform_is_unitary_and_puts_ones_at_node_zero():
    x = torch.randn(3, 7, dtype=torch.complex128)
    assert torch.allclose(to_modes(to_nodes(x)), x, atol=1e-15)
    assert float((to_nodes(torch.ones(5)) - math.sqrt(5) * torch.eye(5)[0]).abs().max()) < 1e-6
    assert difference(circulant(x) @ to_nodes(x).unsqueeze(-1), to_nodes(x * x).unsqueeze(-1)) < 1e-14


def test_wrong_shapes_are_named():
    ring = from_ssm(s4d(**small_s4d(), length=9))
    with pytest.raises(InputError, match=r"u must be \(batch, time >= 1, 2, channels\), got \(1, 5, 3, 1\)"):
        ring.run(torch.zeros(1, 5, 3, 1))
    with pytest.raises(InputError, match=r"permutation of 0 \.\. 5"):
        ring.reordered(torch.zeros(2, 6, dtype=torch.int64))
    with pytest.raises(InputError, match="give B and C together"):
        from_ssm(s4d(**small_s4d(), length=9), B=torch.ones(2, 1))
    given = FAMILIES["mamba"].arguments(0)
    value = given.pop("value")
    changing = from_ssm(mamba(**given))
    with pytest.raises(InputError, match="made for 41"):
        changing.run(torch.cat([value, value], 1))
    with pytest.raises(InputError, match="sampling is 'euler'"):
        from_modes(**small_s4d(), sampling="euler")


def test_a_ring_that_is_not_the_layer_is_refused(monkeypatch):
    from mixerlens.ring import convert

    monkeypatch.setattr(
        convert.RingNetwork, "sorted", lambda self: RingNetwork(self.diagonal, self.b.roll(1, -2), self.c)
    )
    with pytest.raises(UnsupportedError, match="differs from the layer by"):
        from_ssm(s4d(**small_s4d(), length=9))
