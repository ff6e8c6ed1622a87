"""TransformerLens' effective attention of a Mamba-1 layer: the dense computation of its own bridge component."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch

from bench.case import Contender, Inputs, Outputs, Size
from bench.views import dense_statistics

NEEDS = ("transformer_lens.model_bridge.generalized_components.ssm_mixer",)
LADDER = (16, 24, 32, 48, 64, 96, 128, 160)


def cached(given: Inputs) -> Inputs:
    """What its hooks would have cached in the layer's forward, and its component around the layer's parameters."""
    bridge = import_module(NEEDS[0])
    n, rank = given["A"].shape[1], 48
    low_rank = torch.zeros(*given["B"].shape[:2], rank)
    step = given["dt"]
    cache = {
        "blocks.0.mixer.x_proj.hook_out": torch.cat([low_rank, given["B"], given["C"]], -1),
        "blocks.0.mixer.dt_proj.hook_out": step + torch.log(-torch.expm1(-step)),  # softplus undoes it
    }
    layer: Any = torch.nn.Module()
    layer.A_log = torch.nn.Parameter(torch.log(-given["A"]))
    layer.ssm_state_size, layer.time_step_rank = n, rank
    component = bridge.SSMMixerBridge(name="mixer", config=SimpleNamespace(state_size=n, time_step_rank=rank))
    component.set_original_component(layer)
    return {"component": component, "cache": cache}


def statistics(given: Inputs) -> Outputs:
    """Row mass, column mass and mean distance of every channel from its dense matrices, (batch, time, channels)."""
    with torch.no_grad():
        dense = given["component"].compute_effective_attention(given["cache"], 0, include_dt_scaling=True)
        return dense_statistics(dense)


def bytes_at_peak(size: Size) -> float:
    """Five float32 tensors of batch x channels x state x L^2, as its decays and products are held."""
    return 5 * 4 * size["channels"] * size["state"] * size["time"] ** 2


STATISTICS = Contender("TransformerLens", statistics, cached, needs=NEEDS, peer=True, ladder=LADDER, fits=bytes_at_peak)
