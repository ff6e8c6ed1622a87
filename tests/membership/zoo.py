"""Mixers to ask about: members from `mixerlens.references` and by hand, and things nobody should call a member."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from mixerlens import references

TIME, HEADS, DIM = 40, 2, 4
GRID = (1, TIME, HEADS)


@dataclass
class Case:
    """A mixer with what it is asked with, and what must come out."""

    mixer: Any
    verdict: str
    readout: str | None = None
    state: int | None = None
    query: Any = None
    key: Any = None
    fixed: dict[str, Any] = field(default_factory=dict)


def draw(seed):
    return partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference(name):
    """A reference as a mixer: query, key, value by position."""
    function = getattr(references, name)

    def mixer(query, key, value, **fixed):
        return function(query=query, key=key, value=value, **fixed)

    mixer.__name__ = name
    return mixer


def scored(phi, normalize=False, causal=True):
    """y_i = sum_j phi(q_i . k_j / 2) v_j, divided by the row sum where ``normalize``."""

    def mixer(query, key, value):
        alpha = phi(torch.einsum("bihd,bjhd->bhij", query, key) / 2)
        alpha = alpha.tril() if causal else alpha
        alpha = alpha / alpha.sum(-1, keepdim=True) if normalize else alpha
        return torch.einsum("bhij,bjhe->bihe", alpha, value)

    return mixer


def filtered(taps):
    """A causal convolution, the same for every channel; taps[0] is the current token."""

    def mixer(query, key, value):
        y = torch.zeros_like(value)
        for lag, tap in enumerate(taps):
            y[:, lag:] += tap * value[:, : value.shape[1] - lag]
        return y

    return mixer


def biased(query, key, value, table):
    """Softmax attention with a table of biases, one a lag (T5)."""
    place = torch.arange(query.shape[1])
    lag = place[:, None] - place[None, :]
    score = torch.einsum("bihd,bjhd->bhij", query, key) / 2 + table[lag.clamp(min=0)]
    return torch.einsum("bhij,bjhe->bihe", score.masked_fill(lag < 0, -math.inf).softmax(-1), value)


def preconditioned(query, key, value):
    """y_i = S_i^T (I + sum_j k_j k_j^T)^{-1} q_i: a query that reads the past (MesaNet)."""
    gram = torch.eye(key.shape[-1], dtype=key.dtype) + (key[..., :, None] * key[..., None, :]).cumsum(1)
    chained = torch.linalg.solve(gram, query[..., None])[..., 0]
    return references.linear_attention(query=chained, key=key, value=value)


def two_ways(query, key, value):
    decay = torch.tensor([0.9, 0.95], dtype=torch.float64)
    there = references.retention(query=query, key=key, value=value, decay=decay)
    back = [x.flip(1) for x in (query, key, value)]
    return there + references.retention(query=back[0], key=back[1], value=back[2], decay=decay).flip(1)


def coupled(query, key, value, transition, write, read):
    """x_t = transition x_{t-1} + write v_t, y_t = read x_t over all heads and channels at once (S5)."""
    state = torch.zeros(value.shape[0], transition.shape[0], dtype=value.dtype)
    rows = []
    for t in range(value.shape[1]):
        state = state @ transition.mT + value[:, t].flatten(1) @ write.mT
        rows.append((state @ read.mT).unflatten(-1, value.shape[2:]))
    return torch.stack(rows, 1)


def members() -> dict[str, Case]:
    n = draw(0)
    gate = lambda *s: torch.rand(*s, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    angles = torch.tensor([1.0, 0.1], dtype=torch.float64)
    two = torch.tensor([0.5, 0.1], dtype=torch.float64)
    unit = F.normalize(n(*GRID, DIM), dim=-1)
    positive = lambda: F.elu(n(*GRID, DIM)) + 1
    poles = torch.complex(-0.5 - gate(HEADS, 3), 3 * (1 + torch.arange(3.0).double()).expand(HEADS, 3))
    complexes = lambda: torch.complex(n(HEADS, 3), n(HEADS, 3))
    spin = torch.linalg.qr(n(3, 3)).Q * 0.9
    softmax, linear = reference("softmax_attention"), reference("linear_attention")

    def mamba(query, key, value, **fixed):
        return references.mamba(value=value, B=key, C=query, **fixed)

    def mamba2(query, key, value, **fixed):
        return references.mamba2(value=value, B=key, C=query, **fixed)

    def s4d(query, key, value, **fixed):
        return references.s4d(value=value, **fixed)

    def featured(query, key, value):
        return linear(F.elu(query) + 1, F.elu(key) + 1, value, normalize=True)

    def normed(query, key, value):
        return softmax(3 * F.normalize(query, dim=-1), F.normalize(key, dim=-1), value)

    def convolved(phi, normalize=False):
        def mixer(query, key, value):
            return scored(phi, normalize)(query, key + 0.5 * F.pad(key, (0, 0, 0, 0, 1, 0))[:, :-1], value)

        return mixer

    def long_filter(query, key, value, taps):
        return query[..., :1] * filtered(taps)(query, key, key[..., :1] * value)

    return {
        "softmax": Case(softmax, "member", "exp"),
        "softmax, rope": Case(softmax, "member", "exp", fixed={"rope": angles}),
        "softmax, alibi": Case(softmax, "member", "exp", fixed={"alibi": two}),
        "softmax, sink": Case(softmax, "member", "exp", fixed={"sinks": two}),
        "softmax, window of 24": Case(softmax, "member", "exp", fixed={"window": 24}),
        "softmax, window of 6": Case(softmax, "member", "exp", 5, fixed={"window": 6}),
        "softmax, both ways": Case(softmax, "member", "exp", fixed={"causal": False}),
        "softmax, one dimension": Case(softmax, "member", "exp", query=n(*GRID, 1), key=n(*GRID, 1)),
        "softmax, normed inside": Case(normed, "member", "exp"),
        "softmax, keys convolved inside": Case(convolved(torch.exp, True), "member", "exp"),
        "softmax, table of biases": Case(biased, "member", "exp", fixed={"table": n(TIME)}),
        "linear": Case(linear, "member", "identity", DIM),
        "linear, normalised": Case(
            linear, "member", "identity", DIM, query=positive(), key=positive(), fixed={"normalize": True}
        ),
        "linear, both ways": Case(scored(lambda z: z, causal=False), "member", "identity", DIM),
        "retention": Case(
            reference("retention"), "member", "identity", DIM, fixed={"decay": 1 - two / 5, "rope": angles}
        ),
        "gated linear attention": Case(
            reference("gated_linear_attention"), "member", "identity", DIM, fixed={"log_decay": -gate(*GRID, DIM) / 3}
        ),
        "DeltaNet": Case(
            reference("delta_net"), "member", "identity", DIM, key=unit, fixed={"beta": 1.9 * gate(*GRID)}
        ),
        "gated DeltaNet": Case(
            reference("gated_delta_net"), "member", "identity", DIM, key=unit,
            fixed={"beta": gate(*GRID), "log_decay": -gate(*GRID) / 3},
        ),
        "Mamba": Case(
            mamba, "member", "identity", DIM, query=n(1, TIME, DIM), key=n(1, TIME, DIM),
            fixed={"A": -1 - gate(HEADS, DIM), "dt": gate(*GRID) / 3, "heads": HEADS, "value_dim": 3},
        ),
        "Mamba-2": Case(
            mamba2, "member", "identity", DIM, fixed={"A": -1 - gate(HEADS), "dt": gate(*GRID) / 3}
        ),
        "S4D": Case(
            s4d, "member", "identity", 6,
            fixed={"A": poles, "B": complexes(), "C": complexes(), "dt": two, "value_dim": 3},
        ),
        "sigmoid": Case(scored(lambda z: torch.sigmoid(z - math.log(TIME))), "member", "sigmoid"),
        "relu": Case(scored(lambda z: torch.relu(z) / TIME), "member", "relu"),
        "relu, keys convolved inside": Case(convolved(torch.relu), "member", "relu"),
        "relu squared": Case(scored(lambda z: torch.relu(z) ** 2), "member", "relu squared"),
        "softplus": Case(scored(F.softplus), "member", "softplus"),
        "Based": Case(
            scored(lambda z: 1 + z + z * z / 2, normalize=True), "member by lifting", "polynomial of degree 2", 10,
            query=n(*GRID, 3), key=n(*GRID, 3),
        ),
        "feature map inside": Case(featured, "member by lifting", "identity", DIM),
        "MesaNet's query": Case(preconditioned, "member", "identity", DIM),
        "causal convolution": Case(filtered([1.0, 0.5, -0.3, 0.2]), "member", "identity", 3),
        "long convolution": Case(long_filter, "member", "identity", fixed={"taps": n(TIME)}),
        "mean pooling": Case(lambda q, k, v: v.mean(1, keepdim=True).expand_as(v), "member", "identity", 1),
        "running mean": Case(
            lambda q, k, v: v.cumsum(1) / torch.arange(1, TIME + 1)[:, None, None], "member", "identity", 1
        ),
        "identity": Case(lambda q, k, v: v, "member", "identity", 0),
        "zero": Case(lambda q, k, v: 0 * v, "member", "identity", 0),
        "retention, both ways": Case(two_ways, "member by lifting", "identity", 2 * DIM),
        "S5": Case(
            coupled, "member by lifting", "identity", 3,
            fixed={"transition": spin, "write": n(3, HEADS * 3), "read": n(HEADS * 3, 3), "value_dim": 3},
        ),
    }  # fmt: skip


def ask(case: Case, seed: int = 0, **named):
    """The membership of a case, with normal queries and keys where it has none of its own."""
    import mixerlens

    n = draw(7)
    query = n(*GRID, DIM) if case.query is None else case.query
    key = n(*GRID, DIM) if case.key is None else case.key
    return mixerlens.membership(case.mixer, query, key, seed=seed, **case.fixed, **named)
