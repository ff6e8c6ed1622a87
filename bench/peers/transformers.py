"""transformers' torch paths: the functions that its models fall back to without GPU kernels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bench.case import Contender, Inputs
from bench.gradients import forward_backward, leaves

MAMBA = ("transformers.models.mamba.modeling_mamba",)
MAMBA2 = ("transformers.models.mamba2.modeling_mamba2",)
DELTA = ("transformers.models.qwen3_next.modeling_qwen3_next",)
CHUNK = 256  # Mamba-2's and gated delta's chunks as the models' own configurations have them
DELTA_CHUNK = 64


def torch_path(function: Any) -> Any:
    """The torch reference, also where a kernel package has replaced it."""
    return getattr(function, "__wrapped__", function)


def channels_first(given: Inputs) -> Inputs:
    """The layout that the Mamba layers hand to their scan."""
    turned = {name: given[name].transpose(1, 2).contiguous() for name in ("x", "dt", "B", "C", "grad")}
    return given | turned


def mamba(given: Inputs) -> Tensor:
    from transformers.models.mamba import modeling_mamba

    return torch_path(modeling_mamba.mamba_selective_scan)(*(given[name] for name in ("x", "dt", "A", "B", "C")))


def mamba2(given: Inputs) -> Tensor:
    from transformers.models.mamba2 import modeling_mamba2

    named = (given[name] for name in ("x", "dt", "A", "B", "C"))
    return torch_path(modeling_mamba2.mamba2_chunk_scan)(*named, chunk_size=CHUNK)


def scaled_back(given: Inputs) -> Inputs:
    """These functions divide the query by sqrt(dim); ours take it as it is."""
    return given | {"query": given["query"] * given["query"].shape[-1] ** 0.5}


def gated_delta(given: Inputs, how: str = "torch_chunk_gated_delta_rule", **more: Any) -> Tensor:
    from transformers.models.qwen3_next import modeling_qwen3_next

    named = (given[name] for name in ("query", "key", "value", "log_decay", "beta"))
    return torch_path(getattr(modeling_qwen3_next, how))(*named, **more)[0]


def recurrent_gated_delta(given: Inputs) -> Tensor:
    return gated_delta(given, "torch_recurrent_gated_delta_rule")


_MAMBA_GRADIENTS = ("x", "dt", "A", "B", "C")


def _turned_back(out: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, dt, a, b, c = out
    return x.transpose(1, 2), dt.transpose(1, 2), a, b.transpose(1, 2), c.transpose(1, 2)


MAMBA_FORWARD = Contender("transformers", mamba, channels_first, lambda y: (y.transpose(1, 2),), MAMBA, peer=True)
MAMBA_BOTH = Contender(
    "transformers",
    forward_backward(mamba, _MAMBA_GRADIENTS),
    lambda given: leaves(channels_first(given), _MAMBA_GRADIENTS),
    _turned_back,
    MAMBA,
    peer=True,
)
MAMBA2_FORWARD = Contender("transformers", mamba2, needs=MAMBA2, peer=True)
