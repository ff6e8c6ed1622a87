"""Shares of eigenvalues against dense matrices A_t, and the two mistakes that softmax invites."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, families, measures
from mixerlens.errors import InputError
from mixerlens.evolution import Rotation
from mixerlens.principles.dsf import dsf
from mixerlens.principles.eigenvalues import ENDS, Eigenvalues, eigenvalues, multiplicities
from mixerlens.principles.retention import percent
from mixerlens.principles.words import value
from principles.drawn import drawn

DENSE = [
    name
    for name, f in families.FAMILIES.items()
    if f.readout == "identity"
    and f.normalizer == "1"
    and name not in ("log_linear_attention", "differential_attention")
]


def example(name, seed=0):
    return drawn(name, seed)[0]


def of_the_matrices(d, near):
    """Shares of the eigenvalues of dense A_t, t >= 1, of sequence 0: (heads, kinds)."""
    unit = torch.eye(d.dim, dtype=torch.promote_types(d.dtype, torch.float64)).expand(d.batch, d.heads, d.dim, d.dim)
    a = torch.stack([d.evolution.step(unit, t).expand_as(unit)[0] for t in range(1, d.time)], 1).numpy()
    values = np.linalg.eigvals(a)
    size, turns = np.abs(values), np.abs(values.imag) > 1e-7
    marks = [np.abs(size - 1) <= near, size <= near, size > 1 + 1e-6, ~turns & (values.real < -1e-6), turns]
    return np.stack([mark.mean((-1, -2)) for mark in marks], -1)


@pytest.mark.parametrize("name", DENSE)
def test_shares_are_those_of_the_dense_matrices(name):
    d = example(name)
    if multiplicities(d.evolution, d.dim) is None:
        pytest.fail(f"{name}: eigenvalues without multiplicities")
    found = eigenvalues(d, near=0.0517)
    wanted = of_the_matrices(d, 0.0517)
    assert found.counted == "state dimensions"
    mine = torch.stack([found.near_one, found.near_zero, found.growing, found.negative, found.complex], -1)
    np.testing.assert_allclose(mine, np.broadcast_to(wanted, mine.shape), atol=1e-12)


def test_levels_are_not_counted_in_dimensions():
    assert eigenvalues(example("log_linear_attention")).counted == "distinct eigenvalues"


def test_a_constant_on_all_keys_moves_a_ratio_by_ten_and_no_coefficient():
    """The number of the gauge: 0.33 becomes 0.034."""
    query = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    key = torch.tensor([0.0, np.log(2)], dtype=torch.float64).reshape(1, 2, 1, 1)
    mixers = [families.softmax_attention(query, key + c, scale=1.0) for c in (0.0, 2.28)]
    ratios = [float(dsf(mixer).ratio[0, 1]) for mixer in mixers]
    assert ratios[0] == pytest.approx(1 / 3, rel=1e-12)
    assert ratios[1] == pytest.approx(np.exp(-2.28) / 3, rel=1e-12) and round(ratios[1], 3) == 0.034
    alphas = [mixer.operator().to_dense() for mixer in mixers]
    torch.testing.assert_close(alphas[0], alphas[1], rtol=1e-12, atol=0)
    # the shares follow the convention, and say so
    marked = [eigenvalues(mixer, near=0.04) for mixer in mixers]
    assert [float(found.near_zero) for found in marked] == [0, 1]
    for found in marked:
        (shift,) = (c for c in found.conditions if "shift" in c.text)
        assert not shift.holds and "(0, infinity)" in shift.found


def test_shares_at_the_ends_of_the_gauge_range():
    d = example("softmax_attention")
    found, spectrum = eigenvalues(d), measures.spectrum(d)
    assert found.gauge is not None and spectrum.eta is not None
    assert set(found.gauge) == {"near_one", "near_zero", "growing"}
    for k, end in enumerate(ENDS):
        ratio = getattr(spectrum.eta, "ratio" if end == "computed" else end)[:, 1:]
        torch.testing.assert_close(found.gauge["growing"][:, k], (ratio > 1).double().mean(-1))
        torch.testing.assert_close(found.gauge["near_one"][:, k], ((ratio - 1).abs() <= 0.05).double().mean(-1))
    torch.testing.assert_close(found.gauge["near_one"][:, 1], found.near_one)


def test_four_origins_are_no_bounds_and_are_not_told_as_such():
    """A shift of all keys leads outside the shares of the four origins, which the words therefore call by name."""
    draw = torch.Generator().manual_seed(3)
    q, k = (torch.randn(1, 40, 1, 2, dtype=torch.float64, generator=draw) for _ in range(2))
    found = eigenvalues(families.softmax_attention(q, k))
    assert found.gauge is not None
    shifts = [s * torch.randn(2, dtype=torch.float64, generator=draw) for s in (0.3, 1, 3, 1000) for _ in range(30)]
    shares = [float(eigenvalues(families.softmax_attention(q, k + s)).near_one) for s in shifts]
    four = found.gauge["near_one"]
    assert min(shares) < float(four.min()) or max(shares) > float(four.max())
    centred = percent(found.gauge["near_one"][:, ENDS.index("centred")])
    assert f"near 1: computed {percent(found.near_one)}, centred {centred};" in value("eigenvalues", found)
    assert f"{centred} with keys centred" in found.meaning and "range" not in found.meaning


def test_no_later_token_enters():
    """The shares of a prefix are those that the prefix has by itself; zero-filled scores would depend on the length."""
    q, k = 2 * torch.randn(1, 60, 2, 4, dtype=torch.float64), torch.randn(1, 60, 2, 4, dtype=torch.float64)
    ratio = measures.spectrum(families.softmax_attention(q, k)).ratio
    short = measures.spectrum(families.softmax_attention(q[:, :20], k[:, :20])).ratio
    assert ratio is not None and short is not None
    torch.testing.assert_close(ratio[:, :20], short, equal_nan=True)
    filled = (torch.einsum("bihn,bjhn->hij", q, k) / 2).tril().exp().sum(-1)  # ones for every later token
    wrong = filled[:, :-1] / filled[:, 1:]
    assert (wrong[:, :5] - ratio[:, 1:6]).abs().max() > 0.1
    found = eigenvalues(families.softmax_attention(q, k))
    torch.testing.assert_close(found.near_one, ((ratio[:, 1:] - 1).abs() <= 0.05).double().mean(-1))


def test_phases_are_in_radians_a_token():
    angle = Rotation(torch.tensor([0.3, 1.1], dtype=torch.float64))
    d = CoefficientDynamics(torch.randn(1, 9, 1, 4), torch.randn(1, 9, 1, 4), angle)
    found = eigenvalues(d)
    assert float(found.complex) == 1
    np.testing.assert_allclose(found.phase_quantiles[0, [0, -1]], [0.3, 1.1], rtol=1e-12)


def test_padding_is_left_out():
    segments = torch.tensor([[-1] * 4 + [0] * 20])
    q, k = (torch.randn(1, 24, 1, 4, dtype=torch.float64) for _ in range(2))
    whole = eigenvalues(families.softmax_attention(q, k, segments=segments))
    alone = eigenvalues(families.softmax_attention(q[:, 4:], k[:, 4:]))
    torch.testing.assert_close(whole.near_one, alone.near_one)
    torch.testing.assert_close(whole.radius_quantiles, alone.radius_quantiles)


@pytest.mark.parametrize("example", Eigenvalues.counterexamples, ids=lambda e: e.against)
def test_counterexamples(example):
    example.run()


@pytest.mark.parametrize("name", ["softmax_attention", "encoder_attention", "s4d", "kimi_delta_attention"])
def test_json_is_strict(name):
    written = json.loads(json.dumps(eigenvalues(example(name)).to_json(), allow_nan=False))
    assert written["counted"] and ("gauge" in written) == (name == "softmax_attention")


@pytest.mark.parametrize("near", [0, 0.5, -1, float("nan")])
def test_refused(near):
    with pytest.raises(InputError, match="between 0 and 1/2"):
        eigenvalues(example("s4d"), near=near)


def test_a_ratio_beyond_the_range_of_floats_still_turns_and_counts():
    draw = torch.Generator().manual_seed(0)
    query, key = (1e4 * torch.randn(1, 30, 2, 4, dtype=torch.float64, generator=draw) for _ in range(2))
    mixer = families.softmax_attention(query, key, rope=torch.tensor([1.0, 0.3], dtype=torch.float64))
    found, logs = eigenvalues(mixer), measures.spectrum(mixer).eta.log_ratio[:, 1:]
    assert float(logs.abs().max()) > 1e6
    assert found.complex.tolist() == [1.0, 1.0] and found.negative.tolist() == [0.0, 0.0]
    torch.testing.assert_close(found.growing, (logs > 0).double().mean(-1))
    torch.testing.assert_close(found.near_zero, (logs < np.log(0.05)).double().mean(-1))
    assert set(found.phase_quantiles.flatten().mul(10).round().tolist()) == {3.0, 10.0}
