"""An opened model, and one recorded forward pass of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mixerlens.capture.call import LayerInfo, MixerCalls
from mixerlens.capture.discover import discover
from mixerlens.capture.inputs import ModelInputs, context_length, prepare, takes_ids, vocabulary
from mixerlens.capture.load import Loaded, load
from mixerlens.capture.quiet import quiet, undisturbed
from mixerlens.capture.recorder import Recorder
from mixerlens.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from mixerlens.verify import Certificate


CACHES = ("past_key_values", "cache_params", "state")


def open(
    model: str | Path | nn.Module,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
) -> Lens:
    """Open a trained sequence model: a folder, a hub id, a .gguf file or a module in memory.

    dtype: the precision to run in; by default float32 (float64 where the checkpoint is), and for a module in memory
        the one it has.  A module in memory is never changed: another dtype or device opens a copy.
    Raises ModelError for what cannot be read, UnsupportedError for a model without a token mixer that is covered,
    InputError for a wrong argument; each message is one line.
    """
    return Lens(load(model, _dtype(dtype), _device(device)))


@dataclass(frozen=True, eq=False)
class Trace:
    """One forward pass: every selected mixer's call, the inputs, the padding and the model's own answer.

    inputs: ids (batch, time) or floats (batch, time, channels); attention_mask: bool (batch, time) or None;
    tokens: one list of strings a row, empty for floats; logits: what the model returned (its last hidden state where it
    has no head); not_captured: path -> reason, for token mixers that could not be recorded.
    """

    lens: Lens
    inputs: Tensor = field(repr=False)
    attention_mask: Tensor | None = field(repr=False)
    mixers: MixerCalls
    logits: Tensor = field(repr=False)
    not_captured: dict[str, str]

    @cached_property
    def tokens(self) -> list[list[str]]:
        if self.inputs.is_floating_point():
            return [[] for _ in self.inputs]
        return [self.lens.token_strings(row) for row in self.inputs]

    def verify(
        self,
        checks: Sequence[str] = ("operator", "step", "chunk", "padding"),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Certificate:
        """Certificate of this trace; ``progress(what, done, total)`` is called as the checks go on."""
        from mixerlens.verify import certify

        return certify(self, checks=checks, progress=progress)


class Lens:
    """A model, its tokenizer, its layers.  ``lens.trace(...)`` runs it once and leaves it as it was."""

    def __init__(self, loaded: Loaded) -> None:
        self.model = loaded.model
        self.source = loaded.source
        self.unused_weights = loaded.unused
        self._tokenizer = loaded.tokenizer
        self._found = discover(self.model)
        self._sites = self._found.all
        if not self._sites:
            reasons = [f"{path} is {why}" for path, why in self._found.unread.items()]
            more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
            why = f": {reasons[0]}{more}" if reasons else ""
            raise UnsupportedError(f"{self.source} has no token mixer that is covered{why}")

    def __repr__(self) -> str:
        return f"Lens({self.model_type}, {len(self._sites)} mixers, {self.dtype})"

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, or None."""
        return self._tokenizer()

    @property
    def model_type(self) -> str:
        """The configuration's model_type, mixerlens's own for its models, else the module's class name."""
        kind = type(self.model)
        declared = getattr(getattr(self.model, "config", None), "model_type", None)
        return declared or getattr(sys.modules.get(kind.__module__), "MODEL_TYPE", None) or kind.__name__

    @property
    def layers(self) -> list[LayerInfo]:
        """Every token mixer that can be recorded, in the order of the model."""
        return [site.info for site in self._sites]

    @property
    def not_captured(self) -> dict[str, str]:
        """path -> reason for what looks like a token mixer and cannot be recorded."""
        return dict(self._found.unread)

    @property
    def context_length(self) -> int | None:
        return context_length(self.model)

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def info(self) -> dict[str, Any]:
        """What the model is, ready for JSON."""
        config = getattr(self.model, "config", None)
        return {
            "source": self.source,
            "model_type": self.model_type,
            "class": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "context_length": self.context_length,
            "vocabulary": vocabulary(self.model),
            "tokenizer": type(self.tokenizer).__name__ if self.tokenizer is not None else None,
            "attention": getattr(config, "_attn_implementation", None),
            "layers": [{"index": i.index, "path": i.path, "kind": i.kind, "family": i.family} for i in self.layers],
            "not_captured": self.not_captured,
            "unused_weights": self.unused_weights,
        }

    def token_strings(self, ids: Sequence[int] | Tensor) -> list[str]:
        """One string a token: its text where it has one of its own, else the tokenizer's name for it or its number."""
        numbers = [int(i) for i in ids]
        if self.tokenizer is None:
            return [str(i) for i in numbers]
        names = self.tokenizer.convert_ids_to_tokens(numbers)
        texts = [self.tokenizer.decode([i]) for i in numbers]
        return [t if t and "\ufffd" not in t else str(n) for t, n in zip(texts, names, strict=True)]

    def prepare(self, inputs: Any, attention_mask: Any = None) -> ModelInputs:
        """Checked inputs on the model's device.  Raises InputError."""
        return prepare(
            inputs,
            attention_mask,
            tokenizer=self.tokenizer if isinstance(inputs, (str, list, tuple)) else None,
            takes_ids=takes_ids(self.model),
            vocabulary=vocabulary(self.model),
            context=self.context_length,
            device=self.device,
            dtype=self.dtype,
        )

    def trace(
        self, inputs: Any, attention_mask: Any = None, layers: Iterable[int] | None = None, cache: Any = None
    ) -> Trace:
        """Run the model once on text, a list of texts, ids (batch, time) or floats (batch, time, channels).

        attention_mask: (batch, time), 1 for tokens and 0 for padding.
        layers: the layers whose mixers are kept; all by default.  Memory grows with them, never with time squared.
        cache: what the model returned for the tokens before these, which then go on from its states (and fill it).
        A mixer whose call has no exact counterpart here is left out and listed in ``not_captured`` with the reason.
        Raises InputError for inputs the model cannot take or a layer it does not have, UnsupportedError where no mixer
        at all could be recorded.  The model is left as it was, also then.
        """
        self._refuse_further_inputs()
        selected = self._select(layers)
        ready = self.prepare(inputs, attention_mask)
        recorder = Recorder(selected, ready.mask)
        wanted = {id(site.module) for site in selected}
        with ExitStack() as stack:
            stack.enter_context(undisturbed(self.model))
            for adapter, sites in self._found.sites:
                modules = [site.module for site in sites if id(site.module) in wanted]
                stack.enter_context(adapter.recording(modules, recorder))
            output = self.forward(ready.inputs, ready.mask, **self._on(cache))
        calls = recorder.calls()
        if not calls:
            raise UnsupportedError(f"{self.source}: {_nothing_recorded(recorder)}")
        missing = {path: str(refusal) for path, refusal in recorder.refused().items()}
        missing |= dict.fromkeys(recorder.silent(), "its call was not seen in the forward pass")
        return Trace(self, ready.inputs, ready.mask, calls, answer(output).detach(), self.not_captured | missing)

    def forward(self, inputs: Tensor, mask: Tensor | None = None, **more: Any) -> Any:
        """The model's own output for prepared inputs; without a cache unless asked for."""
        if not hasattr(self.model, "main_input_name"):
            if mask is not None:
                raise InputError(f"{type(self.model).__name__} takes no attention_mask")
            return self.model(inputs)
        arguments: dict[str, Any] = {str(self.model.main_input_name): inputs}
        if self.accepts("use_cache") or self._passes_on_use_cache:
            arguments["use_cache"] = False
        if mask is not None:
            arguments["attention_mask"] = mask.long()
        with quiet():
            return self.model(**(arguments | more))

    def accepts(self, parameter: str) -> bool:
        """The model's forward names this parameter; one that it only swallows does not count."""
        return parameter in self._parameters

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.model.forward).parameters

    def _refuse_further_inputs(self) -> None:
        """Raises UnsupportedError for a model that cannot run on one input alone."""
        main = getattr(self.model, "main_input_name", None)
        if main is None:
            return
        needed = [
            name
            for name, parameter in self._parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and name != main
        ]
        if needed:
            raise UnsupportedError(
                f"{self.source} needs {' and '.join(needed)} beside {main}: only models of one input are covered"
            )

    @property
    def caches(self) -> list[str]:
        """The parameters by which the model's forward is handed a cache."""
        return [name for name in CACHES if self.accepts(name)]

    def _on(self, cache: Any) -> dict[str, Any]:
        if cache is None:
            return {}
        if not self.caches:
            raise InputError(f"{type(self.model).__name__} takes no cache")
        return {self.caches[0]: cache, "use_cache": True}

    @property
    def _passes_on_use_cache(self) -> bool:
        """A forward that names its cache and hands the switch for it on among further keywords."""
        swallows = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in self._parameters.values())
        return swallows and bool(self.caches)

    def _select(self, layers: Iterable[int] | None) -> list[Any]:
        if layers is None:
            return self._sites
        chosen = list(layers)
        there = sorted({site.info.index for site in self._sites})
        unknown = [layer for layer in chosen if layer not in there]
        if unknown or not chosen:
            what = f"layer {unknown[0]}" if unknown else "an empty selection"
            raise InputError(f"{what} is not among the model's layers {_ranges(there)}")
        return [site for site in self._sites if site.info.index in chosen]


def answer(output: Any) -> Tensor:
    """The logits of a model's output; its last hidden state where it has no head."""
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "last_hidden_state"):
        found = getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    return output[0]


def _nothing_recorded(recorder: Recorder) -> str:
    refused = list(recorder.refused().values())
    if not refused:
        return f"no selected mixer was called in the forward pass (first: {recorder.silent()[0]})"
    first, more = refused[0], f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return f"{first.path} ({first.module}): {first.reason}{more}"


def _ranges(numbers: list[int]) -> str:
    if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None:
        return None
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype {dtype!r} is none of float64, float32, bfloat16, float16")
    return found


def _device(device: torch.device | str | None) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is not known: use cpu or cuda") from error
