"""mLSTM (xLSTM) at its backend module, whose forward takes query, key, value and the two gates' pre-activations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixerlens.capture.code import dotted, parameters
from mixerlens.capture.recorder import Recorder, keep
from mixerlens.errors import UnsupportedError

PARAMETERS = ("query", "key", "value", "igate", "fgate", "c_initial", "n_initial", "m_initial")


def recognise(module: nn.Module) -> bool:
    return parameters(type(module)).issuperset(PARAMETERS)


@contextmanager
def watch(module: Any, recorder: Recorder) -> Iterator[None]:
    signature = inspect.signature(type(module).forward)

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        bound = signature.bind(module, *args, **kwargs)
        bound.apply_defaults()
        cast = {"cast_by": dotted(type(module).forward)}  # its states are of the configuration's dtype, float32
        recorder.record(module, lambda: _translate(bound.arguments, getattr(module, "config", None), output) | cast)

    hook = module.register_forward_hook(record, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _translate(a: dict[str, Any], config: Any, output: Any) -> dict[str, Any]:
    """query, key, value (batch, heads, time, dim), gates (batch, heads, time)."""
    if any(a[name] is not None and bool((a[name] != 0).any()) for name in ("c_initial", "n_initial", "m_initial")):
        raise UnsupportedError("it goes on from a state that is scaled by its own running maximum")
    eps = getattr(config, "eps", None)
    if not isinstance(eps, float):
        raise UnsupportedError("its configuration has no eps, which it adds to its normaliser")

    def by_time(x: Tensor) -> Tensor:
        return keep(x.transpose(1, 2))

    arguments = {
        "query": by_time(a["query"] * a["query"].shape[-1] ** -0.5),
        "key": by_time(a["key"]),
        "log_input": by_time(a["igate"]),
        "log_forget": by_time(F.logsigmoid(a["fgate"])),
    }
    value = a["value"]
    return {
        "arguments": arguments,
        "values": by_time(value),
        "gate": lambda: _share_of_eps(arguments, eps),  # from what is kept above, whenever it is asked for
        "output": by_time(output[0] if isinstance(output, tuple) else output),
        "compute_dtype": value.dtype,
    }


def _share_of_eps(arguments: dict[str, Tensor], eps: float) -> Tensor:
    """eta / (eta + eps e^m) (batch, time, heads, 1): the kernels add eps to a normaliser scaled by e^-m.

    m_i is the largest exponent up to token i, of the zero state they start from too: max(F_i, max_j F_i - F_j + i_j)
    with F the running sum of log_forget; eta_i = max(|sum of the row's coefficients|, 1).
    """
    from mixerlens import families

    wide = {name: x.double() for name, x in arguments.items()}
    forgotten = wide["log_forget"].cumsum(1)
    largest = forgotten + (wide["log_input"] - forgotten).cummax(1).values.clamp(min=0)
    ones = torch.ones_like(largest)[..., None]
    eta = (families.mlstm(**wide, floor=None).operator() @ ones).abs().clamp(min=1)
    dtype = torch.promote_types(arguments["query"].dtype, torch.float32)
    return (eta / (eta + eps * largest.exp()[..., None])).to(dtype)
