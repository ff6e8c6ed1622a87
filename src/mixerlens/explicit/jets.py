"""Homogeneous orders of a whole stack: f(reference + s u) = sum_p f_p s^p, and how far that series goes.

Each f_p gathers every path of degree p in u through all layers, gates and norms of an analytic model; nothing is
truncated but the series itself. Found by Taylor arithmetic in one pass (`jet_rules`), in float64.

The radius decides whether the orders mean anything at s = 1, so it stands beside them. It is found, not proved: the
later orders are fitted by a recurrence f_p = sum_i a_i f_{p-i} of four terms, least squares over all outputs, and its
largest root is one over the distance of the nearest singularity. For poles that is exact, for the branch point of a
norm 2 % off at order 24, with a GELU behind it 10 %; for an entire stack it grows with the orders. A series about 0
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

from ..errors import InputError, UnsupportedError
from ..measures.record import Record
from .jet_rules import Jet

__all__ = ["StackOrders", "radius_found", "stack_orders"]


_SINGULARITIES = 4  # a conjugate pair and its mirror image


@dataclass(frozen=True, eq=False)
class StackOrders(Record):
    """orders (order + 1, *output): f_p. radius: found from their growth. about: "0" or "a reference input"."""

    orders: Float64[Tensor, "orders ..."] = field(repr=False)
    radius: float
    about: str

    labels: ClassVar[dict[str, str]] = {
        "orders": "f_p: what is of degree p in the direction, through the whole stack.",
        "sizes": "Euclidean norm of each order.",
        "radius": "Radius of convergence in s, found from the growth of the orders, not proved; above 1 the orders sum "
        "to the output.",
        "about": "Where the stack is expanded.",
    }
    units: ClassVar[dict[str, str]] = {"radius": "multiples of the direction"}

    @property
    def sizes(self) -> Float64[Tensor, " orders"]:
        return self.orders.flatten(1).norm(dim=1)

    def at(self, s: float) -> Float64[Tensor, "*shape"]:
        """sum_p f_p s^p, in Horner's way. Raises UnsupportedError at or beyond the radius found."""
        if abs(s) >= self.radius:
            raise UnsupportedError(
                f"the series about {self.about} has radius {self.radius:.3g} (found), so it has no sum at {s:g}: "
                "expand about a reference input, or keep the norms' scales as gates (the frozen account)"
            )
        total = torch.zeros_like(self.orders[0])
        for part in self.orders.flip(0):
            total = part + s * total
        return total

    def to_json(self) -> dict[str, Any]:
        numbers = {"about": self.about, "radius": self.radius, "sizes": self.sizes, "orders": self.orders}
        return self._described(numbers)


@torch.no_grad()
def stack_orders(
    model: Callable[[Any], Any],
    direction: Float[Tensor, "*shape"],
    order: int = 12,
    reference: Float[Tensor, "*shape"] | None = None,
) -> StackOrders:
    """Orders 0 .. order of the model along a direction, about a reference input or 0.

    model: float64, made of torch operations that have rules; S4D layers are carried as the linear maps they are. At
    least 16 orders are computed for the radius. Raises UnsupportedError, by name, for an operation without a rule or a
    model that is not float64, InputError for shapes that differ and numbers that are not finite.
    """
    start = torch.zeros_like(direction) if reference is None else reference
    if start.shape != direction.shape or order < 0:
        shapes = f"{tuple(start.shape)} and {tuple(direction.shape)}"
        raise InputError(f"reference and direction must have one shape and order be >= 0, not {shapes}, order {order}")
    if not bool(start.isfinite().all() and direction.isfinite().all()):
        raise InputError("the reference or the direction holds NaN or infinite numbers")
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    if any(weight.dtype != torch.float64 for weight in weights):
        raise UnsupportedError("orders are differences of products: give the model in float64, as model.double()")
    count = max(order, 16) - 1
    zero = torch.zeros_like(start, dtype=torch.float64)
    with _linear_layers(model):
        out = model(Jet([start.double(), direction.double(), *[zero] * count]))
    if not isinstance(out, Jet):
        raise UnsupportedError(f"the model returns {type(out).__name__}, no series: its output must be one tensor")
    found = torch.stack(torch.broadcast_tensors(*out.parts))
    if not bool(found.isfinite().all()):
        raise UnsupportedError("the stack has no finite orders here: a singularity at the reference, or an overflow")
    about = "0" if reference is None else "a reference input"
    return StackOrders(found[: order + 1], radius_found(found), about)


def radius_found(orders: Float64[Tensor, "orders ..."]) -> float:
    """The radius of convergence that orders 0 .. P suggest; infinite where the later ones are zero.

    Raises InputError for less than 8 orders above 0.
    """
    rows = orders.reshape(len(orders), -1)
    if len(rows) < 9:
        raise InputError(f"a radius needs orders up to 8 at least, not {len(rows) - 1}")
    first = len(rows) // 3
    rows = rows[first:]
    sizes, p = rows.norm(dim=1), torch.arange(len(rows), dtype=torch.float64)
    if int((sizes > 0).sum()) < 2:
        return math.inf
    # rows of about one size: the slope of log |f_p|
    line = torch.stack([torch.ones_like(p), p], 1)[sizes > 0]
    slope = torch.linalg.lstsq(line, sizes[sizes > 0].log()[:, None]).solution[1, 0]
    rows = rows * torch.exp(-slope * p)[:, None] / sizes[sizes > 0][0]
    # f_p = sum_i a_i f_{p - i}; of the least solution, roots that belong to no singularity are the smaller ones
    terms = min(_SINGULARITIES, len(rows) // 2)
    earlier = torch.stack([rows[terms - i : len(rows) - i].flatten() for i in range(1, terms + 1)], 1)
    wanted = rows[terms:].flatten()
    a = torch.linalg.lstsq(earlier, wanted[:, None], driver="gelsd").solution[:, 0]
    companion = torch.diag(torch.ones(terms - 1, dtype=torch.float64), -1)
    companion[0] = a
    largest = float(torch.linalg.eigvals(companion).abs().max())
    return math.exp(-float(slope)) / largest if largest > 0 else math.inf


@contextlib.contextmanager
def _linear_layers(model: Any) -> Iterator[None]:
    """S4D is linear in its input: while this lasts it runs once on all orders, side by side in the batch."""
    from ..models.s4d_layer import S4D

    counts: list[int] = []

    def fold(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        counts.append(len(args[0].parts) if isinstance(args[0], Jet) else 0)
        return (torch.cat(args[0].parts), *args[1:]) if counts[-1] else None

    def spread(_: nn.Module, __: Any, out: Tensor) -> Any:
        count = counts.pop()
        return Jet(list(out.chunk(count))) if count else None

    layers = [layer for layer in model.modules() if isinstance(layer, S4D)] if isinstance(model, nn.Module) else []
    hooks = [hook for layer in layers for hook in _hooks(layer, fold, spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hooks(layer: nn.Module, before: Any, after: Any) -> tuple[Any, Any]:
    return layer.register_forward_pre_hook(before), layer.register_forward_hook(after)
