"""Streaming tiles of sums of mixers, of every two kinds of carries, against the sums of their plain recurrences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations_with_replacement, pairwise

import pytest
import torch
from torch import Tensor

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Delta, Diagonal, Evolution, Scalar
from mixerlens.operator import reductions, streams
from mixerlens.operator.streams import logs, summed, walk
from mixerlens.operator.streams.buffers import Buffers
from mixerlens.readout import RealPart

from ..evolution import plain
from .test_streams import reduced

BATCH, TIME, HEADS = 2, 137, 2
PIXELS = 7
D = torch.float64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Chunks of 16 in blocks of 64: merged windows within every block, and blocks behind it to walk back over."""
    for kind in (Scalar, Diagonal, Delta):
        monkeypatch.setattr(kind, "chunk", 16)
    monkeypatch.setattr(logs, "LONGEST", 16)
    monkeypatch.setattr(walk, "BLOCK", 64)
    monkeypatch.setattr(walk, "LOGS", 1)
    monkeypatch.setattr(walk, "ROWS", 32)
    monkeypatch.setattr(walk, "TILE", 2**16)
    monkeypatch.setattr(summed, "PIECE", 2**12)
    monkeypatch.setattr(summed, "LONGEST", 24)
    monkeypatch.setattr(summed, "TERMS", 16)
    monkeypatch.setattr(summed, "TOGETHER", 2**13)


@dataclass
class Part:
    """One mixer twice: as the library has it, and as plain matrices A (batch, time, heads, n, n)."""

    dynamics: CoefficientDynamics
    alpha: Tensor


def _uniform(*shape: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(*shape, dtype=D)


def _logs(*tail: int, low: float = -0.45, high: float = -0.05) -> Tensor:
    return _uniform(BATCH, TIME, HEADS, *tail, low=low, high=high)


def _scalar() -> tuple[Evolution, Tensor]:
    g = _logs()
    return Scalar(log_decay=g), g.exp()[..., None, None] * torch.eye(3, dtype=D)


def _by_logs() -> tuple[Evolution, Tensor]:
    g = _logs(2)
    return Diagonal(log_decay=g), torch.diag_embed(g.exp())


def _by_decay() -> tuple[Evolution, Tensor]:
    a = _logs(3).exp() * torch.where(torch.rand(BATCH, TIME, HEADS, 3) < 0.2, -1.0, 1.0)
    a[:, 70, 0] = 0.0
    return Diagonal(decay=a), torch.diag_embed(a)


def _by_rate() -> tuple[Evolution, Tensor]:
    rate, step = -_uniform(HEADS, 4, low=3, high=6), _uniform(BATCH, TIME, HEADS, low=0.02, high=0.15)
    return Diagonal(rate=rate, step_size=step), torch.diag_embed((rate * step[..., None]).exp())


def _complex() -> tuple[Evolution, Tensor]:
    a = torch.polar(_logs(2).exp(), _uniform(BATCH, TIME, HEADS, 2, low=-2, high=2))
    return Diagonal(decay=a), torch.diag_embed(a)


def _delta() -> tuple[Evolution, Tensor]:
    w = torch.nn.functional.normalize(torch.randn(BATCH, TIME, HEADS, 3, dtype=D), dim=-1)
    beta, g = _uniform(BATCH, TIME, HEADS, low=0, high=1.9), _logs()
    erased = torch.eye(3, dtype=D) - beta[..., None, None] * w[..., :, None] * w[..., None, :]
    return Delta(w, beta, log_decay=g), g.exp()[..., None, None] * erased


KINDS = {
    "scalar": _scalar, "log_decay": _by_logs, "decay": _by_decay, "rate": _by_rate, "complex": _complex,
    "delta": _delta,
}  # fmt: skip
PAIRS = list(combinations_with_replacement(KINDS, 2))
TRIPLES = [(name, name, name) for name in KINDS] + [tuple((list(KINDS) * 2)[n : n + 3]) for n in range(len(KINDS))]


@cache
def part(name: str, place: int) -> Part:
    """A mixer of its own for every place in a sum, from the recurrence token by token."""
    torch.manual_seed(100 * place + list(KINDS).index(name))
    evolution, a = KINDS[name]()
    query, key = (torch.randn(BATCH, TIME, HEADS, a.shape[-1], dtype=D) for _ in range(2))
    b = _uniform(BATCH, TIME, HEADS, low=0.5, high=1.5)
    alpha = plain.scores(a, query, key, b)
    d = CoefficientDynamics(query, key, evolution, scaling=b)
    if name == "complex":
        d, alpha = replace(d, readout=RealPart(2.0)), plain.READOUTS["real"](alpha)
    return Part(d, alpha)


def mixture(names: tuple[str, ...], changing: bool, time: int = TIME) -> tuple[CoefficientSum, Tensor]:
    """A sum and its alpha, (batch, heads, time, time)."""
    parts = [part(name, place) for place, name in enumerate(names)]
    numbers = (1.0, -0.7, 0.4)[: len(names)]
    torch.manual_seed(7)
    rows = [_uniform(BATCH, TIME, HEADS, low=-1.5, high=1.5) for _ in names]
    d = CoefficientSum(tuple(p.dynamics for p in parts), tuple(rows) if changing else numbers)
    assert streams.fits(d)
    alpha = torch.zeros(BATCH, HEADS, TIME, TIME, dtype=D)
    for p, number, row in zip(parts, numbers, rows, strict=True):
        alpha += (row.transpose(1, 2)[..., None] if changing else number) * p.alpha
    return d.select_tokens(0, time), alpha[..., :time, :time]


def sums(alpha: Tensor) -> list[Tensor]:
    """Row mass, column mass and mean distance from the whole matrix."""
    size, place = alpha.abs(), torch.arange(alpha.shape[-1])
    away = (place[:, None] - place).abs()
    return [x.transpose(1, 2) for x in (size.sum(-1), size.sum(-2), (size * away).sum(-1) / size.sum(-1))]


def pixels(alpha: Tensor) -> Tensor:
    time = alpha.shape[-1]
    edges = [p * time // PIXELS for p in range(PIXELS + 1)]
    edges = [(a, max(b, a + 1)) for a, b in pairwise(edges)]
    rows = [torch.stack([alpha[..., a:b, c:e].mean((-1, -2)) for c, e in edges], -1) for a, b in edges]
    return torch.stack(rows, -2)


def largest(found: tuple[Tensor, Tensor], alpha: Tensor, bar: float) -> None:
    """Top-k holds the largest entries, with their signs and places."""
    values, indices = found
    k, most = values.shape[-1], alpha.abs().max()
    want = alpha.abs().topk(min(k, alpha.shape[-1]), -1).values.transpose(1, 2)
    want = torch.nn.functional.pad(want, (0, k - want.shape[-1]))
    filled = indices >= 0
    assert (values.abs() - torch.where(filled, want, 0)).abs().max() <= bar * most
    assert (want[~filled] == 0).all()  # only where the support is smaller
    entries = alpha.transpose(1, 2).gather(-1, indices.clamp(min=0))
    assert (values - entries)[filled].abs().max() <= bar * most


def agree(d: CoefficientSum, alpha: Tensor, bar: float) -> None:
    """Everything that is computed in full, alone and beside summaries that need entries."""
    op = d.operator()
    assert plain.error(op.to_dense(), alpha) <= bar
    mass, column, distance = sums(alpha)
    wanted = (reductions.RowMass(), reductions.ColumnMass(), reductions.MeanDistance())
    maps = (reductions.Heatmap(PIXELS), reductions.Heatmap(PIXELS, signed=True), reductions.TopK(5))
    *whole, size, signed, top = reduced(d, *wanted, *maps)
    for found in (reduced(d, *wanted), whole):  # by sums of tiles alone; by their entries
        assert plain.error(found[0], mass) <= bar and plain.error(found[1], column) <= bar
        # a row that has cancelled to a small part of the others' mass divides by what rounding has left of it
        assert ((found[2] - distance).abs() * mass / mass.max()).max() <= bar * distance.max()
    assert plain.error(size, pixels(alpha.abs())) <= bar and plain.error(signed, pixels(alpha)) <= bar
    largest(top, alpha, bar)
    largest(op.top_k(5), alpha, bar)  # leaves out what cannot matter


def certified(d: CoefficientSum, alpha: Tensor, noise: float, skip: float = 1e-6) -> Tensor:
    """The true error is within ``missing`` and rounding; what the rows may have lost."""
    wanted = (reductions.RowMass(), reductions.ColumnMass(), reductions.MeanDistance())
    *found, pooled, top = reduced(d, *wanted, reductions.Heatmap(PIXELS), reductions.TopK(5), skip=skip)
    alone = reduced(d, *wanted, skip=skip)  # few dimensions of what is far are enough
    exact = sums(alpha)
    rounding = [noise * float(exact[0].max()), noise * float(exact[1].max()), noise * alpha.shape[-1]]
    for some in (found, alone):
        for (value, missing), want, near in zip(some, exact, rounding, strict=True):
            assert (missing >= 0).all()
            assert ((value - want).abs() <= missing + near).all()
        assert (some[0].missing <= skip * alpha.shape[-1] * some[0].value).all()  # what was asked for
    assert ((pooled.value - pixels(alpha.abs())).abs() <= pooled.missing + noise * alpha.abs().max()).all()
    largest(top, alpha, noise)
    return torch.stack([found[0].missing, alone[0].missing])


@pytest.mark.parametrize("names", PAIRS, ids=" + ".join)
def test_two_mixers(names):
    d, alpha = mixture(names, changing=False)
    agree(d, alpha, 1e-12)
    d, alpha = mixture(names, changing=True)
    assert plain.error(d.operator().to_dense(), alpha) <= 1e-12
    lost = certified(d, alpha, 1e-12)
    assert (lost.sum((1, 2, 3)) > 0).all()  # or nothing was certified


@pytest.mark.parametrize("names", TRIPLES, ids=" + ".join)
def test_three_mixers(names):
    d, alpha = mixture(names, changing=True)
    agree(d, alpha, 1e-12)
    certified(d, alpha, 1e-12)


@pytest.mark.parametrize("time", [1, 17, 64, 65])
@pytest.mark.parametrize("names", [("log_decay", "rate"), ("scalar", "scalar"), ("scalar", "log_decay", "delta")])
def test_lengths(names, time):
    d, alpha = mixture(names, False, time)
    agree(d, alpha, 1e-12)
    certified(d, alpha, 1e-12)


@pytest.mark.parametrize("names", [("scalar", "log_decay"), ("log_decay", "log_decay"), ("decay", "rate", "complex")])
def test_single_precision(names):
    d, _ = mixture(names, True)
    d = d.to(torch.float32)
    alpha = sum_of_plain(d.to(D), names)  # of the rounded parameters
    agree(d, alpha, 1e-6)
    certified(d, alpha, 1e-6)


def sum_of_plain(d: CoefficientSum, names: tuple[str, ...]) -> Tensor:
    """alpha of given parameters by the plain recurrence."""
    total = torch.zeros(BATCH, HEADS, TIME, TIME, dtype=D)
    for (p, weight), name in zip(d.terms, names, strict=True):
        given = p.evolution.tensors()
        if "decay" in given:
            a = given["decay"]
        elif "rate" in given:
            a = (given["rate"] * given["step_size"][..., None]).exp()
        else:
            a = given["log_decay"].exp()
        a = a[..., None].expand(-1, -1, -1, p.dim) if isinstance(p.evolution, Scalar) else a
        assert weight is not None and p.scaling is not None
        scores = plain.scores(torch.diag_embed(a), p.query, p.key, p.scaling)
        scores = plain.READOUTS["real"](scores) if name == "complex" else scores
        total += weight.transpose(1, 2)[..., None] * scores
    return total


@pytest.mark.parametrize("dtype", [D, torch.float32])
def test_what_grows_beside_what_shrinks(dtype):
    """A scalar that grows is carried in float64 numbers, beside a diagonal that shrinks and is not."""
    torch.manual_seed(8)
    a = torch.where(torch.arange(TIME) % 40 < 10, 1.125, 0.9375).to(D)[None, :, None].expand(BATCH, -1, HEADS)
    b = torch.full((BATCH, TIME, HEADS, 2), 0.875, dtype=D)
    query, key = (torch.randn(BATCH, TIME, HEADS, 2, dtype=dtype) for _ in range(2))
    grows, shrinks = Scalar(decay=a), Diagonal(decay=b)
    d = CoefficientSum((CoefficientDynamics(query, key, grows), CoefficientDynamics(key, query, shrinks)), (1.0, 0.5))
    one = torch.ones(BATCH, TIME, HEADS, dtype=D)
    q, k = query.to(D), key.to(D)
    first = plain.scores(a[..., None, None] * torch.eye(2, dtype=D), q, k, one)
    alpha = first + 0.5 * plain.scores(torch.diag_embed(b), k, q, one)
    bar = 1e-12 if dtype == D else 1e-6
    agree(d, alpha, bar)
    certified(d, alpha, bar)


def test_owners_share_no_memory():
    like, whole = torch.zeros(1), Buffers()
    spaces = [whole, whole.of("one"), whole.of("other"), whole.of("one").of("other")]
    taken = [space.take("name", (5,), like).fill_(n) for n, space in enumerate(spaces)]
    assert [x.tolist() for x in taken] == [[n] * 5 for n in range(4)]
    again = whole.of("one").take("name", (5,), like)  # held, not made again
    assert again.data_ptr() == taken[1].data_ptr()
