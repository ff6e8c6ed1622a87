"""An explanation in words, for the terminal and for reports: its terms, and what they do not mean."""

from __future__ import annotations

import math
from collections.abc import Callable

from .explain import Explanation

__all__ = ["notes", "terms"]


def terms(found: Explanation) -> list[tuple[str, float]]:
    """The six terms that add up to the logit."""
    account = found.pairs
    pairs, own = account.interactions, account.interactions.diagonal()
    return [
        ("constant: biases of the head and the last output map", account.constant),
        ("linear: waves of the segments", float(account.linear[:-1].sum())),
        ("linear: wave of the biases", float(account.linear[-1])),
        ("interactions: a segment's wave with itself", float(own[:-1].sum())),
        ("interactions: waves of two segments", float(pairs[:-1, :-1].sum() - own[:-1].sum())),
        ("interactions: with the wave of the biases", float(2 * pairs[-1, :-1].sum() + own[-1])),
    ]


def notes(found: Explanation, number: Callable[[float], str]) -> list[str]:
    """What the account holds, how it compares with removal, and what the frozen account misses; number: how to write
    one."""
    said = [
        "the account is bookkeeping of this pass; it holds "
        + ("; ".join(found.pairs.held) or "nothing: the model is linear")
        + "."
    ]
    if found.removal is not None:
        correlations = found.removal.effects_rank_correlation, found.removal.synergy_rank_correlation
        over_segments, over_pairs = ("-" if math.isnan(each) else number(each) for each in correlations)
        said.append(
            "rank correlation of the account with what removal really does: "
            f"{over_segments} over segments, {over_pairs} over the {len(found.removal.pairs)} pairs removed"
            + (" (-: too few of them, or all alike)." if any(map(math.isnan, correlations)) else ".")
        )
    frozen = found.frozen
    missed = (
        "the logit does not change, so nothing is missed."
        if math.isnan(frozen.missed_account)
        else f"the account with every gate held misses {frozen.missed_account:.0%} of the change of the logit, the "
        f"gradient {frozen.missed_jacobian:.0%}."
    )
    return [*said, f"under {frozen.perturbation}, {missed}"]
