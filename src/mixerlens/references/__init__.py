"""Plain float64 sequential recurrences, one a family, written from the definitions of the papers.

They are the outside witness of :mod:`mixerlens.families`: every function takes the values and exactly the keyword
arguments of the family of the same name and returns what the mixer computes, with a loop over time and nothing
imported from the core.  They are slow on purpose.  All of them are differentiable and follow the same conventions:

- tensors are (batch, time, heads, dim); inputs are raised to float64 (complex128) first;
- head h of a grouped tensor with g heads is group ``h // (heads / g)``;
- ``segments`` (batch, time): tokens interact only inside their segment, a state starts at zero with each segment, and
  segment -1 is padding, which writes nothing and reads zero.
"""

from __future__ import annotations

from collections.abc import Callable

from .based import based
from .convolution import hyena, short_convolution, sliding_window_linear_attention
from .delta import delta_net, gated_delta_net
from .differential import differential_attention
from .gated import gated_linear_attention
from .gated_scalar import dechunk_ema, min_gru, min_lstm, rg_lru
from .hgrn import gated_slot_attention, hgrn2
from .hippo import hippo_legs, lag_operator_ssm
from .linear import linear_attention
from .log_linear import log_linear_attention
from .longhorn import longhorn
from .mamba import mamba, mamba2
from .mamba3 import mamba3
from .mesa import mesa_net
from .mlstm import mlstm
from .modes import linoss, lru, s5
from .momentum import titans_linear, ttt_linear
from .norm import norm_attention
from .positions import forgetting_attention, path_attention
from .product import delta_product, gated_delta_product, prism
from .rank_one import comba, gated_delta_net_2, kimi_delta_attention
from .retention import retention
from .rwkv import rwkv4, rwkv5, rwkv6, rwkv7
from .s4 import dss, s4
from .s4d import s4d
from .sigmoid import sigmoid_attention
from .softmax import softmax_attention

_FUNCTIONS: tuple[Callable, ...] = (
    based,
    comba,
    dechunk_ema,
    delta_net,
    delta_product,
    differential_attention,
    dss,
    forgetting_attention,
    gated_delta_net,
    gated_delta_net_2,
    gated_delta_product,
    gated_linear_attention,
    gated_slot_attention,
    hgrn2,
    hippo_legs,
    lag_operator_ssm,
    hyena,
    kimi_delta_attention,
    linear_attention,
    linoss,
    log_linear_attention,
    longhorn,
    lru,
    mamba,
    mamba2,
    mamba3,
    mesa_net,
    min_gru,
    min_lstm,
    mlstm,
    norm_attention,
    path_attention,
    prism,
    retention,
    rg_lru,
    rwkv4,
    rwkv5,
    rwkv6,
    rwkv7,
    s4,
    s4d,
    s5,
    short_convolution,
    sigmoid_attention,
    sliding_window_linear_attention,
    softmax_attention,
    titans_linear,
    ttt_linear,
)

REGISTRY: dict[str, Callable] = {function.__name__: function for function in _FUNCTIONS}
