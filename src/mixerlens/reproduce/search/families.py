"""The families that the search is measured against: each at its own parts, and of the one size of `sizes`.

A size is set with the number of dimensions of query and key alone, or the number of slots or of tokens in a window
where that is the size of a family's state; values stay as wide as the model.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ...design import MixerSpec, part, preset

__all__ = ["FAMILIES", "LEFT_OUT", "LIMIT", "SIZED", "SLOW", "families"]

LIMIT = 4  # times the training step of linear attention, above which a family is left out
FAMILIES = (
    "linear_attention",
    "normalized_linear_attention",
    "norm_attention",
    "sliding_window_linear_attention",
    "sliding_window_attention",
    "based",
    "retnet",
    "lightning_attention",
    "gated_linear_attention",
    "hgrn2",
    "mlstm",
    "delta_net",
    "gated_delta_net",
    "ttt_linear",
    "delta_product",
    "mamba2",
    "mamba3",
    "s4d",
    "dss",
    "hippo_legs",
    "short_convolution",
)
# what makes them of that size, where 16 dimensions do not
SIZED: dict[str, dict[str, Any]] = {
    "based": {"dim": 4},
    "sliding_window_linear_attention": {"dim": 2},
    "sliding_window_attention": {"support": part("window", width=9)},
    "gated_slot_attention": {"system": part("slots", slots=8)},
    "titans_linear": {"dim": 8},
    "mesa_net": {"dim": 10},
    "s4d": {"dim": 8},
    "dss": {"dim": 8},
    "s4": {"dim": 4},
    "short_convolution": {"dim": 16},
}
# CPU time of a training step (two layers, mqar, batch 32), in units of linear attention's: measured once, before the
# runs; those under the limit took 0.8 to 3.9
SLOW: dict[str, float] = {
    "s4": 4.7,
    "rwkv5": 5.5,
    "gated_delta_product": 5.5,
    "lag_operator_ssm": 5.6,
    "comba": 6.3,
    "mamba": 6.5,
    "titans_linear": 6.9,
    "mesa_net": 7.3,
    "rwkv6": 7.8,
    "titans_linear_plain": 8.1,
    "longhorn": 8.3,
    "rwkv7": 9.0,
    "gated_delta_net_2": 9.6,
    "kimi_delta_attention": 9.9,
    "prism": 11.5,
    "gated_slot_attention": 11.6,
}
_GROWS = "its state grows with the sequence"
_CHANNEL = "its state is one number a channel, or two; the size takes 8 or 16 times the channels"
_FILTER = "a filter as long as the sequence; cut to the size it is short_convolution"
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        (
            "softmax_attention",
            "rope_attention",
            "alibi_attention",
            "encoder_attention",
            "softcap_attention",
            "sink_attention",
            "grouped_query_attention",
            "sigmoid_attention",
            "differential_attention",
            "forgetting_transformer",
            "path_attention",
        ),
        _GROWS,
    ),
    **dict.fromkeys(
        ("rg_lru", "min_gru", "min_lstm", "hnet_dechunk", "rwkv4", "s5", "lru", "linoss_im", "linoss_imex"), _CHANNEL
    ),
    **dict.fromkeys(("long_convolution", "hyena"), _FILTER),
    "log_linear_attention": "room for 2048 tokens takes 12 levels, these 768 numbers for each dimension of the key",
}


@cache
def families() -> dict[str, MixerSpec]:
    """By name, in the order in which they are run."""
    return {name: sized(name) for name in FAMILIES}


def sized(name: str) -> MixerSpec:
    """A preset at the size of the search."""
    return preset(name, **SIZED.get(name, {}))
