"""Elementwise evolutions and narrow values: one token after the other, each over batch x dim x heads at once.

A chunk's products cost chunk x dim a token and head, whatever the values' width; a step costs dim x width. For Mamba,
with a head a channel and values of one number, steps are the cheaper way by far, and their rows are so long that the
loop over tokens costs nothing beside them. In float64, for rounded decays would compound: the states of a few tokens
lie in buffers that stay in a core's cache, and double precision then costs no more than twice the single one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from mixerlens import pages
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.evolution import Diagonal, Scalar
from mixerlens.operator.tokens import Decays, Tokens, once
from mixerlens.subnormals import subnormals_as_zero

BUFFER = 1600 * 2**10  # bytes of all the states held at a time
LEAST = 2  # tokens whose states these should be; heads are taken in groups where they would not fit
SPAN = 64  # tokens whose inputs are prepared at once
NARROW = 4  # values a head up to which steps win
LONG = 512  # numbers a step of one value: there 32 heads of 16 take up to 2.4x less by steps, 4 of 128 up to 2x more


def cheaper(d: CoefficientDynamics, values: Tensor) -> bool:
    """Whether steps are the cheaper way to the same answer."""
    batch = max(d.batch, values.shape[0])
    narrow = isinstance(d.evolution, Diagonal | Scalar) and values.shape[-1] <= NARROW
    return narrow and batch * d.heads * d.dim >= LONG


def sweep(d: CoefficientDynamics, values: Tensor, state: Tensor, *, transposed: bool) -> tuple[Tensor, Tensor]:
    """The numerators (batch, heads, time, m) and the state at the other end; arguments as in ``blocks.sweep``.

    Forwards S_t = a_t S_{t-1} + k_t b_t v_t^T, y_t = S_t^T q_t. Transposed, from the last token on,
    l_t = r_t + q_t w_t^T, y_t = b_t l_t^T k_t, r_{t-1} = a_t l_t.
    """
    kind = torch.promote_types(torch.promote_types(d.dtype, values.dtype), torch.float64)
    h = state.permute(0, 3, 2, 1).to(kind, copy=True, memory_format=torch.contiguous_format)
    batch, width, _, heads = h.shape  # the heads are the long rows
    dtype = torch.promote_types(d.coefficient_dtype, values.dtype)
    out = pages.empty(batch, d.time, width, heads, dtype=dtype, device=h.device)  # as y lies in memory
    with torch.inference_mode(), subnormals_as_zero():  # calls cost less
        for group in _groups(heads, h[..., 0].nbytes):
            steps = _Steps(d.select_heads(range(heads)[group]), h[..., group])
            v = values if values.shape[1] == 1 else values[:, group]
            for tokens, (y,) in steps.run(v, transposed=transposed):
                out[:, tokens, :, group] = d.readout(y).transpose(0, 1)
            h[..., group] = steps.state
    return out.permute(0, 3, 1, 2), h.permute(0, 3, 2, 1)


def lag_moments(d: CoefficientDynamics, order: int) -> Tensor:
    """sum_j phi(score_ij) (i - j)^p before eta for p = 0 .. order: (batch, heads, time, order + 1), in float64.

    Let M_p be the state with its terms weighed by (i - j over p). A token later they weigh (i - j + 1 over p) =
    (i - j over p) + (i - j over p - 1), so M_p <- a_t (M_p + M_{p-1}). Powers of the lag are sums of such binomials
    whose factors, Stirling's numbers times factorials, are positive: only what is signed itself cancels.
    """
    kind, width = torch.promote_types(d.dtype, torch.float64), order + 1
    dtype = torch.promote_types(d.coefficient_dtype, torch.float64)
    out = pages.empty(d.batch, d.time, width, d.heads, dtype=dtype, device=d.device)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=d.device).expand(-1, -1, d.time, -1)
    with torch.inference_mode(), subnormals_as_zero():
        for group in _groups(d.heads, width * d.batch * d.dim * kind.itemsize):
            heads = range(d.heads)[group]
            zero = torch.zeros(d.batch, 1, d.dim, len(heads), dtype=kind, device=d.device)
            for tokens, moments in _Steps(d.select_heads(heads), zero, order).run(one):
                for p, y in enumerate(_powers(moments)):
                    out[:, tokens, p, group] = d.readout(y).squeeze(2).transpose(0, 1)
    return out.permute(0, 3, 1, 2)


class _Steps:
    """The steps of some heads, with the states of a few tokens, a tile, in buffers."""

    def __init__(self, d: CoefficientDynamics, state: Tensor, order: int = 0) -> None:
        """state (batch, width, dim, heads): what enters, in the end what leaves. order: see ``lag_moments``."""
        batch, width, dim, heads = state.shape
        self.dynamics, self.state = d, state.contiguous()
        token = (order + 1) * state.nbytes + (state.nbytes // width if width > 1 else 0)
        self.size = max(1, min(d.time, SPAN, BUFFER // token))
        self.room = state.new_empty(self.size + 1, batch, 1, dim, heads)
        # states of their decays' shape take their place
        first = self.room if width == 1 else state.new_empty(self.size + 1, *state.shape)
        self.states = [first, *(torch.empty_like(first) for _ in range(order))]
        self.rows = [s.unbind(0) for s in self.states]
        self.aged = [torch.zeros_like(state) for _ in range(order)]  # M_p + M_{p-1}

    def run(self, values: Tensor, *, transposed: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Some tokens after others, and of these y (order + 1, time, batch, width, heads) before the readout."""
        time, step = self.dynamics.time, -1 if transposed else 1
        span = None
        for lo in range(0, time, SPAN)[::step]:
            hi = min(lo + SPAN, time)
            if span is None or span.count != hi - lo:
                span = _Span(self, hi - lo, transposed)
            span.load(values[:, :, lo:hi], lo)
            for tile in span.tiles[::step]:
                (self._backwards if transposed else self._forwards)(tile)
            yield slice(lo, hi), span.outputs()

    def _forwards(self, tile: _Tile) -> None:
        """The states after each token of the tile."""
        tile.decays.form()
        state, rows = self.state, self.rows
        for t, (a, write, v) in enumerate(tile.tokens):
            for aged, row in zip(self.aged, rows[1:], strict=True):
                torch.mul(a, aged, out=row[t])
            state = torch.mul(a, state, out=rows[0][t]).addcmul_(write, v)
            for aged, (lower, row) in zip(self.aged, pairwise(rows), strict=True):
                torch.add(row[t], lower[t], out=aged)
        self.state.copy_(state)
        tile.contract()

    def _backwards(self, tile: _Tile) -> None:
        """l of each token t of the tile, in row t + 1: a_{t+1} is not needed any more."""
        tile.decays.form()
        (rows,), count = self.rows, len(tile.tokens)
        rows[count].copy_(self.state)
        for t in reversed(range(count)):
            a, write, v = tile.tokens[t]
            torch.mul(a, rows[t + 1].addcmul_(write, v), out=rows[t])
        self.state.copy_(rows[0])
        tile.contract()


class _Span:
    """Inputs and outputs of ``count`` tokens; the views of their tiles are made once for all such spans."""

    def __init__(self, steps: _Steps, count: int, transposed: bool) -> None:
        self.count, self.transposed = count, transposed
        batch, width, _, heads = steps.state.shape
        self.tokens = Tokens(steps.dynamics, count, steps.state.dtype)
        self.values = steps.state.new_empty(count, batch, width, 1, heads)
        self.y = steps.state.new_empty(len(steps.states), count, batch, width, 1, heads)
        read, write = self.tokens.query, self.tokens.key
        self._read, write = (write, read) if transposed else (read, write)
        self.shared = self._read.shape[-1] == 1  # by all heads: one product of matrices a token
        self.read = steps.state.new_empty(count, batch, width, 1, self._read.shape[-2]) if self.shared else self._read
        self.tiles = []
        for lo in range(0, count, steps.size):
            some, first = slice(lo, min(lo + steps.size, count)), int(transposed)
            size = some.stop - lo
            decays = self.tokens.decays(some, steps.room[:size])
            each = zip(*(x.unbind(0) for x in (decays.formed, write[some], self.values[some])), strict=True)
            seen = [s[first : size + first] for s in steps.states]
            self.tiles.append(_Tile(decays, list(each), self, some, seen))

    def load(self, values: Tensor, lo: int) -> None:
        self.tokens.load(lo)
        if self.shared:
            self.read.copy_(self._read.mT)
        self.values.copy_(once(values).permute(2, 0, 3, 1).unsqueeze(-2))
        if not self.transposed:
            self.values.mul_(self.tokens.gate)

    def outputs(self) -> Tensor:
        return (self.y.mul_(self.tokens.gate) if self.transposed else self.y).squeeze(-2)


class _Tile:
    """A few tokens: their decays, (decay, write, value) of each, and what their states are contracted with."""

    def __init__(self, decays: Decays, tokens: list, span: _Span, some: slice, seen: list[Tensor]) -> None:
        self.decays, self.tokens, self._shared = decays, tokens, span.shared
        read, out = span.read[some], span.y[:, some].unbind(0)
        if self._shared:
            read, seen, out = read.flatten(0, 2), [x.flatten(0, 2) for x in seen], [x.flatten(0, 2) for x in out]
        self._read, self._pairs = read, list(zip(seen, out, strict=True))

    def contract(self) -> None:
        """Sums over the states' dimension, the axis before the last. Overwrites the states."""
        for seen, out in self._pairs:
            if self._shared:
                torch.bmm(self._read, seen, out=out)
            else:
                torch.sum(seen.mul_(self._read), -2, keepdim=True, out=out)


def _powers(binomials: Tensor) -> Tensor:
    """sum x^p from sum (x over p), p on the first axis, in place."""
    factors = [[1]]  # x^p = sum_k factors[p][k] (x over k)
    for p in range(1, len(binomials)):
        before = [*factors[-1], 0]
        factors.append([k * (before[k] + before[k - 1]) for k in range(p + 1)])
    for p in reversed(range(2, len(binomials))):
        binomials[p].mul_(factors[p][p])
        for k in range(1, p):
            binomials[p].add_(binomials[k], alpha=factors[p][k])
    return binomials


def _groups(heads: int, size: int) -> Iterator[slice]:
    """Heads in groups of equal size for which the states of LEAST tokens fit, where a head's is `size` bytes."""
    count = -(-heads * size * LEAST // BUFFER)
    each = -(-heads // count)
    for first in range(0, heads, each):
        yield slice(first, min(first + each, heads))
