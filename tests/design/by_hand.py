"""A designed model in numpy, one token after the other, on caches of its own: from the weights alone, nothing shared.

Covered are gated DeltaNet, Mamba-2, a polynomial of degree 2 under its row sum (as three moments of the past) and
softmax attention turned by rotary positions, with short convolutions, learned positions, gates, skips and MLPs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Weights = dict[str, np.ndarray]


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return np.array([0.5 * z * (1 + math.erf(z / math.sqrt(2))) for z in x])


def layer_norm(x, weight, bias):
    return (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5) * weight + bias


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


class Layer:
    """One mixer with its cache: the last inputs of the convolution, and what ``equation`` keeps in ``self.past``."""

    def __init__(self, weights: Weights, heads: int, equation: Callable) -> None:
        self.w, self.heads, self.equation = weights, heads, equation
        self.past: list = [None] * heads
        taps = weights.get("taps")
        self.near = None if taps is None else [np.zeros(taps.shape[1])] * len(taps)
        self.tokens = 0

    def project(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.w[f"projections.{name}.weight"] @ x + self.w.get(f"projections.{name}.bias", 0.0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        raw = [self.project(name, x) for name in ("query", "key", "value")]
        if self.near is not None:
            self.near = [np.concatenate(raw), *self.near[:-1]]
            filtered = sum(tap * seen for tap, seen in zip(self.w["taps"], self.near, strict=True))
            raw = np.split(filtered, np.cumsum([len(part) for part in raw])[:2])
        y = self.equation(self, x, *raw)  # (heads, width)
        if "norm_weight" in self.w:
            y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5) * self.w["norm_weight"]
        if "projections.output_gate.weight" in self.w:
            y = y * silu(self.project("output_gate", x)).reshape(y.shape)
        self.tokens += 1
        return self.w["out.weight"] @ y.ravel()


def gated_delta_net(layer: Layer, x, query, key, value) -> np.ndarray:
    q, k, v = (silu(part).reshape(layer.heads, -1) for part in (query, key, value))
    q, k = unit(q) / math.sqrt(q.shape[1]), unit(k)
    beta = sigmoid(layer.project("beta", x))
    decay = np.exp(-np.exp(layer.w["raw.rate"]) * softplus(layer.project("step", x)))
    rows = []
    for h in range(layer.heads):
        state = np.zeros((k.shape[1], v.shape[1])) if layer.past[h] is None else decay[h] * layer.past[h]
        state = state + beta[h] * np.outer(k[h], v[h] - k[h] @ state)
        layer.past[h] = state
        rows.append(q[h] @ state)
    return np.stack(rows)


def mamba2(layer: Layer, x, query, key, value) -> np.ndarray:
    q, k, v = silu(query), silu(key), silu(value).reshape(layer.heads, -1)
    step = softplus(layer.project("step", x))
    decay = np.exp(-np.exp(layer.w["raw.rate"]) * step)
    rows = []
    for h in range(layer.heads):
        before = 0.0 if layer.past[h] is None else decay[h] * layer.past[h]
        layer.past[h] = before + step[h] * np.outer(k, v[h])
        rows.append(q @ layer.past[h] + layer.w["raw.skip"][h] * v[h])
    return np.stack(rows)


def based(layer: Layer, x, query, key, value) -> np.ndarray:
    """(1 + z + z^2 / 2) by the moments sum_j v_j, sum_j k_j v_j and sum_j k_j k_j v_j, and the same of v = 1."""
    q, k, v = (part.reshape(layer.heads, -1) for part in (query, key, value))
    rows = []
    for h in range(layer.heads):
        u, w = k[h] / math.sqrt(k.shape[1]), np.append(v[h], 1.0)
        new = [w, np.multiply.outer(u, w), np.multiply.outer(np.outer(u, u), w)]
        layer.past[h] = new if layer.past[h] is None else [a + b for a, b in zip(layer.past[h], new, strict=True)]
        none, one, two = layer.past[h]
        y = none + q[h] @ one + 0.5 * np.einsum("i,j,ijm->m", q[h], q[h], two)
        rows.append(y[:-1] / y[-1])
    return np.stack(rows)


def rotary_softmax(layer: Layer, x, query, key, value) -> np.ndarray:
    """Query and key of token t turned by t 10000^(-2 i / n), number i with number i + n / 2; all of them kept."""
    q, k, v = (part.reshape(layer.heads, -1) for part in (query, key, value))
    n = q.shape[1]
    angle = layer.tokens * 10000.0 ** (-2 * np.arange(n // 2) / n)

    def turned(a):
        left, right = a[: n // 2], a[n // 2 :]
        return np.concatenate(
            [left * np.cos(angle) - right * np.sin(angle), right * np.cos(angle) + left * np.sin(angle)]
        )

    rows = []
    for h in range(layer.heads):
        layer.past[h] = [*(layer.past[h] or []), (turned(k[h]), v[h])]
        scores = np.array([turned(q[h]) @ u for u, _ in layer.past[h]]) / math.sqrt(n)
        shares = np.exp(scores - scores.max())
        rows.append(shares @ np.stack([w for _, w in layer.past[h]]) / shares.sum())
    return np.stack(rows)


def logits(weights: Weights, equations: list[Callable], heads: int, tokens: list[int]) -> np.ndarray:
    """(time, vocabulary) of one sequence; weights: the state_dict of a `SequenceModel` in float64."""

    def below(start: str) -> Weights:
        return {name.removeprefix(start): x for name, x in weights.items() if name.startswith(start)}

    blocks = [below(f"layers.{k}.") for k in range(len(equations))]
    mixers = [
        Layer({n.removeprefix("mixer."): w for n, w in block.items() if n.startswith("mixer.")}, heads, equation)
        for block, equation in zip(blocks, equations, strict=True)
    ]
    rows = []
    for t, token in enumerate(tokens):
        x = weights["embedding.weight"][token]
        if "places" in weights:
            x = x + weights["places"][t]
        for block, mixer in zip(blocks, mixers, strict=True):
            x = x + mixer(layer_norm(x, block["norm.weight"], block["norm.bias"]))
            inner = layer_norm(x, block["mlp_norm.weight"], block["mlp_norm.bias"])
            inner = gelu(block["mlp.0.weight"] @ inner + block["mlp.0.bias"])
            x = x + block["mlp.2.weight"] @ inner + block["mlp.2.bias"]
        rows.append(weights["head.weight"] @ layer_norm(x, weights["norm.weight"], weights["norm.bias"]))
    return np.stack(rows)
