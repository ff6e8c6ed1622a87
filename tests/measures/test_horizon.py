"""Horizons against plain sums over a dense matrix of coefficients."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from mixerlens import families, measures
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Scalar
from mixerlens.support import Support

T = 37


def softmax(**changes) -> CoefficientDynamics:
    return families.softmax_attention(query=2 * torch.randn(2, T, 4, 6), key=torch.randn(2, T, 2, 6), **changes)


def delta() -> CoefficientDynamics:
    key = torch.nn.functional.normalize(torch.randn(1, T, 3, 5), dim=-1)
    return families.gated_delta_net(torch.randn(1, T, 3, 5), key, -torch.rand(1, T, 3), 1.9 * torch.rand(1, T, 3))


def s4d() -> CoefficientDynamics:
    def z() -> torch.Tensor:
        return torch.randn(3, 4, dtype=torch.complex64)

    rate = torch.complex(-torch.rand(3, 4) - 0.1, torch.randn(3, 4))
    return families.s4d(A=rate, B=z(), C=z(), dt=torch.rand(3) * 0.3, length=T)


def mamba() -> CoefficientDynamics:
    return families.mamba(
        A=-torch.rand(7, 3) - 0.2, B=torch.randn(1, T, 3), C=torch.randn(1, T, 3), dt=torch.rand(1, T, 7)
    )


CASES = {
    "softmax": softmax,
    "bidirectional": lambda: softmax(causal=False),
    "window": lambda: softmax(window=5),
    "padded": lambda: softmax(segments=torch.tensor([[-1] * 4 + [0] * (T - 4)] * 2)),
    "delta": delta,
    "s4d": s4d,
    "mamba": mamba,
}


def by_hand(dynamics: CoefficientDynamics, sequence: int, head: int):
    """Mean distance of each row, mass by lag: loops over the entries of the dense matrix."""
    alpha = dynamics.to(torch.float64).operator().to_dense()[sequence, head].abs().numpy()
    lags, rows = np.zeros(T), []
    for i in range(T):
        for j in range(T):
            lags[abs(i - j)] += alpha[i, j]
        mass = alpha[i].sum()
        rows.append(sum(alpha[i, j] * abs(i - j) for j in range(T)) / mass if mass > 0 else math.nan)
    return np.array(rows), lags


@pytest.mark.parametrize("case", CASES)
def test_distances_and_masses(case):
    dynamics = CASES[case]()
    sequence = dynamics.batch - 1
    found = measures.horizon(dynamics, sequence=sequence)
    for head in range(dynamics.heads):
        rows, lags = by_hand(dynamics, sequence, head)
        np.testing.assert_allclose(found.mean_distance[head], rows, rtol=2e-5)
        np.testing.assert_allclose(found.mean[head], np.nanmean(rows), rtol=2e-5)
        np.testing.assert_allclose(found.mass_by_lag[head], lags, rtol=3e-5, atol=1e-6 * lags.max())
        np.testing.assert_allclose(found.cumulative[head], lags.cumsum() / lags.sum(), rtol=2e-5)
        for name, share in (("effective_context", 0.9), ("half_life_measured", 0.5)):
            expected = next(lag for lag in range(T) if lags[: lag + 1].sum() >= share * lags.sum() * (1 - 1e-9))
            assert int(getattr(found, name)[head]) == expected
    assert found.cumulative.shape == (dynamics.heads, T)
    assert found.causal == dynamics.support.causal


def test_same_masses_as_the_operator():
    dynamics = mamba()
    found = measures.horizon(dynamics)
    torch.testing.assert_close(found.mass_by_lag.float(), dynamics.operator().mass_by_lag()[0])
    torch.testing.assert_close(found.mean_distance.float().T[None], dynamics.operator().mean_distance())


def test_a_constant_decay_has_the_half_life_it_says():
    decay = 0.5 ** (1 / 8)
    ones = torch.ones(1, 400, 1, 1, dtype=torch.float64)
    dynamics = CoefficientDynamics(ones, ones, Scalar(decay=torch.tensor([[[decay]]], dtype=torch.float64)))
    found = measures.horizon(dynamics)
    assert float(found.half_life_spectrum[0, 0]) == pytest.approx(8, abs=1e-12)
    # mass at lag l is (T - l) decay^l; summed plainly
    mass = np.array([(400 - lag) * decay**lag for lag in range(400)])
    assert int(found.half_life_measured[0]) == next(k for k in range(400) if mass[: k + 1].sum() >= 0.5 * mass.sum())


def test_half_life_of_one_zero_and_growth():
    ones = torch.ones(1, 6, 4, 1, dtype=torch.float64)
    decay = torch.tensor([1.0, 0.0, 1.5, -0.5], dtype=torch.float64)
    found = measures.horizon(CoefficientDynamics(ones, ones, Scalar(decay=decay)))
    assert found.half_life_spectrum[:, 0].tolist() == [math.inf, 0.0, math.inf, 1.0]
    assert int(found.effective_context[1]) == 0
    written = found.to_json()["half_life_spectrum_quantiles"]
    assert written[0] == [None] * 7 and written[1] == [0.0] * 7


def test_uniform_reference_is_what_equal_scores_give():
    for changes in ({}, {"window": 6}, {"causal": False}, {"segments": torch.tensor([[0] * 10 + [1] * 20 + [-1] * 7])}):
        zeros = torch.zeros(1, T, 1, 2)
        found = measures.horizon(families.softmax_attention(query=zeros, key=zeros, **changes))
        torch.testing.assert_close(found.uniform.float(), found.cumulative[0].float())
        assert found.uniform_mean == pytest.approx(float(found.mean[0]), rel=1e-5)


def test_a_head_without_mass_is_not_a_number_and_null_in_json():
    zeros = torch.zeros(1, 8, 1, 2)
    found = measures.horizon(families.linear_attention(query=zeros, key=zeros))
    assert math.isnan(found.mean[0]) and math.isnan(found.effective_context[0])
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["mean"] == [None] and written["units"]["mean"] == "tokens"


def test_curve_is_exact_at_the_lags_it_keeps():
    ones = torch.ones(1, 3000, 1, 1)
    found = measures.horizon(CoefficientDynamics(ones, ones, Scalar(decay=torch.tensor([0.999]))))
    curve = found.to_json()["curve"]
    assert curve["lag"][0] == 0 and curve["lag"][-1] == 2999 and len(curve["lag"]) <= 160
    assert curve["share"][0] == found.cumulative[0, curve["lag"]].tolist()


def test_bad_input_says_what_is_there():
    with pytest.raises(InputError, match="sequence 2 does not exist"):
        measures.horizon(softmax(), sequence=2)
    with pytest.raises(InputError, match="not str"):
        measures.horizon("softmax")


def test_a_recorded_call_is_measured_by_its_dynamics():
    class Call:
        dynamics = delta()

    torch.testing.assert_close(measures.horizon(Call()).mean, measures.horizon(Call.dynamics).mean)


def test_segments_do_not_reach_across():
    dynamics = CoefficientDynamics(
        torch.ones(1, 6, 1, 1), torch.ones(1, 6, 1, 1), support=Support(segments=torch.tensor([[0, 0, 0, 1, 1, 1]]))
    )
    assert measures.horizon(dynamics).mass_by_lag[0].tolist() == [6, 4, 2, 0, 0, 0]
