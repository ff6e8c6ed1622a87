"""Which algorithm trains which mixer, each against the operator and the oracle, in both precisions."""

from __future__ import annotations

import copy

import pytest
import torch

from mixerlens import CoefficientDynamics, evolution
from mixerlens.design import acting, mixer, preset
from mixerlens.design.mixer import Mixer
from mixerlens.normalizer import PerToken, RowSum, RowSumFloor
from mixerlens.readout import Polynomial, RealPart


def normal(*shape: int, seed: int = 0, complex_: bool = False) -> torch.Tensor:
    dtype = torch.complex128 if complex_ else torch.float64
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed + len(shape)))


def gates(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def called(monkeypatch, module, name: str) -> list[int]:
    """Grows with every call of a function of the module."""
    calls, kept = [], getattr(module, name)

    def counting(*args):
        calls.append(1)
        return kept(*args)

    monkeypatch.setattr(module, name, counting)
    return calls


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("delta_net", "_scan"),
        ("gated_delta_net", "_scan"),
        ("gated_delta_product", "multiplied"),
        ("mamba", "_steps"),
        ("min_gru", "_steps"),
        ("softmax_attention", "_chunk"),
        ("mamba2", "_chunk"),
        ("gated_linear_attention", "_chunk"),
        ("rwkv7", "_chunk"),
        ("titans_linear", "_chunk"),
        ("log_linear_attention", "_chunk"),
        ("mamba3", "_chunk"),
    ],
)
def test_a_preset_trains_by_its_own_algorithm(monkeypatch, name, algorithm):
    calls = called(monkeypatch, mixer if algorithm == "multiplied" else acting, algorithm)
    Mixer(preset(name), 8, seed=0)(torch.randn(2, 11, 8))
    assert calls


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.detach() - wanted.detach()).abs().max() / wanted.detach().abs().max())


NORMALIZERS = {
    "row sum": RowSum(),
    "floor": RowSumFloor(torch.full((1, 1, 1), 0.3, dtype=torch.float64)),
    "given": PerToken(0.5 + gates(2, 23, 3)),
}


@pytest.mark.parametrize("name", ["none", *NORMALIZERS])
@pytest.mark.parametrize("kind", ["scalar", "diagonal", "complex"])
def test_steps_of_narrow_heads_are_the_operator(kind, name):
    decay = gates(2, 23, 3, 2, seed=4)
    kinds = {
        "scalar": evolution.Scalar(log_decay=-gates(2, 23, 1)),
        "diagonal": evolution.Diagonal(decay=decay),
        "complex": evolution.Diagonal(decay=torch.polar(decay, 3 * decay)),
    }
    parts = {} if name == "none" else {"normalizer": NORMALIZERS[name]}
    if kind == "complex":
        parts["readout"] = RealPart(2.0)
    # positive queries and keys: a row sum that crosses zero would only compare roundings
    d = CoefficientDynamics(gates(2, 23, 3, 2), gates(2, 23, 1, 2, seed=9), kinds[kind], gates(2, 23, 3), **parts)
    if kind == "complex" and name in ("row sum", "floor"):
        return  # its sum has no sign
    v = normal(2, 23, 3, 2)
    assert acting._narrow(d, v)
    assert error(acting.act(d, v), d.operator() @ v) < 1e-11


def test_a_long_polynomial_is_lifted(monkeypatch):
    calls = called(monkeypatch, acting, "lift")
    d = CoefficientDynamics(
        0.3 * normal(1, 150, 2, 3), 0.3 * normal(1, 150, 2, 3, seed=3), readout=Polynomial((1.0, 1.0, 0.5)),
        normalizer=RowSum(),
    )  # fmt: skip
    v = normal(1, 150, 2, 3)
    assert error(acting.act(d, v), d.operator() @ v) < 1e-12
    assert calls


def test_a_direction_without_history_is_not_taken_for_the_key():
    """The same numbers, but the gradient must not pass through the direction."""
    key, beta = normal(1, 9, 2, 4).requires_grad_(), gates(1, 9, 2).requires_grad_()
    v, query = normal(1, 9, 2, 3), normal(1, 9, 2, 4, seed=8)

    def gradient(act):
        d = CoefficientDynamics(query, key, evolution.Delta(key.detach(), beta), scaling=beta)
        return torch.autograd.grad(act(d).square().sum(), key)[0]

    found, wanted = gradient(lambda d: acting.act(d, v)), gradient(lambda d: d.operator() @ v)
    assert error(found, wanted) < 1e-12


@pytest.mark.parametrize("time", [60, 100])
@pytest.mark.parametrize(
    "name",
    [
        "softmax_attention",
        "gated_delta_net",
        "mamba",
        "mamba2",
        "based",
        "mlstm",
        "retnet",
        "rwkv6",
        "gated_delta_product",
        "rwkv7",
        "titans_linear",
        "log_linear_attention",
        "mesa_net",
    ],
)
def test_float32_keeps_its_digits(name, time):
    single = Mixer(preset(name), 16, seed=0)
    x = torch.randn(2, time, 16, generator=torch.Generator().manual_seed(0))
    wanted = copy.deepcopy(single).double().dense(x.double())
    assert error(single(x).double(), wanted) < 3e-6
    with torch.no_grad():
        assert error(single(x).double(), wanted) < 3e-6
