"""Logistic regression without any sequence model: what a set gives away before a wave has travelled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ..data import DataSet, Sequences
from ..errors import UnsupportedError

__all__ = ["BASELINES", "baseline"]

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C
LAGS = 16


def _raw(part: Sequences) -> Float[np.ndarray, "sequences numbers"]:
    return part.inputs.flatten(1).numpy().astype(np.float64)


def _means(part: Sequences) -> Float[np.ndarray, "sequences channels"]:
    return part.inputs.mean(1).numpy().astype(np.float64)


def _correlations(part: Sequences) -> Float[np.ndarray, "sequences numbers"]:
    """Channel means, and mean products of each channel with itself 0 .. 15 steps earlier."""
    x = part.inputs.numpy().astype(np.float64)
    lags = range(min(LAGS, x.shape[1]))
    products = [(x[:, lag:] * x[:, : x.shape[1] - lag]).mean(1) for lag in lags]
    return np.concatenate([x.mean(1), *products], 1)


BASELINES: dict[str, Callable[[Sequences], np.ndarray]] = {
    "raw sequence": _raw,
    "channel means": _means,
    "lagged products": _correlations,
}


def baseline(name: str, data: DataSet, most: int | None, most_held: int | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Which test sequences it gets right, and the penalty that the validation part chose.

    most, most_held: training and validation sequences used, as in a `Recipe`. Raises UnsupportedError without
    scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise UnsupportedError("logistic regression comes with scikit-learn: pip install scikit-learn") from error
    features = BASELINES[name]
    train, held = data.train.first(most), data.validation.first(most_held)
    inputs, labels = features(train), train.labels.numpy()
    x_held, y_held = features(held), held.labels.numpy()
    best: tuple[int, float, Any] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 500 iterations were not enough is stored below
        for penalty in PENALTIES:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500))
            model.fit(inputs, labels)
            correct = int((model.predict(x_held) == y_held).sum())
            if best is None or correct > best[0]:
                best = correct, penalty, model
    assert best is not None
    correct, penalty, model = best
    facts = {
        "penalty": penalty,
        "validation_correct": correct,
        "iterations": int(np.max(model[-1].n_iter_)),
        "converged": bool(np.max(model[-1].n_iter_) < 500),
    }
    return model.predict(features(data.test)) == data.test.labels.numpy(), facts
