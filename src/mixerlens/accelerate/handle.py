"""``mixerlens.accelerate(model)``: which mixers are answered by which scan, until it is undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any

from torch import nn

from mixerlens.accelerate.certificate import AccelerationCertificate
from mixerlens.accelerate.dispatch import Record, attach, functions, unknown_version
from mixerlens.accelerate.replacements import REPLACEMENTS
from mixerlens.capture.discover import discover
from mixerlens.capture.lens import Lens
from mixerlens.errors import InputError, UnsupportedError

SUPPORTED = ", ".join(f"{r.mixer} ({name})" for name, r in REPLACEMENTS.items())


def accelerate(model: nn.Module | Lens) -> Acceleration:
    """Let a transformers model on the CPU compute its recurrent mixers with `mixerlens.scans`.

        fast = mixerlens.accelerate(model)              # until fast.undo()
        with mixerlens.accelerate(model) as fast: ...   # until the block ends

    The model's outputs, caches and gradients are the same to rounding; time and memory, training's too, become linear
    in the length. Nothing is written on the model: its scan functions, which are globals of the modelling file, are
    answered for its modules only. Where arguments are not covered, the library's own function runs; the certificate
    says where and why. Backward passes belong inside as well where activations are recomputed (checkpointing). A
    gradient of gradients raises RuntimeError: the scans are differentiable once. Half precision is
    raised to float32 inside them, as in the library's own functions.

    model: a module, or an opened `Lens`. Raises UnsupportedError for a model without a mixer that has a scan here, or
    one that is not on the CPU; InputError for what is no model.
    """
    return Acceleration(model.model, model) if isinstance(model, Lens) else Acceleration(model)


class Acceleration:
    """An accelerated model, what was replaced and what was not.

    mixers: path -> name of the scan. unchanged: path -> reason, for the token mixers that run as before. kept: path ->
    {reason: calls}, for calls of accelerated mixers whose arguments were not covered. lens: what the model was opened
    with, if it was: its tokenizer reads text for the certificate.
    """

    def __init__(self, model: nn.Module, lens: Lens | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"accelerate takes a torch.nn.Module, or what mixerlens.open returns, not {model!r:.60}")
        elsewhere = next((p.device for p in model.parameters() if p.device.type != "cpu"), None)
        if elsewhere is not None:
            raise UnsupportedError(f"the model is on {elsewhere}: only the CPU's paths are replaced, move it there")
        self.model, self.lens = model, lens
        self.mixers: dict[str, str] = {}
        self.unchanged: dict[str, str] = {}
        self._found: list[tuple[nn.Module, str, str]] = []
        self._record = Record()
        self._ends: list[Callable[[], None]] = []
        self._find()
        if not self._found:
            why = next((f" ({path}: {reason})" for path, reason in self.unchanged.items()), "")
            raise UnsupportedError(
                f"{type(model).__name__} has no mixer that can be accelerated{why}; supported are {SUPPORTED}"
            )
        self.apply()

    def _find(self) -> None:
        for path, module in self.model.named_modules():
            for name, function in functions(module).items():
                why = unknown_version(function, name)
                if why:
                    self.unchanged[path] = why
                    continue
                self.mixers[path] = REPLACEMENTS[name].scan
                self._found.append((module, name, path))
        findings = discover(self.model)
        for site in findings.all:
            if site.info.path not in self.mixers:
                what = site.info.family.replace("_", " ")
                self.unchanged.setdefault(site.info.path, f"{what}: there is no scan for it here")
        self.unchanged |= {path: why for path, why in findings.unread.items() if path not in self.mixers}

    @property
    def active(self) -> bool:
        return bool(self._ends)

    @property
    def replaced(self) -> dict[str, int]:
        """path -> calls that our scan answered so far."""
        return dict(self._record.replaced)

    @property
    def kept(self) -> dict[str, dict[str, int]]:
        return {path: dict(reasons) for path, reasons in self._record.kept.items()}

    def apply(self) -> Acceleration:
        """Accelerate again after `undo`; nothing happens where it is active."""
        if not self._ends:
            for module, name, path in self._found:
                self._ends += attach(module, name, self._record, path)
        return self

    def undo(self) -> None:
        """Everything is as it was before; nothing happens the second time."""
        while self._ends:
            self._ends.pop()()

    def __enter__(self) -> Acceleration:
        return self.apply()

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        scans = ", ".join(f"{count} x {scan}" for scan, count in Counter(self.mixers.values()).items())
        return f"Acceleration({type(self.model).__name__}, {scans}, {'active' if self.active else 'undone'})"

    @cached_property
    def certificate(self) -> AccelerationCertificate:
        """The certificate on a short random sequence, without gradients; made once. See `certify`."""
        return self.certify()

    def certify(
        self, inputs: Any = None, attention_mask: Any = None, gradients: bool = False
    ) -> AccelerationCertificate:
        """Run the plain and the accelerated model on the same inputs and compare what they give.

        inputs: as `Lens.trace` takes them; by default a short random row of token ids. gradients: compare those of all
            parameters too. The plain runs are as slow as the library is on such inputs.
        Compared are the logits, every accelerated mixer's outputs and states on the arguments of the same call (in the
        model's dtype, and in float64), cached and padded calls, and gradients; each tolerance is told with its source.
        Where a difference is too large, a float64 run decides whose it is. Raises InputError for inputs that the model
        cannot take, or none where it reads floats.
        """
        from mixerlens.accelerate.certify import certify

        was_active = self.active
        self.apply()
        try:
            return certify(self, inputs, attention_mask, gradients)
        finally:
            if not was_active:
                self.undo()
