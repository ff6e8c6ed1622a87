"""The selective scan by the library: tensors as they lie in memory, any strides, one thread a piece of the work."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from mixerlens.native.library import Library, library

TILE = 64  # steps; see kernels.c
MOST = 32  # tiles between two kept states
SHARE = 2**19  # steps of one state of one channel that are worth a thread

_NUMBERS = ("batch", "time", "channels", "state", "every", "parts", "threads")
_READ = ("x", "dt", "A", "B", "C", "initial")
_WRITTEN = ("y", "last", "kept")
_BACK = ("gy", "glast", "gx", "gdt", "gA", "gB", "gC", "ginitial")


class _Array(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_int64 * 3))


class _Scan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, _Array) for name in (*_READ, *_WRITTEN, *_BACK)),
        ("part_stride", ctypes.c_int64),
    )


class Kept(NamedTuple):
    """States before every so many steps, as the library likes them."""

    states: Tensor
    every: int


def takes(*tensors: Tensor) -> Library | None:
    """The library, if it can read these tensors: plain ones on the CPU, in float32 or float64."""
    if torch.compiler.is_compiling():
        return None
    for tensor in tensors:
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not (plain and tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)):
            return None
    return library()


def forward(
    by: Library, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor, keep: int | None = None
) -> tuple[Tensor, Tensor, Kept]:
    """Output, last state, and, with ``keep`` (bytes) given, states for the backward pass that take about so many.

    Shapes and equation as in `mixerlens.scans.selective_scan`.
    """
    (batch, time, channels), state = x.shape, A.shape[1]
    y, last = x.new_empty(x.shape), x.new_empty(batch, channels, state)
    lanes = by.lanes(x.dtype == torch.float64)
    one = batch * -(-channels // lanes) * lanes * state
    every = count = 0
    if keep is not None:
        tiles = -(-time // TILE) * one * x.element_size()
        every = TILE * min(MOST, max(1, -(-tiles // max(1, keep))))
        count = -(-time // every)
    kept = Kept(x.new_empty(count, one), every)
    tensors = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "initial": initial, "y": y, "last": last}
    _call(by, by.handle.mixerlens_scan_forward, {**tensors, "kept": kept.states}, every)
    return y, last, kept


def backward(
    by: Library, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Kept, grad_y: Tensor, grad_last: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of x, dt, A, B, C and the initial state."""
    (batch, time, _), state = x.shape, A.shape[1]
    grad_x, grad_dt = x.new_empty(x.shape), x.new_empty(x.shape)
    grad_A = x.new_empty(batch, *A.shape, dtype=torch.float64)
    parts = _shares(x, state)[0]
    grad_B, grad_C = (x.new_zeros(parts, batch, time, state) for _ in range(2))
    grad_initial = x.new_empty(grad_last.shape)
    tensors = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "kept": kept.states, "gy": grad_y, "glast": grad_last}
    tensors |= {"gx": grad_x, "gdt": grad_dt, "gA": grad_A, "gB": grad_B, "gC": grad_C, "ginitial": grad_initial}
    _call(by, by.handle.mixerlens_scan_backward, tensors, kept.every)
    B_C = (tensor.squeeze(0) if parts == 1 else tensor.sum(0) for tensor in (grad_B, grad_C))
    return grad_x, grad_dt, grad_A.sum(0).to(x.dtype), *B_C, grad_initial


def _shares(x: Tensor, state: int) -> tuple[int, int]:
    """Ranges of channels that a sequence is cut into, and threads."""
    threads = max(1, min(torch.get_num_threads(), x.numel() * state // SHARE))
    return -(-threads // max(1, x.shape[0])), threads


def _call(by: Library, function, tensors: dict[str, Tensor], every: int) -> None:
    """Raises MemoryError where there is none left for a few states and tiles a thread."""
    x = tensors["x"]
    state = tensors["A"].shape[1]
    scan = _Scan(*x.shape, state, every, *_shares(x, state))
    read = []  # kept alive until the call is over
    for name, tensor in tensors.items():
        tensor = tensor.detach().resolve_neg()
        read.append(tensor)
        strides = (*(0,) * (3 - tensor.ndim), *tensor.stride()[-3:])
        setattr(scan, name, _Array(tensor.data_ptr(), strides))
    scan.part_stride = x.shape[0] * x.shape[1] * state
    if function(by.level, x.dtype == torch.float64, ctypes.byref(scan)):
        raise MemoryError("no memory for the states of a selective scan")
