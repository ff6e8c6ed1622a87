"""What really happens when segments of the input are removed: the answer that the pair form's account is set against.

    effect_g = f(all) - f(without g)
    synergy_gg' = f(all) - f(without g) - f(without g') + f(without both)        (Moebius)
    curvature_gg' = u_g^T H u_g'         u_g what the removal takes away, H the Hessian of the logit at this input

A removed segment is replaced by a baseline. Were the model a polynomial of degree two in its input, synergy and
curvature would be one number (g != g'); so would twice the account's A_gg', were it one block without norm and GLU.
With more, pairs also meet in the gates of earlier blocks, the norms and the GLU, which the account holds: then it
differs however small the waves. Otherwise A is bookkeeping of this pass, the curvature is about small changes, and only
the synergy is about removal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..measures.record import Record
from .hessian import segment_curvature
from .layer import Forward
from .pairs import PairForm
from .ranks import rank_correlation

__all__ = ["PAIRS", "Removal", "removal"]

PAIRS = 64  # that are removed together unless more are asked for


@dataclass(frozen=True, eq=False)
class Removal(Record):
    """borders: of the segments. effects: (segments,). pairs: (pairs, 2), which pairs were removed, g < g'.

    synergy: (pairs,). account: (pairs,), 2 A_gg' of the pair form. curvature: (segments, segments), None if not asked
    for. account_effects: (segments,), what the pair form says each segment gives.
    """

    question: str
    borders: tuple[int, ...]
    effects: Tensor = field(repr=False)
    account_effects: Tensor = field(repr=False)
    pairs: Tensor = field(repr=False)
    synergy: Tensor = field(repr=False)
    account: Tensor = field(repr=False)
    curvature: Tensor | None = field(repr=False)

    labels: ClassVar[dict[str, str]] = {
        "effects": "What the logit loses when a segment is replaced by the baseline.",
        "account_effects": "What the pair form, bookkeeping of the whole pass, says that it loses.",
        "pairs": "Pairs of segments that were removed together.",
        "synergy": "f(all) - f(without g) - f(without g') + f(without both): what both give together.",
        "account": "Twice the pair form's A_gg', what the account says of the same pair.",
        "curvature": "u_g^T H u_g', the synergy of infinitely small shares of the two segments, blown up to the whole.",
        "effects_rank_correlation": "Spearman's, of effects and what the account says.",
        "synergy_rank_correlation": "Spearman's, of synergy and what the account says, over the pairs removed.",
        "curvature_rank_correlation": "Spearman's, of synergy and curvature, over the pairs removed.",
    }
    units: ClassVar[dict[str, str]] = dict.fromkeys(
        ("effects", "account_effects", "synergy", "account", "curvature"), "logit"
    )

    @property
    def effects_rank_correlation(self) -> float:
        return rank_correlation(self.effects, self.account_effects)

    @property
    def synergy_rank_correlation(self) -> float:
        return rank_correlation(self.synergy, self.account)

    @property
    def curvature_rank_correlation(self) -> float | None:
        if self.curvature is None:
            return None
        return rank_correlation(self.synergy, self.curvature[self.pairs[:, 0], self.pairs[:, 1]])

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "question": self.question,
                "borders": self.borders,
                "effects": self.effects,
                "account_effects": self.account_effects,
                "effects_rank_correlation": self.effects_rank_correlation,
                "pairs": self.pairs,
                "synergy": self.synergy,
                "account": self.account,
                "synergy_rank_correlation": self.synergy_rank_correlation,
                "curvature": self.curvature,
                "curvature_rank_correlation": self.curvature_rank_correlation,
            }
        )


def removal(
    forward: Forward,
    account: PairForm,
    *,
    pairs: int | None = PAIRS,
    hessian: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Removal:
    """Take away each segment of the account, and pairs of them, by running the model without them.

    pairs: only so many, those with the largest |A_gg'|; None for all. hessian: the curvature too, by a product with the
    Hessian a segment. progress: called with the forward passes done and their number, segments + pairs.

    Raises InputError for a negative number of pairs.
    """
    if pairs is not None and (isinstance(pairs, bool) or not isinstance(pairs, int) or pairs < 0):
        raise InputError(f"pairs {pairs}: give a number from 0 on, or None for all")
    count = len(account.borders) - 1
    above = torch.triu_indices(count, count, 1, device=forward.x.device).T
    said = 2 * account.interactions[above[:, 0], above[:, 1]]
    if pairs is not None:
        largest = said.abs().argsort(descending=True, stable=True)[:pairs]
        above, said = above[largest], said[largest]
    kept = torch.ones(count + len(above), count, dtype=torch.bool, device=forward.x.device)
    kept[:count].fill_diagonal_(False)
    kept[count:].scatter_(1, above, False)
    effects = forward.logit - _without(forward, account, kept, progress)
    alone, together = effects[:count], effects[count:]
    return Removal(
        question=forward.question,
        borders=account.borders,
        effects=alone,
        account_effects=account.removal_effects,
        pairs=above,
        synergy=alone[above].sum(1) - together,
        account=said,
        curvature=segment_curvature(forward, account.borders, account.baseline) if hessian else None,
    )


def _without(forward: Forward, account: PairForm, kept: Tensor, progress: Callable[[int, int], None]) -> Tensor:
    """The logit for every row of kept (runs, segments), segments that are not kept at the baseline."""
    lengths = torch.tensor(account.borders, device=kept.device).diff()
    found = []
    for some in kept.split(forward.at_once):
        there = some.repeat_interleave(lengths, 1)[..., None]
        found.append(forward.logits_of(torch.where(there, forward.inputs, account.baseline)))
        progress(sum(map(len, found)), len(kept))
    return torch.cat(found)
