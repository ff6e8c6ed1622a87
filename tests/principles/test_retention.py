"""Retention against dense alpha: every quantile, norm and bound by plain loops and singular values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from mixerlens import CoefficientDynamics, families, oracle_coefficients
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, Dense, Scalar
from mixerlens.principles.parts import spread_text
from mixerlens.principles.retention import LEVELS, Retention, retention
from mixerlens.principles.words import value
from principles.drawn import drawn

SINGLE = [name for name, f in families.FAMILIES.items() if name != "differential_attention"]


@pytest.mark.parametrize("name", SINGLE)
def test_norms_of_every_family_are_those_of_the_dense_matrix(name):
    d, _ = drawn(name)
    found = retention(d, sequence=d.batch - 1, steps=12)
    alpha = oracle_coefficients(d)[-1].to(torch.promote_types(d.coefficient_dtype, torch.float64)).numpy()
    largest = np.linalg.norm(alpha, 2, axis=(-2, -1))
    np.testing.assert_allclose(found.norm_low, largest, rtol=2e-2)  # neighbouring singular values take more steps
    assert (found.norm_low.numpy() <= largest * (1 + 1e-12)).all()
    assert (found.norm_high.numpy() >= largest * (1 - 1e-12)).all()
    np.testing.assert_allclose(found.row_norm, np.linalg.norm(alpha, axis=-1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.column_norm, np.linalg.norm(alpha, axis=-2), rtol=1e-12, atol=1e-14)
    # the residual: a squared singular value lies as near as it says
    squares = np.linalg.svd(alpha, compute_uv=False) ** 2
    near = np.abs(squares - found.norm_low.numpy()[:, None] ** 2).min(-1) / found.norm_low.numpy() ** 2
    assert (near <= found.residual.numpy() + 1e-13).all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 5])
def test_quantiles_by_lag_are_over_the_rows_that_have_the_pair(causal, window):
    segments = torch.tensor([[0] * 9 + [-1] * 3 + [1] * 21])
    q, k = (torch.randn(1, 33, 2, 3, dtype=torch.float64) for _ in range(2))
    d = families.softmax_attention(q, k, causal=causal, window=window, segments=segments)
    found, alpha = retention(d, lags=99), d.operator().to_dense()[0].numpy()
    assert found.lags == tuple(range(33))
    for head in range(2):
        for lag in found.lags:
            there = [
                alpha[head, i, j]
                for i in range(33)
                for j in {i - lag, i + lag}
                if 0 <= j < 33 and (j <= i or not causal) and segments[0, i] == segments[0, j] >= 0
                and (window is None or lag < window)
            ]  # fmt: skip
            mine = found.by_lag[head, lag].numpy()
            if not there:
                assert np.isnan(mine).all() and math.isnan(found.rms[head, lag])
                continue
            ordered = np.sort(there)
            wanted = [ordered[int(np.round((len(there) - 1) * level))] for level in LEVELS]
            np.testing.assert_allclose(mine, wanted, rtol=1e-12)
            np.testing.assert_allclose(found.rms[head, lag], np.sqrt(np.mean(np.square(there))), rtol=1e-12)


def test_the_derivatives_of_the_outputs_are_what_is_measured():
    """d y_i / d v_j by autograd, of a channel of the values."""
    d, value = drawn("gated_delta_net")
    value = value[..., :1].clone().requires_grad_()
    y = (d.operator() @ value)[0, ..., 0]  # (time, heads)
    rows = [torch.autograd.grad(y[i].sum(), value, retain_graph=True)[0][0, ..., 0] for i in range(d.time)]
    jacobian = torch.stack(rows).permute(2, 0, 1)  # (heads, i, j)
    found = retention(d, lags=99)
    np.testing.assert_allclose(jacobian.norm(dim=-2), found.column_norm, rtol=1e-10, atol=1e-13)
    for lag in (0, 7, 40):
        there = jacobian.diagonal(-lag, -2, -1)
        np.testing.assert_allclose(there.square().mean(-1).sqrt(), found.rms[:, lag], rtol=1e-10)


def test_rates_of_known_decays():
    """A scalar decay is fitted by the exponential alone, weights of 1 / (1 + lag) by the power."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    d = CoefficientDynamics(one, one, Scalar(log_decay=torch.tensor(-0.03, dtype=torch.float64)), length=200)
    found = retention(d)
    assert float(found.rate) == pytest.approx(0.03, rel=1e-10) and float(found.rate_fit) == pytest.approx(1)
    assert float(found.half_life) == pytest.approx(math.log(2) / 0.03, rel=1e-10)
    assert float(found.power_fit) < 0.9
    lags = torch.arange(200, dtype=torch.float64)
    kernel = (1 + lags).pow(-1.5)
    power = retention(families.FAMILIES["long_convolution"].function(kernel[None], length=200))
    assert float(power.power) == pytest.approx(1.5, rel=1e-10) and float(power.power_fit) == pytest.approx(1)
    assert float(power.rate_fit) < 0.9
    flat = retention(CoefficientDynamics(one, one, length=64))
    assert float(flat.rate) == pytest.approx(0, abs=1e-12) and float(flat.half_life) == math.inf


def test_nothing_is_tokens_by_tokens_large():
    d = families.mamba2(
        A=-torch.rand(1), B=torch.randn(1, 6000, 1, 2), C=torch.randn(1, 6000, 1, 2), dt=torch.rand(1, 6000, 1)
    )
    found = retention(d, steps=2)
    assert found.by_lag.numel() < 500 and found.row_norm.shape == (1, 6000)


def test_alpha_of_zeros_and_of_rank_one():
    zero = torch.zeros(1, 7, 1, 2, dtype=torch.float64)
    found = retention(families.linear_attention(zero, zero))
    assert float(found.norm_low) == float(found.norm_high) == float(found.residual) == 0
    assert bool(found.rate.isnan())
    assert retention(families.linear_attention(zero[:, :1], zero[:, :1])).lags == (0,)


def test_what_is_said_of_a_gradient_is_an_upper_bound():
    """Where both bounds differ the words give the upper one as what a gradient can grow by at most."""
    found = retention(drawn("delta_net")[0], steps=1)
    low, high = spread_text(found.norm_low), spread_text(found.norm_high)
    assert low != high
    assert value("retention", found).endswith(f"gradient at most {high}")
    assert f"at least {low} and at most {high}." in found.meaning


def test_normal_steps_need_not_commute_for_the_bound():
    """Delta steps do not commute, yet their product is no larger than the product of their spectral radii."""
    key = 1.2 * torch.nn.functional.normalize(torch.randn(1, 20, 1, 3, dtype=torch.float64), dim=-1)
    step = Delta(key, 2 * torch.rand(1, 20, 1, dtype=torch.float64))
    unit = torch.eye(3, dtype=torch.float64).expand(1, 1, 3, 3)
    matrices = [step.step(unit, t)[0, 0].numpy() for t in range(1, 20)]
    assert np.abs(matrices[0] @ matrices[1] - matrices[1] @ matrices[0]).max() > 1e-2
    bound = np.prod([np.abs(np.linalg.eigvals(a)).max() for a in matrices])
    assert np.linalg.norm(np.linalg.multi_dot(matrices), 2) <= bound * (1 + 1e-12)
    assert [c.holds for c in retention(CoefficientDynamics(key, key, step)).conditions] == [True, True]
    dense = Dense(torch.randn(3, 3, dtype=torch.float64))
    assert [c.holds for c in retention(CoefficientDynamics(key, key, dense)).conditions] == [True, None]


@pytest.mark.parametrize("example", Retention.counterexamples, ids=lambda e: e.against)
def test_counterexamples(example):
    example.run()


def test_json_is_strict_and_conditions_are_told():
    d, _ = drawn("delta_net")
    written = json.loads(json.dumps(retention(d).to_json(), allow_nan=False))
    assert written["title"] == "Retention" and len(written["by_lag"][0][0]) == len(LEVELS)
    assert written["units"]["rate"] == "1 / token"
    assert [c["holds"] for c in written["conditions"]] == [True, True]


@pytest.mark.parametrize("wrong", [{"lags": 0}, {"steps": 0}])
def test_refused(wrong):
    with pytest.raises(InputError, match="both must be at least 1"):
        retention(drawn("delta_net")[0], **wrong)
