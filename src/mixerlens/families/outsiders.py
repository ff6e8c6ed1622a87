"""Mixers that are not coefficient dynamics: asking for one raises an error that carries a measured witness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch
from torch import Tensor

from mixerlens.errors import NonMemberError

if TYPE_CHECKING:
    from mixerlens.membership import Finding

__all__ = [
    "OUTSIDERS",
    "Outsider",
    "gru",
    "lstm",
    "slstm",
    "stick_breaking_attention",
    "top_k_attention",
    "ttt_layer_norm",
    "ttt_mlp",
]

TIME, HEADS, DIM = 10, 1, 8  # of the examples: the ridge test needs more than seven numbers a query

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Outsider:
    """A named mixer outside the family.

    name: of the function here and of its plain float64 form in `mixerlens.references.outsiders`. title: as the
    literature writes it. example: gates and weights from seeded normal numbers (a function of shapes). kind: the test
    of `mixerlens.membership` that refutes it. source: where the definition stands. note: why it is no member.
    """

    name: str
    title: str
    example: Callable[[Callable[..., Tensor]], Arguments]
    kind: Literal["linear", "ridge", "support"]
    source: str
    note: str

    @property
    def reference(self) -> Callable[..., Tensor]:
        """The mixer itself: (query, key, value, **arguments) -> y (batch, time, heads, value_dim), float64."""
        from mixerlens.references import outsiders

        return getattr(outsiders, self.name)

    def arguments(self, seed: int = 0) -> Arguments:
        """query, key and value (1, 10, 1, 8), normal and seeded, with the gates and weights that belong to them."""
        normal = partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        given = {name: normal(1, TIME, HEADS, DIM) for name in ("query", "key", "value")}
        return given | self.example(normal)

    def witness(self, seed: int = 0) -> Finding:
        """Measure, now, what shows that this is no member. Raises RuntimeError if it does not show."""
        from mixerlens.membership.decide import witness

        given = self.arguments(seed)
        width = given.pop("value").shape[-1]
        found = witness(self.kind, self.reference, given.pop("query"), given.pop("key"), value_dim=width, **given)
        if found.outcome != "refutes":
            raise RuntimeError(f"the {self.kind} test does not refute {self.name} (seed {seed}): {found}")
        return found

    def refuse(self) -> NoReturn:
        """Raise NonMemberError with a witness measured on the example."""
        found = self.witness()
        shape = f"{TIME} tokens of dimension {DIM}"
        raise NonMemberError(
            f"{self.title} is not a member: {found} on a seeded example of {shape}; "
            f"mixerlens.references.outsiders.{self.name} computes it",
            found,
        )


def _weights(count: int) -> Callable[[Callable[..., Tensor]], Tensor]:
    """Recurrent matrices of a spectral radius near one."""
    return lambda normal: normal(count, HEADS, DIM, DIM) / DIM**0.5


def _ttt(normal: Callable[..., Tensor]) -> Arguments:
    return {"weight": normal(HEADS, DIM, DIM) / DIM**0.5, "rate": torch.full((1, TIME, HEADS), 0.1).double()}


def _ttt_mlp(normal: Callable[..., Tensor]) -> Arguments:
    hidden = 4 * DIM
    first, second = normal(HEADS, hidden, DIM) / DIM**0.5, normal(HEADS, DIM, hidden) / hidden**0.5
    return {"first": first, "second": second, "rate": torch.full((1, TIME, HEADS), 0.1).double()}


def _gated(normal: Callable[..., Tensor]) -> Arguments:
    return {"forget": 1 + normal(1, TIME, HEADS, DIM), "recurrent": _weights(4)(normal)}


OUTSIDERS: tuple[Outsider, ...] = (
    Outsider(
        "stick_breaking_attention",
        "stick-breaking attention",
        lambda normal: {},
        "ridge",
        "arXiv 2410.17980",
        "alpha_ij contains the score of every key between j and i, so no phi(q_i^T u_ij) gives it",
    ),
    Outsider(
        "top_k_attention",
        "softmax attention with a top-k mask",
        lambda normal: {"keep": 4},
        "support",
        "arXiv 1912.11637",
        "which keys a row sees is chosen by all its scores; linear in v once the mask is fixed",
    ),
    Outsider(
        "ttt_layer_norm",
        "test-time training with a linear memory and layer norm",
        _ttt,
        "linear",
        "arXiv 2407.04620",
        "the memory is trained through a layer norm: not linear in v (without the norm it is DeltaNet)",
    ),
    Outsider(
        "ttt_mlp",
        "test-time training with an MLP memory",
        _ttt_mlp,
        "linear",
        "arXiv 2407.04620",
        "the memory is an MLP: not linear in v",
    ),
    Outsider(
        "lstm",
        "LSTM",
        _gated,
        "linear",
        "Hochreiter and Schmidhuber 1997",
        "gates and cell read the last output: not linear in v; the value is the input of the cell",
    ),
    Outsider(
        "gru",
        "GRU",
        lambda normal: {"recurrent": _weights(3)(normal)},
        "linear",
        "arXiv 1406.1078",
        "gates and candidate read the last output: not linear in v; the value is the input of the candidate",
    ),
    Outsider(
        "slstm",
        "sLSTM with recurrent mixing",
        _gated,
        "linear",
        "arXiv 2405.04517",
        "gates and cell read the last output: not linear in v; the value is the input of the cell",
    ),
)

_BY_NAME = {outsider.name: outsider for outsider in OUTSIDERS}


def stick_breaking_attention(*arguments: Any, **named: Any) -> NoReturn:
    """Not a member: raises NonMemberError, witness the ridge test. Source: arXiv 2410.17980."""
    _BY_NAME["stick_breaking_attention"].refuse()


def top_k_attention(*arguments: Any, **named: Any) -> NoReturn:
    """Not a member: raises NonMemberError, witness a support that the data chooses. Source: arXiv 1912.11637."""
    _BY_NAME["top_k_attention"].refuse()


def ttt_layer_norm(*arguments: Any, **named: Any) -> NoReturn:
    """TTT-Linear with layer norm, not a member: raises NonMemberError, not linear in v. Source: arXiv 2407.04620."""
    _BY_NAME["ttt_layer_norm"].refuse()


def ttt_mlp(*arguments: Any, **named: Any) -> NoReturn:
    """Not a member: raises NonMemberError, not linear in v. Source: arXiv 2407.04620."""
    _BY_NAME["ttt_mlp"].refuse()


def lstm(*arguments: Any, **named: Any) -> NoReturn:
    """Not a member: raises NonMemberError, not linear in v. Source: Hochreiter and Schmidhuber 1997."""
    _BY_NAME["lstm"].refuse()


def gru(*arguments: Any, **named: Any) -> NoReturn:
    """Not a member: raises NonMemberError, not linear in v. Source: arXiv 1406.1078."""
    _BY_NAME["gru"].refuse()


def slstm(*arguments: Any, **named: Any) -> NoReturn:
    """With recurrent mixing not a member: raises NonMemberError, not linear in v. Source: arXiv 2405.04517."""
    _BY_NAME["slstm"].refuse()
