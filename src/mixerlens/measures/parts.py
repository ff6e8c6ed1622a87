"""Parts of a mixer: one sequence of a batch, the first tokens of a sequence, a few heads at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from mixerlens.composition import CoefficientSum
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError

T = TypeVar("T")


def dynamics_of(mixer: Any) -> CoefficientDynamics:
    """The dynamics of a recorded mixer call, or the dynamics given. Raises InputError for anything else."""
    found = mixer if isinstance(mixer, CoefficientDynamics | CoefficientSum) else getattr(mixer, "dynamics", None)
    if isinstance(found, CoefficientSum):
        raise InputError(
            "a measure takes one mixer, not a CoefficientSum: operator().state_rank() works on sums; measure its parts"
        )
    if not isinstance(found, CoefficientDynamics):
        raise InputError(
            f"a measure takes a mixer call of a trace or a CoefficientDynamics, not {type(mixer).__name__}"
        )
    return found.detach()


def one_sequence(dynamics: CoefficientDynamics, sequence: int = 0) -> CoefficientDynamics:
    """The mixer on one sequence of its batch; the batch axis stays, with size 1.

    Raises InputError for a sequence that is not there.
    """
    d = dynamics
    if not 0 <= sequence < d.batch:
        raise InputError(f"sequence {sequence} does not exist: the batch has sequences 0 .. {d.batch - 1}")
    if d.batch == 1:
        return d

    def cut(x: Tensor) -> Tensor:
        return x if x.shape[0] == 1 else x.narrow(0, sequence, 1)

    segments = d.support.segments
    return replace(
        d,
        query=cut(d.query),
        key=cut(d.key),
        evolution=d.evolution.map(cut),  # what is inside another evolution too
        scaling=None if d.scaling is None else cut(d.scaling),
        normalizer=_cut_tensors(d.normalizer, cut),
        support=d.support if segments is None else replace(d.support, segments=cut(segments)),
    )


def first_tokens(dynamics: CoefficientDynamics, count: int) -> CoefficientDynamics:
    """The causal mixer on the first ``count`` tokens: its coefficients are the leading block of the whole."""
    d = dynamics
    if not d.support.causal:
        raise InputError("the leading tokens of a bidirectional mixer are no mixer of their own")
    if not 1 <= count <= d.time:
        raise InputError(f"{count} tokens asked for: there are {d.time}")
    return d if count == d.time else d.select_tokens(0, count)


def head_groups(heads: int, numbers_per_head: int, most: int = 1 << 22) -> Iterator[list[int]]:
    """Heads in runs that together need at most about ``most`` numbers."""
    size = max(1, most // max(1, numbers_per_head))
    for start in range(0, heads, size):
        yield list(range(start, min(heads, start + size)))


def _cut_tensors(part: T, cut: Callable[[Tensor], Tensor]) -> T:
    """A normaliser with its (batch, time, heads, ...) tensors cut; vectors over heads stay."""
    assert is_dataclass(part) and not isinstance(part, type)
    tensors = {f.name: getattr(part, f.name) for f in fields(part)}
    return replace(part, **{name: cut(x) for name, x in tensors.items() if isinstance(x, Tensor) and x.dim() >= 3})
