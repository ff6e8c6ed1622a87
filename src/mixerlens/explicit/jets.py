"""Homogeneous orders of a whole stack: f(reference + s u) = sum_p f_p s^p, and how far that series goes.

Each f_p gathers every path of degree p in u through all layers, gates and norms of an analytic model; nothing is
truncated but the series itself. Found by Taylor arithmetic in one pass (`jet_rules`), in float64.

The radius decides whether the orders mean anything at s = 1, so it stands beside them. It is found, not proved: the
later orders are fitted by a recurrence f_p = sum_i a_i f_{p-i} of four terms, least squares over all outputs, and its
largest root is one over the distance of the nearest singularity. For up to four poles that is exact, for the branch
point of a norm 2 % off at order 24, with a GELU behind it 10 %; for an entire stack it grows with the orders. Orders
that no such recurrence makes, those of 1 / (1 - s^6), which has six poles, take the smaller of it and of their plain
growth: the edge of the concave hull of log |f_p|, or |f_p|^(-1/p) where there is only one. A series about 0
through a LayerNorm or RMSNorm has its nearest singularity where the variance of s u is -eps: at about 1e-2 of an
ordinary input. Expand such a stack about a reference input. A GLU has the poles of its sigmoid: the trained digits
classifier, which has no norm, is a series in s < 0.15 about 0 and in s < 0.42 from one input to another.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ..errors import InputError, UnsupportedError
from ..measures.record import Record
from .jet_rules import Jet

__all__ = ["StackOrders", "radius_found", "stack_orders"]


_SINGULARITIES = 4  # a conjugate pair and its mirror image
_MISSED = 0.1  # of the later orders by the recurrence, above which it is not believed alone


@dataclass(frozen=True, eq=False)
class StackOrders(Record):
    """orders (order + 1, *output): f_p. radius: found from their growth. about: "0" or "a reference input".

    grown: Euclidean norms of all orders that were computed for the radius, at least up to 16.
    """

    orders: Float64[Tensor, "orders ..."] = field(repr=False)
    radius: float
    about: str
    grown: Float64[Tensor, " computed"] = field(repr=False)

    labels: ClassVar[dict[str, str]] = {
        "orders": "f_p: what is of degree p in the direction, through the whole stack.",
        "sizes": "Euclidean norm of each order.",
        "radius": "Radius of convergence in s, found from the growth of the orders, not proved; above 1 the infinite "
        "series sums to the output.",
        "left_out": "Estimate, not a bound, of the Euclidean norm of what the orders here leave out of the output at "
        "s = 1.",
        "about": "Where the stack is expanded.",
    }
    units: ClassVar[dict[str, str]] = {"radius": "multiples of the direction"}

    @property
    def sizes(self) -> Float64[Tensor, " orders"]:
        return self.orders.flatten(1).norm(dim=1)

    def at(self, s: float) -> Float64[Tensor, "*shape"]:
        """sum_p f_p s^p over the orders there are, in Horner's way; ``left_out`` says what that may lack.

        Raises UnsupportedError at or beyond the radius found.
        """
        if abs(s) >= self.radius:
            raise UnsupportedError(
                f"the series about {self.about} has radius {self.radius:.3g} (found, not proved): no sum at {s:g}; "
                "expand about a reference input, or keep the norms' scales as gates (the frozen account)"
            )
        total = torch.zeros_like(self.orders[0])
        for part in self.orders.flip(0):
            total = part + s * total
        return total

    def left_out(self, s: float) -> float:
        """Estimate, not a bound, of the Euclidean norm of sum_{p > order} f_p s^p; infinite from the radius found on.

        The orders computed beyond are added up, the rest goes on geometrically from the largest of the later ones.
        """
        ratio = abs(s) / self.radius  # 0 where the series ends
        if ratio >= 1:
            return math.inf
        p = torch.arange(len(self.grown), dtype=torch.float64)
        terms = torch.exp(self.grown.log() + p * math.log(abs(s))) if s else 0 * p
        later = len(p) // 2
        rest = terms[later:] * ratio ** (len(p) - p[later:])
        return float(terms[len(self.orders) :].sum() + rest.max() / (1 - ratio))

    def to_json(self) -> dict[str, Any]:
        return self._described(
            {
                "about": self.about,
                "radius": self.radius,
                "left_out": self.left_out(1.0),
                "sizes": self.sizes,
                "orders": self.orders,
            }
        )


@torch.no_grad()
def stack_orders(
    model: Callable[[Any], Any],
    direction: Float[Tensor, "*shape"],
    order: int = 12,
    reference: Float[Tensor, "*shape"] | None = None,
) -> StackOrders:
    """Orders 0 .. order of the model along a direction, about a reference input or 0.

    model: a module in float64, or a function of such modules, made of torch operations that have rules; S4D layers are
    carried as the linear maps they are. At least 16 orders are computed for the radius. Raises UnsupportedError, by
    name, for an operation without a rule or a model that is not float64, InputError for shapes that differ and numbers
    that are not finite.
    """
    start = torch.zeros_like(direction) if reference is None else reference
    if start.shape != direction.shape or order < 0:
        shapes = f"{tuple(start.shape)} and {tuple(direction.shape)}"
        raise InputError(f"reference and direction must have one shape and order be >= 0, not {shapes}, order {order}")
    if not bool(start.isfinite().all() and direction.isfinite().all()):
        raise InputError("the reference or the direction holds NaN or infinite numbers")
    count = max(order, 16) - 1
    zero = torch.zeros_like(start, dtype=torch.float64)
    with _linear_layers():
        out = model(Jet([start.double(), direction.double(), *[zero] * count]))
    if not isinstance(out, Jet):
        raise UnsupportedError(f"the model returns {type(out).__name__}, no series: its output must be one tensor")
    found = torch.stack(torch.broadcast_tensors(*out.parts))
    if not bool(found.isfinite().all()):
        raise UnsupportedError("the stack has no finite orders here: a singularity at the reference, or an overflow")
    about = "0" if reference is None else "a reference input"
    return StackOrders(found[: order + 1], radius_found(found), about, found.flatten(1).norm(dim=1))


def radius_found(orders: Float64[Tensor, "orders ..."]) -> float:
    """The radius of convergence that orders 0 .. P suggest; infinite only where all of the later two thirds are zero.

    Raises InputError for less than 8 orders above 0.
    """
    rows = orders.reshape(len(orders), -1)
    if len(rows) < 9:
        raise InputError(f"a radius needs orders up to 8 at least, not {len(rows) - 1}")
    first = len(rows) // 3
    rows = rows[first:]
    sizes = rows.norm(dim=1)
    there = sizes.nonzero()[:, 0]
    if not len(there):
        return math.inf
    p, logs = (there + first).double(), sizes[there].log()
    if len(there) == 1:
        return math.exp(-float(logs[0] / p[0]))
    # rows of about one size: the slope of log |f_p|
    slope = torch.linalg.lstsq(torch.stack([torch.ones_like(p), p], 1), logs[:, None]).solution[1, 0]
    rows = rows * torch.exp(-slope * torch.arange(len(rows), dtype=torch.float64))[:, None] / sizes[there[0]]
    largest, missed = _recurrence(rows)
    by_roots = math.exp(-float(slope)) / largest if largest > 0 else math.inf
    return by_roots if missed <= _MISSED else min(by_roots, math.exp(-_growth(p, logs)))


def _recurrence(rows: Tensor) -> tuple[float, float]:
    """The largest root of f_p = sum_i a_i f_{p - i}, and the share of the rows that it does not make."""
    terms = min(_SINGULARITIES, len(rows) // 2)
    earlier = torch.stack([rows[terms - i : len(rows) - i].flatten() for i in range(1, terms + 1)], 1)
    wanted = rows[terms:].flatten()
    # of the least solution, roots that belong to no singularity are the smaller ones
    a = torch.linalg.lstsq(earlier, wanted[:, None], driver="gelsd").solution[:, 0]
    companion = torch.diag(torch.ones(terms - 1, dtype=torch.float64), -1)
    companion[0] = a
    missed = float((earlier @ a - wanted).norm() / wanted.norm())  # NaN, so not believed, where all wanted are zero
    return float(torch.linalg.eigvals(companion).abs().max()), missed


def _growth(p: Tensor, logs: Tensor) -> float:
    """The slope of the concave hull of log |f_p| above the mean of the orders' range: gaps lie below it."""
    middle = float(p[0] + p[-1]) / 2
    left, right = p <= middle, p > middle
    slopes = (logs[right] - logs[left][:, None]) / (p[right] - p[left][:, None])
    heights = logs[left][:, None] + slopes * (middle - p[left][:, None])
    return float(slopes.flatten()[heights.argmax()])


@contextlib.contextmanager
def _linear_layers() -> Iterator[None]:
    """S4D is linear in its input: while this lasts it runs once on all orders, side by side in the batch.

    The hooks are those of all modules, for the model may be a function; they leave what is no series alone.
    """
    from ..models.s4d_layer import S4D

    counts: dict[int, int] = {}  # by the folded tensor

    def fold(module: nn.Module, args: tuple[Any, ...]) -> Any:
        if not args or not isinstance(args[0], Jet):
            return None
        if any(weight.dtype != torch.float64 for weight in module.parameters()):
            raise UnsupportedError("orders are differences of products: give the model in float64, as model.double()")
        if not isinstance(module, S4D):
            return None
        folded = torch.cat(args[0].parts)
        counts[id(folded)] = len(args[0].parts)
        return (folded, *args[1:])

    def spread(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> Any:
        count = counts.pop(id(args[0]), 0) if args else 0
        return Jet(list(out.chunk(count))) if count else None

    hooks = [register_module_forward_pre_hook(fold), register_module_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
