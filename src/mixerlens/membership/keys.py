"""What a coefficient may know of other tokens' keys: which coefficients move when the key of a third token changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.membership.probe import Probe
from mixerlens.membership.record import Finding

CHANGED = 4  # third tokens whose key is changed
STEPS = 40  # halvings: the jump is looked for between keys that agree to twelve digits
SEEN = 1e-3  # part of a row's largest coefficient from which on a jump counts


@dataclass(frozen=True)
class Flip:
    """A coefficient alpha[batch, head, row, column] that key ``third`` := key ``source`` turns to or from zero."""

    third: int
    source: int
    batch: int
    head: int
    row: int
    column: int
    size: float


@dataclass(frozen=True)
class ThirdKeys:
    """What changing the key of one token m at a time does to coefficients alpha_ij with i, j != m.

    future: to rows before m, relative. earlier: to the direction of (alpha_ij)_j over the columns that the equation
    keeps apart from m: those after m for a causal mixer, all for one that sees both ways. other: to that over all
    columns, m left out. flip: the largest coefficient among the former that turned to or from zero.
    """

    changed: tuple[int, ...]
    future: float
    earlier: float
    other: float
    flip: Flip | None


def causal(probe: Probe, alpha: Tensor) -> Finding:
    """Whether alpha_ij = 0 for j > i: "holds", or "note" if the mixer sees both ways."""
    above = float(alpha.triu(1).abs().max())
    size = max(float(alpha.abs().max()), torch.finfo(torch.float64).tiny)
    none = above <= probe.exact * size
    told = "no coefficient above the diagonal" if none else "later tokens are read: only A_t = I fits such a support"
    bar = f"causal <= {probe.exact:.0e}"
    return Finding("causal", "holds" if none else "note", told, {"above the diagonal": above / size}, bar)


def third_keys(probe: Probe, alpha: Tensor, is_causal: bool) -> ThirdKeys:
    """Change the key of a few tokens, one at a time, to that of another token, and look at the others' coefficients.

    Half of them are the tokens with most mass, which become some other token; the rest become the heaviest token.
    """
    time = probe.time
    mass = alpha.abs().sum((0, 1, 2))
    inside = [m for m in probe.tokens(time) if not is_causal or 0 < m < time - 3]
    heavy = sorted(inside, key=lambda m: -float(mass[m]))[: CHANGED // 2]
    changes = [(m, next(t for t in probe.tokens(2) if t != m)) for m in heavy]
    changes += [(m, heavy[0]) for m in inside if m not in heavy][: CHANGED - CHANGED // 2]
    future = earlier = other = 0.0
    flip = None
    for m, source in changes:
        moved = probe.coefficients(key=_changed(probe, m, source, 1.0))
        moved = moved.tril() if is_causal else moved
        apart = torch.arange(time) != m
        later = torch.arange(time) > m if is_causal else apart
        if is_causal and m:
            size = alpha[:, :, :m].abs().max()
            future = max(future, float((moved - alpha)[:, :, :m].abs().max() / size) if size > 0 else 0.0)
        rows = later  # row m may know its own key
        earlier = max(earlier, turned(alpha[:, :, rows][..., later], moved[:, :, rows][..., later]))
        other = max(other, turned(alpha[:, :, rows][..., apart], moved[:, :, rows][..., apart]))
        flip = _larger(flip, _flipped(alpha, moved, rows, later, m, source))
    return ThirdKeys(tuple(m for m, _ in changes), future, earlier, other, flip)


def _changed(probe: Probe, m: int, source: int, share: float) -> Tensor:
    key = probe.key.clone()
    key[:, m] = key[:, m] + share * (key[:, source] - key[:, m]) if share < 1 else key[:, source]
    return key


def turned(before: Tensor, after: Tensor) -> float:
    """How far the rows of ``after`` are from multiples of those of ``before``, relative; the worst row.

    A row a thousand times smaller than the largest counts as that: its rounding may be that of larger ones.
    """
    norm = (before.abs() ** 2).sum(-1, keepdim=True)
    factor = (before.conj() * after).sum(-1, keepdim=True) / torch.where(norm > 0, norm, 1.0)
    off = torch.linalg.vector_norm(after - factor * before, dim=-1)
    size = torch.linalg.vector_norm(after, dim=-1)
    size = torch.maximum(size, 1e-3 * size.amax(-1, keepdim=True))
    return float(torch.where(size > 0, off / torch.where(size > 0, size, 1.0), 0.0).max())


def _flipped(before: Tensor, after: Tensor, rows: Tensor, columns: Tensor, m: int, source: int) -> Flip | None:
    """The largest coefficient that is zero on one side only, relative to its row."""
    largest = torch.maximum(before.abs(), after.abs())
    share = largest / largest.amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    found = ((before == 0) != (after == 0)) & rows[:, None] & columns[None, :]
    share = torch.where(found, share, 0.0)
    best = int(share.argmax())
    size = float(share.flatten()[best])
    if size < SEEN:
        return None
    b, h, i, j = (int(x) for x in torch.unravel_index(torch.tensor(best), share.shape))
    return Flip(m, source, b, h, i, j, size)


def _larger(a: Flip | None, b: Flip | None) -> Flip | None:
    return max((f for f in (a, b) if f is not None), key=lambda f: f.size, default=None)


def past(probe: Probe, keys: ThirdKeys, is_causal: bool) -> Finding:
    """alpha_ij / alpha_il may depend on the tokens from min(j, l) to i only (both ways: on i, j, l only).

    A violation is no proof against: a short convolution of the keys or a query that reads the past, inside the mixer,
    does the same; taken outside they leave a member.
    """
    which = "keys before both" if is_causal else "other keys"
    held = keys.earlier <= probe.exact
    told = f"alpha_ij / alpha_il does not depend on {which}"
    if not held:
        told = (
            f"alpha_ij / alpha_il depends on {which}: q, k or A_t read the past inside the mixer (a convolution of "
            "the keys, a chained system) or it is no member"
        )
    numbers = {"turn of the rows": keys.earlier}
    if is_causal:
        numbers["change of earlier rows"] = keys.future
        if keys.future > probe.exact:
            told += "; earlier rows change too: keys of later tokens are read"
    given = f"the key of token {', '.join(map(str, sorted(keys.changed)))} replaced, one at a time"
    return Finding("third key", "holds" if held else "note", told, numbers, f"<= {probe.exact:.0e}", given)


def support(probe: Probe, keys: ThirdKeys) -> Finding:
    """Whether zeros of alpha_ij stay where they are when the key of a third token changes. A jump refutes.

    The support of a member is fixed by positions and segments, and phi(q_i^T u_ij) does not depend on a key before j.
    A coefficient that such a key switches between zero and a finite value, by a jump and not through small values, is
    a support that the data chooses.
    """
    flip = keys.flip
    given = f"the key of token {', '.join(map(str, sorted(keys.changed)))} replaced, one at a time"
    if flip is None:
        return Finding("support", "holds", "no coefficient is switched on or off by a third key", inputs=given)
    low, high = 0.0, 1.0  # alpha_ij is zero at one end and not at the other

    def one(share: float) -> Tensor:
        column = probe.coefficients([flip.column], key=_changed(probe, flip.third, flip.source, share))
        return column[flip.batch, flip.head, flip.row, 0]

    zero_low = bool(one(low) == 0)
    for _ in range(STEPS):
        middle = (low + high) / 2
        here = one(middle)
        low, high = (middle, high) if bool(here == 0) == zero_low else (low, middle)
    largest = float(probe.coefficients()[flip.batch, flip.head, flip.row].abs().max())
    jump = float((one(high) - one(low)).abs()) / largest
    told = f"alpha[{flip.row}, {flip.column}] is switched by the key of token {flip.third}"
    numbers = {"jump": jump, "between keys apart by": high - low}
    given = f"token {flip.third}'s key moved towards token {flip.source}'s, head {flip.head}"
    bar = f"a jump > {SEEN:g} of the row's largest coefficient refutes"
    if jump > SEEN:
        told += ", at a jump: the data chooses the support"
        return Finding("support", "refutes", told, numbers, bar, given)
    return Finding("support", "note", told + ", but passes through small values", numbers, bar, given)
