"""Do the forms of a mixer agree? Chunked and token by token against dense, gradients too, in float64."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mixerlens.design.mixer import Mixer
from mixerlens.design.spec import MixerSpec
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.measures.record import Record

__all__ = ["BAR", "Forms", "forms"]

BAR = 1e-10
FEATURES = 16  # of a mixer that is built only to be checked
BATCH = 2
LENGTHS = (1, 2, 13, 70)  # and one past the chunk of the evolution; none a multiple of a chunk but the first two
FLOOR = 1e-4  # of the largest gradient: a parameter with less is compared with this


@dataclass(frozen=True, eq=False)
class Forms(Record):
    """How far the forms of one mixer are apart, float64, each error relative to the largest number of the dense form.

    lengths: tokens of each comparison. chunked, recurrent, gradient: an error for each length; recurrent is None where
    no finite recurrence exists, and ``refused`` then says why. bar: what is allowed.
    """

    name: str
    lengths: tuple[int, ...]
    chunked: tuple[float, ...]
    gradient: tuple[float, ...]
    recurrent: tuple[float, ...] | None
    refused: str | None
    bar: float = BAR

    labels: ClassVar[dict[str, str]] = {
        "chunked": "Largest difference of the chunked from the dense form, relative to the largest output.",
        "gradient": "The same of the gradients of a random functional, parameter by parameter and for the input.",
        "recurrent": "The same of the outputs token by token; null where there is no finite recurrence.",
        "refused": "Why there is no recurrent form.",
    }
    units: ClassVar[dict[str, str]] = {"lengths": "tokens"}

    @property
    def worst(self) -> float:
        """The largest of all errors."""
        every = (*self.chunked, *self.gradient, *(self.recurrent or ()))
        return math.nan if any(math.isnan(x) for x in every) else max(every)

    @property
    def agree(self) -> bool:
        """Whether every error is within the bar; NaN is not."""
        return self.worst <= self.bar

    def require(self) -> Forms:
        """This record. Raises UnsupportedError, with the errors, unless the forms agree."""
        if not self.agree:
            told = {"chunked": self.chunked, "gradient": self.gradient, "recurrent": self.recurrent or ()}
            worst = ", ".join(f"{name} {max(each):.1e}" for name, each in told.items() if each)
            raise UnsupportedError(
                f"{self.name}: its forms differ by more than {self.bar:.0e} in float64 ({worst}): an eta that crosses "
                "zero, or an evolution that grows, magnifies rounding"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        names = ("name", "lengths", "chunked", "gradient", "recurrent", "refused", "bar", "agree")
        return self._described({name: getattr(self, name) for name in names})


def forms(
    mixer: Mixer | MixerSpec,
    x: Float[Tensor, "batch time features"] | None = None,
    lengths: tuple[int, ...] | None = None,
) -> Forms:
    """Compare the forms of a mixer, or of one built from a specification, in float64.

    x: tokens, cut to each of the lengths; by default random ones. lengths: by default a few up to one past a chunk.
    Raises InputError for lengths that x does not have.
    """
    if isinstance(mixer, MixerSpec):
        mixer = Mixer(mixer, FEATURES, seed=0)
    double = copy.deepcopy(mixer).double()
    if lengths is None:
        lengths = _lengths(double) if x is None else (x.shape[1],)
    if x is None:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(BATCH, max(lengths), double.features, dtype=torch.float64, generator=generator)
    if not lengths or not all(0 < n <= x.shape[1] for n in lengths):
        raise InputError(f"lengths {lengths} must lie between 1 and the {x.shape[1]} tokens of x")
    x = x.detach().double()
    chunked, gradient, recurrent = [], [], []
    for n in lengths:
        dense = double.dense(x[:, :n]).detach()
        trained = double(x[:, :n]).detach()
        with torch.no_grad():  # where another algorithm may be the cheapest
            chunked.append(max(_error(trained, dense), _error(double(x[:, :n]), dense)))
        gradient.append(_gradient_error(double, x[:, :n]))
        if double.recurrent:
            recurrent.append(_error(token_by_token(double, x[:, :n]), dense))
    refused = None if double.recurrent else double.refusal()
    found = tuple(recurrent) if double.recurrent else None
    return Forms(double.spec.name, tuple(lengths), tuple(chunked), tuple(gradient), found, refused)


def token_by_token(mixer: Mixer, x: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
    """The recurrent form of a whole sequence."""
    state, rows = mixer.initial_state(x.shape[0]), []
    with torch.no_grad():
        for t in range(x.shape[1]):
            row, state = mixer.step(x[:, t], state)
            rows.append(row)
    return torch.stack(rows, 1)


def _lengths(mixer: Mixer) -> tuple[int, ...]:
    dynamics, _ = mixer.dynamics(torch.zeros(1, 1, mixer.features, dtype=torch.float64))
    chunk = max(d.evolution.chunk for d, _ in dynamics.terms) + 1
    longest = mixer.longest
    return tuple(sorted({n for n in (*LENGTHS, chunk) if longest is None or n <= longest}))


def _error(found: Tensor, wanted: Tensor) -> float:
    size = float(wanted.abs().max())
    error = float((found - wanted).abs().max())
    return math.inf if math.isnan(error) else error / (size or 1.0)


def _gradient_error(mixer: Mixer, x: Tensor) -> float:
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    x = x.clone().requires_grad_()
    leaves = [x, *(p for p in mixer.parameters() if p.requires_grad)]
    found, wanted = (
        torch.autograd.grad((form(x) * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
        for form in (mixer, mixer.dense)
    )
    floor = FLOOR * max(float(g.abs().max()) for g in wanted)
    errors = [float((a - b).abs().max()) / max(float(b.abs().max()), floor) for a, b in zip(found, wanted, strict=True)]
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)
