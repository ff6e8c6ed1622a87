"""Pair generators against the dense T^T diag(q) T, for S4D systems, sign-changing gains and the exact GELU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mixerlens.errors import InputError
from mixerlens.explicit.activations import activation
from mixerlens.explicit.semiseparable import pair_generators

D = 0.7


def modes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    weight = torch.randn(count, dtype=torch.complex128)
    return weight, torch.complex(-0.3 * torch.rand(count).double(), 2 * torch.randn(count).double())


def dense(weight: torch.Tensor, log: torch.Tensor, time: int) -> np.ndarray:
    w, a, T = weight.numpy(), log.numpy(), D * np.eye(time)
    for t in range(time):
        for j in range(t + 1):
            T[t, j] += (w * np.exp(a * (t - j))).sum().real
    return T


@pytest.mark.parametrize(("count", "time"), [(1, 1), (3, 2), (4, 60), (8, 90)])
def test_entries_and_rows(count, time):
    weight, log = modes(count)
    T, gains = dense(weight, log, time), torch.randn(time, dtype=torch.float64)
    want = T.T @ (gains.numpy()[:, None] * T)
    found, every = pair_generators(weight, log, D, gains), torch.arange(time)
    bar = 1e-12 * np.abs(want).max()
    np.testing.assert_allclose(found.entries(every[:, None], every), want, rtol=0, atol=bar)
    for i in (0, time // 2, time - 1):
        np.testing.assert_allclose(found.row(i), want[i], rtol=0, atol=bar)
    assert found.generators.shape == (count, time)


def test_with_the_curvature_they_are_the_whole_decoder():
    """linear part + all pairs = the sum of GELU(y): no series, no truncation."""
    time = 48
    weight, log = modes(4, seed=1)
    T, u = dense(weight, log, time), torch.randn(time, dtype=torch.float64)
    y = T @ u.numpy()
    gains = activation("gelu").curvature(torch.from_numpy(y)) / time
    every = torch.arange(time)
    pairs = pair_generators(weight, log, D, gains).entries(every[:, None], every) * u[:, None] * u
    target = float((y * norm.cdf(y)).mean())
    assert float(pairs.sum()) + float(y.mean() / 2) == pytest.approx(target, rel=1e-12)


def test_refusals():
    weight, log = modes(3)
    with pytest.raises(InputError, match="Re log <= 0, its largest real part is 1"):
        pair_generators(weight, log + 1 - log.real, 0.0, torch.ones(4))
    bad = torch.tensor([1.0, float("nan"), 1.0])
    for given in ((weight * bad, log, 0.0, bad**0), (weight, log, 0.0, bad), (weight, log, float("inf"), bad**0)):
        with pytest.raises(InputError, match="weight, skip or gains hold NaN or infinite numbers"):
            pair_generators(*given)
    found = pair_generators(weight, log, 0.0, torch.ones(4))
    for i, j in ((-1, 2), (0, 4)):
        with pytest.raises(InputError, match=r"entries .*: the inputs are 0 \.\. 3"):
            found.entries(torch.tensor(i), torch.tensor(j))
    with pytest.raises(InputError, match=r"entries 4 \.\. 4"):
        found.row(4)
    with pytest.raises(InputError, match=r"not \(3,\), \(2,\), \(4,\)"):
        pair_generators(weight, log[:2], 0.0, torch.ones(4))
