"""State space models and convolutions."""

from __future__ import annotations

import math
from typing import Any

from mixerlens.design.inits import Init, log_uniform, uniform
from mixerlens.design.spec import Vector, part

ONE = Vector(source="constant")
FIRST = Vector(source="constant", function="first")
SHARED = Vector(features="silu", heads=1)
CHANNEL: dict[str, Any] = {"heads": 64, "width": 1}
SELECTIVE: dict[str, Any] = {
    "query": SHARED,
    "key": SHARED,
    "value": Vector(features="silu"),
    "short_convolution": part("causal", width=4),
    "scaling": part("step"),
    "gate": part("silu"),
    "skip": True,
}
STEP = {"source": "parameter", "init": log_uniform(1e-3, 1e-1).to_dict(), "transform": "exp"}
HALF = {"init": {"kind": "constant", "value": -0.5}, "transform": "neg_exp"}
FIXED: dict[str, Any] = CHANNEL | {
    "query": Vector(source="parameter", imaginary=True, deviation=0.7),
    "key": Vector(source="parameter", imaginary=True, deviation=0.7),
    "skip": True,
}
MODE: dict[str, Any] = CHANNEL | {
    "dim": 1,
    "query": ONE,
    "key": ONE,
    "value": Vector(imaginary=True),
    "skip": False,
}
PHASE = Init("uniform", {"low": 0.0, "high": 2 * math.pi}).to_dict()
OSCILLATOR: dict[str, Any] = CHANNEL | {
    "dim": 2,
    "query": Vector(source="constant", function="last"),
    "key": Vector(source="evolution"),
}

STATE_SPACE: dict[str, dict[str, Any]] = {
    "mamba": CHANNEL
    | SELECTIVE
    | {
        "query": Vector(heads=1),
        "key": Vector(heads=1),
        "evolution": part("diagonal", decay="rate"),
        "short_convolution": part("causal", width=4, query=False, key=False),
    },
    "mamba2": SELECTIVE | {"evolution": part("scalar", decay="rate"), "norm": part("rms")},
    "mamba3": SELECTIVE
    | {
        "query": Vector(norm="rms", heads=1),
        "key": Vector(norm="rms", heads=1),
        "short_convolution": part("none"),
        "scaling": part("one"),
        "evolution": part(
            "trapezoid",
            inner={"kind": "rotation", "decay": "rate", "layout": "interleaved", "by_step": True},
        ),
        "signals": {"angle": {"source": "projection", "init": uniform(-1.0, 1.0).to_dict()}},
    },
    "s4d": FIXED
    | {
        "evolution": part("diagonal", decay="rate", frequency=True),
        "scaling": part("hold"),
        "readout": part("real_part", scale=2.0),
        "signals": {"step": STEP, "rate": HALF},
    },
    "s4": FIXED
    | {
        "key": Vector(source="parameter", imaginary=True, function="legs_input"),
        "evolution": part("bilinear"),
        "readout": part("real_part"),
        "signals": {"step": STEP},
    },
    "dss": FIXED
    | {
        "key": ONE,
        "evolution": part("diagonal", decay="rate", frequency=True, grows=True),
        "scaling": part("kernel_softmax", lags=4096, epsilon=1e-7),
        "readout": part("real_part"),
        "signals": {"step": STEP, "rate": {"transform": "identity", "init": {"kind": "constant", "value": -0.5}}},
    },
    "s5": MODE
    | {
        "evolution": part("diagonal", decay="rate", frequency=True),
        "scaling": part("hold"),
        "signals": {"step": STEP, "rate": HALF, "frequency": {"init": uniform(-30.0, 30.0).to_dict()}},
    },
    "lru": MODE
    | {
        "evolution": part("diagonal", frequency=True),
        "scaling": part("rest"),
        "signals": {
            "log_decay": {
                "source": "parameter",
                "transform": "neg_exp",
                "init": {"kind": "ring", "low": 0.9, "high": 0.999},
            },
            "frequency": {"transform": "exp", "init": PHASE | {"low": 1e-3}},
            "input_gate": {"source": "parameter", "transform": "exp", "init": {"kind": "constant", "value": 1.0}},
        },
    },
    "linoss_im": OSCILLATOR | {"evolution": part("oscillator", implicit=True)},
    "linoss_imex": OSCILLATOR | {"evolution": part("oscillator", implicit=False)},
    "hippo_legs": {
        "query": Vector(source="parameter", deviation=0.25),
        "key": Vector(source="position", function="legs_entry", heads=1),
        "evolution": part("dense"),
    },
    "lag_operator_ssm": {
        "key": Vector(source="position", function="legs_entry", arguments={"power": 2.0}, heads=1),
        "evolution": part("dense"),
        "signals": {"matrix": {"function": "legs", "arguments": {"power": 2.0}}},
    },
    "short_convolution": CHANNEL
    | {
        "dim": 4,
        "query": Vector(source="parameter", deviation=0.5),
        "key": FIRST,
        "evolution": part("register"),
    },
    "long_convolution": CHANNEL
    | {
        "dim": 256,
        "query": Vector(source="parameter", deviation=0.06),
        "key": FIRST,
        "evolution": part("register"),
    },
    "hyena": CHANNEL
    | {
        "heads": 16,
        "dim": 256,
        "query": Vector(source="parameter", gate="number", deviation=0.06),
        "key": FIRST,
        "evolution": part("register"),
        "scaling": part("input_gate"),
        "signals": {"input_gate": {"transform": "identity"}},
    },
}
