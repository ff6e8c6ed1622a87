"""Short filters that are modules of their own: a depthwise causal convolution, a shift by one token.

As a rule they feed the queries, keys and values of a mixer beside them and are part of it; where they stand apart they
are token mixers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixerlens.capture.recorder import Recorder
from mixerlens.capture.translate.convolution import convolution
from mixerlens.errors import UnsupportedError

SHIFT = (0, 0, 1, -1)  # of (batch, time, channels): a zero before the first token, the last one dropped


def recognise(module: nn.Module) -> bool:
    if isinstance(module, nn.ZeroPad2d):
        return tuple(module.padding) == SHIFT
    if not isinstance(module, nn.Conv1d) or module.kernel_size[0] == 1 or module.stride[0] != 1:
        return False
    return module.groups == module.in_channels == module.out_channels and module.padding_mode == "zeros"


@contextmanager
def watch(module: nn.Module, recorder: Recorder) -> Iterator[None]:
    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        translate = _shift if isinstance(module, nn.ZeroPad2d) else _convolution
        recorder.record(module, lambda: translate(module, args[0], output))

    hook = module.register_forward_hook(record)
    try:
        yield
    finally:
        hook.remove()


def _shift(_: nn.Module, x: Tensor, output: Tensor) -> dict[str, Any]:
    taps = torch.tensor([0.0, 1.0]).to(x).expand(x.shape[-1], 2)
    return convolution(x.mT, taps, None, output.mT)


def _convolution(module: Any, x: Tensor, output: Tensor) -> dict[str, Any]:
    """y_i reads x_{i + ahead - l dilation}, l = 0 .. width - 1: causal if the first ``ahead`` inputs are zeros."""
    dilation = module.dilation[0]
    reach = (module.kernel_size[0] - 1) * dilation
    ahead = _ahead(module, x, output, reach)
    if (x[..., :ahead] != 0).any():
        raise UnsupportedError(f"the first {ahead} inputs of its convolution are no zeros, so it goes on from a cache")
    x = x[..., ahead:]
    taps = module.weight.new_zeros(module.out_channels, reach + 1)
    taps[:, ::dilation] = module.weight[:, 0].flip(-1)
    return convolution(x, taps, module.bias, output[..., : x.shape[-1]])


def _ahead(module: Any, x: Tensor, output: Tensor, reach: int) -> int:
    """How many inputs the first output reads before it reads the first that counts as a token."""
    if type(module).forward is nn.Conv1d.forward:
        if isinstance(module.padding, str) or module.padding[0] not in (0, reach):
            raise UnsupportedError(f"its padding of {module.padding} lets a token see those after it")
        return reach - module.padding[0]
    # a class with a forward of its own, which may pad by itself: compared with what a causal filter gives
    causal = F.conv1d(F.pad(x, (reach, 0)), module.weight, module.bias, dilation=module.dilation, groups=module.groups)
    tolerance = torch.finfo(x.dtype).eps ** 0.5 * output.abs().max()
    if output.shape != causal.shape or (output - causal).abs().max() > tolerance:
        raise UnsupportedError("it is no causal filter of its inputs")
    return 0
