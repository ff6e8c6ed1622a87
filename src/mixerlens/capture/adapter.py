"""An adapter knows one way in which a library calls its token mixers.

A new library is one file with one adapter and one line in `adapters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import nn

from mixerlens.capture.recorder import Recorder


class Adapter(Protocol):
    def recognise(self, module: nn.Module) -> tuple[str, str] | None:
        """(kind, family) if this adapter can record the module's calls, else None.  Runs nothing."""
        ...

    def recording(self, modules: Sequence[nn.Module], recorder: Recorder) -> AbstractContextManager[None]:
        """While the context is open, calls of the modules reach the recorder; afterwards nothing is left changed."""
        ...


def adapters() -> list[Adapter]:
    """Every adapter, in the order in which they are asked."""
    from mixerlens.capture.attention import AttentionInterface
    from mixerlens.capture.designed import DesignedMixers
    from mixerlens.capture.inline import InlineMixers
    from mixerlens.capture.own import OwnModels
    from mixerlens.capture.scans import ScanFunctions

    return [AttentionInterface(), ScanFunctions(), InlineMixers(), OwnModels(), DesignedMixers()]


def filter_adapter() -> Adapter:
    """The adapter of short filters, which are mixers only where they stand apart from the others."""
    from mixerlens.capture.inline import FILTERS, InlineMixers

    return InlineMixers(FILTERS)
