"""Orders of pooled features against sums over every pair of inputs, and the table's claim on small sizes."""

from __future__ import annotations

import numpy as np
import torch

from mixerlens.reproduce import seen
from mixerlens.reproduce.seen import FEATURES, Sizes, cells, draw, features, ridge


def test_features_are_the_sums_over_inputs_and_pairs_of_inputs():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    skip = torch.randn(3, dtype=torch.float64, generator=generator)
    u = torch.randn(2, 6, 1, dtype=torch.float64, generator=generator)
    found = features(kernel, skip, u)
    for s in range(2):
        for h in range(3):
            sums = dict.fromkeys(FEATURES, 0.0)
            for t in range(6):
                wave = [(kernel[h, t - i] + (skip[h] if i == t else 0)) * u[s, i, 0] for i in range(t + 1)]
                for i, a in enumerate(wave):
                    sums["order 1"] += a / 6
                    for j, b in enumerate(wave):
                        sums["order 2, i = j" if i == j else "order 2, i != j"] += a * b / 6
            for name in FEATURES:
                assert abs(found[name][s, h] - sums[name]) < 1e-13


def test_the_classes_differ_in_nothing_but_their_autocorrelation():
    u, labels = draw("autocorrelation", 400, 64, np.random.default_rng(0))
    assert labels.tolist() == [0, 1] * 200
    assert float(u.mean(1).abs().max()) < 1e-14 and float((u.square().mean(1) - 1).abs().max()) < 1e-14
    lagged = (u[:, 1:] * u[:, :-1]).mean((1, 2))
    assert abs(lagged[::2].mean() - 0.3) < 0.05 and abs(lagged[1::2].mean() + 0.3) < 0.05


def test_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(0)
    x, labels, test = (
        generator.normal(size=(50, 4)) * 3 + 1,
        generator.integers(0, 2, 50),
        generator.normal(size=(200, 4)),
    )
    mean, spread = x.mean(0), x.std(0, ddof=1)
    theirs = Ridge(alpha=0.1 * 50).fit((x - mean) / spread, 2.0 * labels - 1).predict((test - mean) / spread) > 0
    ours = ridge(torch.from_numpy(x), torch.from_numpy(labels), torch.from_numpy(test), 0.1)
    assert (ours.numpy() == theirs).all()


def test_only_pairs_see_autocorrelation_and_order_one_sees_a_mean():
    found = {cell.data: cell.compute() for cell in cells([0], Sizes(time=64, train=300, test=300, systems=32, modes=8))}
    for task, telling in (("autocorrelation", "order 2, i != j"), ("mean", "order 1")):
        for name in FEATURES:
            low, high = found[task][name]["interval"]
            assert (low > 0.9) if name == telling else (high < 0.65), (task, name, low, high)


def test_a_cell_is_a_function_of_its_seed():
    small = Sizes(time=16, train=40, test=40, systems=8, modes=4)
    first, second, other = (cells([seed], small)[0].compute() for seed in (3, 3, 4))
    assert first == second != other
    assert seen.cells([3], small)[0].settings["time"] == 16
