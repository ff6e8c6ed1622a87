"""Orders against dense matrices, sums over every tuple of inputs, and finite differences."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from explicit.dense import tiny
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.explicit.layer import record
from mixerlens.explicit.orders import Orders, orders
from mixerlens.explicit.series import taylor
from mixerlens.models.s4d_layer import S4D


class Block:
    """One random S4D layer in float64 on one random input whose |y| reaches ``size``."""

    def __init__(self, time: int, features: int = 2, size: float = 1.0, seed: int = 0, bias: bool = False) -> None:
        torch.manual_seed(seed)
        layer = S4D(features, 3).double()
        self.kernel, self.skip = layer.kernel(time).detach(), layer.D.detach()
        self.u = torch.randn(time, features, dtype=torch.float64)
        self.weights = torch.randn(time, features, dtype=torch.float64)
        lag = np.arange(time)[:, None] - np.arange(time)
        dense = np.where(lag >= 0, self.kernel.numpy()[:, lag], 0)
        self.T = dense + self.skip.numpy()[:, None, None] * np.eye(time)  # (features, time, time)
        x = np.einsum("htj,jh->th", self.T, self.u)
        self.u *= size / np.abs(x).max()
        self.x = np.einsum("htj,jh->th", self.T, self.u)
        self.bias = 0.5 * torch.randn(time, features, dtype=torch.float64) if bias else None
        self.y = self.x + (0 if self.bias is None else self.bias.numpy())

    def orders(self, activation: str, order: int, **options) -> Orders:
        return orders(self.kernel, self.skip, self.u, activation, self.weights, order, bias=self.bias, **options)


def test_small_orders_are_sums_over_all_tuples_of_inputs():
    block = Block(5)
    found = block.orders("gelu", 10)
    a, u, q = taylor("gelu", 4).numpy(), block.u.numpy(), block.weights.numpy()
    for p in (1, 2, 4):
        value, shares = 0.0, np.zeros_like(u)
        for h in range(2):
            for tuple_ in product(range(5), repeat=p):
                part = a[p] * np.prod([u[j, h] for j in tuple_])
                part *= sum(q[t, h] * np.prod([block.T[h, t, j] for j in tuple_]) for t in range(5))
                value += part
                for j in tuple_:
                    shares[j, h] += part / p
        assert abs(float(found.values[p]) - value) < 1e-13
        np.testing.assert_allclose(found.attribution[p], shares, rtol=0, atol=1e-13)
    assert not found.values[[0, 3, 5, 7, 9]].any() and not found.attribution[3].any()


@pytest.mark.parametrize(
    ("activation", "size", "order"), [("gelu", 2.0, 20), ("silu", 1.2, 24), ("gelu_tanh", 1.0, 14)]
)
def test_orders_sum_to_the_target_within_the_bound(activation, size, order):
    block = Block(50, 3, size)
    found = block.orders(activation, order)
    gate = {"gelu": norm.cdf, "silu": lambda y: 1 / (1 + np.exp(-y))}
    gate["gelu_tanh"] = lambda y: 1 / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    target = float((block.weights.numpy() * block.y * gate[activation](block.y)).sum())
    assert found.exact == pytest.approx(target, rel=1e-12)
    assert abs(found.total - target) <= found.bound <= 1e-3 * float(block.weights.abs().sum())
    for p in range(1, order + 1):
        want = float((block.weights.numpy() * taylor(activation, order)[p].item() * block.x**p).sum())
        assert float(found.values[p]) == pytest.approx(want, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("series", ["taylor", "chebyshev"])
def test_every_order_is_the_sum_of_its_attribution(bias, series):
    block = Block(150, 3, 1.5, bias=bias)
    found = block.orders("gelu", 30 if series == "taylor" else 16, series=series)
    for p in range(1, len(found.values)):
        scale = float(found.attribution[p].abs().sum())
        assert abs(float(found.attribution[p].sum() - found.values[p])) <= 1e-12 * scale
    assert not found.attribution[0].any()


def test_attributions_are_euler_derivatives():
    block = Block(12, 2, 1.0, bias=True)
    found = block.orders("gelu", 16)
    scaled = lambda at, s: float(at.orders("gelu", 16, tolerance=0.5).values[p]) * s
    for p, (j, h) in product((1, 2, 3, 6), ((0, 0), (7, 1), (11, 0))):
        kept, step = float(block.u[j, h]), 1e-5
        block.u[j, h] = kept + step
        up = scaled(block, 1)
        block.u[j, h] = kept - step
        slope = (up - scaled(block, 1)) / (2 * step)
        block.u[j, h] = kept
        assert float(found.attribution[p, j, h]) == pytest.approx(kept * slope / p, abs=1e-9)


def test_a_bias_brings_odd_orders_back_and_orders_are_homogeneous():
    block = Block(30, 2, 1.0, bias=True)
    found = block.orders("gelu", 22)
    assert (found.values[[3, 5, 7]].abs() > 1e-6).all() and abs(float(found.values[0])) > 1e-3
    assert abs(found.total - found.exact) <= found.bound
    assert found.exact == pytest.approx(float((block.weights.numpy() * block.y * norm.cdf(block.y)).sum()), rel=1e-12)
    block.u *= 0.5
    half = block.orders("gelu", 22)
    powers = 0.5 ** torch.arange(23.0, dtype=torch.float64)
    torch.testing.assert_close(half.values, found.values * powers, rtol=1e-11, atol=1e-15)


def test_beyond_taylor_the_chebyshev_orders_keep_their_bound():
    block = Block(60, 3, 8.0)
    with pytest.raises(UnsupportedError, match="use the Chebyshev series"):
        block.orders("gelu", 26)
    with pytest.raises(UnsupportedError, match=r"degree 12 .* degree 24 is needed"):
        block.orders("gelu", 12, series="chebyshev")
    found = block.orders("gelu", 26, series="chebyshev")
    assert abs(found.total - found.exact) <= found.bound
    assert found.bound < 1e-3 * float(block.weights.abs().sum())
    assert float(found.ranges.max()) == pytest.approx(8.0)
    assert not found.values[3::2].any()  # as of GELU itself


def test_a_silent_feature_and_a_pooled_weight():
    block = Block(20, 2, 1.0)
    block.u[:, 1] = 0
    block.weights = torch.full((1, 2), 1 / 20, dtype=torch.float64)
    for series in ("taylor", "chebyshev"):
        found = block.orders("gelu", 12, series=series)
        assert abs(found.total - found.exact) <= found.bound < 1e-3
        assert not found.attribution[..., 1].any()


def test_the_logit_of_a_classifier_by_orders():
    """One block with a GLU, its gain held: logit = what is affine + the orders of the decoder."""
    model, inputs = tiny(features=3, channels=1, seed=3), 0.4 * torch.randn(20, 1, dtype=torch.float64)
    forward = record(model, inputs, target=2)
    (block,), encoder = forward.blocks, model.encoder
    omega, constant = block.reading(forward.cotangent)
    wave = (inputs @ encoder.weight.T).detach()
    bias = block.y.numpy() - np.einsum("htj,jh->th", dense_system(block), wave.numpy())
    found = orders(
        block.kernel, block.layer.s4d.D, wave, "gelu", omega, 12, bias=torch.from_numpy(bias), series="chebyshev"
    )
    residual = forward.cotangent * (wave + encoder.bias)
    affine = float((constant + forward.bias + residual.sum()).detach())
    assert affine + found.exact == pytest.approx(float(model(inputs[None])[0, 2].detach()), rel=1e-12)
    assert abs(found.total - found.exact) <= found.bound < 1e-3


def dense_system(block: Any) -> np.ndarray:
    time = len(block.y)
    lag = np.arange(time)[:, None] - np.arange(time)
    dense = np.where(lag >= 0, block.kernel.numpy()[:, lag], 0)
    return dense + block.layer.s4d.D.detach().numpy()[:, None, None] * np.eye(time)


def test_json_and_refusals():
    block = Block(6)
    record = block.orders("gelu", 12).to_json()
    assert record["series"] == "taylor" and len(record["values"]) == 13 and "Euler" in record["labels"]["attribution"]
    with pytest.raises(UnsupportedError, match=r"order 2 .* is needed"):
        block.orders("gelu", 2)
    with pytest.raises(InputError, match="order must be at least 1, not 0"):
        block.orders("gelu", 0)
    with pytest.raises(InputError, match="series must be 'taylor' or 'chebyshev', not 'fourier'"):
        block.orders("gelu", 4, series="fourier")
    for series in ("taylor", "chebyshev"):
        for tolerance in (float("nan"), 0.0, -1.0):
            with pytest.raises(InputError, match=f"tolerance must be positive, not {tolerance}"):
                block.orders("gelu", 12, series=series, tolerance=tolerance)
    block.skip = block.skip[:1]
    with pytest.raises(InputError, match=r"do not fit: kernel \(2, 6\), skip \(1,\), u \(6, 2\)"):
        block.orders("gelu", 4)
    block = Block(6)
    block.u[0, 0] = float("nan")
    with pytest.raises(InputError, match="u holds NaN"):
        block.orders("gelu", 4)
