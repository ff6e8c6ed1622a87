"""Collects the mixer calls of one forward pass, for the selected mixers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mixerlens.capture.call import LayerInfo, MixerCall, MixerCalls


@dataclass(frozen=True, eq=False)
class Site:
    """A module recognised as a token mixer."""

    module: nn.Module
    info: LayerInfo


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
        self._calls: dict[str, list[MixerCall]] = {site.info.path: [] for site in self._sites.values()}

    def wants(self, module: nn.Module | None) -> bool:
        return module in self._sites

    def path(self, module: nn.Module) -> str:
        return self._sites[module].info.path

    def record(self, module: nn.Module, **what: Any) -> None:
        """Record one call of a wanted module; ``what`` are the remaining fields of `MixerCall`.

        Tensors of one call share one precision afterwards, float32 at least: half precision is what the model rounds
        to, not what its coefficients should be computed in.
        """
        info = self._sites[module].info
        dtype = torch.promote_types(what["compute_dtype"], torch.float32)
        what = {name: _widen(x, dtype) for name, x in what.items()}
        what["arguments"] = {name: _widen(x, dtype) for name, x in what["arguments"].items()}
        call = MixerCall(path=info.path, layer=info.index, kind=info.kind, family=info.family, valid=self.valid, **what)
        self._calls[info.path].append(call)

    @property
    def silent(self) -> list[str]:
        """Paths of wanted mixers that were never called."""
        return [path for path, calls in self._calls.items() if not calls]

    def calls(self) -> MixerCalls:
        """Calls by path; a mixer called more than once appears as path#0, path#1, ..."""
        named = MixerCalls()
        for path, calls in self._calls.items():
            for k, call in enumerate(calls):
                name = path if len(calls) == 1 else f"{path}#{k}"
                named[name] = replace(call, path=name)
        return named
