"""Diagonal plus rank one in its two best known forms, and several delta steps a token."""

from __future__ import annotations

import torch

from mixerlens import evolution

from .case import EvolutionCase
from .drawn import decays, given, randn, uniform, unit


class TestKimiDelta(EvolutionCase):
    """(I - beta k k^T) Diag(exp g): the gate acts first."""

    def parameters(self, batch, time, heads):
        return {
            "k": unit(randn(batch, time, heads, self.dim)),
            "beta": uniform(batch, time, heads),
            "g": -uniform(batch, time, heads, self.dim, high=0.5),
        }

    def evolution(self, p):
        left, right = -p["beta"][..., None] * p["k"], decays(p) * p["k"]
        return evolution.DiagonalPlusRankOne(left, right, **given(p))

    def matrices(self, p, batch, time, heads):
        k = p["k"]
        erase = (
            torch.eye(self.dim, dtype=torch.float64) - p["beta"][..., None, None] * k[..., :, None] * k[..., None, :]
        )
        return erase @ torch.diag_embed(decays(p))


class Rwkv7(EvolutionCase):
    """Diag(w) - kh (a kh)^T with w and a a dimension; used where the two forms differ."""

    def parameters(self, batch, time, heads):
        return {
            "k": unit(randn(batch, time, heads, self.dim)),
            "rate": uniform(batch, time, heads, self.dim),
            "g": -uniform(batch, time, heads, self.dim, high=0.6),
        }

    def evolution(self, p):
        return evolution.DiagonalPlusRankOne(-p["k"], p["rate"] * p["k"], **given(p))

    def matrices(self, p, batch, time, heads):
        k, rate = p["k"], p["rate"]
        erased = torch.einsum("bthm,bthn,bthn->bthmn", k, rate, k)
        return torch.diag_embed(decays(p)) - erased


class RankOneReal(EvolutionCase):
    """Any two vectors: products of either sign, complex pairs of eigenvalues among them."""

    def parameters(self, batch, time, heads):
        names, shape = ("a", "left", "right"), (batch, time, heads, self.dim)
        return {name: uniform(*shape, low=-0.9, high=0.9) for name in names}

    def evolution(self, p):
        return evolution.DiagonalPlusRankOne(p["left"], p["right"], decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed(p["a"]) + p["left"][..., :, None] * p["right"][..., None, :]


class TestRankOneComplex(EvolutionCase):
    """Any two complex vectors beside complex decays, left out of time."""

    complex_ = True

    def parameters(self, batch, time, heads):
        a = torch.polar(uniform(heads, self.dim, high=0.8), 6.3 * uniform(heads, self.dim))
        vectors = (unit(randn(batch, time, heads, self.dim, complex_=True)) for _ in range(2))
        return {"a": a} | dict(zip(("left", "right"), vectors, strict=True))

    def evolution(self, p):
        return evolution.DiagonalPlusRankOne(p["left"], 0.3 * p["right"], decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed(p["a"]) + 0.3 * p["left"][..., :, None] * p["right"][..., None, :]


class TestMicroSteps(EvolutionCase):
    """Two steps a token, beta up to 1.99."""

    def parameters(self, batch, time, heads):
        return {
            "direction": unit(randn(batch, time, heads, 2, self.dim)),
            "beta": uniform(batch, time, heads, 2, high=1.99),
            "g": -uniform(batch, time, heads, high=0.5),
        }

    def evolution(self, p):
        return evolution.MicroSteps(p["direction"], p["beta"], **given(p))

    def matrices(self, p, batch, time, heads):
        w, one = p["direction"], torch.eye(self.dim, dtype=torch.float64)
        first, second = (
            one - p["beta"][..., m, None, None] * w[..., m, :, None] * w[..., m, None, :] for m in range(2)
        )
        return decays(p)[..., None, None] * second @ first
