"""State space models."""

from __future__ import annotations

from typing import Any

from mixerlens.design.spec import Vector, part

SELECTIVE: dict[str, Any] = {
    "query": Vector(features="silu", heads=1),
    "key": Vector(features="silu", heads=1),
    "value": Vector(features="silu"),
    "short_convolution": part("causal", width=4),
    "scaling": part("step"),
    "gate": part("silu"),
    "skip": True,
}

STATE_SPACE: dict[str, dict[str, Any]] = {
    "mamba2": SELECTIVE | {"evolution": part("scalar", decay="rate"), "norm": part("rms")},
}
