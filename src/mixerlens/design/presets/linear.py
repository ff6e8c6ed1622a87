"""Linear attention and its decayed forms."""

from __future__ import annotations

from typing import Any

from mixerlens.design.inits import log_uniform
from mixerlens.design.spec import Vector, part

LINEAR: dict[str, dict[str, Any]] = {
    "linear_attention": {"query": Vector(features="elu_plus_one"), "key": Vector(features="elu_plus_one")},
    "normalized_linear_attention": {
        "query": Vector(features="elu_plus_one"),
        "key": Vector(features="elu_plus_one"),
        "normalizer": part("row_sum"),
    },
    "retnet": {
        "query": Vector(scale="inverse_sqrt_dim"),
        "evolution": part("rotation", decay="decay"),
        "signals": {"decay": {"source": "constant", "function": "retnet"}},
        "norm": part("rms"),
        "gate": part("silu"),
    },
    "lightning_attention": {
        "query": Vector(features="silu"),
        "key": Vector(features="silu"),
        "value": Vector(features="silu"),
        "evolution": part("scalar", decay="log_decay"),
        "signals": {"log_decay": {"source": "constant", "function": "alibi"}},
        "norm": part("rms"),
        "gate": part("sigmoid"),
    },
    "gated_linear_attention": {
        "query": Vector(scale="inverse_sqrt_dim"),
        "evolution": part("diagonal"),
        "signals": {
            "log_decay": {
                "transform": "log_sigmoid",
                "scale": 1 / 16,
                "init": log_uniform(-0.05, -0.001).to_dict(),
            }
        },
        "norm": part("rms"),
        "gate": part("silu"),
    },
    "norm_attention": {"normalizer": part("gate", activation="exp")},
}
