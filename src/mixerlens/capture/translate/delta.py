"""Scans of the delta rules: the gated delta rule and Kimi delta attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixerlens.capture.recorder import keep

Named = dict[str, Any]
EPSILON = 1e-6  # what both functions add to the squared norm of queries and keys


def delta_rule(a: Named, output: Any) -> Named:
    """query, key (batch, time, key heads, dim), value (batch, time, heads, dim), beta (batch, time, heads), states
    (batch, heads, dim, value_dim); g is (batch, time, heads), for Kimi delta attention (batch, time, heads, dim)."""

    def unit(x: Tensor) -> Tensor:
        return x * ((x * x).sum(-1, keepdim=True) + EPSILON).rsqrt()

    query, key, value = a["query"], a["key"], a["value"]
    if a["use_qk_l2norm_in_kernel"]:
        query, key = unit(query), unit(key)
    return {
        "arguments": {
            "query": keep(query * query.shape[-1] ** -0.5),
            "key": keep(key),
            "log_decay": keep(a["g"]),
            "beta": keep(a["beta"]),
        },
        "values": keep(value),
        "initial_state": None if a["initial_state"] is None else keep(a["initial_state"]),
        "output": keep(output[0]),
        "compute_dtype": value.dtype,
    }
