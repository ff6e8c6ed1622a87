"""Checks of a whole model against itself: one-token decoding, several tokens on a cache, padded rows.

Each is run as a plain user calls the model and again with explicit position ids.  What a model cannot do does not
apply; what it offers and then fails at is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mixerlens.capture import Lens
from mixerlens.capture.inputs import first_position
from mixerlens.capture.lens import answer
from mixerlens.verify.certificate import Check
from mixerlens.verify.compare import crashed, difference, judge, not_applicable
from mixerlens.verify.noise import logits_tolerance

VARIANTS = ("plain", "position_ids")
SIDES = ("left", "right")
CACHE = "cache"
MAX_STEPS = 32
MAX_TOKENS = (
    251  # these faults show within a few tokens; a prime, so that no cut falls on the border of a kernel's chunk
)
SHORTEST = 4


class Generation:
    """The checks on one row of ids (1, time) or floats (1, time, channels) without padding: its first 251 tokens."""

    def __init__(self, lens: Lens, ids: Tensor) -> None:
        self.lens, self.ids = lens, ids[:, :MAX_TOKENS]
        self.first = first_position(lens.model)
        self.full = answer(lens.forward(self.ids))
        self.tolerance, self.reason = logits_tolerance(lens, self.ids, self.full)

    def step(self) -> list[Check]:
        """Half the row at once, then one token at a time on the cache, against the full forward."""
        return [self._cached("step", variant, 1) for variant in VARIANTS]

    def chunk(self) -> list[Check]:
        """Half the row at once, then all the rest at once on the cache, against the full forward."""
        return [self._cached("chunk", variant, self.ids.shape[1]) for variant in VARIANTS]

    def padding(self) -> list[Check]:
        """A short row padded on one side beside a long one, with an attention mask, against each row alone."""
        return [self._padded(side, variant) for side in SIDES for variant in VARIANTS]

    def _inapplicable(self, variant: str, parameter: str) -> str | None:
        if self.ids.shape[1] < SHORTEST:
            return f"{self.ids.shape[1]} tokens; at least {SHORTEST} are needed"
        if self.tolerance is None:
            return self.reason
        if self.full.dim() < 3 or self.full.shape[:2] != self.ids.shape[:2]:
            return f"the model returns no output vector for every token: its answer has shape {tuple(self.full.shape)}"
        needed = (parameter, "position_ids") if variant == "position_ids" else (parameter,)
        for name in needed:
            if name == CACHE and not self.lens.caches:
                return f"{type(self.lens.model).__name__} has no cache"
            if name != CACHE and not self.lens.accepts(name):
                return f"{type(self.lens.model).__name__} takes no {name}"
        if parameter == CACHE and self._bidirectional:
            return f"a bidirectional mixer reads later tokens: {self._bidirectional}"
        return None

    @cached_property
    def _bidirectional(self) -> str | None:
        """The path of a mixer that reads later tokens: what a cache holds of earlier ones then cannot be enough."""
        calls = self.lens.trace(self.ids).mixers
        return next((path for path, call in calls.items() if not call.dynamics.causal), None)

    def _cached(self, check: str, variant: str, size: int) -> Check:
        why = self._inapplicable(variant, CACHE)
        if why:
            return not_applicable(check, variant, why)
        time = self.ids.shape[1]
        start = time // 2
        stop = min(time, start + MAX_STEPS) if size == 1 else time
        try:
            name, cache = self._begin(start, variant)
            if name is None:
                return not_applicable(check, variant, cache or f"{type(self.lens.model).__name__} returns no cache")
            answers = []
            for at in range(start, stop, size):
                output = self._call(at, min(at + size, stop), variant, **{name: cache})
                cache = getattr(output, name, cache)  # one that is handed in may only be filled, not returned
                answers.append(answer(output))
        except Exception as error:  # a fault of the model's own code is a finding, whatever its type
            return crashed(check, variant, error)
        how = "one token at a time" if size == 1 else f"{stop - start} tokens at once"
        reason = (
            f"tokens {start} to {stop - 1}, {how} on the cache of those before{_growing(cache)}, against the full "
            f"forward; {self.reason}"
        )
        return self._judge(check, variant, torch.cat(answers, 1), self.full[:, start:stop], reason, start)

    def _begin(self, stop: int, variant: str) -> tuple[str | None, Any]:
        """The name and the content of the cache after the first tokens; a model that returns none is handed one, as
        its own `generate` does. Where there is none, no name, and what the model says of the reason, if anything."""
        output = self._call(0, stop, variant)
        for name in self.lens.caches:
            if getattr(output, name, None) is not None:
                return name, getattr(output, name)
        generates = getattr(self.lens.model, "can_generate", None)
        if "past_key_values" not in self.lens.caches or not (callable(generates) and generates()):
            return None, getattr(output, "no_cache", None)
        from transformers import DynamicCache

        cache = DynamicCache(config=self.lens.model.config)  # type: ignore[arg-type]
        self._call(0, stop, variant, past_key_values=cache)
        return ("past_key_values", cache) if cache.get_seq_length() else (None, None)

    def _call(self, start: int, stop: int, variant: str, **more: Any) -> Any:
        if variant == "position_ids":
            more["position_ids"] = torch.arange(start, stop, device=self.ids.device)[None] + self.first
        return self.lens.forward(self.ids[:, start:stop], use_cache=True, **more)

    def _padded(self, side: str, variant: str) -> Check:
        name = f"{side}/{variant}"
        why = self._inapplicable(variant, "attention_mask")
        if why:
            return not_applicable("padding", name, why)
        time, short = self.ids.shape[1], self._short
        place = slice(time - short, time) if side == "left" else slice(0, short)
        rows = self.ids.new_full((2, *self.ids.shape[1:]), self._pad)
        mask = torch.zeros(2, time, dtype=torch.long, device=self.ids.device)
        rows[0], mask[0] = self.ids[0], 1
        rows[1, place], mask[1, place] = self.ids[0, :short], 1
        positions = (mask.cumsum(1) - 1).clamp(min=0) + self.first
        more = {"position_ids": positions} if variant == "position_ids" else {}
        try:
            padded = answer(self.lens.forward(rows, mask, **more))
            alone = self._alone
        except Exception as error:  # a fault of the model's own code is a finding, whatever its type
            return crashed("padding", name, error)
        reason = (
            f"{time - short} padding tokens on the {side}, with attention_mask, against the row alone; {self.reason}"
        )
        checks = [
            self._judge("padding", name, padded[1:, place], alone, reason, place.start),
            self._judge("padding", name, padded[:1], self.full, "the longer row beside a padded one; " + reason, 0),
        ]
        return max(checks, key=lambda c: (c.status == "fail", c.max_rel or 0.0))

    @property
    def _short(self) -> int:
        return self.ids.shape[1] - max(1, self.ids.shape[1] // 4)

    @cached_property
    def _alone(self) -> Tensor:
        """The answer to the short row, without any padding."""
        return answer(self.lens.forward(self.ids[:, : self._short]))

    @property
    def _pad(self) -> int:
        config = getattr(self.lens.model, "config", None)
        pad = getattr(config, "pad_token_id", None)
        return int(pad) if isinstance(pad, int) and pad >= 0 else 0

    def _judge(self, check: str, variant: str, result: Tensor, reference: Tensor, reason: str, first: int) -> Check:
        assert self.tolerance is not None  # _inapplicable has answered before
        found = difference(result[:, :, None], reference[:, :, None])
        return judge(check, variant, found, self.tolerance, reason, head=None, position=found.position + first)


def _growing(cache: Any) -> str:
    """The layers in which a cache grows with the sequence, where it says so itself."""
    layers = getattr(cache, "growing", ())
    if not layers:
        return ""
    which = f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"
    return f" (which holds every token in {which}: no finite recurrence)"


def inapplicable(check: str, why: str) -> list[Check]:
    """Every variant of a check, not applicable."""
    variants = [f"{side}/{variant}" for side in SIDES for variant in VARIANTS] if check == "padding" else VARIANTS
    return [not_applicable(check, variant, why) for variant in variants]


CHECKS: dict[str, Callable[[Generation], list[Check]]] = {
    "step": Generation.step,
    "chunk": Generation.chunk,
    "padding": Generation.padding,
}
