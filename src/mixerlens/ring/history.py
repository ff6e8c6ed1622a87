"""What a ring still knows of its inputs: each of the last tokens, read back from the nodes of one moment.

The state after token t is x = sum_l m_l u_{t-l} with m_l = Lambda^l b. For white inputs over a window of W tokens the
best linear reading of u_{t-l} is a row of the pseudoinverse of M = (m_0, ..., m_{W-1}), and its error, as a share of
the input's variance, is 1 - P_ll, P the projector on M's rows: 0 where the token is known exactly, 1 where nothing is
left. The nodes are a unitary change of the modes, so the numbers are the ring's; a complex ring of N nodes that is
driven by real numbers has 2 N real ones. sum_l P_ll is the number of tokens it can hold, at most 2 N.

That is what any reading could do. The wave picture says more: the token of lag l stands where the impulse response has
its peak after l tokens. `at_node` is the error of reading that one node, scaled as is best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.measures.record import Record
from mixerlens.operator.memory import require
from mixerlens.ring.network import RingNetwork

__all__ = ["History", "history"]


@dataclass(frozen=True, eq=False)
class History(Record):
    """Errors are shares of the input's variance, one a lag, (lags, rings).

    linear: of the best reading of all nodes. at_node: of the one node where the impulse of that lag has its peak.
    node: that node. capacity: tokens held in all, sum of 1 - linear, (rings,). window: tokens the inputs reach back.
    """

    linear: Float[Tensor, "lags rings"]
    at_node: Float[Tensor, "lags rings"]
    node: Int[Tensor, "lags rings"]
    capacity: Float[Tensor, " rings"]
    window: int
    nodes: int

    labels: ClassVar[dict[str, str]] = {
        "linear": "Error of the best linear reading of a past token from all nodes, by lag; 0 exact, 1 lost.",
        "at_node": "Error of reading it at the node where its wave stands.",
        "node": "That node.",
        "capacity": "Tokens the state holds in all: the sum over lags of 1 - error.",
        "window": "How far back the white inputs reach.",
        "nodes": "Complex nodes; as many real numbers again.",
    }
    units: ClassVar[dict[str, str]] = {
        "linear": "share of the input's variance", "at_node": "share of the input's variance",
        "capacity": "tokens", "window": "tokens",
    }  # fmt: skip

    def to_json(self, curves: bool = True) -> dict[str, Any]:
        """curves: the errors of every lag too; without them one number a ring."""
        names = ("linear", "at_node", "node") * curves + ("capacity", "window", "nodes")
        return self._described({name: getattr(self, name) for name in names})


def history(ring: RingNetwork, window: int, *, rtol: float = 1e-12) -> History:
    """How well each of the last ``window`` tokens is known from the nodes after the last one, for white real inputs.

    rtol: singular values of the impulse response below this share of the largest count as zero: what float64 cannot
    tell from nothing, no reading can use.

    Raises InputError for a window below 1, UnsupportedError for a network that changes with the token or has several
    inputs, MemoryBudgetError where window x nodes numbers a ring do not fit.
    """
    if window < 1:
        raise InputError(f"window is {window}: it must be at least 1 token")
    if not ring.constant or ring.inputs > 1:
        raise UnsupportedError("the history is read from a constant network with one input a ring")
    require(
        "the impulse response", 4, window, ring.rings, ring.nodes, dtype=torch.complex128, instead="a shorter window"
    )
    response = ring.impulse_response(window)  # m_l in the nodes, (window, rings, nodes)
    M = torch.view_as_real(response).flatten(-2).transpose(0, 1)  # (rings, window, 2 nodes)
    U, sizes, _ = torch.linalg.svd(M, full_matrices=False)
    kept = (sizes > rtol * sizes[:, :1]).to(M.dtype)
    known = ((U * kept[:, None]).square()).sum(-1).mT.clamp(max=1)
    node = response.abs().argmax(-1)
    return History(
        linear=1 - known,
        at_node=_at_node(response, node),
        node=node,
        capacity=known.sum(0),
        window=window,
        nodes=ring.nodes,
    )


def _at_node(response: Tensor, node: Tensor) -> Tensor:
    """Error of the best reading of u_l from the two real numbers of one node, whose variance is all lags' together."""
    errors = []
    for ring in range(response.shape[1]):
        pair = torch.view_as_real(response[:, ring])  # (window, nodes, 2)
        covariance = torch.einsum("lni,lnj->nij", pair, pair)
        heard = pair.gather(1, node[:, ring, None, None].expand(-1, 1, 2))[:, 0]
        solved = torch.linalg.pinv(covariance, hermitian=True)[node[:, ring]] @ heard[..., None]
        errors.append(1 - (heard * solved[..., 0]).sum(-1))
    return torch.stack(errors, -1).clamp(0, 1)
