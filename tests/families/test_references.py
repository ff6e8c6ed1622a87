"""Every family, in every variant, against its plain reference: products, oracle, float32, gradients, segments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families.helpers import error, rand, randn
from mixerlens import families, oracle, references

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 70, 4, 2, 4, 3


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def complex_(re: Tensor, im: Tensor) -> Tensor:
    return torch.complex(re, im)


ANGLES = torch.tensor([1.0, 0.01], dtype=torch.float64)
SEGMENTS = torch.tensor([[-1] * 3 + [0] * 30 + [1] * 37, [4] * 60 + [2] * 6 + [-1] * 4])
GRID = (BATCH, TIME, HEADS)
SINKS = torch.tensor([-1.0, 0.0, 0.5, 3.0], dtype=torch.float64)
SLOPES = torch.tensor([0.5, 0.25, 0.1, 0.0], dtype=torch.float64)


def attention(**options):
    return {"query": randn(*GRID, DIM), "key": randn(BATCH, TIME, GROUPS, DIM), **options}


def linear(keys: int = HEADS, **options):
    return {"query": randn(*GRID, DIM), "key": randn(BATCH, TIME, keys, DIM), **options}


def delta(gated: bool = False, groups: int = HEADS, **options):
    given = {"query": randn(BATCH, TIME, groups, DIM), "key": unit(randn(BATCH, TIME, groups, DIM))}
    return given | {"beta": 1.99 * rand(*GRID)} | ({"log_decay": -rand(*GRID)} if gated else {}) | options


def scan(kind: str, **options):
    if kind == "s4d":
        A = complex_(-rand(HEADS, DIM) - 0.1, 3 * torch.arange(DIM).double().expand(HEADS, -1))
        B, C = (complex_(randn(HEADS, DIM), randn(HEADS, DIM)) for _ in range(2))
        return {"A": A, "B": B, "C": C, "dt": torch.tensor([1e-3, 0.01, 0.1, 0.9]).double(), "length": TIME}
    groups = (GROUPS,) if kind == "mamba2" else ()
    A = -4 * rand(HEADS) if kind == "mamba2" else -4 * rand(HEADS, DIM)
    given = {"B": randn(BATCH, TIME, *groups, DIM), "C": randn(BATCH, TIME, *groups, DIM)}
    return {"A": A, "dt": 0.01 + rand(*GRID), **given, **options}


CASES = {
    "attention": ("softmax_attention", attention),
    "attention scale": ("softmax_attention", lambda: attention(scale=0.9)),
    "attention rope": ("softmax_attention", lambda: attention(rope=ANGLES)),
    "attention rope interleaved": ("softmax_attention", lambda: attention(rope=ANGLES, rope_layout="interleaved")),
    "attention alibi": ("softmax_attention", lambda: attention(alibi=SLOPES)),
    "attention window": ("softmax_attention", lambda: attention(window=9)),
    "attention rope window": ("softmax_attention", lambda: attention(window=20, rope=ANGLES)),
    "attention bidirectional": ("softmax_attention", lambda: attention(causal=False)),
    "attention bidirectional window": ("softmax_attention", lambda: attention(causal=False, window=5)),
    "attention bidirectional rope": ("softmax_attention", lambda: attention(causal=False, rope=ANGLES)),
    "attention softcap": ("softmax_attention", lambda: attention(softcap=2.0)),
    "attention sinks": ("softmax_attention", lambda: attention(sinks=SINKS, window=7)),
    "attention segments": ("softmax_attention", lambda: attention(segments=SEGMENTS, rope=ANGLES)),
    "attention bidirectional segments": ("softmax_attention", lambda: attention(segments=SEGMENTS, causal=False)),
    "attention softcap sinks rope": ("softmax_attention", lambda: attention(softcap=5.0, sinks=SINKS, rope=ANGLES)),
    "linear": ("linear_attention", linear),
    "linear grouped": ("linear_attention", lambda: linear(GROUPS)),
    "linear normalized": (
        "linear_attention",
        lambda: {n: x.abs() + 0.1 for n, x in linear(GROUPS).items()} | {"normalize": True},
    ),
    "linear normalized segments": (
        "linear_attention",
        lambda: {n: x.abs() + 0.1 for n, x in linear().items()} | {"normalize": True, "segments": SEGMENTS},
    ),
    "retention": ("retention", lambda: linear(decay=torch.tensor([0.5, 0.9, 0.99, 1.0]).double())),
    "retention rope": ("retention", lambda: linear(decay=0.9 + 0.1 * rand(HEADS), rope=ANGLES)),
    "retention segments": ("retention", lambda: linear(decay=0.9 + 0.1 * rand(HEADS), segments=SEGMENTS)),
    "gla": ("gated_linear_attention", lambda: linear(log_decay=-rand(*GRID, DIM))),
    "gla segments": ("gated_linear_attention", lambda: linear(log_decay=-rand(*GRID, DIM), segments=SEGMENTS)),
    "delta": ("delta_net", delta),
    "delta grouped": ("delta_net", lambda: delta(groups=GROUPS)),
    "delta segments": ("delta_net", lambda: delta(segments=SEGMENTS)),
    "gated delta": ("gated_delta_net", lambda: delta(gated=True)),
    "gated delta grouped": ("gated_delta_net", lambda: delta(gated=True, groups=GROUPS)),
    "gated delta segments": ("gated_delta_net", lambda: delta(gated=True, segments=SEGMENTS)),
    "mamba": ("mamba", lambda: scan("mamba")),
    "mamba segments": ("mamba", lambda: scan("mamba", segments=SEGMENTS)),
    "mamba2": ("mamba2", lambda: scan("mamba2")),
    "mamba2 segments": ("mamba2", lambda: scan("mamba2", segments=SEGMENTS)),
    "s4d": ("s4d", lambda: scan("s4d")),
}


def value(name: str, given: dict) -> Tensor:
    """Values with as many heads as the keys have groups, where a model shares them."""
    return randn(BATCH, TIME, given["key"].shape[2] if name == "softmax_attention" else HEADS, WIDTH)


def lowered(given: dict) -> dict:
    down = {torch.float64: torch.float32, torch.complex128: torch.complex64}
    return {n: x.to(down.get(x.dtype, x.dtype)) if isinstance(x, Tensor) else x for n, x in given.items()}


@pytest.mark.parametrize("case", CASES)
def test_products(case):
    name, make = CASES[case]
    given = make()
    v = value(name, given)
    want = references.REGISTRY[name](value=v, **given)
    dynamics = getattr(families, name)(**given)
    assert error(dynamics.operator() @ v, want) <= 1e-12
    assert error(oracle(dynamics, v), want) <= 1e-12
    for h in (0, HEADS - 1):
        per_head = v[:, :, h * v.shape[2] // HEADS, None]
        assert error(dynamics.operator(head=h) @ per_head, want[:, :, h : h + 1]) <= 1e-12
    alpha = dynamics.operator().to_dense()
    assert alpha.shape[1:] == (HEADS, TIME, TIME)
    heads_first = v.repeat_interleave(HEADS // v.shape[2], dim=2).transpose(1, 2)
    assert error((alpha @ heads_first).transpose(1, 2), want) <= 1e-12


@pytest.mark.parametrize("case", CASES)
def test_float32(case):
    name, make = CASES[case]
    given = lowered(make())
    v = value(name, given).float()
    want = references.REGISTRY[name](value=v, **given)
    got = getattr(families, name)(**given).operator() @ v
    assert got.dtype == torch.float32
    largest = 1.0
    if name == "softmax_attention":
        largest = float(
            torch.einsum(
                "bihn,bjhn->bhij",
                *(given[x].repeat_interleave(HEADS // given[x].shape[2], dim=2) for x in ("query", "key")),
            )
            .abs()
            .max()
        ) * (given.get("scale") or 0.5)
    assert error(got, want) <= 1e-6 * max(1.0, largest)


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    name, make = CASES[case]
    given = make()
    given["v"] = value(name, given)
    leaves = {n: x.requires_grad_() for n, x in given.items() if isinstance(x, Tensor) and n != "segments"}
    shared = {n: x.detach().clone().requires_grad_() if n in leaves else x for n, x in given.items()}
    v = given.pop("v")
    weight = randn(*GRID, WIDTH)
    got = torch.autograd.grad(
        ((getattr(families, name)(**given).operator() @ v) * weight).sum(), list(leaves.values()), allow_unused=True
    )
    other = shared.pop("v")
    want = torch.autograd.grad(
        (references.REGISTRY[name](value=other, **shared) * weight).sum(),
        [other if n == "v" else shared[n] for n in leaves],
        allow_unused=True,
    )
    for n, g, h in zip(leaves, got, want, strict=True):
        if h is None or h.abs().max() == 0:
            assert g is None or g.abs().max() == 0, n
            continue
        assert g is not None, n
        assert (g - h).abs().max() <= 3e-12 * h.abs().max(), n


def test_the_registry_is_the_families():
    assert {name for name, _ in CASES.values()} <= set(references.REGISTRY)
    assert {f.function.__name__ for f in families.FAMILIES.values()} <= set(references.REGISTRY)
