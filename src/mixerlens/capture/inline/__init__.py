"""Mixers that call no scan function: read at their own module, one file each, one row in `INLINE`.

Each file has ``recognise(module)`` and ``watch(module, recorder)``, a context in which the module's calls are recorded
and after which the module is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn

from mixerlens.capture.inline import filters, lightning, mlstm, rg_lru
from mixerlens.capture.recorder import Recorder


@dataclass(frozen=True)
class Inline:
    """A kind of module: its family, how it is recognised without running it, and how its calls are watched."""

    family: str
    recognise: Callable[[nn.Module], bool]
    watch: Callable[[nn.Module, Recorder], AbstractContextManager[None]]
    kind: str = "recurrent"


INLINE = (
    Inline("retention", lightning.recognise, lightning.watch),
    Inline("rg_lru", rg_lru.recognise, rg_lru.watch),
    Inline("mlstm", mlstm.recognise, mlstm.watch),
)
FILTERS = (Inline("short_convolution", filters.recognise, filters.watch, kind="convolution"),)


class InlineMixers:
    """Modules of the kinds in a table."""

    def __init__(self, table: Sequence[Inline] = INLINE) -> None:
        self.table = table

    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        row = self._row(module)
        return (row.kind, row.family) if row else None

    @contextmanager
    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> Iterator[None]:
        with ExitStack() as undo:
            for module in modules:
                row = self._row(module)
                if row is not None:
                    undo.enter_context(row.watch(module, recorder))
            yield

    def _row(self, module: nn.Module) -> Inline | None:
        return next((row for row in self.table if row.recognise(module)), None)
