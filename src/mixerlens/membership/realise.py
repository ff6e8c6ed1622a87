"""Look for a member with the coefficients that were measured: a readout, and a state of fixed size behind it."""

from __future__ import annotations

from functools import cached_property
from math import comb
from typing import Any

import torch
from torch import Tensor

from mixerlens.errors import InputError
from mixerlens.membership.keys import ThirdKeys, turned
from mixerlens.membership.probe import Probe
from mixerlens.membership.profile import CONSTANT, EXPONENTIAL, LINEAR
from mixerlens.membership.ranks import Growth, corner, crossing
from mixerlens.membership.readouts import HALVES, INVERSES, scores
from mixerlens.membership.record import Finding

LOUDER, STEP, STEPS = 4.0, 8.0, 9  # a rank that is small because scores are small is larger for larger queries
TURN = 0.1  # of the rows of alpha: then scores are not small
AFFINE = {CONSTANT, LINEAR}
POLYNOMIAL = {CONSTANT, LINEAR, "polynomial 2", "polynomial 3"}

Decision = dict[str, Any]


def decision(verdict: str, reason: str, readout: str | None = None, state: int | None = None) -> Decision:
    """The fields of a `Membership` that a realisation settles."""
    return {"verdict": verdict, "reason": reason, "readout": readout, "state": state}


class Search:
    """Tries realisations in turn.

    alpha (batch, heads, time, time), lower triangular where is_causal; kinds: how ratios of a row depend on its query;
    keys: what third keys do. findings: what was tried. finite: whether a state of fixed size was seen.
    """

    def __init__(self, probe: Probe, alpha: Tensor, is_causal: bool, kinds: set[str], keys: ThirdKeys) -> None:
        self.probe, self.alpha, self.is_causal = probe, alpha.flatten(0, 1), is_causal
        self.kinds, self.keys = kinds, keys
        self.findings: list[Finding] = []
        self.finite = False
        self.factor = LOUDER

    def realisation(self) -> Decision | None:
        """The first realisation that holds; None if none does."""
        if not bool((self.alpha != 0).any()):
            self.finite = True
            return decision("member", "all coefficients are 0: y does not depend on the values", "identity", 0)
        growth = self._growth(self.alpha)
        louder = growth if self.louder is None else self._growth(self.louder)
        self.finite = self._settled(growth) and louder.rank <= growth.rank
        self._report_state(growth, louder)
        kind = "a causal linear recurrence" if self.is_causal else "a product of queries and keys"
        what = f"{kind} with {growth.rank} numbers a value channel reproduces it"
        if self.finite and (self.kinds <= AFFINE or growth.rank == 0):
            why = f"{what}, and it is linear in the query up to eta_i"
            return decision("member", why + self._chained, "identity", growth.rank)
        name, rank = self._readout()
        if name:
            size = f"a state of {rank} numbers" if self.is_causal else f"rank {rank}"
            why = f"phi = {name}: its scores have {size}"
            return decision("member", why + self._chained, name, growth.rank if self.finite else None)
        if self.finite:
            return self._lifted(what, growth.rank)
        return self._two_ways() or self._register()

    def _lifted(self, what: str, rank: int) -> Decision:
        """A finite state, and coefficients that are not linear in the query."""
        if self.kinds <= {CONSTANT, EXPONENTIAL}:
            return decision("member", f"phi = exp in the query, and {what}: a window{self._chained}", "exp", rank)
        if self.kinds <= POLYNOMIAL:
            lifted = f"phi is a polynomial of degree {self._degree} in the query, lifted to monomials"
            why = f"{what}: {lifted} (all of n = {self.probe.query.shape[-1]} are {self._monomials})"
            return decision("member by lifting", why + self._chained, f"polynomial of degree {self._degree}", rank)
        why = f"{what}, but not on the query as given: a feature map or a chained system is inside"
        return decision("member by lifting", why + self._chained, "identity", rank)

    def _two_ways(self) -> Decision | None:
        """A mixer that sees both ways, each of whose halves has a state."""
        if self.is_causal:
            return None
        halves = [crossing(a, None, self.probe.ranks) for a in (self.alpha, self.alpha.mT)]
        both = all(self._settled(g) for g in halves)
        numbers = {"forward": halves[0].rank, "backward": halves[1].rank}
        bar = f"both stop growing, at {halves[0].side // 2} at most"
        told = "ranks of the coefficients below and above the diagonal"
        self.findings.append(Finding("directions", "proves" if both else "note", told, numbers, bar))
        if not both:
            return None
        self.finite = True
        ranks = f"{halves[0].rank} and {halves[1].rank}"
        why = f"two causal linear recurrences, one a direction, with {ranks} numbers a value channel"
        return decision("member by lifting", why + self._chained, "identity", halves[0].rank + halves[1].rank)

    def _register(self) -> Decision | None:
        """Coefficients that read no other key, linear or exponential in the query: a table of positions in a state."""
        if self.keys.other > self.probe.exact or not self._fixed_support:
            return None
        exponential = EXPONENTIAL in self.kinds
        if not self.kinds <= ({CONSTANT, EXPONENTIAL} if exponential else AFFINE):
            return None
        form = "exp(q_i^T w_ij)" if exponential else "q_i^T w_ij"
        why = f"alpha_ij = {form} / eta_i and w_ij knows no key but k_j: a register that grows with the length holds it"
        return decision("member", why, "exp" if exponential else "identity")

    def _readout(self) -> tuple[str | None, int]:
        """The first readout whose scores have a state of fixed size, and that size."""
        tried: dict[str, str] = {}
        name, growth = None, Growth(0, 0, 0)
        support = (self.alpha != 0).all(0)
        for candidate in ("identity", *INVERSES, *HALVES):
            if candidate == "identity":
                found = (self.alpha, support) if self.kinds <= AFFINE and self._fixed_support else None
            elif candidate in INVERSES and not self._fixed_support:
                found = None  # these have no zeros of their own
            else:
                found = scores(candidate, self.alpha, lambda: self.mirrored)
            if found is None:
                continue
            growth = self._growth(*found)
            tried[candidate] = f"{growth.half_rank}, {growth.rank}" if growth.side > 1 else "no block"
            if self._settled(growth) and self._holds_louder(candidate, growth):
                name = candidate
                break
        if tried:
            told = f"the scores behind phi = {name} have a state of fixed size" if name else "none of those tried fits"
            bar = f"rank of the scores: no growth from half to all, at most {growth.side // 2}, an exact one"
            self.findings.append(Finding("readout", "proves" if name else "note", told, dict(tried), bar))
        return name, growth.rank

    def _holds_louder(self, candidate: str, growth: Growth) -> bool:
        """No larger rank of the scores for louder queries, where those can be undone."""
        found = scores(candidate, self.louder, lambda: self.mirrored) if candidate in INVERSES else None
        again = growth if found is None else self._growth(*found)
        return again.side < growth.side or again.rank <= growth.rank

    def _growth(self, matrix: Tensor, valid: Tensor | None = None) -> Growth:
        return (crossing if self.is_causal else corner)(matrix, valid, self.probe.ranks)

    def _settled(self, growth: Growth) -> bool:
        """A plateau at an exact rank; for coefficients linear in the query, whose phi is known, at the tolerance.

        For a polynomial of degree e in n numbers an exact rank of C(n + e, e) at most, below what could be seen, will
        do: it has no more monomials.
        """
        exact = growth.gap <= self.probe.ranks.gap
        if self.kinds <= AFFINE:
            return growth.plateau
        return exact and (growth.plateau or (growth.rank < growth.cap and growth.rank <= self._monomials))

    @property
    def _degree(self) -> int:
        """The degree of the coefficients in the query, 0 where they are no polynomial."""
        if not self.kinds <= POLYNOMIAL:
            return 0
        return max((int(kind.split()[-1]) for kind in self.kinds - AFFINE), default=1)

    @property
    def _monomials(self) -> int:
        """How many monomials of this degree, and lower, the numbers of a query have."""
        return comb(self.probe.query.shape[-1] + self._degree, self._degree) if self._degree else 0

    def _report_state(self, growth: Growth, louder: Growth) -> None:
        kind = "state rank" if self.is_causal else "rank"
        numbers: dict[str, Any] = growth.numbers | {f"with {self.factor:g} x queries": louder.rank}
        if self.finite:
            told = f"the {kind} stops growing at {growth.rank}: that many numbers carry the past"
        elif growth.rank == growth.cap:
            told = f"the {kind} grows as long as it can be seen to grow, to {growth.rank} at {growth.side} tokens"
        elif not growth.plateau:
            told = f"the {kind} is not settled by so few tokens: give {4 * growth.rank} for the {growth.rank} seen"
        else:
            told = f"the {kind} seems to stop growing, but its singular values fall off smoothly: a matter of tolerance"
        bars = self.probe.ranks
        bar = f"no growth from half to all, at most {growth.side // 2}, gap <= {bars.gap:g} below {bars.tolerance:g}"
        given = "tokens on each side of a cut"
        self.findings.append(Finding(kind, "proves" if self.finite else "note", told, numbers, bar, given))

    @cached_property
    def louder(self) -> Tensor | None:
        """alpha with every query scaled up, by 4 at least and until its rows turn; None where the mixer cannot take it.

        Rows that do not turn at all (linear in the query, or a normed one) have no small scores to fear.
        """
        alpha = self._other(self.probe.query * self.factor)
        for _ in range(0 if self.kinds <= AFFINE else STEPS):
            if alpha is None or not self.probe.exact < turned(self.alpha, alpha) < TURN:
                break
            self.factor *= STEP
            alpha = self._other(self.probe.query * self.factor)
        return alpha

    @cached_property
    def mirrored(self) -> Tensor | None:
        """alpha with every query negated; None where the mixer cannot take it."""
        return self._other(-self.probe.query)

    @cached_property
    def _fixed_support(self) -> bool:
        """The zeros of alpha are those of every system, and stay where they are when queries and keys change places."""
        zero = self.alpha == 0
        if bool((zero != zero[0]).any()):
            return False
        seen = torch.ones_like(zero[0])
        if not bool((zero[0] & (seen.tril() if self.is_causal else seen)).any()):
            return True
        one, two = (self.probe.tokens(self.probe.time) for _ in range(2))
        other = self._other(self.probe.query[:, one], self.probe.key[:, two])
        return other is not None and bool(((other == 0) == zero).all())

    def _other(self, query: Tensor, key: Tensor | None = None) -> Tensor | None:
        try:
            alpha = self.probe.coefficients(query=query, key=key).flatten(0, 1)
        except InputError:
            return None
        finite = torch.isfinite(torch.view_as_real(alpha) if alpha.is_complex() else alpha).all()
        return (alpha.tril() if self.is_causal else alpha) if bool(finite) else None

    @property
    def _chained(self) -> str:
        """What to add where parameters read keys that the equation keeps apart."""
        read = self.keys.earlier > self.probe.exact
        return "; its parameters read other keys (a chained system or a convolution inside)" if read else ""

    def open_question(self, last: Finding) -> str:
        """Why nothing was decided."""
        state = self.findings[0].meaning if self.findings else ""
        return f"{state}; no realisation was found, and nothing refutes one ({last.test}: {last.meaning})"
