"""Principle 3, position: whether a row notices the order of the tokens before it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Identity
from mixerlens.principles.parts import MATRICES, columns, last_tokens, matrices, one_run, spaced, spread_text
from mixerlens.principles.record import Condition, Counterexample, Principle

NOTHING = 1e-12  # a change up to this is rounding


@dataclass(frozen=True, eq=False, kw_only=True)
class PositionPrinciple(Principle):
    """change: sum_j |alpha'_{i,p(j)} - alpha_ij| over sum_j |alpha_ij| in row i = ``row``, the last, where p permutes
    the tokens it sees before itself: (heads, permutations), first the reversal, then the exchange of the two nearest,
    then random ones. It is the largest change of y_i over all values of size at most 1, relative to the largest y_i.

    reversed, swapped, shuffled, largest: of the reversal, the exchange, the mean of the random ones, of all: (heads,).
    distance: max over t of |A_t - I| / |I| in the Frobenius norm, (heads,).
    inert: a head whose A_t are not I and whose rows notice no order, (heads,) bool.
    """

    change: Tensor = field(repr=False)
    reversed: Tensor
    swapped: Tensor
    shuffled: Tensor
    largest: Tensor
    distance: Tensor
    inert: Tensor
    row: int
    seen: int

    number: ClassVar[int] = 3
    title: ClassVar[str] = "Position"
    headline: ClassVar[str] = "largest"
    wording: ClassVar[str] = "A_t other than I embeds positions; with A_t = I the mixer needs position embeddings."
    theorem: ClassVar[str] = (
        "In one layer without positions in its inputs A_t = I makes y_i a function of the multiset of the tokens "
        "before i that row i sees and of token i: permuting the earlier ones changes nothing. A_t other than I "
        "notices the order only if it moves a score: not if q_i^T A_i ... A_{j+1} k_j = q_i^T k_j for all of them. "
        "Two causal layers with A_t = I do notice it: what a row of the first one sees depends on where it stands."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389", "arXiv 2203.16634")
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="With A_t = I the mixer needs position embeddings.",
            shows="Two causal softmax layers without any positions tell two orders of the same tokens apart.",
            code="""\
import torch
from mixerlens import families

def last_row(x, layers):
    for _ in range(layers):
        x = x + families.softmax_attention(query=x, key=x).operator() @ x
    return x[0, -1]

x = torch.randn(1, 6, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
moved = x[:, [1, 0, 2, 3, 4, 5]]
changes = [float((last_row(x, n) - last_row(moved, n)).abs().max()) for n in (1, 2)]
assert changes[0] < 1e-14 and changes[1] > 1e-2
""",
        ),
        Counterexample(
            against="A_t other than I embeds positions.",
            shows="A decay that acts where no key has anything leaves every order of the tokens the same.",
            code="""\
import torch
from mixerlens import CoefficientDynamics, principles
from mixerlens.evolution import Diagonal

query, key = torch.randn(2, 1, 20, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
key[..., 2] = 0
decay = Diagonal(decay=torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64))
found = principles.position(CoefficientDynamics(query, key, decay))
assert float(found.largest) < 1e-14 and bool(found.inert) and float(found.distance) > 0.1
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "reversed": "Largest relative change of the last output when the tokens before it come in reverse order.",
        "swapped": "The same when the two nearest change places.",
        "shuffled": "The same, the mean over random orders.",
        "largest": "The largest of all that were tried.",
        "distance": "How far A_t is from I.",
        "inert": "A_t is not I, and no order is noticed.",
    }
    units: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("reversed", "swapped", "shuffled", "largest", "distance"), "relative"),
        "seen": "tokens",
    }

    def to_json(self) -> dict[str, Any]:
        """Without the change of every permutation."""
        written = super().to_json()
        del written["change"]
        return written


def position(
    mixer: Any, *, sequence: int = 0, longest: int = 512, permutations: int = 8, moves: bool = True, seed: int = 0
) -> PositionPrinciple:
    """Principle 3: how much the last row of one layer changes when the tokens before it are permuted.

    A token is its key and its scaling, and what its A_t is made of where that differs from token to token, as if it
    were computed from the token (``moves``); with ``moves`` False A_t stays where it is, as a function of the position.
    longest: the last tokens looked at. permutations: random ones, drawn by ``seed``.

    Raises InputError for what is no mixer, a sequence that is not there, or no permutation.
    """
    if permutations < 1:
        raise InputError(f"permutations is {permutations}: at least one is needed")
    whole = one_run(mixer, sequence)
    d = last_tokens(whole, longest)
    row = d.time - 1
    seen = [j for j in columns(d, row) if j != row]
    before = d.operator().row(row)[0]
    mass = before.abs().sum(-1)
    mass = torch.where(mass > 0, mass, 1.0)
    changes = []
    for order in _orders(seen, d.time, permutations, seed):
        after = _permuted(d, order, moves).operator().row(row)[0]
        changes.append((after - before[:, order]).abs().sum(-1) / mass)
    change = torch.stack(changes, -1)
    distance = _distance(d)
    largest = change.amax(-1)
    inert = (largest <= NOTHING) & (distance > NOTHING)
    still = isinstance(d.evolution, Identity)
    told = type(d.evolution).__name__
    few = "the row sees fewer than two earlier tokens: there is no order to notice" if len(seen) < 2 else ""
    return PositionPrinciple(
        change=change,
        reversed=change[:, 0],
        swapped=change[:, 1],
        shuffled=change[:, 2:].mean(-1),
        largest=largest,
        distance=distance,
        inert=inert,
        row=row,
        seen=len(seen),
        silent=few,
        meaning=_meaning(change, inert, still, len(seen), whole.time - d.time),
        conditions=(
            Condition("A_t = I at every token", bool((distance <= NOTHING).all()), f"{told} evolution"),
            Condition(
                "A_t moves a score", bool((largest > NOTHING).any()), f"change {spread_text(largest, least=NOTHING)}"
            ),
            Condition("the inputs of the layer hold no positions", None, "queries and keys are taken as they are"),
        ),
    )


def _orders(seen: list[int], time: int, count: int, seed: int) -> list[Tensor]:
    """Where each token comes from: the reversal, the exchange of the two nearest, and random orders of those seen."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.tensor(seen, dtype=torch.long)
    swapped = [*seen[:-2], *seen[:-3:-1]]
    new = [places.flip(0), torch.tensor(swapped, dtype=torch.long)]
    new += [places[torch.randperm(len(seen), generator=draw)] for _ in range(count)]
    orders = []
    for sources in new:
        order = torch.arange(time)
        order[places] = sources
        orders.append(order)
    return orders


def _permuted(d: CoefficientDynamics, order: Tensor, moves: bool) -> CoefficientDynamics:
    """The mixer on its tokens in another order; the row that is looked at keeps its place."""

    def move(x: Tensor) -> Tensor:
        return x if x.shape[1] == 1 else x[:, order]

    return replace(
        d,
        key=move(d.key),
        scaling=None if d.scaling is None else move(d.scaling),
        evolution=d.evolution.map(move) if moves else d.evolution,
    )


def _distance(d: CoefficientDynamics) -> Tensor:
    """max_t |A_t - I|_F / |I|_F over t >= 1, at most as many tokens as dense matrices fit: (heads,)."""
    if isinstance(d.evolution, Identity) or d.time < 2:
        return torch.zeros(d.heads, dtype=torch.float64)
    a = matrices(d, spaced(1, d.time, max(1, min(64, MATRICES // (d.heads * d.dim**2)))))
    unit = torch.eye(d.dim, dtype=a.dtype, device=a.device)
    return torch.linalg.matrix_norm(a - unit).amax(-1) / d.dim**0.5


def _meaning(change: Tensor, inert: Tensor, still: bool, seen: int, left: int) -> str:
    before = f"the {seen} tokens before" + (f" ({left} earlier ones left out)" if left else "")
    told = (
        f"Of {change.shape[-1]} other orders of {before}, the one that matters most changes the last output by "
        f"{spread_text(change.amax(-1), least=NOTHING)} of its size"
    )
    if still:
        return f"{told}: A_t = I, the row sees a multiset."
    if bool(inert.all()):
        return f"{told}: A_t is not I, but moves no score."
    return f"{told}."
