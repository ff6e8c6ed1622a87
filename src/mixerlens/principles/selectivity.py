"""Principle 2, selectivity: how many keys a query can zero while it keeps one, and how it gathers mass on one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Unipotent
from mixerlens.principles.parts import (
    columns,
    impulses,
    keys,
    last_tokens,
    one_run,
    queries,
    scores,
    spaced,
    spread_text,
)
from mixerlens.principles.record import Condition, Counterexample, Principle
from mixerlens.principles.zeros import (
    Rule,
    alone_rule,
    cover_probability,
    keeps_alone,
    most_nearest,
    random_keys,
    zero_set,
)
from mixerlens.readout import RealPart
from mixerlens.reproduce.intervals import wilson

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SAME = 1e-10  # of the largest singular value: directions below it are none
GONE = 1e-6  # of the size it entered with: an impulse below it is forgotten
WORDS = {
    "hyperplane": "a key is zeroed on a hyperplane of queries",
    "half-space": "a key is zeroed on a half-space of queries",
    "level": "a key is zeroed where its score is a root of phi",
    "none": "phi has no zero: every key keeps some mass",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectivityPrinciple(Principle):
    """zeros: the zero set of phi in query space, "hyperplane", "half-space", "level" or "none"; None where unknown.

    Of the ``keys`` latest impulses that the last row sees, as it reads them (``outside``: others of the latest tokens,
    which its window hides): directions: rank of what the queries seen can tell apart,
    (heads,). zeroable: the largest number that one query can zero while it keeps another, (heads,): directions - 1 for
    a hyperplane and directions for a level, both for keys in general position; 0 for none; for a half-space the
    largest of ``zeroed``. zeroed: the largest m such that the m latest others can all be zeroed while the target is
    kept, (heads, targets), exact for these keys; -1 for a target that is zero itself, NaN for a level. alone: share of
    targets that can be kept with every other zeroed, for exp and sigmoid in the limit of a long query; NaN where no
    query does that (a soft cap, a polynomial without zeros).

    counts: numbers N of random keys; probability: the share of ``trials`` draws in which one was kept alone, with a
    95 % interval (low, high), and cover: C(N, n) / 2^N for a half-space. Keys drawn from a normal distribution, not the
    mixer's own. Empty where they do not apply.
    factors: on the norm of the queries, a bias inside phi left as it is; share: of the absolute mass of a row on its
        largest coefficient, the median over rows, (heads, factors). query_norm: median, (heads,).
    forgotten: share of the keys whose impulse is below 1e-6 of what entered, or whose exp of the bias inside phi is
        (the forgetting transformer, ALiBi): faded or erased, (heads,).
    """

    zeros: str | None
    keys: int
    outside: int
    directions: Tensor
    zeroable: Tensor
    zeroed: Tensor = field(repr=False)
    alone: Tensor
    counts: tuple[int, ...]
    trials: int
    probability: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    cover: tuple[float, ...]
    factors: tuple[float, ...]
    share: Tensor
    query_norm: Tensor
    forgotten: Tensor

    number: ClassVar[int] = 2
    title: ClassVar[str] = "Selectivity"
    headline: ClassVar[str] = "zeroable"
    wording: ClassVar[str] = "A nonlinear readout enables zeros, by its zero set."
    theorem: ClassVar[str] = (
        "A linear phi zeroes n - 1 keys in general position and keeps any other, and no more. relu zeroes half-spaces: "
        "of N random keys in general position, k and -k equally likely, it keeps one alone with probability C(N, n) / "
        "2^N, C Cover's count, one half at N = 2 n. exp zeroes none; with A_t = I its share of mass on one key goes to "
        "1 with the norm of a query in the interior of that key's normal cone, and such queries exist if and only if "
        "the key is a corner of the convex hull of the keys and not repeated. A closed gate in A_t erases what entered "
        "before it, for every query alike."
    )
    sources: ClassVar[tuple[str, ...]] = ("arXiv 2510.09389", "Cover 1965, doi:10.1109/PGEC.1965.264137")
    counterexamples: ClassVar[tuple[Counterexample, ...]] = (
        Counterexample(
            against="Only a nonlinear readout can set coefficients to zero.",
            shows="A linear phi on n = 4 numbers zeroes three keys and keeps the fourth: the query solves K q = e_4.",
            code="""\
import torch
from mixerlens import CoefficientDynamics

key = torch.randn(1, 4, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
query = torch.linalg.solve(key[0, :, 0], torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
row = CoefficientDynamics(query.expand(1, 4, 1, 4), key).operator().row(3)[0, 0]
assert float(row[:3].abs().max()) < 1e-12 and abs(float(row[3]) - 1) < 1e-12
""",
        ),
        Counterexample(
            against="A nonlinear readout can select any key.",
            shows="exp has no zero, and a key halfway between two others never gets more than the larger of them.",
            code="""\
import torch
from mixerlens import families

draw = torch.Generator().manual_seed(0)
key = torch.randn(1, 3, 1, 2, dtype=torch.float64, generator=draw)
key[:, 1] = (key[:, 0] + key[:, 2]) / 2
query = 5 * torch.randn(1000, 1, 1, 2, dtype=torch.float64, generator=draw).expand(-1, 3, -1, -1)
row = families.softmax_attention(query=query, key=key.expand(1000, -1, -1, -1)).operator().row(2)[:, 0]
assert bool((row > 0).all()) and bool((row[:, 1] <= row[:, [0, 2]].amax(-1) + 1e-15).all())
""",
        ),
        Counterexample(
            against="The zero set of relu lets a query keep any key alone.",
            shows="Whoever zeroes two keys zeroes their sum: no query keeps it alone.",
            code="""\
import torch
from mixerlens.principles import zeros

key = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
key[2] = key[0] + key[1]
found = [zeros.keeps_alone(key, target, "half-space", [j for j in range(3) if j != target]) for target in range(3)]
assert found == [True, True, False]
""",
        ),
    )
    labels: ClassVar[dict[str, str]] = {
        "zeros": "Where phi is zero: what a query must do to zero a key.",
        "directions": "Dimensions in which the queries tell these keys apart.",
        "zeroable": "Most keys that one query can zero while it keeps another.",
        "zeroed": "How many of the latest other keys can be zeroed while a target is kept, a target each.",
        "alone": "Share of the targets that can be kept alone.",
        "probability": "Share of draws of N normal keys, not this mixer's, in which one was kept alone.",
        "cover": "Cover's count for N keys over 2^N, for a half-space.",
        "share": "Median share of a row's mass on its largest coefficient, queries longer by each factor.",
        "query_norm": "Median norm of the queries.",
        "forgotten": "Share of keys whose impulse is below 1e-6 of what entered: faded or erased.",
    }
    units: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("keys", "outside", "zeroable", "zeroed", "counts"), "keys"),
        "directions": "dimensions",
        "alone": "share of targets",
        "probability": "share of draws",
        "cover": "probability",
        "share": "share of mass",
        "forgotten": "share of keys",
    }


def selectivity(
    mixer: Any,
    *,
    sequence: int = 0,
    longest: int = 256,
    targets: int = 4,
    trials: int = 64,
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
) -> SelectivityPrinciple:
    """Principle 2: zeros by linear algebra and cones, on the mixer's own keys and on random ones, and the share of mass
    on one key.

    longest: the latest keys looked at, at most three times the dimensions of a state. targets: keys to be kept, evenly
    spaced. trials: draws of random keys, by ``seed``. Needs scipy for relu and exp.

    Raises InputError for what is no mixer, a sequence that is not there, or counts below 1.
    """
    if targets < 1 or trials < 1 or longest < 1 or not factors:
        raise InputError("selectivity needs at least one target, one trial, one key and one factor")
    whole = one_run(mixer, sequence)
    d = last_tokens(whole, min(longest, max(16, 3 * whole.dim)))
    seen_here = columns(d, d.time - 1)
    u, entered = impulses(d)[:, seen_here], keys(d)[:, seen_here]
    count = len(seen_here)
    forgotten = _forgotten(d, u, entered)
    kind, rule = zero_set(d.readout), alone_rule(d.readout)
    if d.dtype.is_complex and kind != "hyperplane":
        kind = rule = None
    seen = [_seen(q, k, isinstance(d.readout, RealPart)) for q, k in zip(queries(whole), u, strict=True)]
    directions = torch.tensor([_rank(k) for k in seen])
    wanted = spaced(0, count, targets)
    zeroed = torch.full((d.heads, len(wanted)), torch.nan, dtype=torch.float64)
    alone = torch.full((d.heads,), torch.nan, dtype=torch.float64)
    if kind == "none":
        zeroed.zero_()
    for h, k in enumerate(seen):
        if rule is None:
            break
        found = _on_keys(k, rule, wanted)
        alone[h] = float((found == count - 1).double().mean())
        zeroed[h] = zeroed[h] if kind == "none" else found
    counts, hits = _random(kind, directions, trials, seed)
    bounds = [wilson(hit, trials) for hit in hits]
    share = _shares(whole, factors)
    zeroable = _zeroable(kind, directions, zeroed, count)
    return SelectivityPrinciple(
        zeros=kind,
        keys=count,
        outside=d.time - count,
        directions=directions,
        zeroable=zeroable,
        zeroed=zeroed,
        alone=alone,
        counts=counts,
        trials=trials,
        probability=tuple(hit / trials for hit in hits),
        low=tuple(low for low, _ in bounds),
        high=tuple(high for _, high in bounds),
        cover=tuple(cover_probability(n, int(directions.max())) for n in counts) if kind == "half-space" else (),
        factors=tuple(factors),
        share=share,
        query_norm=queries(whole).norm(dim=-1).median(-1).values,
        forgotten=forgotten,
        silent="" if kind else f"the zero set of {d.readout!r} is not known here",
        meaning=_meaning(kind, zeroable, count, factors, share, forgotten),
        conditions=_conditions(d, kind, directions, whole, count),
    )


def _seen(query: Tensor, key: Tensor, real_part: bool) -> Tensor:
    """What the span of the queries (time, dim) sees of keys (keys, dim): coordinates in a basis of that span."""
    if real_part and (query.is_complex() or key.is_complex()):
        query = torch.cat([query.real, query.imag], -1)  # Re q.k over the reals
        key = torch.cat([key.real, -key.imag], -1)
    _, values, basis = torch.linalg.svd(query, full_matrices=False)
    return key @ basis[values > SAME * values[0]].mT


def _rank(keys: Tensor) -> int:
    """Of the directions alone: a key that has faded is still a direction, one that is zero is none."""
    size = keys.norm(dim=-1, keepdim=True)
    values = torch.linalg.svdvals(keys / torch.where(size > 0, size, 1)) if keys.numel() else torch.zeros(1)
    return int((values > SAME * values[0]).sum()) if float(values[0]) > 0 else 0


def _on_keys(keys: Tensor, rule: Rule, wanted: list[int]) -> Tensor:
    """For each wanted target how many of the latest others leave it alone: (targets,); -1 where it is nothing itself.

    What takes a long query is asked for among all others at once, and has none otherwise.
    """
    found = []
    for target in wanted:
        order = [j for j in reversed(range(len(keys))) if j != target]
        if rule == "corner" or rule == "open":
            found.append(len(order) if keeps_alone(keys, target, rule, order) else 0)
        else:
            found.append(most_nearest(keys, target, rule, order) if keeps_alone(keys, target, rule, []) else -1)
    return torch.tensor(found, dtype=torch.float64)


def _forgotten(d: CoefficientDynamics, u: Tensor, entered: Tensor) -> Tensor:
    """Share of the impulses below 1e-6 of what entered; of a bias under exp it is the factor exp(bias) that counts."""
    size = entered.norm(dim=-1)
    gone = (u.norm(dim=-1) <= GONE * size) & (size > 0)
    if isinstance(d.evolution, Unipotent) and d.readout.exponential:
        bias = queries(d)[:, -1:, -2] * (u - entered)[..., -2]
        gone = gone | (d.readout.log(bias) <= math.log(GONE))
    return gone.double().mean(-1)


def _zeroable(kind: str | None, directions: Tensor, zeroed: Tensor, count: int) -> Tensor:
    if kind == "hyperplane":
        return (directions - 1).clamp(0, count - 1).double()
    if kind == "level":
        return directions.clamp(0, count - 1).double()
    if kind == "none":
        return torch.zeros(len(directions), dtype=torch.float64)
    return zeroed.amax(-1)


def _random(kind: str | None, directions: Tensor, trials: int, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    dim = int(directions.max())
    if kind not in ("hyperplane", "half-space") or dim < 1:
        return (), ()
    counts = tuple(sorted({dim, math.ceil(1.5 * dim), 2 * dim, math.ceil(2.5 * dim), 3 * dim}))
    return counts, random_keys(dim, kind, counts, trials, seed)


def _shares(d: CoefficientDynamics, factors: Sequence[float], rows: int = 32) -> Tensor:
    """Median over rows of max_j |alpha_ij| / sum_j |alpha_ij| with queries longer by each factor: (heads, factors).

    eta cancels, and so does a sink, which is no token. A bias inside phi does not grow with the query.
    """
    looked = spaced(d.time // 2, d.time, rows)
    z, mask = scores(d, looked)
    own = z
    if isinstance(d.evolution, Unipotent):
        query = d.query.clone()
        query[..., -2] = 0
        own = scores(replace(d, query=query), looked)[0]
    rest = z - own
    found = []
    for factor in factors:
        if d.readout.exponential:
            log = d.readout.log(factor * own + rest)
            log = torch.where(mask, log.real if log.is_complex() else log, -torch.inf)
            share = torch.exp(log.amax(-1) - log.logsumexp(-1))
        else:
            size = torch.where(mask, d.readout(torch.where(mask, factor * own + rest, 0)).abs(), 0)
            share = size.amax(-1) / size.sum(-1)
        found.append(share.nanmedian(-1).values)
    return torch.stack(found, -1)


def _conditions(
    d: CoefficientDynamics, kind: str | None, directions: Tensor, whole: CoefficientDynamics, count: int
) -> tuple[Condition, ...]:
    told = repr(d.readout)
    full = d.dim * (2 if isinstance(d.readout, RealPart) and d.dtype.is_complex else 1)
    return (
        Condition("phi is linear: n - 1 keys", d.readout.linear, told),
        Condition("phi has a zero", None if kind is None else kind != "none", WORDS.get(str(kind), told)),
        Condition(
            "queries and keys reach all dimensions",
            bool((directions == full).all()),
            f"{spread_text(directions)} of {full}, from {whole.time} queries and {count} keys",
        ),
        Condition("the model's queries can take the directions that are needed", None, "any query of their span"),
    )


def _meaning(
    kind: str | None, zeroable: Tensor, count: int, factors: Sequence[float], share: Tensor, forgotten: Tensor
) -> str:
    gates = f"{spread_text(100 * forgotten)} % of the last {count} keys seen have faded or been erased"
    if kind is None:
        return f"{gates}."
    general = " in general position" if kind in ("hyperplane", "level") else ""
    zeros = f"One query can zero {spread_text(zeroable)} of {count} keys{general} while it keeps another: {WORDS[kind]}"
    if bool(share.isnan().all()):
        return f"{zeros}; {gates}."
    first, last = (f"{spread_text(share[:, k])} for queries {factors[k]:g} times as long" for k in (0, -1))
    return f"{zeros}. Share of a row on its largest coefficient: {first}, {last}; {gates}."
