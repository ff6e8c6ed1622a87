"""What the literature leads one to expect of the ablations, each as one comparison.

All were fixed before the runs that count, seeds 1, 2, 3, but after trials of seed 0 that chose the settings, and in
three cases what is compared; so seed 0 is in no verdict, stored or not.

A claim compares two variants of a table on the same seeds. Its difference is judged by the 95 % interval of
`sweep.intervals`, which covers other seeds and other test sequences: "agrees" above 0, "the other way" below,
"undecided" where it holds 0. Each interval is for its comparison alone: were there no difference at all, up to one in
twenty would still miss 0. So beside each verdict stands the p-value of Holm's rule over all comparisons that were run,
added when no outcome but those of parity had been looked at: those under 0.05 hold with all of them in view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...sweep.config import RunConfig
from ...sweep.intervals import Answers, of_difference, p_of_difference
from ..intervals import holm
from .tables import EVOLUTION, NORMALIZER, READOUT, SCALING, SETTLED

__all__ = ["CLAIMS", "CLAIMS_HEADING", "Claim", "Judged", "judged"]


def outcome(run: Mapping[str, Any]) -> Answers:
    """Right and asked of the test split, as if all answers of a sequence stood and fell together: a stored cell does
    not say how far they do, so an interval counts sequences alone."""
    right, asked = run["outcome"]["score"]
    return Answers(right, asked, RunConfig.tested, right * (asked - right) / RunConfig.tested)


def trained_length(run: Mapping[str, Any]) -> Answers:
    """Of the shortest of the other tests: the trained length, in the table of A_t."""
    return outcome(run["longer"][min(run["longer"], key=int)])


def longest(run: Mapping[str, Any]) -> Answers:
    return outcome(run["longer"][max(run["longer"], key=int)])


@dataclass(frozen=True)
class Claim:
    """says: in words. source. more, less: the variants, of which the first is expected to be better."""

    table: str
    data: str
    more: str
    less: str
    says: str
    source: str
    of: Callable[[Mapping[str, Any]], Answers] = outcome


@dataclass(frozen=True)
class Judged:
    """difference, low, high: accuracy of ``more`` less that of ``less``; None where one of them was not run on the same
    seeds. p: of no difference; adjusted: by Holm's rule over all that were run."""

    claim: Claim
    seeds: int
    difference: float | None = None
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    adjusted: float = 1.0

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return "not run"
        return "agrees" if self.low > 0 else "the other way" if self.high < 0 else "undecided"

    @property
    def stays(self) -> bool:
        """Whether the verdict holds with all comparisons in view."""
        return self.verdict in ("agrees", "the other way") and self.adjusted < 0.05


CLAIMS_HEADING = "What agrees with the literature"  # of the page
_NONE, _LEARNED = ", without positions", ", learned positions"
_PRINCIPLES, _SIGNS, _PRODUCT = "arXiv 2510.09389", "arXiv 2411.12537", "arXiv 2502.10297"
_LARGE = "n = 64"
CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(READOUT, data, more, "identity", said, source)
        for data in ("mqar", "selective copying")
        for more, said, source in (
            ("exp", "exp selects better than the identity of the same n", _PRINCIPLES),
            ("relu", "relu selects better than the identity of the same n", _PRINCIPLES),
            ("degree 2", "degree 2 selects better than the identity of the same n", "arXiv 2402.18668"),
            ("identity, wide", "more state selects better, phi the identity", "arXiv 2402.18668"),
        )
    ),
    Claim(READOUT, "mqar", "exp", "degree 2", "exp recalls better than the polynomial", _PRINCIPLES),
    Claim(READOUT, "mqar", "exp", "identity, wide", "it is phi, not the numbers of state alone", _PRINCIPLES),
    Claim(EVOLUTION, "parity", f"scalar, signed{_NONE}", f"scalar{_NONE}", "parity needs eigenvalues below 0", _SIGNS),
    Claim(
        EVOLUTION, "parity", f"diagonal, signed{_NONE}", f"diagonal{_NONE}", "the same for a number a dimension", _SIGNS
    ),
    Claim(
        EVOLUTION, "parity", f"delta, beta < 2{_NONE}", f"delta, beta < 1{_NONE}", "the same for a delta rule", _SIGNS
    ),
    Claim(
        EVOLUTION,
        "parity",
        f"rotation{_NONE}",
        f"identity{_NONE}",
        "a turn by pi counts modulo 2, A_t = I does not",
        _PRINCIPLES,
    ),
    Claim(
        EVOLUTION,
        "words",
        f"two deltas, beta < 2{_NONE}",
        f"delta, beta < 2{_NONE}",
        "words of permutations are learned better with two reflections a token than with one",
        f"{_PRODUCT}, of S5",
    ),
    Claim(
        EVOLUTION,
        "words",
        f"delta, beta < 2{_NONE}",
        f"diagonal, signed{_NONE}",
        "words of permutations are learned better with A_t that do not commute",
        "arXiv 2404.08819, of S5",
    ),
    *(
        Claim(
            EVOLUTION,
            data,
            f"identity{_LEARNED}",
            f"identity{_NONE}",
            "A_t = I needs position embeddings, at the trained length",
            _PRINCIPLES,
            trained_length,
        )
        for data in ("parity", "words")
    ),
    Claim(
        SCALING,
        _LARGE,
        "unit variance, b = n^-0.5",
        "unit variance, b = 1",
        "b = 1 / sqrt n trains better at large n",
        _PRINCIPLES,
    ),
    Claim(
        SCALING,
        _LARGE,
        "unit length, b = 1",
        "unit length, b = n^-0.5",
        "with keys of unit length 1 / sqrt n is harmful",
        "the counter-case of principle 5",
    ),
    Claim(
        SCALING,
        _LARGE,
        "positive, b = n^-0.5",
        "positive, b = 1",
        "1 / sqrt n helps positive keys too, whose scores' mean still grows",
        "the counter-case of principle 5",
    ),
    *(
        Claim(
            NORMALIZER,
            f"rate {rate}",
            more,
            less,
            f"{said}, at four times the trained length",
            _PRINCIPLES,
            longest,
        )
        for rate in ("0.003", "0.01")
        for more, less, said in (
            ("positive, row sum", "positive, none", "a row sum keeps positive features stable"),
            ("signed, floor", "signed, row sum", "a floor keeps the row sum of signed features away from 0"),
            ("signed, exp gate", "signed, none", "eta made from the token alone is better than none"),
        )
    ),
)


def judged(tables: Mapping[str, Any]) -> list[Judged]:
    """Every claim, on the seeds that both sides have, but for the one that settled the sizes. tables: of a study's
    document."""
    found = []
    for claim in CLAIMS:
        variants = tables.get(claim.table, {}).get(claim.data, {})
        ours, theirs = (variants.get(name, {}) for name in (claim.more, claim.less))
        seeds = sorted((ours.keys() & theirs.keys()) - {str(SETTLED)}, key=int)
        if not seeds:
            found.append(Judged(claim, 0))
            continue
        both = [claim.of(ours[s]) for s in seeds], [claim.of(theirs[s]) for s in seeds]
        found.append(Judged(claim, len(seeds), *of_difference(*both), p_of_difference(*both)))
    adjusted = iter(holm([each.p for each in found if each.seeds]))
    return [replace(each, adjusted=next(adjusted)) if each.seeds else each for each in found]
