"""All pairs of order 2 under mean pooling, in O(L^2): the Gram matrix of a Toeplitz matrix, by displacement.

    G_ij = sum_t T_ti T_tj,  T_ti = k(t - i) for t >= i          one feature; D is added to k(0)
    G_ij = G_{i+1,j+1} + k(L - 1 - i) k(L - 1 - j)

Moving both inputs one step later moves their waves one step, and only what leaves at the end of the sequence is lost:
that is the product of the two last rows. So G is one outer product, summed along its diagonals, where the definition
takes a sum over time for every pair. For weights that change with time see `semiseparable`.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..errors import InputError
from ..operator.memory import require

__all__ = ["order_two_pairs", "toeplitz_gram"]


@torch.no_grad()
def toeplitz_gram(
    kernel: Float[Tensor, "features time"], weights: Float[Tensor, " features"] | None = None
) -> Float64[Tensor, "time time"]:
    """sum_h weights_h G^h in float64, (time, time), symmetric; weights (features,), 1 if not given.

    kernel (features, time), with D added to its first lag if there is one. Where all features see the same input,
    u_jh = v_h x_j, this with weights v_h^2 is all there is; `order_two_pairs` is for inputs that differ. Raises
    InputError for shapes that do not fit, MemoryBudgetError if the matrix does not.
    """
    weights = kernel.new_ones(kernel.shape[:1]) if weights is None else weights
    if kernel.ndim != 2 or weights.shape != kernel.shape[:1]:
        shapes = f"kernel {tuple(kernel.shape)}, weights {tuple(weights.shape)}"
        raise InputError(f"kernel must be (features, time) and weights (features,), not {shapes}")
    time = kernel.shape[1]
    require("the pair matrix", time, time, dtype=torch.float64, instead="take segments of the input as waves")
    late = kernel.to("cpu", torch.float64).flip(1)  # k(L - 1 - i)
    return _along_diagonals(late.T @ (weights.to(late)[:, None] * late))


@torch.no_grad()
def order_two_pairs(
    kernel: Float[Tensor, "features time"],
    skip: Float[Tensor, " features"],
    u: Float[Tensor, "time features"],
    weights: Float[Tensor, " features"],
    coefficient: float,
) -> Float64[Tensor, "time time"]:
    """A_ij = sum_h weights_h coefficient u_ih u_jh G^h_ij: order 2 of sum_th weights_h f(y_th), pair by pair.

    coefficient: a_2 of f, 1 / sqrt(2 pi) for GELU. weights: of each feature, with the 1 / L of mean pooling in them.
    (time, time) in float64, symmetric; the sum of all entries is the order's value, row sums are its attribution, each
    summed over features. One feature at a time: O(features L^2), two matrices of memory.

    Raises InputError for shapes that do not fit, MemoryBudgetError if the matrices do not.
    """
    time, features = u.shape if u.ndim == 2 else (0, 0)
    if not time or kernel.shape != (features, time) or skip.shape != (features,) or weights.shape != (features,):
        shapes = ", ".join(f"{tuple(x.shape)}" for x in (kernel, skip, u, weights))
        raise InputError(f"kernel (features, time), skip, u (time, features) and weights do not fit: {shapes}")
    require("the pair matrix", time, time, dtype=torch.float64, copies=2, instead="take segments of the input as waves")
    kernel, skip, u, weights = (x.to("cpu", torch.float64) for x in (kernel, skip, u, weights))
    late = kernel.clone()
    late[:, 0] += skip
    pairs, gram = u.new_zeros(time, time), u.new_empty(time, time)
    for wave, signal, gain in zip(late.flip(1), u.T, coefficient * weights, strict=True):
        torch.outer(wave, wave, out=gram)
        pairs += _along_diagonals(gram).mul_(signal).mul_((gain * signal)[:, None])
    return pairs


def _along_diagonals(products: Tensor) -> Tensor:
    """Every entry plus all that follow it on its diagonal, in place."""
    rows = products.numpy()  # the same memory; a step costs a tenth of one on tensors
    for i in range(len(rows) - 2, -1, -1):
        np.add(rows[i, :-1], rows[i + 1, 1:], out=rows[i, :-1])
    return products
