"""Traces made of real mixer calls with random tensors, for reports: no model is loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from mixerlens.capture import MixerCall
from mixerlens.verify import Certificate, Check

HOSTILE = "<script>alert(1)</script>"


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def arguments(family: str, batch: int, time: int, heads: int, dim: int) -> dict[str, Any]:
    """Keyword arguments of a family, with memory of several lengths."""

    def r(*shape: int) -> torch.Tensor:
        return torch.randn(batch, time, *shape)

    log_decay = -torch.rand(batch, time, heads) * torch.logspace(-2.5, -0.3, heads)
    if family == "softmax_attention":
        rope = 10000 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
        return {"query": 2 * r(heads, dim), "key": r(max(1, heads // 2), dim), "rope": rope}
    if family == "bidirectional":
        return {"query": 2 * r(heads, dim), "key": r(heads, dim), "causal": False}
    if family == "gated_delta_net":
        key = unit(r(heads, dim) + 0.5 * r(heads, 1))
        return {
            "query": unit(r(heads, dim)),
            "key": key,
            "log_decay": log_decay,
            "beta": torch.rand(batch, time, heads),
        }
    if family == "mamba":
        rate = -torch.arange(1, dim + 1.0).repeat(heads, 1)
        step = torch.nn.functional.softplus(r(heads) + torch.linspace(-6, 0, heads))
        return {"A": rate, "B": r(dim), "C": r(dim), "dt": step}
    if family == "s4d":
        rate = torch.complex(-0.5 * torch.ones(heads, dim), torch.pi * torch.arange(dim).float().repeat(heads, 1))
        read = torch.randn(heads, dim, dtype=torch.complex64)
        return {"A": rate, "B": torch.ones_like(rate), "C": read, "dt": torch.logspace(-2.5, -1, heads), "length": time}
    raise ValueError(family)


def call(layer: int, family: str, batch: int, time: int, heads: int, dim: int) -> MixerCall:
    kinds = {"softmax_attention": "attention", "bidirectional": "attention", "s4d": "convolution"}
    empty = torch.zeros(batch, time, heads, 1)
    name = "softmax_attention" if family == "bidirectional" else family
    return MixerCall(
        path=f"model.layers.{layer}.mixer", layer=layer, kind=kinds.get(family, "recurrent"), family=name,
        arguments=arguments(family, batch, time, heads, dim), values=empty, output=empty,
    )  # fmt: skip


def trace(
    layers: list[tuple[str, int, int]], time: int, tokens: list[str] | None = None, batch: int = 1, seed: int = 0
) -> Any:
    """A trace of (family, heads, dim) layers. tokens: the words, repeated as often as needed; None for floats."""
    torch.manual_seed(seed)
    calls = [call(k, family, batch, time, heads, dim) for k, (family, heads, dim) in enumerate(layers)]
    words = [] if tokens is None else [tokens[t % len(tokens)] for t in range(time)]
    info = {
        "source": "models/example-hybrid", "model_type": "example", "class": "ExampleForCausalLM",
        "parameters": 1234567,
        "dtype": "float32", "context_length": 4096, "vocabulary": 259 if tokens else None,
        "tokenizer": "ByT5Tokenizer" if tokens else None, "layers": [{}] * len(layers),
    }  # fmt: skip
    return SimpleNamespace(
        lens=SimpleNamespace(info=lambda: info),
        inputs=torch.zeros(batch, time, dtype=torch.long) if tokens else torch.zeros(batch, time, 1),
        attention_mask=None,
        mixers={c.path: c for c in calls},
        tokens=[words] * batch,
        not_captured={},
    )


def certificate(failing: tuple[str, ...] = ()) -> Certificate:
    """A certificate with every kind of row; the named checks fail."""

    def row(check: str, variant: str, rel: float, tolerance: float, reason: str, **where: int) -> Check:
        status = "fail" if check in failing else "pass"
        rel = 3e-2 if status == "fail" else rel
        return Check(check, variant, status, rel * 7, rel, tolerance, reason, **where)

    rounding = "rounding of float32 sums over the sequence"
    return Certificate(
        [
            row("operator", "float32", 2.1e-7, 1e-5, rounding, layer=0, head=2, position=117),
            row("operator", "float32", 4e-7, 1e-5, rounding, layer=1, head=0, position=3),
            row("step", "as called", 3.0e-7, 1e-4, "the model's own float32 noise, measured", position=200),
            row("step", "explicit positions", 2.8e-7, 1e-4, "the model's own float32 noise, measured", position=200),
            row("chunk", "as called", 3.4e-7, 1e-4, "the model's own float32 noise, measured", position=131),
            Check("padding", "left", "n/a", None, None, None, "this model takes no attention mask"),
            row("padding", "right", 0.0, 1e-4, "the model's own float32 noise, measured"),
        ]
    )  # fmt: skip
