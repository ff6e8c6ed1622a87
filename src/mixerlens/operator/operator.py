"""The coefficients of one mixer: with the state that its recurrence carries, where there is one."""

from __future__ import annotations

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.normalizer import RowSum
from mixerlens.operator import apply as algorithms
from mixerlens.operator import scan
from mixerlens.operator.coefficients import Coefficients
from mixerlens.readout import Polynomial, RealPart


class CoefficientOperator(Coefficients):
    """alpha of one mixer as an operator on values, and its state between tokens."""

    dynamics: CoefficientDynamics

    def apply(
        self,
        values: Inexact[Tensor, "batch time kv_heads value"],
        initial_state: Inexact[Tensor, "batch heads dim value"] | None = None,
        return_state: bool = False,
    ) -> (
        Inexact[Tensor, "batch time heads value"]
        | tuple[Inexact[Tensor, "batch time heads value"], Inexact[Tensor, "batch heads dim value"]]
    ):
        """alpha @ values, starting from a state and handing one back: continue a sequence where it was cut.

        initial_state and the returned state: (batch, heads, dim, value_dim), S = sum_j u_j v_j^T after the last
        token, which is the state of that token's segment; an initial state belongs to the first token's segment, so a
        cut between two segments hands over nothing. A row-sum normaliser carries sum_j u_j as well, as one more column:
        (batch, heads, dim, value_dim + 1). Raises UnsupportedError where no such state exists.
        """
        self._forward_only("apply")
        if initial_state is None and not return_state:
            return self @ values
        d = self.dynamics
        self._require_state("apply with a state")
        tiles, summed = self._tiles(values), isinstance(d.normalizer, RowSum)
        if summed:
            tiles = torch.cat([tiles, torch.ones_like(tiles[..., :1])], -1)
        wanted = (max(d.batch, tiles.shape[0]), d.heads, d.dim, tiles.shape[-1])
        if initial_state is not None:
            if not isinstance(initial_state, Tensor):
                raise InputError(f"initial_state is a {type(initial_state).__name__}: give a torch.Tensor")
            if tuple(initial_state.shape) != wanted:
                raise InputError(f"initial_state is {tuple(initial_state.shape)}, this mixer's state is {wanted}")
            if tiles.is_complex() and isinstance(d.readout, RealPart):
                raise UnsupportedError("complex values with a real-part readout have two states: apply to each part")
        y, state = scan.numerators(d, tiles, initial_state)
        y = y[..., :-1] / algorithms.eta_of(d, y[..., -1:]) if summed else y / algorithms.normalizer_rows(d)
        y = y.transpose(1, 2)
        return (y, state) if return_state else y

    def state_at(
        self, t: int, values: Inexact[Tensor, "batch time kv_heads value"]
    ) -> Inexact[Tensor, "batch heads dim value"]:
        """S_t = sum_{j <= t} u_{t,j} v_j^T after token t: (batch, heads, dim, value_dim).

        Raises UnsupportedError for a readout without finite state.
        """
        self._forward_only("state_at")
        self._require_state("state_at")
        if not 0 <= t < self.dynamics.time:
            raise InputError(f"token {t} does not exist: the sequence has tokens 0 .. {self.dynamics.time - 1}")
        return scan.state_after(self.dynamics, self._tiles(values), t)

    def _require_state(self, what: str) -> None:
        d = self.dynamics
        if isinstance(d.readout, Polynomial):
            raise UnsupportedError(
                f"{what}: a polynomial readout has a finite state only after lifting queries and keys to symmetric "
                "powers; its state is not dim x value_dim"
            )
        if not d.readout.linear:
            raise UnsupportedError(f"{what}: readout {d.readout} has no finite state; it would grow with the sequence")
        if not d.support.recurrent:
            raise UnsupportedError(f"{what}: the support {d.support} has no state of dim x value_dim")
