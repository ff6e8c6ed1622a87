"""Memories that learn while they read: gradients as autograd takes them, least squares as a solver fits them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from families.helpers import error, rand, randn
from mixerlens import families
from mixerlens.errors import InputError, MemoryBudgetError

BATCH, TIME, HEADS, DIM, WIDTH = 1, 70, 2, 6, 4


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"query": randn(BATCH, TIME, HEADS, DIM), "key": F.normalize(randn(BATCH, TIME, HEADS, DIM), dim=-1)}


@pytest.fixture
def values() -> Tensor:
    torch.manual_seed(2)
    return randn(BATCH, TIME, HEADS, WIDTH)


def gates(high: float = 1.0) -> Tensor:
    return high * rand(BATCH, TIME, HEADS)


def trained(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, decay: Tensor, momentum: Tensor) -> Tensor:
    """One head: momentum SGD with weight decay on |k^T M - v|^2, the gradient by autograd, read after every step."""
    memory, surprise, rows = torch.zeros(DIM, WIDTH, dtype=torch.float64), 0.0, []
    for t in range(TIME):
        M = memory.requires_grad_()
        (gradient,) = torch.autograd.grad((k[t] @ M - v[t]).square().sum(), M)
        surprise = momentum[t] * surprise - rate[t] * gradient
        memory = (decay[t] * M + surprise).detach()
        rows.append(q[t] @ memory)
    return torch.stack(rows)


def test_titans_is_momentum_descent(drawn, values):
    """theta is twice the learning rate of |M^T k - v|^2, for the gradient's factor 2."""
    rate, gate, momentum = gates(0.5), -gates(0.3), gates(0.9)
    dynamics = families.titans_linear(**drawn, rate=2 * rate, log_decay=gate, momentum=momentum)
    plain = families.titans_linear(**drawn, rate=2 * rate, log_decay=gate)
    assert dynamics.dim == 2 * DIM
    assert plain.dim == DIM
    for h in range(HEADS):
        q, k, v, r, g, m = (x[0, :, h] for x in (drawn["query"], drawn["key"], values, rate, gate, momentum))
        want = trained(q, k, v, r, g.exp(), m)
        assert error((dynamics.operator(h) @ values[:, :, h : h + 1])[0, :, 0], want) <= 1e-12
        still = trained(q, k, v, r, g.exp(), torch.zeros_like(m))
        assert error((plain.operator(h) @ values[:, :, h : h + 1])[0, :, 0], still) <= 1e-12
        assert error(want, still) > 0.1


def test_ttt_linear_is_gradient_descent(drawn, values):
    rate = gates(0.9)
    op = families.ttt_linear(**drawn, learning_rate=rate).operator()
    one, none = torch.ones(TIME), torch.zeros(TIME)
    for h in range(HEADS):
        want = trained(*(x[0, :, h] for x in (drawn["query"], drawn["key"], values, rate)), decay=one, momentum=none)
        assert error((op @ values)[0, :, h], want) <= 1e-12


def test_ttt_linear_and_titans_without_decay_are_transformers_delta_rule(drawn, values):
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    beta = gates(1.9)
    zero = torch.zeros_like(beta)
    want, _ = torch_chunk_gated_delta_rule(drawn["query"], drawn["key"], values, g=zero, beta=beta)
    scaled = drawn | {"query": drawn["query"] * DIM**-0.5}
    ttt = families.ttt_linear(**scaled, learning_rate=beta / 2)
    titans = families.titans_linear(**scaled, rate=beta, log_decay=zero)
    still = families.titans_linear(**scaled, rate=beta, log_decay=zero, momentum=zero)
    for dynamics in (ttt, titans, still):
        assert error(dynamics.operator() @ values, want) <= 2e-6  # that scan is float32


def test_titans_corrects_before_it_decays(drawn, values):
    """Without momentum it is a gated delta rule, but not the one that decays first."""
    rate, gate = gates(1.9), -gates(1.0)
    titans = families.titans_linear(**drawn, rate=rate, log_decay=gate).operator() @ values
    same = families.comba(**drawn, feedback=drawn["key"], log_decay=gate, beta=rate).operator() @ values
    other = families.gated_delta_net(**drawn, log_decay=gate, beta=rate).operator() @ values
    assert error(titans, same) <= 1e-13
    assert error(titans, other) > 0.1


def test_mesa_net_is_the_weighted_ridge_regression_at_every_token(drawn, values):
    """y_t = q_t^T W with W the least-squares fit of the values so far: rows sqrt(weight) k, and sqrt(ridge) I for 0."""
    gate, beta, ridge = -gates(0.2), gates(), 0.3 + rand(HEADS, DIM)
    got = families.mesa_net(**drawn, log_decay=gate, beta=beta, ridge=ridge).operator() @ values
    for h in range(HEADS):
        for t in (0, 3, 30, TIME - 1):
            after = gate[0, : t + 1, h].flip(0).cumsum(0).flip(0) - gate[0, : t + 1, h]
            weight = (beta[0, : t + 1, h] * after.exp()).sqrt()[:, None]
            design = torch.cat([weight * drawn["key"][0, : t + 1, h], torch.diag(ridge[h].sqrt())])
            target = torch.cat([weight * values[0, : t + 1, h], torch.zeros(DIM, WIDTH, dtype=torch.float64)])
            fit = torch.linalg.lstsq(design, target).solution
            assert error(got[0, t, h], drawn["query"][0, t, h] @ fit) <= 1e-11


def test_mesa_nets_query_depends_on_earlier_keys_only(drawn, values):
    """A chained system: changing a key changes all later rows, also where the columns are others', and no earlier."""
    given = drawn | {"log_decay": -gates(0.2), "beta": gates(), "ridge": 0.3 + rand(HEADS, DIM)}
    alpha = families.mesa_net(**given).operator().to_dense()
    key = drawn["key"].clone()
    key[:, 20] = F.normalize(randn(BATCH, HEADS, DIM), dim=-1)
    moved = families.mesa_net(**(given | {"key": key})).operator().to_dense()
    assert torch.equal(moved[..., :20, :], alpha[..., :20, :])
    assert ((moved - alpha)[..., 20:, :20].abs().amax((-1, -2)) > 1e-3).all()


def test_mesa_net_in_float32_solves_in_float64(drawn, values):
    given = drawn | {"log_decay": -gates(0.2), "beta": gates(), "ridge": 0.25 + 0 * rand(HEADS, DIM)}
    low = {n: x.float() for n, x in given.items()}
    want = families.mesa_net(**{n: x.double() for n, x in low.items()}).operator() @ values.float().double()
    got = families.mesa_net(**low).operator() @ values.float()
    assert got.dtype == torch.float32
    assert error(got.double(), want) <= 1e-6


def test_mesa_net_says_how_much_memory_it_needs(drawn, monkeypatch):
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "100000")
    with pytest.raises(MemoryBudgetError, match="mesa_net needs 161280 bytes"):
        families.mesa_net(**drawn, log_decay=-gates(), beta=gates(), ridge=rand(HEADS, DIM) + 1)


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("titans_linear", {"log_decay": torch.rand(1, 5, 2)}, "log_decay must not be positive"),
        ("titans_linear", {"momentum": 0.9}, "momentum is a float"),
        ("titans_linear", {"rate": torch.rand(1, 5, 3)}, "must divide"),
        ("ttt_linear", {"learning_rate": None}, "learning_rate is a NoneType"),
        ("mesa_net", {"beta": -torch.rand(1, 5, 2)}, "beta must not be negative"),
        ("mesa_net", {"ridge": torch.zeros(2, 3)}, "ridge must be positive"),
        ("mesa_net", {"ridge": torch.ones(3, 3)}, "ridge must be .heads, dim."),
        ("mesa_net", {"ridge": torch.ones(3)}, "ridge must be .heads, dim."),
        ("mesa_net", {"key": torch.randn(1, 5, 2, 3, dtype=torch.complex64)}, "are real"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, change, what):
    x, g = torch.randn(1, 5, 2, 3), torch.rand(1, 5, 2)
    given = {
        "titans_linear": {"query": x, "key": x, "rate": g, "log_decay": -g, "momentum": g},
        "ttt_linear": {"query": x, "key": x, "learning_rate": g},
        "mesa_net": {"query": x, "key": x, "log_decay": -g, "beta": g, "ridge": torch.ones(2, 3)},
    }[name]
    getattr(families, name)(**given)
    with pytest.raises(InputError, match=what) as refused:
        getattr(families, name)(**(given | change))
    assert "\n" not in str(refused.value)
