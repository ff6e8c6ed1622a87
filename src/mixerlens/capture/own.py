"""mixerlens's own models: their S4D layers are read by a hook on the module itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from mixerlens.capture.recorder import Recorder, keep

HOME = "mixerlens.models.s4d"


class OwnModels:
    """Modules of class `mixerlens.models.s4d.S4D`: a head a feature, values (batch, time, features, 1)."""

    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        # a module of this class can only exist once its file has been imported
        kind = getattr(sys.modules.get(HOME), "S4D", None)
        return ("convolution", "s4d") if kind is not None and isinstance(module, kind) else None

    @contextmanager
    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> Iterator[None]:
        def record(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            if not recorder.wants(module):
                return
            recorder.record(module, lambda: _translate(module, args[0], output))

        with ExitStack() as undo:
            for module in modules:
                undo.callback(module.register_forward_hook(record).remove)
            yield


def _translate(module: Any, u: Tensor, output: Tensor) -> dict[str, Any]:
    given = module.parameters_for_family()
    return {
        "arguments": {name: keep(given[name]) for name in ("A", "B", "C", "dt")} | {"length": u.shape[1]},
        "values": keep(u)[..., None],
        "skip": keep(u * module.D)[..., None],
        "output": keep(output)[..., None],
        "compute_dtype": u.dtype,
    }
