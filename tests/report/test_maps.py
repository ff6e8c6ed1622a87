"""Pooled maps: what a cell holds, how exactly it is stored, and how much room it takes."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
import torch

from mixerlens import families
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Scalar
from mixerlens.report.maps import (
    FINEST,
    Pooled,
    decode,
    encode,
    finest_pixels,
    is_signed,
    levels,
    pooled_maps,
    thumbnail,
)


def delta(time: int) -> CoefficientDynamics:
    key = torch.nn.functional.normalize(torch.randn(1, time, 2, 4), dim=-1)
    return families.delta_net(torch.randn(1, time, 2, 4), key, torch.rand(1, time, 2))


@pytest.mark.parametrize(("time", "pixels"), [(20, 20), (20, 7), (97, 32)])
def test_a_cell_is_the_mean_of_the_pairs_between_its_edges(time, pixels):
    dynamics = delta(time)
    alpha = dynamics.operator().to_dense()[0].numpy()
    for head, pooled in enumerate(pooled_maps(dynamics, pixels)):
        for p in range(pixels):
            for q in range(pixels):
                a, b = slice(*pooled.edges[p : p + 2]), slice(*pooled.edges[q : q + 2])
                np.testing.assert_allclose(pooled.values[p, q], alpha[head][a, b].mean(), atol=1e-6)
    assert pooled.edges[0] == 0 and pooled.edges[-1] == time


def test_coarser_levels_are_means_of_the_same_pairs():
    fine = np.random.default_rng(0).normal(size=(97, 97))
    pooled = Pooled(fine, np.arange(98)).coarser(5).coarser(3)
    assert pooled.side == 15 and pooled.edges.tolist() == [0, 15, 30, 45, 60, 75, 90, 97]
    for p in range(7):
        for q in range(7):
            block = fine[pooled.edges[p] : pooled.edges[p + 1], pooled.edges[q] : pooled.edges[q + 1]]
            np.testing.assert_allclose(pooled.values[p, q], block.mean(), atol=1e-12)


@pytest.mark.parametrize("signed", [True, False])
def test_storage_error_is_what_the_page_states(signed):
    values = np.random.default_rng(1).normal(size=(50, 50)) ** 3
    values = values if signed else np.abs(values)
    most, top = np.abs(values).max(), 127 if signed else 255
    codes = encode(values, most, signed)
    size = np.abs(codes.astype(float))
    stated = most * (np.minimum(1, (size + 0.5) / top) ** 3 - np.maximum(0, (size - 0.5) / top) ** 3)
    assert (np.abs(decode(codes, most, signed) - values) <= stated).all()
    assert np.abs(decode(codes, most, signed)).max() == pytest.approx(most)


def test_colours_end_where_the_values_are():
    values = np.tril(np.full((100, 100), 0.01))
    values[0, 0] = 1.0  # what softmax gives the first token
    data = levels(Pooled(values, np.arange(101)), False)
    assert data["max"] == 1.0 and data["top"] == pytest.approx(0.01)
    assert thumbnail(Pooled(values, np.arange(101)), False)["top"] < 0.1
    even = np.random.default_rng(0).random((50, 50))
    assert levels(Pooled(even, np.arange(51)), True)["top"] == even.max()


def test_a_map_of_zeros_stays_zero():
    zeros = Pooled(np.zeros((4, 4)), np.arange(5))
    data = levels(zeros, True)
    assert data["max"] == 0 and zlib.decompress(base64.b64decode(data["levels"][0]["data"])) == bytes(16)


def test_levels_run_from_coarse_to_fine_on_one_scale():
    values = np.tril(np.random.default_rng(2).random((900, 900)))
    data = levels(Pooled(values, np.arange(901)), False)
    assert [level["pixels"] for level in data["levels"]] == [113, 225, 450, 900]
    assert [level["side"] for level in data["levels"]] == [8, 4, 2, 1]
    fine = np.frombuffer(zlib.decompress(base64.b64decode(data["levels"][3]["data"])), np.uint8).reshape(900, 900)
    np.testing.assert_allclose(decode(fine, data["max"], False), values, atol=0.01)
    assert thumbnail(Pooled(values, np.arange(901)), False)["pixels"] <= 32


@pytest.mark.parametrize("time", [1, 31, 512, 2000, 50_000])
@pytest.mark.parametrize("heads", [1, 9, 270, 3000])
@pytest.mark.parametrize("causal", [True, False])
def test_maps_fit_their_budget_whatever_they_hold(time, heads, causal):
    budget = 9_000_000
    pixels = finest_pixels(time, heads, causal, budget)
    assert 1 <= pixels <= min(time, FINEST)
    worst = np.random.default_rng(0).integers(0, 256, (min(pixels, 400),) * 2).astype(np.uint8)  # incompressible
    stored = np.tril(worst) if causal else worst
    scale = (pixels / len(worst)) ** 2
    size = 4 / 3 * 4 / 3 * scale * len(zlib.compress(stored.tobytes(), 9))  # base64, and the coarser levels
    assert heads * size <= 1.35 * max(budget, heads * 32 * 32)


def test_which_maps_are_signed():
    query = torch.randn(1, 5, 1, 2)
    assert is_signed(delta(5)) and is_signed(families.linear_attention(query, query, normalize=True))
    assert not is_signed(families.softmax_attention(query=query, key=query))
    turned = CoefficientDynamics(query, query, Scalar(decay=torch.tensor([0.5 + 0.5j])))
    assert not is_signed(turned)  # complex coefficients are shown by magnitude
    assert np.isrealobj(pooled_maps(turned, 5)[0].values)
