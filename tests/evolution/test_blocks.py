"""The kinds that are blocks: pending impulses, shifts, levels and momentum, each with its matrix written by hand."""

from __future__ import annotations

import torch

from mixerlens import evolution

from .case import EvolutionCase
from .drawn import decays, given, randn, uniform, unit


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def zeros(batch, time, heads, n):
    return torch.zeros(batch, time, heads, n, n, dtype=torch.float64)


class TestReadBeforeWrite(EvolutionCase):
    """A decay a dimension; p["g"] (or a) holds at token t what acts there, the decay of token t - 1."""

    def parameters(self, batch, time, heads):
        return {"g": -uniform(batch, time, heads, self.dim // 2, high=0.7)}

    def evolution(self, p):
        ((name, x),) = given(p).items()
        own = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)  # what the last token has acts after the sequence
        inner, before = (evolution.Diagonal(**{name: y}) for y in (own, x[:, :1]))
        return evolution.ReadBeforeWrite(inner, previous=before)

    def matrices(self, p, batch, time, heads):
        n = self.dim // 2
        A = zeros(batch, time, heads, self.dim)
        A[..., :n, :n] = torch.diag_embed(decays(p))
        A[..., :n, n:] = eye(n)
        return A


class TestReadBeforeWriteConstant(TestReadBeforeWrite):
    """One complex decay a dimension for all tokens, and before them."""

    complex_ = True

    def parameters(self, batch, time, heads):
        return {"a": torch.polar(uniform(heads, self.dim // 2, low=0.7), 6.3 * uniform(heads, self.dim // 2))}

    def evolution(self, p):
        decay = evolution.Diagonal(decay=p["a"])
        return evolution.ReadBeforeWrite(decay, previous=decay)

    def matrices(self, p, batch, time, heads):
        n = self.dim // 2
        A = zeros(batch, time, heads, self.dim).to(torch.complex128)
        A[..., :n, :n] = torch.diag_embed(p["a"])
        A[..., :n, n:] = eye(n)
        return A


class TestTrapezoid(EvolutionCase):
    """A decaying rotation inside, as in Mamba-3."""

    def parameters(self, batch, time, heads):
        return {
            "angle": randn(batch, time, heads, 1),
            "g": -uniform(batch, time, heads, high=0.5),
            "gain": uniform(batch, time, heads),
        }

    def evolution(self, p):
        return evolution.Trapezoid(evolution.Rotation(p["angle"], **given(p)), p["gain"])

    def matrices(self, p, batch, time, heads):
        cos, sin = p["angle"][..., 0].cos(), p["angle"][..., 0].sin()
        R = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        E = decays(p)[..., None, None] * R
        top = torch.cat([E, p["gain"][..., None, None] * E], -1)
        return torch.cat([top, torch.zeros_like(top)], -2)


class TestShift(EvolutionCase):
    """Two cells of two numbers."""

    block = 2

    def parameters(self, batch, time, heads):
        return {}

    def evolution(self, p):
        return evolution.Shift(self.block)

    def matrices(self, p, batch, time, heads):
        A = zeros(batch, time, heads, self.dim)
        for i in range(self.block, self.dim):
            A[..., i, i - self.block] = 1
        return A


class TestShiftOne(TestShift):
    """More cells than a short sequence has tokens."""

    block = 1
    dim = 17


class TestFenwick(EvolutionCase):
    """Levels for every length of the case, of one number each."""

    dim = 11
    levels = 11

    def parameters(self, batch, time, heads):
        place = torch.arange(time, dtype=torch.float64)[None, :, None].expand(batch, time, heads)
        return {"place": place.clone(), "g": -uniform(batch, time, heads, high=0.2)}

    def evolution(self, p):
        position = p["place"].detach()[:, :, :1].long()
        return evolution.Fenwick(self.levels, **given(p), position=position)

    def matrices(self, p, batch, time, heads):
        A = torch.zeros(batch, time, heads, self.dim, self.dim, dtype=torch.float64)
        n = self.dim // self.levels
        for t in range(time):
            number, into = int(p["place"][0, t, 0]), self.levels - 1
            if number:
                into = 1
                while number % 2 == 0:
                    number, into = number // 2, into + 1
            for level in range(self.levels):
                for d in range(n):
                    A[:, t, :, max(level, into) * n + d, level * n + d] = 1
        return A * decays(p)[..., None, None]


class TestMomentum(EvolutionCase):
    def parameters(self, batch, time, heads):
        return {
            "direction": unit(randn(batch, time, heads, self.dim // 2)),
            "rate": uniform(batch, time, heads),
            "momentum": uniform(batch, time, heads, high=0.9),
            "g": -uniform(batch, time, heads, high=0.3),
        }

    def evolution(self, p):
        return evolution.Momentum(p["direction"], p["rate"], p["momentum"], **given(p))

    def matrices(self, p, batch, time, heads):
        w, n = p["direction"], self.dim // 2
        loss = p["rate"][..., None, None] * w[..., :, None] * w[..., None, :]
        moving = p["momentum"][..., None, None] * eye(n)
        decay = decays(p)[..., None, None] * eye(n)
        return torch.cat([torch.cat([decay - loss, moving], -1), torch.cat([-loss, moving], -1)], -2)
