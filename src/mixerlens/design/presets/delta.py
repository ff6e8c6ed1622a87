"""Delta rules: what is written takes off what it overwrites."""

from __future__ import annotations

from typing import Any

from mixerlens.design.inits import constant
from mixerlens.design.spec import Vector, part

UNIT = Vector(features="silu", norm="l2")
AROUND: dict[str, Any] = {
    "query": Vector(features="silu", norm="l2", scale="inverse_sqrt_dim"),
    "key": UNIT,
    "value": Vector(features="silu"),
    "short_convolution": part("causal", width=4),
    "norm": part("rms"),
}
BETA = {"scaling": part("beta")}
GATED = AROUND | BETA | {"gate": part("silu")}
TO_TWO = {"signals": {"beta": {"scale": 2.0, "init": constant(1.0).to_dict()}}}

DELTA: dict[str, dict[str, Any]] = {
    "delta_net": AROUND | BETA | {"evolution": part("delta")},
    "gated_delta_net": GATED | {"evolution": part("delta", decay="rate")},
    "ttt_linear": AROUND | BETA | TO_TWO | {"evolution": part("delta")},
    "kimi_delta_attention": GATED | {"evolution": part("oblique"), "gate": part("sigmoid")},
    "gated_delta_net_2": AROUND
    | {
        "evolution": part("oblique", strength="read"),
        "value": Vector(features="silu", gate="vector"),
        "signals": {"value_gate": {"transform": "sigmoid"}},
        "gate": part("silu"),
    },
    "comba": GATED
    | {"evolution": part("oblique", erase="scaled", decay="rate", per_dimension=False, order="together")},
    "titans_linear_plain": GATED | {"evolution": part("oblique", per_dimension=False, order="together")},
    "titans_linear": GATED | {"evolution": part("momentum")},
    "delta_product": AROUND | TO_TWO | {"evolution": part("delta_product")},
    "gated_delta_product": AROUND | TO_TWO | {"evolution": part("delta_product", decay="rate"), "gate": part("silu")},
    "prism": AROUND | {"evolution": part("writes", inner={"kind": "delta", "direction": "own", "decay": "log_decay"})},
    "rwkv7": {
        "evolution": part("oblique", direction="own", strength="written", order="together"),
        "norm": part("layer"),
        "gate": part("sigmoid"),
    },
    "longhorn": {
        "heads": 64,
        "width": 1,
        "query": Vector(heads=1),
        "key": Vector(heads=1),
        "evolution": part("diagonal_delta"),
        "scaling": part("implicit"),
        "value": Vector(features="silu"),
        "short_convolution": part("causal", width=4, query=False, key=False),
        "gate": part("silu"),
        "skip": True,
    },
    "mesa_net": GATED | {"evolution": part("scalar"), "system": part("ridge")},
}
