"""The one test case every evolution inherits: an evolution x readout x dtype x length against the plain recurrence.

A kind says three things: its parameters, how the library is given them, and the dense matrices A_t they stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mixerlens import oracle
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.normalizer import NoNormalizer, PerToken, RowSum, RowSumSink
from mixerlens.operator import blocks
from mixerlens.readout import Exp, Identity, Polynomial, RealPart, Relu, Sigmoid, Softcap
from mixerlens.support import Support

from . import plain
from .drawn import BATCH, HEADS, WIDTH, Leaves, lower, raise_, randn, uniform, unit

LENGTHS = ["1", "2", "13", "chunk-1", "chunk+1"]
BAR = 1e-12
MANY = 500  # tokens where many chunks are to agree; gradients half of it, for autograd through the recurrence is slow

READOUTS = {
    "identity": Identity(),
    "exp": Exp(),
    "relu": Relu(),
    "sigmoid": Sigmoid(bias=0.5),
    "polynomial": Polynomial((1.0, 1.0, 0.5)),
    "real": RealPart(scale=2.0),
    "softcap": Softcap(1.5),
}
REAL_ONLY = {"relu", "sigmoid", "softcap"}
LINEAR = {"identity", "real"}
SUPPORTS = ["causal", "window", "segments", "window in segments", "bidirectional"]
PRODUCTS = [(r, precision, time) for r in READOUTS for precision in ("double", "single") for time in LENGTHS]
GRADIENTS = [(r, time) for r in READOUTS for time in LENGTHS]
STATES = [(r, t) for r in READOUTS for t in ("2", "13", "chunk+1") if t == "2" or r in LINEAR]

KNOWN: dict[tuple, tuple[Leaves, Tensor]] = {}


class EvolutionCase:
    """Inherit, and define ``parameters``, ``evolution`` and ``matrices``."""

    dim: ClassVar[int] = 4
    complex_: ClassVar[bool] = False
    bidirectional: ClassVar[bool] = False
    float32_bar: ClassVar[float] = 1e-6

    def parameters(self, batch: int, time: int, heads: int) -> Leaves:
        raise NotImplementedError

    def evolution(self, p: Leaves):
        raise NotImplementedError

    def matrices(self, p: Leaves, batch: int, time: int, heads: int) -> Tensor:
        """(batch, time, heads, n, n) in double precision."""
        raise NotImplementedError

    # what the tests are made of

    @pytest.fixture
    def time(self, request) -> int:
        """A length by name; the chunk is the kind's own."""
        name = request.param
        chunk = type(self.evolution(self.parameters(1, 2, 1))).chunk
        return chunk + int(name[5:]) if name.startswith("chunk") else int(name)

    def leaves(self, time: int, precision: str = "double", batch: int = BATCH, heads: int = HEADS) -> Leaves:
        """Random inputs of one system, rounded to the precision under test."""
        torch.manual_seed(time)
        n, c = self.dim, self.complex_
        p = {
            "query": randn(batch, time, heads, n, complex_=c),
            "key": unit(randn(batch, time, heads, n, complex_=c)),
            "scaling": uniform(batch, time, heads, low=0.5, high=1.5),
            "v": randn(batch, time, heads, WIDTH),
            "w": randn(batch, time, heads, WIDTH),
        }
        p |= self.parameters(batch, time, heads)
        return {name: lower(x, precision) for name, x in p.items()}

    def dynamics(self, p: Leaves, readout: str = "identity", **options) -> CoefficientDynamics:
        return CoefficientDynamics(
            query=p["query"],
            key=p["key"],
            scaling=p["scaling"],
            evolution=self.evolution(p),
            readout=READOUTS[readout],
            **options,
        )

    def scores(self, p: Leaves, causal: bool = True) -> Tensor:
        """q_i^T u_ij by the plain recurrence."""
        batch, time, heads = p["query"].shape[:3]
        p = {name: raise_(x) for name, x in p.items()}
        A = self.matrices(p, batch, time, heads) if causal else None
        return plain.scores(A, p["query"], p["key"], p["scaling"])

    def system(self, time: int, precision: str = "double", causal: bool = True) -> tuple[Leaves, Tensor]:
        """Inputs and their scores, which every readout shares."""
        name = (type(self).__name__, time, precision, causal)
        if name not in KNOWN:
            p = self.leaves(time, precision)
            KNOWN[name] = p, self.scores(p, causal)
        return KNOWN[name]

    def alpha(self, z: Tensor, readout: str = "identity", *, causal=True, window=None, segments=None, **eta) -> Tensor:
        """The coefficients from the scores."""
        seen = plain.pairs(z.shape[-1], causal, window, segments)
        return plain.normalized(plain.READOUTS[readout](torch.where(seen, z, 0.0)), seen, **eta)

    def refused(self, readout: str) -> bool:
        """Whether this readout is undefined for this kind; then it must be refused when it is put together."""
        if not (self.complex_ and readout in REAL_ONLY):
            return False
        with pytest.raises(InputError):
            self.dynamics(self.leaves(3), readout)
        return True

    # the tests

    @pytest.mark.parametrize("time", LENGTHS, indirect=True)
    @pytest.mark.parametrize("precision", ["double", "single"])
    def test_primitives(self, precision, time):
        """step, intra, emit, inject and carry of a chunk that does not begin at the first token."""
        lo, hi = 3, 3 + time
        p = self.leaves(hi, precision)
        kind, bar = self.evolution(p), BAR if precision == "double" else self.float32_bar
        A = self.matrices({name: raise_(x) for name, x in p.items()}, BATCH, hi, HEADS)
        q, k = (p[name][:, lo:].transpose(1, 2) for name in ("query", "key"))
        f = kind.factors(q, k, lo, hi)
        n = self.dim
        through = torch.eye(n, dtype=A.dtype).expand(BATCH, HEADS, n, n)
        emit = []
        for t in range(lo, hi):
            state = lower(randn(BATCH, HEADS, n, 2, complex_=self.complex_), precision)
            assert plain.error(kind.step(state, t), A[:, t] @ raise_(state).to(A.dtype)) <= bar
            through = A[:, t] @ through
            emit.append((raise_(q[:, :, t - lo, None]).to(A.dtype) @ through)[:, :, 0])
        ones = torch.ones(BATCH, time, HEADS, dtype=torch.float64)
        wide_q, wide_k = (raise_(p[name][:, lo:]).to(A.dtype) for name in ("query", "key"))
        intra = plain.scores(A[:, lo:], wide_q, wide_k, ones)
        inject = plain.impulses(A[:, lo:], wide_k, ones)[-1].mT
        state, rows = randn(BATCH, HEADS, n, 2), randn(BATCH, HEADS, 2, n)
        state, rows = (lower(x.to(A.dtype), precision) for x in (state, rows))
        for got, want in [
            (f.intra, intra),
            (f.emit, torch.stack(emit, dim=2)),
            (f.inject, inject),
            (f.carry.forward(state), through @ raise_(state)),
            (f.carry.backward(rows), raise_(rows) @ through),
        ]:
            # what has decayed to nothing is measured against the inputs, which are of order one
            assert (got - want).abs().max() <= bar * max(float(want.abs().max()), 1.0)

    @pytest.mark.parametrize(("readout", "precision", "time"), PRODUCTS, indirect=["time"])
    def test_coefficients_and_products(self, readout, precision, time):
        if self.refused(readout):
            return
        p, z = self.system(time, precision)
        dynamics = self.dynamics(p, readout)
        op, alpha = dynamics.operator(), self.alpha(z, readout)
        bar = BAR if precision == "double" else self.float32_bar
        size = alpha.abs().max()
        if readout == "exp":
            bar = bar * max(1.0, float(z.abs().max()))
        dense = op.to_dense()
        assert dense.dtype == (alpha.dtype if precision == "double" else lower(alpha, "single").dtype)
        assert plain.error(dense, alpha) <= bar
        i, j = time // 2, time // 3
        rows, columns = slice(time // 4, time), slice(0, (time + 1) // 2)
        for got, want in [
            (op.row(i), alpha[:, :, i]),
            (op.column(j), alpha[:, :, :, j]),
            (op.diagonal(), alpha.diagonal(dim1=-2, dim2=-1)),
            (op.block(rows, columns), alpha[:, :, rows, columns]),
            (op.block(range(i, time), range(j, time)), alpha[:, :, i:, j:]),
        ]:
            assert got.shape == want.shape
            assert (got - want).abs().max() <= bar * size
        v, w = p["v"], p["w"]
        assert plain.error(op @ v, plain.mix(alpha, raise_(v))) <= bar
        assert plain.error(op.apply(v), plain.mix(alpha, raise_(v))) <= bar
        assert plain.error(op.T @ w, plain.mix(alpha.mT, raise_(w))) <= bar
        if precision == "double":
            assert plain.error(oracle(dynamics, v), plain.mix(alpha, v)) <= bar

    @pytest.mark.parametrize(("readout", "time"), GRADIENTS, indirect=["time"])
    def test_gradients(self, readout, time):
        """The gradient of op @ v, op.T @ w and the dense matrix at once, by everything that enters them."""
        if not self.refused(readout):
            self.agrees_in_gradients(readout, time)

    @pytest.mark.parametrize("size", [1, 2])
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("readout", sorted(LINEAR))
    def test_block_by_block(self, readout, packed, size, monkeypatch):
        """A sequence of several blocks of a few chunks each: what crosses the borders, forward and back."""
        kind = type(self.evolution(self.parameters(1, 2, 1)))
        monkeypatch.setattr(kind, "chunk", 4)
        monkeypatch.setattr(blocks, "chunk_bytes", lambda d, width: 1)
        monkeypatch.setattr(blocks, "BLOCK", size)  # chunks a block
        segments = torch.tensor([[0] * 6 + [1] * 9 + [-1] * 3 + [2] * 3, [-1] * 4 + [0] * 17]) if packed else None
        self.agrees_in_gradients(readout, 21, segments)

    def agrees_in_gradients(self, readout: str, time: int, segments: torch.Tensor | None = None) -> None:
        p = {name: x.requires_grad_() for name, x in self.leaves(time).items()}
        op = self.dynamics(p, readout, support=Support(segments=segments)).operator()
        alpha = self.alpha(self.scores(p), readout, segments=segments)
        pull, turned, weight = torch.randn_like(p["v"]), torch.randn_like(p["v"]), randn(BATCH, HEADS, time, time)
        found = []
        products = [
            (op @ p["v"], op.T @ p["w"], op.to_dense()),
            (plain.mix(alpha, p["v"]), plain.mix(alpha.mT, p["w"]), alpha),
        ]
        for got, want in zip(*products, strict=True):
            assert plain.error(got, want) <= BAR
        for y, z, dense in products:
            loss = (y * pull).sum() + (z * turned).sum() + (dense * weight).sum()
            loss = loss.real + 0.7 * loss.imag if loss.is_complex() else loss
            found.append(torch.autograd.grad(loss, list(p.values()), allow_unused=True))
        largest = max(float(x.abs().max()) for x in found[1] if x is not None)
        for name, g, h in zip(p, *found, strict=True):
            g, h = (torch.zeros_like(p[name]) if x is None else x for x in (g, h))
            assert plain.finite(g), name
            # a gradient that cancels to nothing is measured against its ingredients
            assert (g - h).abs().max() <= 1e-12 * max(float(h.abs().max()), 0.1 * largest), name

    @pytest.mark.parametrize(("readout", "time"), STATES, indirect=["time"])
    def test_state(self, readout, time):
        """state_at, and one sequence applied in two parts; refused where no finite state exists."""
        if self.refused(readout):
            return
        p, z = self.system(time)
        op, v = self.dynamics(p, readout).operator(), p["v"]
        half = (time + 1) // 2
        if readout not in LINEAR:
            with pytest.raises(UnsupportedError):
                op.state_at(0, v)
            with pytest.raises(UnsupportedError):
                op.apply(v, return_state=True)
            return
        A = self.matrices(p, BATCH, time, HEADS)
        dtype = torch.promote_types(A.dtype, p["key"].dtype)
        u = plain.impulses(A.to(dtype), p["key"].to(dtype), p["scaling"])
        for t in {0, half, time - 1}:
            want = u[t] @ v[:, : t + 1].transpose(1, 2).to(dtype)
            assert plain.error(op.state_at(t, v), want) <= 1e-12
        y, last = op.apply(v, return_state=True)
        whole = plain.mix(self.alpha(z, readout), v)
        assert plain.error(y, whole) <= 1e-12
        parts = [
            {n: x[:, a:b] if x.dim() > 2 and x.shape[:2] == (BATCH, time) else x for n, x in p.items()}
            for a, b in [(0, half), (half, time)]
        ]
        first, state = self.dynamics(parts[0], readout).operator().apply(parts[0]["v"], return_state=True)
        second, end = (
            self.dynamics(parts[1], readout).operator().apply(parts[1]["v"], initial_state=state, return_state=True)
        )
        assert plain.error(torch.cat([first, second], dim=1), whole) <= 1e-12
        assert plain.error(end, last) <= 1e-12

    @pytest.mark.parametrize("time", ["chunk+1"], indirect=True)
    def test_impulse(self, time):
        p = self.leaves(time)
        A = self.matrices(p, BATCH, time, HEADS)
        dtype = torch.promote_types(A.dtype, p["key"].dtype)
        rows = plain.impulses(A.to(dtype), p["key"].to(dtype), p["scaling"])
        for j in (0, 7, time - 1):
            want = torch.zeros(BATCH, time, HEADS, self.dim, dtype=dtype)
            for i in range(j, time):
                want[:, i] = rows[i][..., j]
            assert plain.error(self.dynamics(p).impulse(j), want) <= 1e-12

    @pytest.mark.parametrize("time", ["chunk+1"], indirect=True)
    @pytest.mark.parametrize("support", SUPPORTS)
    @pytest.mark.parametrize("normalizer", ["none", "sum", "sink", "per token", "linear per token"])
    def test_normalizers_and_supports(self, normalizer, support, time):
        causal = support != "bidirectional" or not self.bidirectional
        self.normalized(*self.system(time, causal=causal), normalizer, support)

    def normalized(self, p: Leaves, z: Tensor, normalizer: str, support: str) -> None:
        time = z.shape[-1]
        sink, eta = torch.linspace(-1, 1, HEADS, dtype=torch.float64), uniform(BATCH, time, HEADS, low=0.5, high=2.0)
        how, options = {
            "none": (NoNormalizer(), {}),
            "sum": (RowSum(), {"row_sum": True}),
            "sink": (RowSumSink(sink), {"row_sum": True, "sink": sink.exp()}),
            "per token": (PerToken(eta), {"eta": eta}),
        }[normalizer.removeprefix("linear ")]
        readout = "identity" if normalizer.startswith("linear") else "exp"
        cut = time // 3
        segments = torch.tensor([[-1] * 2 + [0] * cut + [5] * (time - cut - 2), [3] * (time - cut) + [1] * cut])
        where: dict = {
            "causal": {},
            "window": {"window": 5},
            "segments": {"segments": segments},
            "window in segments": {"window": 3, "segments": segments},
            "bidirectional": {"causal": False},
        }[support]
        if support == "bidirectional" and not self.bidirectional:
            with pytest.raises(InputError, match="bidirectional"):
                self.dynamics(p, readout, normalizer=how, support=Support(**where))
            return
        dynamics = self.dynamics(p, readout, normalizer=how, support=Support(**where))
        op, alpha = dynamics.operator(), self.alpha(z, readout, **where, **options)
        assert plain.error(op.to_dense(), alpha) <= 1e-12
        assert plain.error(op @ p["v"], plain.mix(alpha, p["v"])) <= 1e-12
        assert plain.error(op.T @ p["w"], plain.mix(alpha.mT, p["w"])) <= 1e-12
        assert plain.error(oracle(dynamics, p["v"]), plain.mix(alpha, p["v"])) <= 1e-12
        for t in (0, cut + 2, time - 1):
            assert (op.row(t) - alpha[:, :, t]).abs().max() <= 1e-12 * alpha.abs().max()
            assert (op.column(t) - alpha[:, :, :, t]).abs().max() <= 1e-12 * alpha.abs().max()
        one = dynamics.operator(head=1)
        assert plain.error(one.to_dense(), alpha[:, 1:2]) <= 1e-12
        assert plain.error(one @ p["v"][:, :, 1:2], plain.mix(alpha, p["v"])[:, :, 1:2]) <= 1e-12

    def far(self, p: Leaves, z: Tensor) -> Iterator[tuple[str, CoefficientDynamics, Tensor]]:
        """Every readout that is defined here, with its coefficients, over one set of scores."""
        for readout in READOUTS:
            if self.refused(readout):
                continue
            # summed biases reach 478: exp of that has no float32, and its rows are only ever used divided by their sum
            summed = readout == "exp" and float(z.detach().real.max()) > 80
            dynamics = self.dynamics(p, readout, normalizer=RowSum() if summed else NoNormalizer())
            yield readout, dynamics, self.alpha(z, readout, row_sum=summed)

    @pytest.mark.parametrize("precision", ["double", "single"])
    def test_many_tokens(self, precision):
        """Forward, transposed, and a far block."""
        p = self.leaves(MANY, precision, batch=1, heads=1)
        z = self.scores(p)
        for readout, dynamics, alpha in self.far(p, z):
            op = dynamics.operator()
            bar = BAR if precision == "double" else self.float32_bar
            bar = bar * (max(1.0, float(z.abs().max())) if readout == "exp" else 1.0)
            assert plain.error(op @ p["v"], plain.mix(alpha, raise_(p["v"]))) <= bar, readout
            assert plain.error(op.T @ p["w"], plain.mix(alpha.mT, raise_(p["w"]))) <= bar, readout
            far = op.block(range(MANY - 100, MANY), range(100, 200)) - alpha[:, :, MANY - 100 :, 100:200]
            assert far.abs().max() <= bar * alpha.abs().max(), readout

    def test_gradients_at_many_tokens(self):
        p = {name: x.requires_grad_() for name, x in self.leaves(MANY // 2, batch=1, heads=1).items()}
        z = self.scores(p)
        pull = torch.randn_like(p["v"])
        for readout, dynamics, alpha in self.far(p, z):
            found = []
            for y in (dynamics.operator() @ p["v"], plain.mix(alpha, p["v"])):
                loss = (y * pull).sum()
                loss = loss.real + 0.7 * loss.imag if loss.is_complex() else loss
                found.append(torch.autograd.grad(loss, list(p.values()), allow_unused=True, retain_graph=True))
            largest = max(float(x.abs().max()) for x in found[1] if x is not None)
            for name, g, h in zip(p, *found, strict=True):
                g, h = (torch.zeros_like(p[name]) if x is None else x for x in (g, h))
                assert plain.finite(g), (readout, name)
                assert (g - h).abs().max() <= 1e-12 * max(float(h.abs().max()), 0.1 * largest), (readout, name)


class PositiveCase(EvolutionCase):
    """Kinds that keep scores positive for positive queries and keys, so that a linear readout has a safe row sum."""

    @pytest.mark.parametrize("time", ["13", "chunk+1"], indirect=True)
    @pytest.mark.parametrize("support", SUPPORTS)
    def test_row_sums_of_a_linear_readout(self, support, time):
        p = self.leaves(time)
        p = p | {"query": p["query"].abs(), "key": p["key"].abs()}
        causal = support != "bidirectional" or not self.bidirectional
        self.normalized(p, self.scores(p, causal), "linear sum", support)
