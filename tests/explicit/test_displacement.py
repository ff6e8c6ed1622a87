"""The pair matrix by displacement against the dense Gram matrix, sums over pairs, and order 2 by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixerlens.errors import InputError, MemoryBudgetError
from mixerlens.explicit.displacement import order_two_pairs, toeplitz_gram
from mixerlens.explicit.orders import orders
from mixerlens.models.s4d_layer import S4D


def system(time: int, features: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """kernel, skip and the dense T (features, time, time)."""
    torch.manual_seed(seed)
    layer = S4D(features, 4).double()
    kernel, skip = layer.kernel(time).detach(), layer.D.detach()
    lag = np.arange(time)[:, None] - np.arange(time)
    dense = np.where(lag >= 0, kernel.numpy()[:, lag], 0) + skip.numpy()[:, None, None] * np.eye(time)
    return kernel, skip, dense


@pytest.mark.parametrize("time", [1, 2, 37, 150])
def test_the_gram_matrix_of_one_feature_and_of_several(time):
    kernel, skip, dense = system(time, 3)
    kernel[:, 0] += skip
    weights = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    for h in range(3):
        want = dense[h].T @ dense[h]
        np.testing.assert_allclose(toeplitz_gram(kernel[h : h + 1]), want, rtol=0, atol=1e-12 * np.abs(want).max())
    want = sum(w * t.T @ t for w, t in zip(weights.numpy(), dense, strict=True))
    np.testing.assert_allclose(toeplitz_gram(kernel, weights), want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_the_displacement_identity_of_the_dense_matrix():
    """The identity, not the code: of the definition alone, at every pair."""
    kernel, skip, dense = system(40, 1)
    gram, k = dense[0].T @ dense[0], kernel[0].numpy().copy()
    k[0] += float(skip[0])
    for i in range(39):
        for j in range(39):
            assert abs(gram[i, j] - gram[i + 1, j + 1] - k[39 - i] * k[39 - j]) < 1e-12 * np.abs(gram).max()


def test_pairs_against_sums_over_time_and_order_two():
    time, features = 24, 3
    kernel, skip, dense = system(time, features)
    u = 0.2 * torch.randn(time, features, dtype=torch.float64)
    weights = torch.randn(features, dtype=torch.float64) / time
    second = 1 / math.sqrt(2 * math.pi)
    pairs = order_two_pairs(kernel, skip, u, weights, second)
    want = np.zeros((time, time))
    for i in range(time):
        for j in range(time):
            for h in range(features):
                gram = sum(dense[h, t, i] * dense[h, t, j] for t in range(time))
                want[i, j] += float(weights[h]) * second * float(u[i, h] * u[j, h]) * gram
    np.testing.assert_allclose(pairs, want, rtol=0, atol=1e-12 * np.abs(want).max())
    found = orders(kernel, skip, u, "gelu", weights[None], 24, tolerance=0.5)
    assert float(pairs.sum()) == pytest.approx(float(found.values[2]), rel=1e-12)
    np.testing.assert_allclose(pairs.sum(1), found.attribution[2].sum(1), rtol=0, atol=1e-12)


def test_refusals(monkeypatch):
    kernel, skip, _ = system(8, 2)
    with pytest.raises(InputError, match=r"kernel must be \(features, time\) .* not kernel \(8,\)"):
        toeplitz_gram(kernel[0])
    with pytest.raises(InputError, match="do not fit"):
        order_two_pairs(kernel, skip, torch.zeros(7, 2), torch.ones(2), 0.4)
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "100")
    with pytest.raises(MemoryBudgetError, match="the pair matrix needs 512 bytes"):
        toeplitz_gram(kernel)
