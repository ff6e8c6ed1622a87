"""Collects the mixer calls of one forward pass, for the selected mixers only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mixerlens.capture.call import LayerInfo, MixerCall, MixerCalls
from mixerlens.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Site:
    """A module recognised as a token mixer."""

    module: nn.Module
    info: LayerInfo


@dataclass(frozen=True)
class Refusal:
    """A call that could not be recorded."""

    path: str
    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.module} ({self.reason})"


def keep(x: Tensor) -> Tensor:
    """A detached copy that shares no memory with the model, so that nothing the model does later changes it."""
    return x.detach().clone()


def _widen(x: Any, dtype: torch.dtype) -> Any:
    """A floating tensor in at least this dtype, which changes no value; anything else as it is."""
    if isinstance(x, Tensor) and x.is_floating_point():
        return x.to(torch.promote_types(x.dtype, dtype))
    return x


class Recorder:
    """Records calls of the given sites; ``valid`` is the padding mask, bool (batch, time), or None."""

    def __init__(self, sites: Iterable[Site], valid: Tensor | None = None) -> None:
        self.valid = valid
        self._sites = {site.module: site for site in sites}
        self._seen: dict[str, list[MixerCall | Refusal]] = {site.info.path: [] for site in self._sites.values()}

    def wants(self, module: nn.Module | None) -> bool:
        return module in self._sites

    def record(self, module: nn.Module, translate: Callable[[], dict[str, Any]]) -> None:
        """Record one call of a wanted module.

        translate: gives the remaining fields of `MixerCall`; where it raises UnsupportedError, the call is noted as one
        that could not be recorded, and the model's forward goes on.

        Tensors of one call share one precision afterwards, float32 at least: half precision is what the model rounds
        to, not what its coefficients should be computed in.
        """
        info = self._sites[module].info
        try:
            what = translate()
        except UnsupportedError as error:
            self._seen[info.path].append(Refusal(info.path, type(module).__name__, str(error)))
            return
        dtype = torch.promote_types(what["compute_dtype"], torch.float32)
        what = {name: _widen(x, dtype) for name, x in what.items()}
        what["arguments"] = {name: _widen(x, dtype) for name, x in what["arguments"].items()}
        call = MixerCall(path=info.path, layer=info.index, kind=info.kind, family=info.family, valid=self.valid, **what)
        self._seen[info.path].append(call)

    def calls(self) -> MixerCalls:
        """Calls by path; a mixer called more than once appears as path#0, path#1, ..."""
        return MixerCalls(
            {
                path: seen if seen.path == path else replace(seen, path=path)
                for path, seen in self._named().items()
                if isinstance(seen, MixerCall)
            }
        )

    def refused(self) -> dict[str, Refusal]:
        """The calls that could not be recorded, by path as in `calls`."""
        return {path: seen for path, seen in self._named().items() if isinstance(seen, Refusal)}

    def silent(self) -> list[str]:
        """Paths of wanted mixers that were never called."""
        return [path for path, seen in self._seen.items() if not seen]

    def _named(self) -> dict[str, MixerCall | Refusal]:
        return {
            path if len(seen) == 1 else f"{path}#{k}": call
            for path, seen in self._seen.items()
            for k, call in enumerate(seen)
        }
