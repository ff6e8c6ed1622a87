"""sum_n w_n a_n^l for every lag l < length, by two-level powers: no exponential a lag, no tensor lags x modes.

With l = columns p + r, a^l = (a^columns)^p a^r: all lags are one matrix product over the modes. Complex modes are
held as planes, and Re(w c f) = [Re wc, -Im wc] . [Re f, Im f] makes that product a real one. All of it is float64,
so that no phase of a late lag is rounded before it is taken modulo a turn and no cancellation costs a digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor

from mixerlens.once import differentiable_once
from mixerlens.shapes import wide

_INNER = 16  # lags that are exponentiated one by one; longer tables are outer products of two short ones
_BYTES = 1 << 21  # of one block of tables: what a second-level cache holds
# factors below it, relative to lag 0, are zero: their products would be subnormal, which costs a factor of 5
_TINY = {torch.float32: 2.0**-63, torch.float64: 2.0**-511}


def power_sums(
    weight: Inexact[Tensor, "*leading modes"],
    length: int,
    *,
    log: Inexact[Tensor, "*leading modes"] | None = None,
    base: Inexact[Tensor, "*leading modes"] | None = None,
    dtype: torch.dtype,
    real: bool = False,
) -> Inexact[Tensor, "*leading length"]:
    """sum_n weight_n exp(log_n l), or sum_n weight_n base_n^l, for l = 0 .. length - 1.

    log: exponents, Re log may be -inf. base: the factors themselves, zeros and negative ones included. Give one.
    dtype: float32 or float64, or their complex partners, of the result; errors are of its rounding, relative to the
    largest entry of a row. real: only the real part is wanted, and the result is real. Differentiable once in weight,
    log and base. Memory: the result and a few MiB.
    """
    assert (log is None) != (base is None)
    generator = wide(base if log is None else log)  # type: ignore[arg-type]
    weight = wide(weight)
    if generator.is_complex() or weight.is_complex():
        generator, weight = generator.to(torch.complex128), weight.to(torch.complex128)
    generator, weight = torch.broadcast_tensors(generator, weight)
    plane = real or not weight.is_complex()
    rows = (x.reshape(-1, x.shape[-1]) for x in (generator, weight))
    sums: Tensor = _PowerSums.apply(*rows, length, log is not None, dtype.to_real(), plane)  # type: ignore[assignment]
    sums = sums.unflatten(0, weight.shape[:-1]) if weight.dim() != 2 else sums
    return sums if real or sums.is_complex() else sums.to(dtype)


class _PowerSums(torch.autograd.Function):
    """Rows of modes (rows, modes) to rows of sums (rows, length); the tables are made again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, generator: Tensor, weight: Tensor, length: int, is_log: bool, dtype: torch.dtype, real: bool
    ) -> Tensor:
        ctx.save_for_backward(generator, weight)
        ctx.is_log, ctx.dtype = is_log, dtype
        columns, count = _split(length)
        shape = (len(weight), count, columns)
        out = torch.empty(shape, dtype=dtype if real else dtype.to_complex(), device=weight.device)
        parts = (out,) if real else (out.real, out.imag)
        for block in _blocks(weight, columns + count):
            # float64 whatever the dtype: the modes may cancel, and in float32 their rounding would not
            fine, step = _table(generator[block], columns, is_log, torch.float64)
            coarse, _ = _table(step, count, is_log, torch.float64, weight[block])
            if coarse.shape[1] == 2:
                coarse[:, 1].neg_()
            for k, part in enumerate(parts):
                if k:  # [Im wc, Re wc] . [Re f, Im f] is the imaginary part
                    coarse = torch.stack([-coarse[:, 1], coarse[:, 0]], 1)
                part[block] = torch.bmm(coarse.flatten(1, 2).mT, fine.flatten(1, 2))
        return out.flatten(1)[:, :length]

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        """With g the cotangent, s = sum_l conj(g_l) a^l and m = sum_l conj(g_l) l a^l: d weight = conj(s),
        d log = conj(weight m), d base = conj(weight m) / conj(a) with the division carried out on the exponents.
        """
        generator, weight = ctx.saved_tensors
        length = cotangent.shape[1]
        columns, count = _split(length)
        sums, moments = torch.empty_like(weight), torch.empty_like(weight)
        # a base: d a^l = l a^(l-1), so lags are counted from 1 and lag 0 is added to the sums by hand
        first = 0 if ctx.is_log else 1
        for block in _blocks(weight, columns + count):
            g = cotangent[block]
            planes = (g.real, g.imag) if g.is_complex() else (g,)
            parts = [
                _moments(generator[block], plane[:, first:], columns, count, ctx.is_log, ctx.dtype) for plane in planes
            ]
            s, m = parts[0]
            if len(parts) == 2:  # linear in conj(g) = Re g - i Im g
                s, m = s - 1j * parts[1][0], m - 1j * parts[1][1]
            if first:
                s, m = g[:, :1].conj() + generator[block] * s, s + m
            sums[block], moments[block] = s, m
        return (weight * moments).conj().resolve_conj(), sums.conj().resolve_conj(), None, None, None, None


def _split(length: int) -> tuple[int, int]:
    """(columns, rows) with columns rows >= length, both near its root, columns a multiple of the inner table."""
    columns = _INNER * -(-math.isqrt(length) // _INNER)
    return max(columns, _INNER), -(-length // max(columns, _INNER))


def _blocks(weight: Tensor, lags: int) -> Iterator[slice]:
    """Rows whose tables over ``lags`` fit the cache."""
    rows, modes = weight.shape
    step = max(1, _BYTES // (16 * modes * lags))
    return (slice(lo, min(lo + step, rows)) for lo in range(0, rows, step))


def _moments(
    generator: Tensor, cotangent: Tensor, columns: int, count: int, is_log: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """sum_l g_l a^l and sum_l g_l l a^l of a real cotangent (rows, lags): (rows, modes) each, float64."""
    rows, modes = generator.shape
    fine, step = _table(generator, columns, is_log, dtype)
    coarse, _ = _table(step, count, is_log, dtype)
    index = torch.arange(columns, dtype=dtype, device=fine.device)
    g = torch.nn.functional.pad(cotangent.to(dtype), (0, columns * count - cotangent.shape[1]))
    g = g.view(rows, count, columns)
    # sums over the lags of a row, with weights 1 and r: (rows, 1 and r, planes, modes, count)
    both = torch.stack([fine, fine * index], 1)
    inner = torch.bmm(both.flatten(1, 3), g.mT).view(rows, 2, -1, modes, count)
    inner[:, 1] += inner[:, 0] * (columns * torch.arange(count, dtype=dtype, device=fine.device))  # l = columns p + r
    outer = torch.stack([(inner * coarse[:, None, k, None]).sum(-1) for k in range(coarse.shape[1])]).double()
    if not generator.is_complex():
        return outer[0, :, 0, 0], outer[0, :, 1, 0]
    total = torch.complex(outer[0, :, :, 0] - outer[1, :, :, 1], outer[0, :, :, 1] + outer[1, :, :, 0])
    return total[:, 0], total[:, 1]


def _table(
    generator: Tensor, count: int, is_log: bool, dtype: torch.dtype, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """weight_n a_n^l for l < count as planes (rows, 1 | 2, modes, count), and the generator of a^count.

    The second is right only where count is a multiple of the inner table.
    """
    outer = -(-count // _INNER)
    inner, step = _few_powers(generator, _INNER, is_log, _TINY[dtype])
    far, end = _few_powers(step, outer, is_log, _TINY[dtype])
    if weight is not None:
        inner = _times(inner, weight[..., None])
    near, far = [x.to(dtype)[..., None, :] for x in inner], [x.to(dtype)[..., None] for x in far]
    if len(near) == 1:
        return (far[0] * near[0]).flatten(-2)[:, None, :, :count], end
    table = torch.empty(len(generator), 2, generator.shape[-1], outer, _INNER, dtype=dtype, device=generator.device)
    torch.mul(far[0], near[0], out=table[:, 0]).addcmul_(far[1], near[1], value=-1)
    torch.mul(far[0], near[1], out=table[:, 1]).addcmul_(far[1], near[0])
    return table.flatten(-2)[..., :count], end


def _times(planes: list[Tensor], weight: Tensor) -> list[Tensor]:
    if len(planes) == 1:
        return [planes[0] * weight]
    re, im = weight.real, weight.imag
    return [torch.addcmul(planes[0] * re, planes[1], im, value=-1), torch.addcmul(planes[0] * im, planes[1], re)]


def _few_powers(generator: Tensor, count: int, is_log: bool, tiny: float) -> tuple[list[Tensor], Tensor]:
    """a^l for l < count as one or two float64 planes (rows, modes, count), and the generator of a^count.

    A base is multiplied up, which is exact for zeros and signs; a closed gate (log -inf) to the power 0 is 1.
    """
    if not is_log:
        steps = torch.cat([torch.ones_like(generator)[..., None], generator[..., None].expand(-1, -1, count)], -1)
        powers = steps.cumprod(-1)
        kept = torch.where(powers[..., :count].abs() < tiny, 0, powers[..., :count])
        return [kept.real.contiguous(), kept.imag.contiguous()] if kept.is_complex() else [kept], powers[..., count]
    lag = torch.arange(count, dtype=torch.float64, device=generator.device)
    size = torch.exp(torch.where(lag == 0, 0, generator.real[..., None] * lag))
    size = torch.nn.functional.threshold(size, tiny, 0.0)
    if not generator.is_complex():
        return [size], generator * count
    # not torch.exp of a complex tensor, which is not vectorised: 20 times slower
    phase = generator.imag[..., None] * lag
    end = torch.complex(generator.real * count, generator.imag * count)  # a complex product makes NaN of -inf
    return [size * torch.cos(phase), size * torch.sin(phase)], end
