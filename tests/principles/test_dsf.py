"""The folded normaliser: the same alpha as the mixer, for every finite-state family that has one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, families, measures, oracle_coefficients
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Delta
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum, RowSumSink
from mixerlens.principles.dsf import Dsf, dsf, eta, fold
from mixerlens.readout import Polynomial
from mixerlens.support import Support
from principles.drawn import drawn

FINITE = []
for _name, _family in families.FAMILIES.items():
    if _family.normalizer != "1" and _family.recurrence in ("finite", "by lifting"):
        FINITE.append(_name)


def example(name, seed=0):
    return drawn(name, seed)[0]


def test_the_finite_families_with_a_normaliser_are_all_there():
    assert {"normalized_linear_attention", "mlstm", "norm_attention", "rwkv4", "based"} <= set(FINITE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FINITE)
def test_the_same_alpha(name, seed):
    d = example(name, seed)
    folded = fold(d)
    assert isinstance(folded.normalizer, NoNormalizer) and folded.readout.linear
    wanted = oracle_coefficients(d)
    assert (oracle_coefficients(folded) - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    assert (folded.operator().to_dense() - wanted).abs().max() <= 1e-12 * wanted.abs().max()
    values = torch.randn(d.batch, d.time, d.heads, 2, dtype=torch.float64)
    y = d.operator() @ values
    assert (folded.operator() @ values - y).abs().max() <= 1e-12 * y.abs().max()


@pytest.mark.parametrize("time", [1, 2, 31, 33, 150])
def test_it_crosses_chunks_and_carries_a_state(time):
    """Folded around a delta rule, at lengths around its chunks, and cut in two at a token."""
    q, k = (torch.nn.functional.normalize(torch.randn(2, time, 3, 4, dtype=torch.float64), dim=-1) for _ in range(2))
    by = PerToken(torch.rand(2, time, 3, dtype=torch.float64) + 0.2)
    beta = torch.rand(2, time, 3, dtype=torch.float64)
    d = CoefficientDynamics(q, k, Delta(k, beta), scaling=beta, normalizer=by)
    folded, values = fold(d), torch.randn(2, time, 3, 2, dtype=torch.float64)
    y, operator = d.operator() @ values, folded.operator()
    torch.testing.assert_close(operator @ values, y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator.T @ values, d.operator().T @ values, rtol=1e-12, atol=1e-12)
    if time > 2:
        cut = time // 2
        first, state = folded.select_tokens(0, cut).operator().apply(values[:, :cut], return_state=True)
        assert isinstance(first, torch.Tensor) and isinstance(state, torch.Tensor)
        second = folded.select_tokens(cut, time).operator().apply(values[:, cut:], initial_state=state)
        assert isinstance(second, torch.Tensor)
        torch.testing.assert_close(torch.cat([first, second], 1), y, rtol=1e-12, atol=1e-12)


def test_eigenvalues_are_those_of_the_matrix():
    q, k = (torch.randn(1, 9, 2, 3, dtype=torch.float64) for _ in range(2))
    by = torch.rand(1, 9, 2, dtype=torch.float64) + 0.2
    beta = torch.rand(1, 9, 2, dtype=torch.float64)
    folded = fold(CoefficientDynamics(q, k, Delta(k, beta), normalizer=PerToken(by)))
    found = folded.evolution.eigenvalues()[0]
    for t in range(1, 9):
        for head in range(2):
            w = k[0, t, head]
            a = by[0, t - 1, head] / by[0, t, head] * (torch.eye(3).double() - beta[0, t, head] * torch.outer(w, w))
            values = np.linalg.eigvalsh(a.numpy())
            mine = found[t, head].real.numpy()
            np.testing.assert_allclose([mine.min(), mine.max()], [values.min(), values.max()], rtol=1e-12)


def test_eta_of_a_row_sum_is_the_plain_sum():
    q, k = (torch.randn(1, 12, 1, 3, dtype=torch.float64).exp() for _ in range(2))
    plain = (q[0, :, 0] @ k[0, :, 0].T).tril().sum(-1)
    torch.testing.assert_close(eta(CoefficientDynamics(q, k, normalizer=RowSum()))[0, :, 0], plain)
    sink = RowSumSink(torch.tensor([0.7], dtype=torch.float64))
    torch.testing.assert_close(eta(CoefficientDynamics(q, k, normalizer=sink))[0, :, 0], plain + 0.7)


def test_the_view_of_a_family():
    d = example("mlstm")
    found = dsf(d, sequence=1)
    by = eta(d)[1].T
    assert found.kind == "folded" and found.error is not None and found.error < 1e-12
    torch.testing.assert_close(found.ratio[:, 1:], by[:, :-1] / by[:, 1:])
    assert bool(found.ratio[:, 0].isnan().all())
    torch.testing.assert_close(found.beyond, (found.ratio[:, 1:] > 1).double().mean(-1).to(found.beyond.dtype))
    torch.testing.assert_close(found.slowest[:, 1:], found.bare[:, 1:] * found.ratio[:, 1:].abs())


def test_packed_sequences_have_no_ratio_across_their_border():
    segments = torch.tensor([[0] * 5 + [-1] * 2 + [1] * 6])
    q, k = (torch.randn(1, 13, 1, 3, dtype=torch.float64).exp() for _ in range(2))
    d = CoefficientDynamics(q, k, normalizer=RowSum(), support=Support(segments=segments))
    found = dsf(d)
    assert found.ratio[0].isnan().nonzero().flatten().tolist() == [0, 5, 6, 7]
    wanted = oracle_coefficients(d)
    assert (oracle_coefficients(fold(d)) - wanted).abs().max() <= 1e-12


def test_softmax_has_ratios_and_their_gauge_range():
    d = example("softmax_attention")
    found, spectrum = dsf(d), measures.spectrum(d)
    assert found.kind == "ratio" and found.reason is not None and spectrum.eta is not None
    torch.testing.assert_close(found.low, spectrum.eta.low, equal_nan=True)
    torch.testing.assert_close(found.high, spectrum.eta.high, equal_nan=True)
    with pytest.raises(UnsupportedError, match="no finite recurrence"):
        fold(d)
    with pytest.raises(UnsupportedError, match="take the ratios"):
        eta(d)


def test_nothing_to_fold_and_no_recurrence():
    assert dsf(example("delta_net")).kind == "as it is"
    encoder = dsf(example("encoder_attention"))
    assert encoder.kind == "as it is" and "no recurrence" in encoder.silent
    with pytest.raises(UnsupportedError, match="bidirectional"):
        fold(example("encoder_attention"))


def test_a_normaliser_of_zero_is_refused_with_its_place():
    q = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    k = torch.tensor([1.0, -1.0, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    d = CoefficientDynamics(q, k, normalizer=RowSum())
    with pytest.raises(InputError, match="eta is 0 at token 1, head 0"):
        fold(d)
    found = dsf(d)
    assert found.kind == "ratio" and found.reason is not None and "token 1" in found.reason
    assert [c.holds for c in found.conditions] == [True, True, False]


def test_a_folding_without_eigenvalues_is_still_a_folding():
    """A lifted delta rule has no closed eigenvalues: that says nothing of eta, and the two forms are compared."""
    q, k = (torch.rand(1, 6, 1, 4, dtype=torch.float64) for _ in range(2))
    by = PerToken(torch.rand(1, 6, 1, dtype=torch.float64) + 0.5)
    beta = torch.rand(1, 6, 1, dtype=torch.float64)
    found = dsf(CoefficientDynamics(q, k, Delta(k, beta), readout=Polynomial((0.0, 0.0, 1.0)), normalizer=by))
    assert found.kind == "lifted" and found.error is not None and found.error < 1e-12
    assert found.reason is not None and found.reason.startswith("folded eigenvalues: ")
    assert bool(found.slowest.isnan().all()) and not bool(found.ratio[:, 1:].isnan().any())
    assert [c.holds for c in found.conditions] == [True, True, True]


@pytest.mark.parametrize("example", Dsf.counterexamples, ids=lambda e: e.against)
def test_counterexamples(example):
    example.run()


@pytest.mark.parametrize("name", ["mlstm", "softmax_attention", "based", "delta_net"])
def test_json_is_strict(name):
    written = json.loads(json.dumps(dsf(example(name)).to_json(), allow_nan=False))
    assert written["kind"] == {"mlstm": "folded", "softmax_attention": "ratio", "based": "lifted"}.get(name, "as it is")
    assert ("gauge_quantiles" in written) == (name == "softmax_attention")


@pytest.mark.parametrize("size", [1e5, 1e8])
def test_ratios_beyond_the_range_of_floats_come_as_logarithms(size):
    """One number a head and keys of 0, 1, -1, 0, so that log eta is size times the largest product so far."""
    key = torch.tensor([0.0, 1.0, -1.0, 0.0], dtype=torch.float64).reshape(1, 4, 1, 1)
    query = torch.tensor([1.0, size, -size, 1.0], dtype=torch.float64).reshape(1, 4, 1, 1)
    found = dsf(families.softmax_attention(query, key, scale=1.0))
    # log eta = 0, size, size, log(2 + e + 1 / e): of e^size + 1 floats keep e^size alone
    exact = [-size, 0.0, size - np.log(2 + np.e + 1 / np.e)]
    np.testing.assert_allclose(found.logs.log_ratio[0, 1:], exact, rtol=1e-15, atol=1e-15)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["ratio_quantiles"][0][-1] is None and written["log_ratio_quantiles"][0][-1] == max(exact)
    assert written["log_slowest_quantiles"] == written["log_ratio_quantiles"]  # A_t = I
    assert written["log_gauge_quantiles"]["high"][0][-1] >= max(exact)
    told = f"e^({-size:.3g})"
    assert "by 1 at the middle" in found.meaning and f"down to {told} and up to 1." in found.meaning
