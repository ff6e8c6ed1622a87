"""Softmax attention and what else grows with the sequence."""

from __future__ import annotations

from typing import Any

from mixerlens.design.inits import constant, log_uniform
from mixerlens.design.spec import Vector, part

SOFTMAX: dict[str, Any] = {
    "scaling": part("inverse_sqrt_dim"),
    "readout": part("exp"),
    "normalizer": part("row_sum"),
}
ONE_GROUP = Vector(heads=1)
FORGET = {"source": "projection", "transform": "log_sigmoid", "init": log_uniform(-0.1, -0.001).to_dict()}

ATTENTION: dict[str, dict[str, Any]] = {
    "softmax_attention": SOFTMAX,
    "rope_attention": SOFTMAX | {"evolution": part("rotation")},
    "alibi_attention": SOFTMAX | {"evolution": part("bias")},
    "sliding_window_attention": SOFTMAX | {"support": part("window", width=64)},
    "encoder_attention": SOFTMAX | {"support": part("bidirectional")},
    "softcap_attention": SOFTMAX | {"readout": part("softcap", cap=50.0)},
    "sink_attention": SOFTMAX | {"normalizer": part("row_sum_sink")},
    "grouped_query_attention": SOFTMAX | {"key": ONE_GROUP, "value": ONE_GROUP},
    "based": SOFTMAX | {"readout": part("polynomial", coefficients=[1.0, 1.0, 0.5])},
    "sigmoid_attention": {"scaling": part("inverse_sqrt_dim"), "readout": part("sigmoid", bias="log_length")},
    "differential_attention": SOFTMAX | {"system": part("difference"), "norm": part("rms")},
    "forgetting_transformer": SOFTMAX | {"evolution": part("bias"), "signals": {"offset": FORGET}},
    "path_attention": SOFTMAX
    | {
        "evolution": part("delta", direction="own"),
        "signals": {"beta": {"scale": 2.0, "init": constant(1.0).to_dict()}},
    },
}
