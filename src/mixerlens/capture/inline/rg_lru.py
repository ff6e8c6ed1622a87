"""Griffin's RG-LRU as transformers writes it: gates inline, the recurrence in the method `_rnn_scan`.

The method is handed the decay, the resets and the gated inputs.  The input gate itself is read where the module
multiplies: its products are followed back from the gated inputs to its own input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixerlens.capture.code import dotted
from mixerlens.capture.inline.shadow import Seen, Watching, shadowed
from mixerlens.capture.recorder import Recorder, keep
from mixerlens.errors import UnsupportedError

SCAN = "_rnn_scan"
PARAMETERS = ("hidden_states", "recurrent_gate", "reset", "recurrent_states")


def recognise(module: nn.Module) -> bool:
    return callable(getattr(type(module), SCAN, None))


@contextmanager
def watch(module: nn.Module, recorder: Recorder) -> Iterator[None]:
    scans: list[tuple[dict[str, Any], Any]] = []
    products = Watching(torch.Tensor.mul)

    def around_scan(scan: Callable) -> Callable:
        def watched(**named: Any) -> Any:
            with products.paused():  # it loops over the tokens
                result = scan(**named)
            scans.append((named, result[0]))
            return result

        return watched

    def around_forward(forward: Callable) -> Callable:
        def watched(activations: Tensor, *args: Any, **kwargs: Any) -> Any:
            scans.clear()
            products.calls.clear()
            with products:
                output = forward(activations, *args, **kwargs)
            cast = {"cast_by": dotted(getattr(type(module), SCAN))}  # it adds up in float32
            recorder.record(module, lambda: _translate(activations, products.calls, scans) | cast)
            return output

        return watched

    with ExitStack() as undo:
        undo.enter_context(shadowed(module, SCAN, around_scan))
        undo.enter_context(shadowed(module, "forward", around_forward))
        yield


def _translate(x: Tensor, products: list[Seen], scans: list[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    if len(scans) != 1 or any(name not in scans[0][0] for name in PARAMETERS):
        raise UnsupportedError(f"it does not call {SCAN} once with {', '.join(PARAMETERS)}: this version is unknown")
    named, output = scans[0]
    input_gate, multiplier = _factors(x, named["hidden_states"], products)
    reset = named["reset"].expand_as(x)
    decay = torch.where(reset, 0, named["recurrent_gate"].double())
    # the family multiplies by sqrt(1 - a^2) of the decay as it is used; what the model's own product differs from it,
    # in the last places of its dtype, stays with the gate
    ideal = (1 - decay * decay).sqrt()
    if ((ideal == 0) & (multiplier != 0)).any():
        raise UnsupportedError("its decay rounds to 1 while it still writes: open the model in a wider dtype")
    if ((ideal - multiplier.double()).abs() > torch.finfo(x.dtype).eps ** 0.5).any():
        raise UnsupportedError("it does not multiply its inputs by sqrt(1 - decay^2): this version is unknown")
    gate = torch.where(ideal == 0, 1, multiplier.double() / torch.where(ideal == 0, 1, ideal)) * input_gate.double()
    dtype = torch.promote_types(x.dtype, torch.float32)
    return {
        "arguments": {"log_decay": keep(decay.log().to(dtype)), "input_gate": keep(gate.to(dtype))},
        "values": keep(x)[..., None],
        "initial_state": _state(named["recurrent_states"]),
        "output": keep(output)[..., None],
        "compute_dtype": x.dtype,
    }


def _factors(x: Tensor, written: Tensor, products: list[Seen]) -> tuple[Tensor, Tensor]:
    """(input gate, multiplier) with written = x * gate * multiplier, by following the module's own products."""
    for outer in products:
        if outer.result is not written:
            continue
        for inner in products:
            if inner.result is outer.arguments[0] and inner.arguments[0] is x:
                return inner.arguments[1], outer.arguments[1]
    raise UnsupportedError("its gated inputs are no product of its inputs, a gate and a multiplier: unknown version")


def _state(state: Tensor | None) -> Tensor | None:
    """(batch, channels, 1, 1), or None where it starts from zero."""
    return keep(state)[..., None, None] if isinstance(state, Tensor) and bool((state != 0).any()) else None
