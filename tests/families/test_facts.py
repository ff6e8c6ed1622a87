"""Facts about the families that the library's claims rest on, each reproduced."""

from __future__ import annotations

import pytest
import torch

from families.helpers import randn
from mixerlens import families
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Rotation
from mixerlens.readout import Exp

BATCH, TIME, HEADS, DIM = 1, 40, 2, 4
GRID = (BATCH, TIME, HEADS)


def eta(q, k):
    """The normaliser of softmax attention with the scores as computed: the row mass before it is divided out."""
    return CoefficientDynamics(q, k, readout=Exp()).operator().row_mass()


def test_the_eta_ratio_of_softmax_is_a_gauge():
    """A constant added to every key leaves alpha as it is and moves eta_{i-1} / eta_i at will."""
    q, k, c = randn(*GRID, DIM), randn(*GRID, DIM), randn(DIM)
    ratio = lambda x: x[:, :-1] / x[:, 1:]
    moved = [
        families.softmax_attention(query=q, key=k + s * c, scale=1.0).operator().to_dense() for s in (0.0, 1.0, -2.0)
    ]
    for other in moved[1:]:
        assert (other - moved[0]).abs().max() <= 1e-12
    before, after = ratio(eta(q, k)), ratio(eta(q, k + c))
    predicted = before * torch.exp((q[:, :-1] - q[:, 1:]) @ c)
    assert (after / predicted - 1).abs().max() <= 1e-12
    assert (after / before).log().abs().max() > 2.0  # as .33 to .034: an order of magnitude


def test_a_ratio_of_a_third_can_be_moved_to_a_thirtieth():
    q = torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    q[0, 1] = 1.0
    k = torch.tensor([0.0, (3 / 1 - 1)], dtype=torch.float64).log().reshape(1, 2, 1, 1)
    k[0, 0] = 0.0
    before = eta(q, k)
    assert abs(float(before[0, 0] / before[0, 1]) - 1 / 3) < 1e-12
    shift = torch.tensor(10.0, dtype=torch.float64).log()
    after = eta(q, k + shift)
    assert abs(float(after[0, 0] / after[0, 1]) - 1 / 30) < 1e-12
    for same in (k, k + shift):
        alpha = families.softmax_attention(query=q, key=same, scale=1.0).operator().to_dense()
        assert (alpha[0, 0, 1] - torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rope_is_a_rotation_by_minus_theta(layout):
    """The score is q^T R((j - i) theta) k, so one step multiplies an impulse by R(-theta)."""
    q, k = randn(*GRID, 2), randn(*GRID, 2)
    theta = torch.tensor([0.3], dtype=torch.float64)
    dynamics = families.softmax_attention(query=q, key=k, scale=1.0, rope=theta, rope_layout=layout)
    assert isinstance(dynamics.evolution, Rotation)
    cos, sin = theta.cos(), theta.sin()
    R = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)  # counter-clockwise
    u = dynamics.impulse(5)
    assert (u[:, 5] - k[:, 5]).abs().max() <= 1e-14
    assert (u[:, 6] - k[:, 5] @ R).abs().max() <= 1e-14  # R^T k, as rows
    power = torch.linalg.matrix_power(R, 9)
    score = CoefficientDynamics(q, k, dynamics.evolution).operator().block(14, 5)[:, :, 0, 0]
    want = torch.einsum("bhn,nm,bhm->bh", q[:, 14], power.mT, k[:, 5])
    assert (score - want).abs().max() <= 1e-13
    other = torch.einsum("bhn,nm,bhm->bh", q[:, 14], power, k[:, 5])
    assert (score - other).abs().max() > 0.1
    values = dynamics.evolution.eigenvalues().flatten()
    assert sorted(values.imag.tolist()) == pytest.approx([-float(sin), float(sin)], abs=1e-14)


def test_alibi_is_a_bias_of_minus_slope_a_token():
    q, k, slopes = randn(*GRID, DIM), randn(*GRID, DIM), torch.tensor([0.5, 0.03], dtype=torch.float64)
    dynamics = families.softmax_attention(query=q, key=k, alibi=slopes)
    assert dynamics.dim == DIM + 2
    place = torch.arange(TIME, dtype=torch.float64)
    want = torch.einsum("bihn,bjhn->bhij", q, k) / DIM**0.5 - slopes[:, None, None] * (place[:, None] - place)
    got = CoefficientDynamics(dynamics.query, dynamics.key, dynamics.evolution).operator().to_dense()
    assert (got - want.tril()).abs().max() <= 1e-12


def test_the_log_odds_of_softmax_turn_with_one_direction_only():
    """log alpha_ij - log alpha_il is linear in q_i: its gradient is the same vector for every q_i, rank one."""
    k, rows = randn(1, 1, 1, DIM), []
    keys = randn(1, 6, 1, DIM)
    for _ in range(5):
        q = randn(1, 6, 1, DIM).requires_grad_()
        alpha = (
            families.softmax_attention(query=q, key=keys, rope=torch.tensor([0.4, 0.1]).double()).operator().to_dense()
        )
        odds = alpha[0, 0, 5, 1].log() - alpha[0, 0, 5, 3].log()
        rows.append(torch.autograd.grad(odds, q)[0][0, 5, 0])
    s = torch.linalg.svdvals(torch.stack(rows))
    assert s[1] <= 1e-12 * s[0]
    assert k.shape == (1, 1, 1, DIM)


def test_grouped_heads_share_their_keys():
    q, k = randn(1, TIME, 6, DIM), randn(1, TIME, 2, DIM)
    shared = families.softmax_attention(query=q, key=k).operator().to_dense()
    full = families.softmax_attention(query=q, key=k.repeat_interleave(3, dim=2)).operator().to_dense()
    assert torch.equal(shared, full)


def test_segments_equal_separate_sequences():
    """Packing changes nothing: every segment's block is that of the segment alone, everything else is zero."""
    q, k = randn(1, TIME, HEADS, DIM), randn(1, TIME, HEADS, DIM)
    beta, g = torch.rand(1, TIME, HEADS).double(), -torch.rand(1, TIME, HEADS).double()
    segments = torch.tensor([[0] * 11 + [2] * 20 + [-1] * 9])
    for make in (
        lambda a, **o: families.softmax_attention(query=q[:, a], key=k[:, a], **o),
        lambda a, **o: families.gated_delta_net(query=q[:, a], key=k[:, a], beta=beta[:, a], log_decay=g[:, a], **o),
    ):
        packed = make(slice(None), segments=segments).operator().to_dense()
        want = torch.zeros_like(packed)
        for part in (slice(0, 11), slice(11, 31)):
            want[:, :, part, part] = make(part).operator().to_dense()
        assert (packed - want).abs().max() <= 1e-13 * want.abs().max()


def test_what_alibi_cannot_do_exactly_is_refused():
    q, k, slopes = randn(*GRID, DIM), randn(*GRID, DIM), torch.tensor([0.5, 0.03])
    for options in ({"causal": False}, {"rope": torch.rand(2)}):
        with pytest.raises(UnsupportedError, match="ALiBi"):
            families.softmax_attention(query=q, key=k, alibi=slopes, **options)


def test_wrong_shapes_are_refused_in_one_line():
    q, k = randn(*GRID, DIM), randn(*GRID, DIM)
    A, B = -torch.rand(3, 4).double(), randn(1, TIME, 4)
    for bad in (
        lambda: families.softmax_attention(query=q[0], key=k[0]),
        lambda: families.softmax_attention(query=q, key=k, rope=torch.rand(3)),
        lambda: families.softmax_attention(query=q, key=k, rope=torch.rand(2), rope_layout="other"),
        lambda: families.softmax_attention(query=q, key=k, window=0),
        lambda: families.softmax_attention(query=q, key=k, softcap=-1.0),
        lambda: families.softmax_attention(query=q, key=k, sinks=torch.zeros(2, 1)),
        lambda: families.mamba(A=A, B=B, C=B, dt=torch.rand(1, TIME, 2)),
        lambda: families.mamba(A=A[0], B=B, C=B, dt=torch.rand(1, TIME, 3)),
        lambda: families.mamba2(A=A, B=B, C=B, dt=torch.rand(1, TIME, 3)),
        lambda: families.s4d(A=A, B=A, C=A, dt=torch.rand(2), length=TIME),
        lambda: families.s4d(A=-A, B=A, C=A, dt=torch.rand(3), length=TIME),
        lambda: families.delta_net(query=q, key=k, beta=torch.rand(1, TIME - 1, HEADS)),
        lambda: families.gated_linear_attention(query=q, key=k, log_decay=-torch.rand(1, TIME, HEADS, 3)),
    ):
        with pytest.raises(InputError) as refused:
            bad()
        assert "\n" not in str(refused.value)
