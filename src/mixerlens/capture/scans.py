"""Recurrent mixers of transformers, recorded at the scan function that their modelling file looks up when it runs.

A new scan function is one function that turns its call into a family's arguments (in `translate`) and one row in
`SCANS`.  The function is rebound in the modelling module for one forward pass; it still computes what the model gets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from mixerlens.capture.code import dotted, mixes_by_itself, rounds_to_float32, users
from mixerlens.capture.recorder import Recorder
from mixerlens.capture.translate import convolution, delta, rwkv, ssm
from mixerlens.errors import UnsupportedError

Named = dict[str, Any]


@dataclass(frozen=True)
class Scan:
    """A scan function: its family, the parameters it must have, and its translation.

    empty: parameters that must stay empty.
    part_of_others: other mixers use this function as well, on their queries, keys and values; it is the mixer itself
        only where nothing else in the class mixes tokens.
    """

    family: str
    parameters: tuple[str, ...]
    translate: Callable[[Named, Any], Named]
    kind: str = "recurrent"
    empty: tuple[str, ...] = ()
    part_of_others: bool = False


DELTA = ("query", "key", "value", "g", "beta", "initial_state", "use_qk_l2norm_in_kernel")

SCANS: dict[str, Scan] = {
    "mamba_selective_scan": Scan(
        "mamba", ("hidden_states", "dt", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus"), ssm.mamba
    ),
    "mamba2_chunk_scan": Scan(
        "mamba2",
        ("hidden_states", "dt", "A", "B", "C", "D", "dt_bias", "initial_states", "dt_softplus", "dt_limit"),
        ssm.mamba2,
        empty=("z",),
    ),
    "torch_chunk_gated_delta_rule": Scan("gated_delta_net", DELTA, delta.delta_rule),
    "chunk_kimi_delta_attention": Scan("kimi_delta_attention", DELTA, delta.delta_rule),
    "rwkv_linear_attention": Scan(
        "rwkv4", ("time_decay", "time_first", "key", "value", "state"), rwkv.rwkv4, empty=("state",)
    ),
    "causal_conv1d_fn": Scan(
        "short_convolution",
        ("hidden_states", "weight", "bias", "activation"),
        convolution.causal_convolution,
        kind="convolution",
        part_of_others=True,
    ),
}


class ScanFunctions:
    """Every module whose code calls one of the scan functions of `SCANS`."""

    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        name = _scan_of(type(module))
        return (SCANS[name].kind, SCANS[name].family) if name else None

    @contextmanager
    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> Iterator[None]:
        running: list[nn.Module] = []
        with ExitStack() as undo:
            for scope, name in _bindings(modules):
                undo.callback(scope.__setitem__, name, scope[name])
                scope[name] = _watched(name, scope[name], running, recorder)
            for module in modules:
                undo.callback(module.register_forward_pre_hook(lambda m, _: running.append(m)).remove)
                done = module.register_forward_hook(lambda *_: _pop(running), always_call=True)
                undo.callback(done.remove)
            yield


def _pop(running: list[nn.Module]) -> None:
    running.pop()


def _scan_of(kind: type) -> str | None:
    for name, scan in SCANS.items():
        if users(kind, name) and not (scan.part_of_others and mixes_by_itself(kind, besides=name)):
            return name
    return None


def _bindings(modules: Sequence[nn.Module]) -> list[tuple[dict[str, Any], str]]:
    """The module globals in which the scan functions of these mixers are looked up, each once."""
    found: dict[tuple[int, str], tuple[dict[str, Any], str]] = {}
    for module in modules:
        name = _scan_of(type(module))
        for user in users(type(module), name) if name else ():
            if name in user.__globals__:
                found[id(user.__globals__), name] = (user.__globals__, name)
    return list(found.values())


def _watched(name: str, function: Callable, running: list[nn.Module], recorder: Recorder) -> Callable:
    scan, signature = SCANS[name], inspect.signature(function)
    missing = [name for name in scan.parameters if name not in signature.parameters]
    cast_by = dotted(function) if rounds_to_float32(function) else None

    def translate(args: tuple[Any, ...], kwargs: Named, output: Any) -> Named:
        if missing:
            raise UnsupportedError(f"{dotted(function)} has no parameter {', '.join(missing)}: this version is unknown")
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = bound.arguments | bound.arguments.get("kwargs", {})
        given = [name for name in scan.empty if named.get(name) is not None]
        if given:
            raise UnsupportedError(f"{dotted(function)} was given {', '.join(given)}, which is not covered")
        return scan.translate(named, output) | {"cast_by": cast_by}

    def watched(*args: Any, **kwargs: Any) -> Any:
        output = function(*args, **kwargs)
        module = running[-1] if running else None
        if module is not None and recorder.wants(module) and _scan_of(type(module)) == name:
            recorder.record(module, lambda: translate(args, kwargs, output))
        return output

    return watched
