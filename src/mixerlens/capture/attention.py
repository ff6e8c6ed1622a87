"""Softmax attention of transformers, recorded where every model asks the attention-interface registry for a function.

The registry still hands out the function the model was opened with; it is only watched.  Configuration, masks and the
arithmetic are therefore the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mixerlens.capture.code import dotted, rounds_to_float32, users
from mixerlens.capture.masks import support_of
from mixerlens.capture.recorder import Recorder, keep
from mixerlens.errors import UnsupportedError
from mixerlens.support import Support

LOOKUP = "get_interface"
IMPLEMENTATIONS = ("sdpa", "eager")
BIASES = ("position_bias", "head_mask", "alibi")


class AttentionInterface:
    """Every attention module that asks transformers' registry for its attention function."""

    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        return ("attention", "softmax_attention") if users(type(module), LOOKUP) else None

    @contextmanager
    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> Iterator[None]:
        if not modules:
            yield
            return
        from transformers.modeling_utils import AttentionInterface as Registry

        watch = _Watch(recorder)
        original = Registry.get_interface

        def get_interface(self: Any, attn_implementation: str, default: Callable) -> Callable:
            return watch.wrap(original(self, attn_implementation, default), attn_implementation)

        Registry.get_interface = get_interface  # type: ignore[method-assign]
        try:
            yield
        finally:
            Registry.get_interface = original  # type: ignore[method-assign]


class _Watch:
    """Wraps attention functions.  Layers share them and their mask: what is read of both is remembered."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._supports: list[tuple[Tensor, Support]] = []
        self._casting: dict[Callable, str | None] = {}

    def wrap(self, function: Callable, implementation: str) -> Callable:
        def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            output = function(module, query, key, value, *args, **kwargs)
            if self.recorder.wants(module):
                mask = args[0] if args else kwargs.get("attention_mask")
                named = dict(zip(("dropout", "scaling"), args[1:], strict=False)) | kwargs
                call = (module, query, key, value, mask, named, output, function, implementation)
                self.recorder.record(module, lambda: self._translate(*call))
            return output

        return attention

    def _translate(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        named: dict[str, Any],
        output: Any,
        function: Callable,
        implementation: str,
    ) -> dict[str, Any]:
        if implementation not in IMPLEMENTATIONS:
            raise UnsupportedError(
                f"attention implementation {implementation!r} cannot be read; open the model with "
                f"attn_implementation={' or '.join(map(repr, IMPLEMENTATIONS))}"
            )
        time = query.shape[2]
        if key.shape[2] != time:
            raise UnsupportedError(
                f"{time} queries on {key.shape[2]} keys (cross attention or a cache); only self attention "
                "over one sequence is covered"
            )
        for name in BIASES:
            if named.get(name) is not None:
                raise UnsupportedError(f"it adds {name} to its scores, which has no family here")
        if named.get("dropout"):
            raise UnsupportedError(f"dropout {named['dropout']} is active, so its output is random")
        support = self._support(mask, self._causal(module, named, implementation), time)
        scale = named.get("scaling")
        mixed = output[0] if isinstance(output, tuple) else output
        return {
            "arguments": {
                "query": keep(query.transpose(1, 2)),
                "key": keep(key.transpose(1, 2)),
                "scale": float(scale) if scale is not None else 1 / math.sqrt(query.shape[-1]),
                "softcap": named.get("softcap"),
                "sinks": _sinks(named.get("s_aux")),
                "causal": support.causal,
                "window": support.window,
                "segments": support.segments,
            },
            "values": keep(value.transpose(1, 2)),
            "output": keep(mixed.reshape(query.shape[0], time, query.shape[1], -1)),
            "compute_dtype": query.dtype,
            "cast_by": self._cast_by(function),
        }

    def _cast_by(self, function: Callable) -> str | None:
        if function not in self._casting:
            self._casting[function] = dotted(function) if rounds_to_float32(function) else None
        return self._casting[function]

    @staticmethod
    def _causal(module: nn.Module, named: dict[str, Any], implementation: str) -> bool:
        """Whether no mask means the causal pairs: sdpa then reads the module's flag, eager attends to every pair."""
        if implementation == "eager":
            return False
        causal = named.get("is_causal")
        return bool(causal if causal is not None else getattr(module, "is_causal", True))

    def _support(self, mask: Tensor | None, causal: bool, time: int) -> Support:
        for known, support in self._supports:
            if known is mask:
                return support
        support = support_of(mask, causal, time, self.recorder.valid)
        if mask is not None:
            self._supports = [*self._supports[-3:], (mask, support)]
        return support


def _sinks(sinks: Any) -> Tensor | None:
    return keep(sinks).reshape(-1) if isinstance(sinks, Tensor) else None
