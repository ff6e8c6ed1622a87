"""The scan of RWKV-4."""

from __future__ import annotations

from typing import Any

from mixerlens.capture.recorder import keep

Named = dict[str, Any]


def rwkv4(a: Named, output: Any) -> Named:
    """key, value (batch, time, channels), time_decay and time_first (channels,): one head a channel.

    The function decays by exp(-exp(time_decay)) a token and gives the current token exp(time_first) beside its key.
    """
    value = a["value"]
    return {
        "arguments": {
            "log_key": keep(a["key"]),
            "log_decay": keep(-a["time_decay"].exp()),
            "bonus": keep(a["time_first"]),
        },
        "values": keep(value)[..., None],
        "output": keep(output[0])[..., None],
        "compute_dtype": value.dtype,
    }
