"""Delta rules."""

from __future__ import annotations

from typing import Any

from mixerlens.design.spec import Vector, part

UNIT = Vector(features="silu", norm="l2")
QUERY = Vector(features="silu", norm="l2", scale="inverse_sqrt_dim")
AROUND: dict[str, Any] = {
    "query": QUERY,
    "key": UNIT,
    "value": Vector(features="silu"),
    "short_convolution": part("causal", width=4),
    "norm": part("rms"),
}

DELTA: dict[str, dict[str, Any]] = {
    "delta_net": AROUND | {"evolution": part("delta"), "scaling": part("beta")},
    "gated_delta_net": AROUND
    | {
        "evolution": part("delta", decay="rate"),
        "scaling": part("beta"),
        "gate": part("silu"),
    },
}
