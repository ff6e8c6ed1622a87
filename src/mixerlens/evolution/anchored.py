"""Products of decays inside one chunk, by recursive halving.

The product a[j+1] ... a[i] between two tokens on either side of a midpoint factors at the midpoint, so the bottom-left
block of [lo, hi) is the outer product of a forward and a reversed cumulative product. No logarithm, no division, no
exp(-cumsum): exact zeros, negative, growing and complex decays and those that underflow are all treated alike.
Vectors are float64 (complex128); only the factors of a tile are cast down.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def products(a: Tensor, dim: int) -> Tensor:
    """Inclusive products: out[i] = a[first] * ... * a[i].

    Under autograd by doubling, which multiplies only: the derivative of torch's cumprod divides by the decays, and is
    NaN for a complex decay below 1e-154 and off by 1e-3 for a subnormal real one.
    """
    if not a.requires_grad:
        return a.cumprod(dim)
    step, size = 1, a.shape[dim]
    while step < size:
        moved = torch.cat([torch.ones_like(a.narrow(dim, 0, step)), a.narrow(dim, 0, size - step)], dim)
        a, step = a * moved, 2 * step
    return a


def reversed_products(a: Tensor, dim: int) -> Tensor:
    """Exclusive products to the right: out[j] = a[j+1] * ... * a[last], out[last] = 1."""
    shifted = torch.cat([a.narrow(dim, 1, a.shape[dim] - 1), torch.ones_like(a.narrow(dim, 0, 1))], dim)
    return products(shifted.flip(dim), dim).flip(dim)


def _split(x: Tensor, half: int, dim: int) -> tuple[Tensor, Tensor]:
    """Split the chunk axis into pairs of neighbouring halves: each (..., pairs, half, ...)."""
    pairs = x.unflatten(dim, (-1, 2, half))
    return pairs.select(dim - 1, 0), pairs.select(dim - 1, 1)


def _quarters(first: Tensor, cross: Tensor, second: Tensor) -> Tensor:
    """[[first, 0], [cross, second]] on the last two axes."""
    top = pad(first, (0, first.shape[-1]))
    return torch.cat([top, torch.cat([cross, second], -1)], -2)


def decay_matrix(a: Tensor, dtype: torch.dtype) -> Tensor:
    """D[i, j] = a[j+1] * ... * a[i] for j <= i (1 on the diagonal), 0 above: (..., c) -> (..., c, c)."""
    size = a.shape[-1]
    full = 1 << (size - 1).bit_length()
    a = pad(a, (0, full - size), value=1.0)
    blocks = torch.ones(*a.shape, 1, 1, dtype=dtype, device=a.device)
    half = 1
    while half < full:
        left, right = _split(a, half, -1)
        forward, backward = products(right, -1).to(dtype), reversed_products(left, -1).to(dtype)
        blocks = _quarters(
            blocks[..., 0::2, :, :], forward.unsqueeze(-1) * backward.unsqueeze(-2), blocks[..., 1::2, :, :]
        )
        half *= 2
    return blocks[..., 0, :size, :size]


def decayed_scores(query: Tensor, key: Tensor, a: Tensor) -> Tensor:
    """S[i, j] = sum_n query[i, n] key[j, n] a[j+1, n] ... a[i, n] for j <= i: (..., c, n) three times -> (..., c, c).

    Leading axes broadcast.
    """
    size, dtype = a.shape[-2], query.dtype
    full = 1 << (size - 1).bit_length()
    fill = (0, 0, 0, full - size)
    query, key, a = pad(query, fill), pad(key, fill), pad(a, fill, value=1.0)
    leading = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], a.shape[:-2])
    blocks = (query * key).sum(-1).expand(*leading, full)[..., None, None]
    half = 1
    while half < full:
        left, right = _split(a, half, -2)
        read = _split(query, half, -2)[1] * products(right, -2).to(dtype)
        write = _split(key, half, -2)[0] * reversed_products(left, -2).to(dtype)
        blocks = _quarters(blocks[..., 0::2, :, :], read @ write.mT, blocks[..., 1::2, :, :])
        half *= 2
    return blocks[..., 0, :size, :size]
