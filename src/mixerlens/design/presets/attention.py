"""Softmax attention and what else grows with the sequence."""

from __future__ import annotations

from typing import Any

from mixerlens.design.spec import part

SOFTMAX: dict[str, Any] = {
    "scaling": part("inverse_sqrt_dim"),
    "readout": part("exp"),
    "normalizer": part("row_sum"),
}

ATTENTION: dict[str, dict[str, Any]] = {
    "softmax_attention": SOFTMAX,
    "rope_attention": SOFTMAX | {"evolution": part("rotation")},
    "alibi_attention": SOFTMAX | {"evolution": part("bias")},
    "sliding_window_attention": SOFTMAX | {"support": part("window", width=64)},
    "encoder_attention": SOFTMAX | {"support": part("bidirectional")},
    "softcap_attention": SOFTMAX | {"readout": part("softcap", cap=50.0)},
    "sink_attention": SOFTMAX | {"normalizer": part("row_sum_sink")},
}
