"""Linear attention and its decayed forms: what has a state of fixed size and does not correct it."""

from __future__ import annotations

from typing import Any

from mixerlens.design.inits import log_uniform, uniform
from mixerlens.design.spec import Vector, part

POSITIVE = Vector(features="elu_plus_one")
SILU = Vector(features="silu")
SCALED = Vector(scale="inverse_sqrt_dim")
ONE = Vector(source="constant")
NORMED: dict[str, Any] = {"norm": part("rms"), "gate": part("silu")}
CHANNEL: dict[str, Any] = {"heads": 64, "dim": 1, "width": 1, "query": ONE}
FORGET = {"transform": "log_sigmoid", "init": log_uniform(-0.1, -0.001).to_dict()}
DECAYS = {"transform": "neg_exp", "init": log_uniform(-1.0, -0.005).to_dict()}

LINEAR: dict[str, dict[str, Any]] = {
    "linear_attention": {"query": POSITIVE, "key": POSITIVE},
    "normalized_linear_attention": {"query": POSITIVE, "key": POSITIVE, "normalizer": part("row_sum")},
    "norm_attention": {"normalizer": part("gate", activation="exp")},
    "sliding_window_linear_attention": {"query": POSITIVE, "key": POSITIVE, "evolution": part("window", width=8)},
    "retnet": NORMED
    | {
        "query": SCALED,
        "evolution": part("rotation", decay="decay"),
        "signals": {"decay": {"function": "retnet"}},
    },
    "lightning_attention": {
        "query": SILU,
        "key": SILU,
        "value": SILU,
        "evolution": part("scalar"),
        "signals": {"log_decay": {"function": "alibi"}},
        "norm": part("rms"),
        "gate": part("sigmoid"),
    },
    "gated_linear_attention": NORMED
    | {
        "query": SCALED,
        "evolution": part("diagonal"),
        "signals": {"log_decay": FORGET | {"scale": 1 / 16, "init": log_uniform(-0.05, -0.001).to_dict()}},
    },
    "hgrn2": {"query": SILU, "key": Vector(source="evolution"), "evolution": part("diagonal"), "norm": part("rms")},
    "gated_slot_attention": NORMED
    | {
        "query": Vector(features="silu", scale="inverse_sqrt_dim"),
        "key": SILU,
        "value": SILU,
        "evolution": part("diagonal"),
        "system": part("slots", slots=16),
    },
    "mlstm": {
        "query": SCALED,
        "evolution": part("scalar"),
        "scaling": part("exp"),
        "normalizer": part("floor", floor=1.0),
        "norm": part("layer"),
        "gate": part("sigmoid"),
        "signals": {"log_decay": FORGET},
    },
    "log_linear_attention": NORMED | {"evolution": part("fenwick", length=2048)},
    "rg_lru": CHANNEL
    | {
        "key": ONE,
        "evolution": part("scalar", decay="rate"),
        "scaling": part("rest"),
        "short_convolution": part("causal", width=4),
        "gate": part("gelu"),
        "signals": {
            "rate": {"transform": "neg_softplus", "scale": 8.0, "init": log_uniform(-0.21, -0.002).to_dict()},
            "step": {"transform": "sigmoid", "init": uniform(0.4, 0.6).to_dict()},
        },
    },
    "min_gru": CHANNEL | {"key": Vector(source="evolution"), "evolution": part("scalar", decay="update")},
    "min_lstm": CHANNEL | {"key": Vector(source="evolution"), "evolution": part("scalar", decay="share")},
    "hnet_dechunk": {
        "heads": 1,
        "dim": 1,
        "width": 64,
        "query": ONE,
        "key": Vector(source="evolution"),
        "evolution": part("scalar", decay="update"),
    },
    "rwkv4": CHANNEL
    | {
        "key": ONE,
        "evolution": part("read_before_write", inner={"kind": "scalar"}),
        "scaling": part("exp"),
        "normalizer": part("row_sum"),
        "gate": part("sigmoid"),
        "signals": {
            "log_decay": {"source": "parameter"} | DECAYS,
            "bonus": {"transform": "exp", "init": {"kind": "constant", "value": 1.35}},
        },
    },
    "rwkv5": NORMED
    | {
        "evolution": part("read_before_write", inner={"kind": "diagonal"}),
        "signals": {"log_decay": {"source": "parameter"} | DECAYS},
    },
    "rwkv6": NORMED
    | {"evolution": part("read_before_write", inner={"kind": "diagonal"}), "signals": {"log_decay": DECAYS}},
}
