"""Lightning attention as MiniMax writes it: one inline loop over blocks, a fixed decay a head.

Read are the three parts into which the module splits its projection, its own decay rates, and what it hands to its
norm.  That the parts are query, key and value in this order, decayed at these rates, is checked on the first tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixerlens.capture.code import dotted, users
from mixerlens.capture.inline.shadow import Seen, Watching, shadowed
from mixerlens.capture.recorder import Recorder, keep
from mixerlens.errors import UnsupportedError


def recognise(module: nn.Module) -> bool:
    rates = getattr(module, "slope_rate", None)
    parts = isinstance(rates, Tensor) and isinstance(getattr(module, "norm", None), nn.Module)
    return parts and hasattr(module, "decay_factors") and bool(users(type(module), "slope_rate"))


@contextmanager
def watch(module: Any, recorder: Recorder) -> Iterator[None]:
    normed: list[Tensor] = []

    def around(forward: Callable) -> Callable:
        def watched(*args: Any, **kwargs: Any) -> Any:
            normed.clear()
            state = _state(module, kwargs.get("past_key_values"))
            with Watching(torch.split) as splits:
                output = forward(*args, **kwargs)
            recorder.record(module, lambda: _translate(module, splits.calls, normed, state))
            return output

        return watched

    with ExitStack() as undo:
        undo.callback(module.norm.register_forward_pre_hook(lambda _, args: normed.append(args[0])).remove)
        undo.enter_context(shadowed(module, "forward", around))
        yield


def _state(module: Any, cache: Any) -> Tensor | None:
    """The state (batch, heads, dim, value_dim) in the cache that the module goes on from."""
    state = cache.get_linear_cache(module.layer_idx) if hasattr(cache, "get_linear_cache") else None
    return keep(state) if isinstance(state, Tensor) else None


def _translate(module: Any, splits: list[Seen], normed: list[Tensor], state: Tensor | None) -> dict[str, Any]:
    parts = splits[0].result if len(splits) == 1 else ()
    if len(parts) != 3 or any(x.dim() != 4 for x in parts) or len(normed) != 1:
        raise UnsupportedError("it does not split one projection into query, key and value: this version is unknown")
    query, key, value = parts
    rates = module.slope_rate.reshape(-1).double()
    output = normed[0].reshape(value.shape)
    decay = (-rates).exp()
    if state is None:
        _check(query, key, value, decay, output)
    return {
        # float64: the decay is raised to the power of every distance
        "arguments": {"query": keep(query), "key": keep(key), "decay": keep(decay)},
        "values": keep(value),
        "initial_state": state,
        "output": keep(output),
        "compute_dtype": value.dtype,
        "cast_by": dotted(type(module).decay_factors),  # whose buffers were made in float32
    }


def _check(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, output: Tensor) -> None:
    """The first two tokens, written out: y_0 = (q_0 k_0) v_0, y_1 = (q_1 k_1) v_1 + decay (q_1 k_0) v_0."""
    q, k, v, y = (x[:, :2].double() for x in (query, key, value, output))

    def read(i: int, j: int) -> Tensor:
        return (q[:, i] * k[:, j]).sum(-1, keepdim=True) * v[:, j]

    expected = [read(0, 0)] + [read(1, 1) + decay[:, None] * read(1, 0)] * (y.shape[1] - 1)
    error = (torch.stack(expected, 1) - y).abs().max()
    rounding = max(torch.finfo(value.dtype).eps, torch.finfo(torch.float32).eps)  # its decays are made in float32
    if error > rounding**0.5 * y.abs().max():
        raise UnsupportedError("its first tokens are not what linear attention with its decay gives: unknown version")
