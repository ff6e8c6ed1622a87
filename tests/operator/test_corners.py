"""Corners where two algorithms must agree: rounding that could grow with the length, zeros, complex parts, groups."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from mixerlens import families
from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError
from mixerlens.evolution import Delta, Diagonal, Rotation, Scalar
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.operator import oracle_coefficients
from mixerlens.readout import Exp, Relu

from ..evolution import plain
from ..evolution.drawn import randn, unit
from ..evolution.plain import error


def by_hand(query, key, scaling, matrices):
    """alpha of a linear readout: u_jj = b_j k_j, u_ij = A_i u_{i-1,j}, alpha_ij = q_i . u_ij; time axis first."""
    time = len(query)
    alpha = torch.zeros(time, time, dtype=torch.complex128)
    for j in range(time):
        u = (scaling[j] * key[j]).to(torch.complex128)
        for i in range(j, time):
            u = matrices[i].to(torch.complex128) @ u if i > j else u
            alpha[i, j] = (query[i].to(torch.complex128) * u).sum()
    return alpha


@pytest.mark.parametrize("readout", ["scan", "transpose", "tiles"])
@pytest.mark.parametrize("log_decay", [-1.1946e-4, -1.1974e-4])
def test_float32_rounding_of_a_constant_decay_does_not_compound(log_decay, readout):
    # exp(64 log_decay) rounds alike in every chunk: carried in float32 it cost 2e-6 here and grew with the length
    time = 8192
    decay = {"log_decay": torch.full((1, 1, 1), log_decay, dtype=torch.float64)}
    ones = torch.ones(1, time, 1, 1)
    v = torch.zeros(1, time, 1, 1)
    at = time - 1 if readout == "transpose" else 0
    v[:, at] = 1.0
    kind = {"readout": Exp(), "normalizer": RowSum()} if readout == "tiles" else {}
    if readout == "tiles":  # the score itself is the probe: log of a coefficient over that of the diagonal
        op = CoefficientDynamics(ones, ones, Scalar(**decay), **kind).operator()
        row = op.row(time - 1)[0, 0].double()
        got, want = torch.log(row[0] / row[-1]) + 1, torch.tensor(log_decay * (time - 1)).double().exp()
        assert abs(got - want) <= 1e-6
        return
    for evolution in (Scalar(**decay), Diagonal(log_decay=decay["log_decay"][..., None])):
        op = CoefficientDynamics(ones, ones, evolution).operator()
        y = ((op.T if readout == "transpose" else op) @ v)[0, :, 0, 0].double()
        lags = torch.arange(time).double()
        want = torch.exp(log_decay * (lags.flip(0) if readout == "transpose" else lags))
        assert float(((y - want) / want).abs().max()) <= 3e-7


def test_a_complex_decay_of_zero_is_forgotten_at_once_by_the_fft_too():
    decay = torch.tensor([0, 0.5 + 0.3j, -0.9], dtype=torch.complex128).requires_grad_()
    q, k = randn(1, 1, 1, 3, complex_=True), randn(1, 1, 1, 3, complex_=True)
    v = randn(1, 9, 1, 2)
    fast = CoefficientDynamics(q, k, Diagonal(decay=decay), length=9)
    assert fast.time_invariant
    slow = CoefficientDynamics(q.expand(1, 9, 1, 3), k, Diagonal(decay=decay))
    assert error(fast.operator() @ v, slow.operator() @ v) <= 1e-13
    gradients = [torch.autograd.grad((d.operator() @ v).abs().square().sum(), decay)[0] for d in (fast, slow)]
    assert gradients[0].isfinite().all()
    assert error(*gradients) <= 1e-12


def test_one_decay_shared_by_all_state_dimensions():
    q, k, v = randn(1, 1, 2, 4), randn(1, 1, 2, 4), randn(1, 9, 2, 3)
    decay = torch.rand(2, 1).double()
    shared = CoefficientDynamics(q, k, Diagonal(decay=decay), length=9).operator()
    spread = CoefficientDynamics(q, k, Diagonal(decay=decay.expand(2, 4)), length=9).operator()
    assert error(shared @ v, spread @ v) <= 1e-14
    assert error(shared.to_dense(), spread.to_dense()) <= 1e-14


@pytest.mark.parametrize("part", ["query", "key", "direction", "beta", "decay", "scaling"])
def test_a_delta_rule_with_one_complex_part(part):
    time, dim = 70, 3
    parts = {
        "query": randn(1, time, 1, dim), "key": randn(1, time, 1, dim), "direction": unit(randn(1, time, 1, dim)),
        "beta": torch.rand(1, time, 1).double(), "decay": torch.rand(1, time, 1).double(),
        "scaling": torch.rand(1, time, 1).double(),
    }  # fmt: skip
    phase = torch.polar(torch.ones_like(parts[part]), parts[part])
    parts[part] = parts[part] * phase
    w, beta, a = (parts[name][0, :, 0] for name in ("direction", "beta", "decay"))
    matrices = a[:, None, None] * (torch.eye(dim) - beta[:, None, None] * w[:, :, None] * w[:, None, :])
    want = by_hand(parts["query"][0, :, 0], parts["key"][0, :, 0], parts["scaling"][0, :, 0], matrices)
    evolution = Delta(parts["direction"], parts["beta"], decay=parts["decay"])
    mixer = CoefficientDynamics(parts["query"], parts["key"], evolution, scaling=parts["scaling"])
    assert mixer.dtype == torch.complex128
    assert error(mixer.operator().to_dense()[0, 0], want) <= 1e-13
    v = randn(1, time, 1, 2)
    assert error((mixer.operator() @ v)[0, :, 0], want @ v[0, :, 0].to(want.dtype)) <= 1e-13


def test_an_angle_a_head_over_a_shared_key():
    time, dim = 20, 4
    q, k, angle = randn(1, time, 6, dim), randn(1, time, 2, dim), randn(6, dim // 2)
    grouped = CoefficientDynamics(q, k, Rotation(angle)).operator()
    spread = CoefficientDynamics(q, k.repeat_interleave(3, 2), Rotation(angle)).operator()
    assert error(grouped.to_dense(), spread.to_dense()) <= 1e-14
    cos, sin = torch.cos(angle[5]), torch.sin(angle[5])
    plane = torch.stack([torch.cat([cos.diag(), -sin.diag()], 1), torch.cat([sin.diag(), cos.diag()], 1)]).reshape(4, 4)
    want = by_hand(q[0, :, 5], k[0, :, 1], torch.ones(time), plane.expand(time, 4, 4)).real
    assert error(grouped.to_dense()[0, 5], want) <= 1e-13


def test_what_cannot_be_meant_is_refused():
    q = randn(1, 5, 6, 2)
    with pytest.raises(InputError, match="2 and 3, must divide"):
        CoefficientDynamics(q[:, :, :2], q[:, :, :3], scaling=torch.ones(1, 5, 6))
    with pytest.raises(InputError, match="real"):
        PerToken(torch.ones(1, 5, 6, dtype=torch.complex128))
    state = torch.zeros(1, 6, 2, 1, dtype=torch.complex128)
    with pytest.raises(InputError, match="imaginary"):
        CoefficientDynamics(q, q).operator().apply(randn(1, 5, 6, 1), initial_state=state)


def test_a_row_that_relu_leaves_at_zero_stays_at_zero():
    query = torch.tensor([1.0, -1.0, 2.0]).double().reshape(1, 3, 1, 1).requires_grad_()
    mixer = CoefficientDynamics(query, torch.ones(1, 3, 1, 1).double(), readout=Relu(), normalizer=RowSum())
    alpha = mixer.operator().to_dense()[0, 0]
    want = torch.tensor([[1, 0, 0], [0, 0, 0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    assert error(alpha, want) <= 1e-15
    (gradient,) = torch.autograd.grad(alpha.square().sum(), query)
    assert gradient.isfinite().all()


def test_what_is_no_tensor_is_refused_in_one_line():
    operator, values = CoefficientDynamics(randn(1, 5, 2, 3), randn(1, 5, 2, 3)).operator(), randn(1, 5, 2, 1)
    for given, name in [(values.numpy(), "ndarray"), (operator, "CoefficientOperator"), (values.tolist(), "list")]:
        for call in (operator.__matmul__, operator.T.__matmul__, operator.apply, lambda v: operator.state_at(1, v)):
            with pytest.raises(InputError, match=f"^values are a {name}: give a torch.Tensor$"):
                call(given)
    with pytest.raises(InputError, match=r"^initial_state is a ndarray: give a torch\.Tensor$"):
        operator.apply(values, initial_state=cast(Any, np.zeros((1, 2, 3, 1))))


def test_a_mixer_prints_on_one_line():
    mixer = CoefficientDynamics(randn(1, 5, 2, 3), randn(1, 5, 2, 3), Scalar(log_decay=-torch.rand(1, 5, 2)))
    assert repr(mixer) == ("CoefficientDynamics(batch 1, heads 2, time 5, dim 3; Scalar evolution, Identity readout)")


def test_rates_that_change_in_time():
    """Every token's own rate counts, in tiles too."""
    torch.manual_seed(0)
    evolution = Diagonal(rate=-torch.rand(1, 90, 4, 3).double(), step_size=torch.rand(2, 90, 4).double())
    d = CoefficientDynamics(torch.randn(2, 90, 1, 3).double(), torch.randn(2, 90, 1, 3).double(), evolution)
    alpha = oracle_coefficients(d)
    assert plain.error(d.operator().to_dense(), alpha) <= 1e-13
    assert plain.error(d.operator().row_mass().transpose(1, 2), alpha.abs().sum(-1)) <= 1e-13


@pytest.mark.parametrize("small", ["query", "key"])
@pytest.mark.parametrize("size", [1e-15, 1e-18])
def test_small_vectors_under_steep_decays(small, size):
    """Their products with e^-60 would leave the range of float32."""
    torch.manual_seed(0)
    parts = {name: torch.randn(1, 90, 2, 3) * (size if name == small else 1) for name in ("query", "key")}
    d = CoefficientDynamics(**parts, evolution=Diagonal(log_decay=torch.full((1, 1, 2, 3), -1.8)))
    alpha = oracle_coefficients(d)
    assert plain.error(d.operator().to_dense(), alpha) <= 1e-6
    assert plain.error(d.operator().row_mass().transpose(1, 2), alpha.abs().sum(-1)) <= 1e-6


def test_a_closed_gate_among_modes():
    """Re log a = -inf: the mode is gone after its own token; the others go on."""
    gates = torch.complex(torch.tensor([-torch.inf, -0.1]), torch.tensor([0.0, 0.3])).to(torch.complex128)
    one = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    d = CoefficientDynamics(one, one, Diagonal(log_decay=gates), length=50)
    v = torch.randn(1, 50, 1, 1, dtype=torch.float64)
    lag = (torch.arange(50)[:, None] - torch.arange(50)).clamp(min=0)
    kernel = torch.exp(gates[1] * lag) + (lag == 0)
    assert plain.error((d.operator() @ v)[0, :, 0, 0], (kernel.tril() @ v[0, :, 0, 0].to(kernel.dtype))) <= 1e-13


@pytest.mark.parametrize("time", [257, 300, 384, 385, 513, 640])
def test_last_rows_before_padding_see_all_columns(time):
    """Blocks of rows that end beside, on and behind the borders of the tiles below them."""
    torch.manual_seed(time)
    query, key = (torch.randn(1, time, 2, 4, dtype=torch.float64) for _ in range(2))
    d = families.softmax_attention(query=query, key=key, rope=torch.tensor([1.0, 0.1], dtype=torch.float64))
    alpha, token = oracle_coefficients(d), torch.arange(time, dtype=torch.float64)
    op = d.operator()
    assert torch.allclose(op.column_mass().transpose(1, 2), alpha.sum(-2), rtol=0, atol=1e-12)
    distance = (alpha * (token[:, None] - token)).sum(-1)
    assert torch.allclose(op.mean_distance().transpose(1, 2), distance, rtol=0, atol=1e-10)
