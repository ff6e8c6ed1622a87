"""What every scan asks of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens.errors import InputError


def check(first: tuple[str, Tensor], wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]]) -> None:
    """Raise InputError unless every tensor has its shape and the dtype, float32 or float64, of the first one."""
    name, lead = first
    for other, tensor in ((name, lead), *((other, tensor) for other, (tensor, _) in wanted.items())):
        if tensor is not None and not isinstance(tensor, Tensor):
            raise InputError(f"{other} is a {type(tensor).__name__}: give a torch.Tensor")
    if lead.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{name} must be float32 or float64, not {lead.dtype}: convert the arguments first")
    for other, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise InputError(f"{other} must be {shape} beside {name} of {tuple(lead.shape)}, not {tuple(tensor.shape)}")
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
