"""Delta rules and S4 on a ring: free waves, and what a scatterer makes of them, once, twice, and so on.

z_t = (K_t + left_t right_t^T) z_{t-1} + inject u_t. With z^(0) the free network and

    z^(p)_t = K_t z^(p)_{t-1} + left_t right_t^T z^(p-1)_{t-1}

the p-th term has been scattered p times, and their sum is z. An impulse of token j meets T - 1 - j scatterers at most:
the series ends by itself, with no condition on its size. Where keys are erased strongly its terms grow and cancel: they
show what happens, while the layer itself is computed by triangular solves.
"""

from __future__ import annotations

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.ring.network import RingNetwork, to_modes, to_nodes
from mixerlens.shapes import at

__all__ = ["scattering_series"]


def scattering_series(
    ring: RingNetwork, u: Inexact[Tensor, "batch time rings channels"], terms: int | None = None
) -> Inexact[Tensor, "terms batch time rings channels"]:
    """The outputs of the waves scattered 0, 1, ... times; by default as many terms as there are tokens, which is all.

    u as `RingNetwork.run` takes it, one input a ring. Costs ``terms`` runs. Raises InputError for fewer than one term
    or another shape, UnsupportedError for a ring without a scatterer.
    """
    if ring.left is None or ring.right is None:
        raise UnsupportedError("this ring has no scatterer: its waves are free")
    if ring.late is not None:
        raise UnsupportedError("inputs that enter twice are not followed through a scattering series")
    u = ring._checked(u)
    terms = u.shape[1] if terms is None else terms
    if terms < 1:
        raise InputError(f"terms is {terms}: the free wave is the first")
    z = torch.zeros(terms, u.shape[0], ring.rings, ring.nodes, u.shape[3], dtype=torch.complex128)
    rows = []
    for t in range(u.shape[1]):
        if t:
            free = to_nodes(to_modes(z.mT) * ring.multiplier(t).unsqueeze(-2)).mT
            heard = to_modes(at(ring.right, t)).unsqueeze(-2) @ z[:-1]
            free[1:] += to_nodes(at(ring.left, t)).unsqueeze(-1) @ heard
            z = free
        z[0] += ring.inject(t) @ u[:, t, :, None].to(z.dtype)
        rows.append((ring.read(t) @ z)[..., 0, :])
    y = torch.stack(rows, 2)
    return y if ring.scale is None else ring.scale * y.real
