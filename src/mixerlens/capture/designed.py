"""Designed models: their mixers are read by a hook on the module that holds the equation alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from mixerlens.capture.recorder import Recorder, keep

HOME = "mixerlens.design.mixer"


class DesignedMixers:
    """Modules of class `mixerlens.design.mixer.Mixer`: the output is alpha @ values, before norm and gate."""

    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        # a module of this class can only exist once its file has been imported
        kind = getattr(sys.modules.get(HOME), "Mixer", None)
        return ("designed", "designed") if kind is not None and isinstance(module, kind) else None

    @contextmanager
    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> Iterator[None]:
        with ExitStack() as undo:
            for module in modules:
                equation = module.get_submodule("equation")
                undo.callback(equation.register_forward_hook(_hook(module, recorder)).remove)
            yield


def _hook(mixer: nn.Module, recorder: Recorder) -> Any:
    def record(equation: Any, args: tuple[dict[str, Tensor], Tensor], output: Tensor) -> None:
        if recorder.wants(mixer):
            recorder.record(mixer, lambda: _translate(equation, *args, output))

    return record


def _translate(equation: Any, signals: dict[str, Tensor], values: Tensor, output: Tensor) -> dict[str, Any]:
    given = {name: keep(x) for name, x in signals.items()}
    return {
        "arguments": {"spec": equation.spec, "length": values.shape[1], **given},
        "values": keep(values),
        "output": keep(output),
        "compute_dtype": values.real.dtype,
    }
