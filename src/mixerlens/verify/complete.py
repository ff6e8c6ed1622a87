"""Is there a way from one token to another beside the recorded mixers?

The model is run with the output of every mixer set to zero, once more with one token replaced.  What then still
reaches other tokens went past the mixers: an embedding that reads n-grams, say.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from mixerlens.capture import Lens
from mixerlens.capture.lens import answer
from mixerlens.verify.certificate import Check
from mixerlens.verify.compare import not_applicable
from mixerlens.verify.noise import logits_tolerance

SHORTEST = 3
MAX_TOKENS = 251  # a way from token to token shows in any row


def beside_the_mixers(lens: Lens, ids: Tensor) -> list[Check]:
    """A check that does not apply, with the tokens that were reached, or nothing where all is mixed by the mixers.

    ids: one row (1, time) without padding.  Modules that are known to be left out count as mixers here: they are
    reported already.
    """
    reached = reached_tokens(lens, ids)
    if not reached:
        return []
    token, others = min(ids.shape[1], MAX_TOKENS) // 2, ", ".join(map(str, reached[:5]))
    reason = (
        f"with the output of every mixer set to zero, a change of token {token} still reaches token {others}: "
        "something beside the recorded mixers mixes tokens"
    )
    return [not_applicable("operator", "beside", reason)]


def reached_tokens(lens: Lens, ids: Tensor) -> list[int]:
    """Tokens that the token in the middle reaches past all mixers; none where the row is too short to tell, or where
    rounding would hide it."""
    ids = ids[:, :MAX_TOKENS]
    time, token = ids.shape[1], ids.shape[1] // 2
    others = ids[0][ids[0] != ids[0, token]]
    if time < SHORTEST or not len(others):
        return []
    changed = ids.clone()
    changed[0, token] = others[0]
    modules = dict(lens.model.named_modules())
    silenced = [info.path for info in lens.layers] + [path for path in lens.not_captured if path in modules]
    with ExitStack() as undo:
        for path in silenced:
            undo.callback(modules[path].register_forward_hook(_silence).remove)
        before, after = (answer(lens.forward(x)) for x in (ids, changed))
        if before.dim() < 3 or before.shape[:2] != ids.shape:  # no vector a token: nothing to compare token by token
            return []
        tolerance, _ = logits_tolerance(lens, ids, before)  # experts, say, round otherwise when other tokens leave
    if tolerance is None:
        return []
    moved = (after - before).abs().flatten(2).amax((0, 2))
    moved[token] = 0
    return torch.nonzero(moved > tolerance * before.abs().max()).flatten().tolist()


def _silence(module: Any, args: Any, output: Any) -> Any:
    first, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    zero = torch.zeros_like(first)
    return zero if rest is None else (zero, *rest)
