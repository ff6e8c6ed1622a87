"""What every scan asks of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.errors import InputError

OPTIONAL = ("log_decay", "initial_state")


def check(
    first: tuple[str, Tensor], second: tuple[str, Tensor], wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]]
) -> None:
    """Raise InputError unless every tensor has the shape that the first two ask for, and the first one's dtype, float32
    or float64."""
    name, lead = first
    for other, tensor in (first, second, *((other, tensor) for other, (tensor, _) in wanted.items())):
        if not isinstance(tensor, Tensor) and not (tensor is None and other in OPTIONAL):
            raise InputError(f"{other} is a {type(tensor).__name__}: give a torch.Tensor")
    if lead.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{name} must be float32 or float64, not {lead.dtype}: convert the arguments first")
    for other, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            beside = f"{name} of {tuple(lead.shape)} and {second[0]} of {tuple(second[1].shape)}"
            raise InputError(f"{other} must be {shape} beside {beside}, not {tuple(tensor.shape)}")
        if tensor.dtype != lead.dtype:
            raise InputError(f"all arguments must share one dtype; {name} is {lead.dtype}, {other} is {tensor.dtype}")
        if tensor.device != lead.device:
            raise InputError(
                f"all arguments must share one device; {name} is on {lead.device}, {other} on {tensor.device}"
            )


def axes(name: str, tensor: Tensor, count: int, layout: str) -> None:
    """Raise InputError unless it is a tensor with that many axes."""
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} is a {type(tensor).__name__}: give a torch.Tensor")
    if tensor.ndim != count:
        raise InputError(f"{name} must be {layout}, not {tuple(tensor.shape)}")


def grouped(name: str, groups: int, heads: int) -> None:
    """Raise InputError unless the groups divide the heads; head h uses group h // (heads / groups)."""
    if groups == 0 or heads % groups:
        raise InputError(f"the groups of {name}, {groups}, must divide the {heads} heads")
