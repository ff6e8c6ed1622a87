"""Recurrent mixers of transformers, recorded at the scan function that their modelling file looks up when it runs.

A new scan function is one function that turns its call into a family's arguments and one row in `SCANS`.  The function
is rebound in the modelling module for one forward pass; it still computes what the model gets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixerlens.capture.code import dotted, rounds_to_float32, users
from mixerlens.capture.recorder import Recorder, keep
from mixerlens.errors import UnsupportedError

Named = dict[str, Any]


def _step_size(dt: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    dt = dt if bias is None else dt + bias.to(dt.dtype)
    return F.softplus(dt) if softplus else dt


def _mamba(a: Named, output: Any) -> Named:
    """x, dt, z (batch, channels, time), B and C (batch, state, time): one head a channel, one value a head."""

    def by_time(x: Tensor) -> Tensor:
        return keep(x.transpose(1, 2))

    x, scanned = a["hidden_states"], output[0] if isinstance(output, tuple) else output
    bias = None if a["delta_bias"] is None else a["delta_bias"][:, None]
    skip = None if a["D"] is None else (x * a["D"][None, :, None]).to(x.dtype)
    return {
        "arguments": {
            "A": keep(a["A"]),
            "B": by_time(a["B"]),
            "C": by_time(a["C"]),
            "dt": by_time(_step_size(a["dt"], bias, a["delta_softplus"])),
        },
        "values": by_time(x)[..., None],
        "skip": None if skip is None else by_time(skip)[..., None],
        "gate": None if a["z"] is None else by_time(F.silu(a["z"]))[..., None],
        "output": by_time(scanned)[..., None],
    }


def _mamba2(a: Named, output: Any) -> Named:
    """x (batch, time, heads, dim), dt (batch, time, heads), B and C (batch, time, groups, state)."""
    x, scanned = a["hidden_states"], output[0] if isinstance(output, tuple) else output
    dt = _step_size(a["dt"], a["dt_bias"], a["dt_softplus"]).clamp(*a["dt_limit"])
    return {
        "arguments": {"A": keep(a["A"]), "B": keep(a["B"]), "C": keep(a["C"]), "dt": keep(dt)},
        "values": keep(x),
        "skip": None if a["D"] is None else keep(x * a["D"][:, None]),
        "gate": None,
        "output": keep(scanned),
    }


def _gated_delta(a: Named, output: Any) -> Named:
    """query, key (batch, time, key heads, dim), value (batch, time, heads, dim), g and beta (batch, time, heads)."""

    def unit(x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)

    query, key = a["query"], a["key"]
    if a["use_qk_l2norm_in_kernel"]:
        query, key = unit(query), unit(key)
    return {
        "arguments": {
            "query": keep(query * query.shape[-1] ** -0.5),
            "key": keep(key),
            "log_decay": keep(a["g"]),
            "beta": keep(a["beta"]),
        },
        "values": keep(a["value"]),
        "skip": None,
        "gate": None,
        "output": keep(output[0]),
    }


@dataclass(frozen=True)
class Scan:
    """A scan function: its family, the parameters it must have, those that must stay empty, and its translation."""

    family: str
    parameters: tuple[str, ...]
    translate: Callable[[Named, Any], Named]
    empty: tuple[str, ...] = ()


SCANS: dict[str, Scan] = {
    "mamba_selective_scan": Scan(
        "mamba", ("hidden_states", "dt", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus"), _mamba
    ),
    "mamba2_chunk_scan": Scan(
        "mamba2",
        ("hidden_states", "dt", "A", "B", "C", "D", "dt_bias", "initial_states", "dt_softplus", "dt_limit"),
        _mamba2,
        empty=("initial_states", "z"),
    ),
    "torch_chunk_gated_delta_rule": Scan(
        "gated_delta_net",
        ("query", "key", "value", "g", "beta", "initial_state", "use_qk_l2norm_in_kernel"),
        _gated_delta,
        empty=("initial_state",),
    ),
}


class ScanFunctions:
    """Every module whose code calls one of the scan functions of `SCANS`."""

    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        name = _scan_of(module)
        return ("recurrent", SCANS[name].family) if name else None

    @contextmanager
    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> Iterator[None]:
        running: list[nn.Module] = []
        with ExitStack() as undo:
            for scope, name in _bindings(modules):
                undo.callback(scope.__setitem__, name, scope[name])
                scope[name] = _watched(scope[name], SCANS[name], running, recorder)
            for module in modules:
                undo.callback(module.register_forward_pre_hook(lambda m, _: running.append(m)).remove)
                done = module.register_forward_hook(lambda *_: _pop(running), always_call=True)
                undo.callback(done.remove)
            yield


def _pop(running: list[nn.Module]) -> None:
    running.pop()


def _scan_of(module: nn.Module) -> str | None:
    return next((name for name in SCANS if users(type(module), name)), None)


def _bindings(modules: Sequence[nn.Module]) -> list[tuple[dict[str, Any], str]]:
    """The module globals in which the scan functions of these mixers are looked up, each once."""
    found: dict[tuple[int, str], tuple[dict[str, Any], str]] = {}
    for module in modules:
        name = _scan_of(module)
        for user in users(type(module), name) if name else ():
            if name in user.__globals__:
                found[id(user.__globals__), name] = (user.__globals__, name)
    return list(found.values())


def _watched(function: Callable, scan: Scan, running: list[nn.Module], recorder: Recorder) -> Callable:
    signature = inspect.signature(function)
    missing = [name for name in scan.parameters if name not in signature.parameters]
    if missing:
        raise UnsupportedError(f"{dotted(function)} has no parameter {', '.join(missing)}: this version is not known")
    cast_by = dotted(function) if rounds_to_float32(function) else None

    def watched(*args: Any, **kwargs: Any) -> Any:
        output = function(*args, **kwargs)
        module = running[-1] if running else None
        if module is not None and recorder.wants(module):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            named = bound.arguments | bound.arguments.get("kwargs", {})
            given = [name for name in scan.empty if named.get(name) is not None]
            if given:
                raise UnsupportedError(
                    f"{recorder.path(module)}: {dotted(function)} was given {', '.join(given)}, which is not covered"
                )
            values = named["value"] if "value" in named else named["hidden_states"]
            recorder.record(module, **scan.translate(named, output), compute_dtype=values.dtype, cast_by=cast_by)
        return output

    return watched
