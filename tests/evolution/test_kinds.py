"""Every kind of evolution under the one test case: its parameters and the dense matrices they stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from mixerlens import evolution

from .case import EvolutionCase, PositiveCase
from .drawn import Leaves, randn, uniform, unit


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def turns(angle: Tensor, layout: str) -> Tensor:
    """Counter-clockwise rotations (..., 2p, 2p) by angle (..., p), entry by entry."""
    pairs = angle.shape[-1]
    R = torch.zeros(*angle.shape[:-1], 2 * pairs, 2 * pairs, dtype=torch.float64)
    for p in range(pairs):
        a, b = (p, p + pairs) if layout == "half" else (2 * p, 2 * p + 1)
        cos, sin = angle[..., p].cos(), angle[..., p].sin()
        corner = torch.zeros(2 * pairs, 2 * pairs, dtype=torch.float64)
        for row, column, entry in [(a, a, cos), (a, b, -sin), (b, a, sin), (b, b, cos)]:
            place = corner.clone()
            place[row, column] = 1
            R = R + entry[..., None, None] * place
    return R


class TestIdentity(PositiveCase):
    bidirectional = True

    def parameters(self, batch, time, heads) -> Leaves:
        return {}

    def evolution(self, p):
        return evolution.Identity()

    def matrices(self, p, batch, time, heads):
        return eye(self.dim).expand(batch, time, heads, -1, -1)


class TestScalarLogDecay(PositiveCase):
    def parameters(self, batch, time, heads):
        return {"g": -uniform(batch, time, heads, high=0.7)}

    def evolution(self, p):
        return evolution.Scalar(log_decay=p["g"])

    def matrices(self, p, batch, time, heads):
        return p["g"].exp()[..., None, None] * eye(self.dim)


class TestScalarDecay(EvolutionCase):
    """Negative decays among them, one a head for all tokens."""

    def parameters(self, batch, time, heads):
        return {"a": torch.tensor([0.98, -0.9, 0.3], dtype=torch.float64)[:heads]}

    def evolution(self, p):
        return evolution.Scalar(decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return (p["a"][..., None, None] * eye(self.dim)).expand(batch, time, heads, -1, -1)


class TestDiagonalLogDecay(PositiveCase):
    def parameters(self, batch, time, heads):
        return {"g": -uniform(batch, time, heads, self.dim, high=0.7)}

    def evolution(self, p):
        return evolution.Diagonal(log_decay=p["g"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed(p["g"].exp())


class TestDiagonalDecay(EvolutionCase):
    """Decays of both signs."""

    def parameters(self, batch, time, heads):
        return {"a": uniform(batch, time, heads, self.dim, low=-0.99, high=0.99)}

    def evolution(self, p):
        return evolution.Diagonal(decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed(p["a"])


class TestDiagonalComplex(EvolutionCase):
    complex_ = True

    def parameters(self, batch, time, heads):
        radius, angle = uniform(batch, time, heads, self.dim, low=0.6), 6.3 * uniform(batch, time, heads, self.dim)
        return {"a": torch.polar(radius, angle)}

    def evolution(self, p):
        return evolution.Diagonal(decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed(p["a"])


class TestDiagonalRateAndStep(PositiveCase):
    """Mamba's factored form: a = exp(dt A)."""

    def parameters(self, batch, time, heads):
        return {"A": -uniform(heads, self.dim, low=0.1, high=4.0), "dt": uniform(batch, time, heads, high=0.3)}

    def evolution(self, p):
        return evolution.Diagonal(rate=p["A"], step_size=p["dt"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed((p["dt"][..., None] * p["A"]).exp())


class TestDiagonalComplexRateAndStep(EvolutionCase):
    """S4D's factored form, with one constant step a head."""

    complex_ = True

    def parameters(self, batch, time, heads):
        A = torch.complex(-uniform(heads, self.dim, low=0.2), 3.0 * torch.arange(self.dim).double().expand(heads, -1))
        return {"A": A, "dt": uniform(heads, low=0.01, high=0.3)}

    def evolution(self, p):
        return evolution.Diagonal(rate=p["A"], step_size=p["dt"])

    def matrices(self, p, batch, time, heads):
        return torch.diag_embed((p["dt"][:, None] * p["A"]).exp()).expand(batch, time, heads, -1, -1)


class TestRotationHalf(EvolutionCase):
    layout = "half"

    def parameters(self, batch, time, heads):
        return {"angle": torch.tensor([1.0, -0.01], dtype=torch.float64)}

    def evolution(self, p):
        return evolution.Rotation(p["angle"], layout=self.layout)

    def matrices(self, p, batch, time, heads):
        return turns(p["angle"], self.layout).expand(batch, time, heads, -1, -1)


class TestRotationInterleaved(TestRotationHalf):
    """Angles that change with the token."""

    layout = "interleaved"

    def parameters(self, batch, time, heads):
        return {"angle": randn(batch, time, heads, 2)}


class TestRotationLogDecay(EvolutionCase):
    def parameters(self, batch, time, heads):
        return {"angle": randn(heads, 2), "g": -uniform(batch, time, heads, high=0.5)}

    def evolution(self, p):
        return evolution.Rotation(p["angle"], log_decay=p["g"])

    def matrices(self, p, batch, time, heads):
        return p["g"].exp()[..., None, None] * turns(p["angle"], "half")


class TestRotationDecay(EvolutionCase):
    def parameters(self, batch, time, heads):
        return {"angle": randn(batch, time, heads, 2), "a": torch.tensor([0.99, 0.7, -0.9]).double()[:heads]}

    def evolution(self, p):
        return evolution.Rotation(p["angle"], layout="interleaved", decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return p["a"][..., None, None] * turns(p["angle"], "interleaved")


class TestDelta(EvolutionCase):
    """Unit directions and beta up to 1.99."""

    def parameters(self, batch, time, heads):
        return {"direction": unit(randn(batch, time, heads, self.dim)), "beta": uniform(batch, time, heads, high=1.99)}

    def evolution(self, p):
        return evolution.Delta(p["direction"], p["beta"])

    def matrices(self, p, batch, time, heads):
        w = p["direction"]
        return eye(self.dim) - p["beta"][..., None, None] * w[..., :, None] * w[..., None, :]


class TestDeltaGated(TestDelta):
    def parameters(self, batch, time, heads):
        return super().parameters(batch, time, heads) | {"g": -uniform(batch, time, heads, high=0.5)}

    def evolution(self, p):
        return evolution.Delta(p["direction"], p["beta"], log_decay=p["g"])

    def matrices(self, p, batch, time, heads):
        return p["g"].exp()[..., None, None] * super().matrices(p, batch, time, heads)


class TestDeltaDecayed(TestDelta):
    """A decay given as a number, negative for one head."""

    def parameters(self, batch, time, heads):
        return super().parameters(batch, time, heads) | {"a": torch.tensor([0.99, 0.5, -0.8]).double()[:heads]}

    def evolution(self, p):
        return evolution.Delta(p["direction"], p["beta"], decay=p["a"])

    def matrices(self, p, batch, time, heads):
        return p["a"][..., None, None] * super().matrices(p, batch, time, heads)


class TestUnipotent(EvolutionCase):
    """An additive bias: the last state dimension feeds the last but one."""

    def parameters(self, batch, time, heads):
        return {"offset": -uniform(batch, time, heads, high=0.3)}

    def evolution(self, p):
        return evolution.Unipotent(p["offset"])

    def matrices(self, p, batch, time, heads):
        corner = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        corner[-2, -1] = 1
        return eye(self.dim) + p["offset"][..., None, None] * corner


class TestDense(EvolutionCase):
    def parameters(self, batch, time, heads):
        return {"matrix": 0.97 * torch.linalg.qr(randn(batch, time, heads, self.dim, self.dim))[0]}

    def evolution(self, p):
        return evolution.Dense(p["matrix"])

    def matrices(self, p, batch, time, heads):
        return p["matrix"]


class TestDenseComplex(TestDense):
    """One complex matrix for all tokens."""

    complex_ = True

    def parameters(self, batch, time, heads):
        return {"matrix": 0.97 * torch.linalg.qr(randn(heads, self.dim, self.dim, complex_=True))[0]}

    def matrices(self, p, batch, time, heads):
        return p["matrix"].expand(batch, time, heads, -1, -1)
