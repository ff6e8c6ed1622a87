"""The equation itself, in float64 and one token at a time: what every evolution is tested against.

    u_jj = b_j k_j,   u_ij = A_i u_{i-1,j},   alpha_ij = phi(q_i^T u_ij) / eta_i on the support, else 0

The evolution enters as dense matrices (batch, time, heads, n, n), the readout and the normaliser as plain functions.
Nothing here comes from the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "exp": lambda z: z.exp(),
    "relu": lambda z: z.clamp(min=0),
    "sigmoid": lambda z: 1 / (1 + (0.5 - z).exp()),  # bias 0.5
    "polynomial": lambda z: 1 + z + z**2 / 2,
    "real": lambda z: 2 * z.real,
    "softcap": lambda z: (1.5 * torch.tanh(z / 1.5)).exp(),  # cap 1.5
}


def impulses(A: Tensor, key: Tensor, scaling: Tensor) -> list[Tensor]:
    """For every i the responses u_ij, j <= i, as (batch, heads, n, i + 1)."""
    rows: list[Tensor] = []
    for i in range(key.shape[1]):
        entering = (scaling[:, i, :, None] * key[:, i])[..., None]
        rows.append(entering if i == 0 else torch.cat([A[:, i] @ rows[-1], entering], dim=-1))
    return rows


def scores(A: Tensor | None, query: Tensor, key: Tensor, scaling: Tensor) -> Tensor:
    """q_i^T u_ij for j <= i, zero above; all pairs with A = I if A is None.  (batch, heads, time, time)"""
    if A is None:
        return torch.einsum("bihn,bjhn->bhij", query, scaling[..., None] * key)
    time = key.shape[1]
    dtype = torch.promote_types(A.dtype, key.dtype)
    A, query, key = A.to(dtype), query.to(dtype), key.to(dtype)
    rows = []
    for i, u in enumerate(impulses(A, key, scaling)):
        z = torch.einsum("bhn,bhnj->bhj", query[:, i], u)
        rows.append(torch.nn.functional.pad(z, (0, time - i - 1)))
    return torch.stack(rows, dim=2)


def pairs(time: int, causal: bool, window: int | None, segments: Tensor | None) -> Tensor:
    """(1 | batch, 1, time, time), True where row i sees column j."""
    place = torch.arange(time)
    lag = place[:, None] - place[None, :]
    seen = torch.ones(1, 1, time, time, dtype=torch.bool)
    if causal:
        seen = seen & (lag >= 0)
    if window is not None:
        seen = seen & (lag.abs() < window)
    if segments is not None:
        seen = seen & (segments[:, None, :, None] == segments[:, None, None, :]) & (segments[:, None, None, :] >= 0)
    return seen


def normalized(
    phi: Tensor, seen: Tensor, *, row_sum: bool = False, sink: Tensor | None = None, eta: Tensor | None = None
) -> Tensor:
    """alpha from phi(z): sink is phi(sink) per head, eta (batch, time, heads)."""
    phi = torch.where(seen, phi, 0.0)
    if row_sum:
        total = phi.sum(-1, keepdim=True)
        if sink is not None:
            total = total + sink[:, None, None]
        phi = phi / torch.where(seen.any(-1, keepdim=True), total, 1.0)
    if eta is not None:
        phi = phi / eta.transpose(1, 2)[..., None]
    return phi


def mix(alpha: Tensor, v: Tensor) -> Tensor:
    """y_i = sum_j alpha_ij v_j: alpha (batch, heads, time, time), v (batch, time, heads, width), y as v."""
    dtype = torch.promote_types(alpha.dtype, v.dtype)
    return torch.einsum("bhij,bjhe->bihe", alpha.to(dtype), v.to(dtype))


def finite(x: Tensor) -> bool:
    return bool(torch.isfinite(torch.view_as_real(x) if x.is_complex() else x).all())


def error(got: Tensor, want: Tensor) -> float:
    """max |got - want| / max |want|; infinite for a NaN, an infinity or another shape."""
    if got.shape != want.shape or not finite(got):
        return math.inf
    wide = torch.complex128 if got.is_complex() or want.is_complex() else torch.float64
    gap = float((got.detach().to(wide) - want.detach().to(wide)).abs().max())
    size = float(want.detach().abs().max())
    if size == 0:
        return 0.0 if gap == 0 else math.inf
    return gap / size
