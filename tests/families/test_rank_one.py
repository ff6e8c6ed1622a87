"""Kimi Delta Attention, Gated DeltaNet-2 and Comba: peers, collapses, the triangular formula, and facts of order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from families.helpers import error, rand, randn
from mixerlens import families
from mixerlens.errors import InputError

BATCH, TIME, HEADS, DIM, WIDTH = 2, 150, 3, 8, 5


def vectors(dim: int = DIM, heads: int = HEADS) -> Tensor:
    return randn(BATCH, TIME, heads, dim)


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "query": vectors(),
        "key": F.normalize(vectors(), dim=-1),
        "log_decay": -rand(BATCH, TIME, HEADS, DIM),
        "beta": 1.9 * rand(BATCH, TIME, HEADS),
    }


@pytest.mark.parametrize("scan", ["chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"])
def test_kimi_delta_attention_is_transformers(drawn, scan):
    from transformers.models.kimi_linear import modeling_kimi_linear

    v = vectors(WIDTH)
    run = getattr(modeling_kimi_linear, scan)
    want, state = run(
        drawn["query"],
        drawn["key"],
        v,
        g=drawn["log_decay"],
        beta=drawn["beta"],
        initial_state=None,
        output_final_state=True,
    )
    scaled = drawn | {"query": drawn["query"] * DIM**-0.5}
    got, last = families.kimi_delta_attention(**scaled).operator().apply(v, return_state=True)
    assert error(got, want) <= 2e-6  # that scan is float32
    assert error(last, state.double()) <= 2e-6


def test_gated_delta_net_2_with_equal_gates_is_kimis(drawn):
    """One number beta in every dimension for both gates, against transformers' scan."""
    from transformers.models.kimi_linear.modeling_kimi_linear import chunk_kimi_delta_attention

    v, beta = vectors(WIDTH), drawn["beta"]
    want, _ = chunk_kimi_delta_attention(drawn["query"], drawn["key"], v, g=drawn["log_decay"], beta=beta)
    dynamics = families.gated_delta_net_2(
        query=drawn["query"] * DIM**-0.5,
        key=drawn["key"],
        log_decay=drawn["log_decay"],
        erase=beta[..., None].expand(-1, -1, -1, DIM),
    )
    assert error(dynamics.operator() @ (beta[..., None] * v), want) <= 2e-6  # that scan is float32


def test_comba_with_a_decayed_key_for_feedback_is_gated_delta_net(drawn):
    """a (I - beta k k^T) = a I - beta k (a k)^T, against transformers' scan."""
    from transformers.models.olmo_hybrid.modeling_olmo_hybrid import torch_chunk_gated_delta_rule

    v, beta, k, gate = vectors(WIDTH), drawn["beta"], drawn["key"], drawn["log_decay"][..., 0]
    want, _ = torch_chunk_gated_delta_rule(drawn["query"], k, v, g=gate, beta=beta)
    given = {"query": drawn["query"] * DIM**-0.5, "key": k, "log_decay": gate, "beta": beta}
    decayed = families.comba(**given, feedback=k * gate.exp()[..., None])
    assert error(decayed.operator() @ v, want) <= 2e-6  # that scan is float32
    plain = families.comba(**given, feedback=k)
    assert error(plain.operator() @ v, want) > 0.05  # reading before the decay is another mixer


def triangular(q: Tensor, k: Tensor, beta: Tensor, g: Tensor, inverse: bool = True) -> Tensor:
    """tril((Q . G)(K / G)^T) (I + tril(diag(beta) (K . G)(K / G)^T, -1))^{-1} diag(beta), G the products of decays."""
    q, k, beta, g = (x.transpose(1, 2) for x in (q, k, beta, g))
    grown, shrunk = g.cumsum(-2).exp(), (-g.cumsum(-2)).exp()
    reads = ((q * grown) @ (k * shrunk).mT).tril()
    if inverse:
        erased = (beta[..., None] * ((k * grown) @ (k * shrunk).mT)).tril(-1)
        system = torch.eye(q.shape[-2], dtype=torch.float64) + erased
        reads = torch.linalg.solve_triangular(system, reads, upper=False, left=False, unitriangular=True)
    return reads * beta[..., None, :]


@pytest.mark.parametrize("keys", ["random", "correlated"])
def test_the_triangular_formula(keys):
    """The coefficients by one solve; without the inverse they are off, and far more so for correlated keys."""
    torch.manual_seed(2)
    q, k = vectors(), vectors() if keys == "random" else 0.1 * vectors() + randn(1, 1, HEADS, DIM)
    k, g, beta = F.normalize(k, dim=-1), -0.02 * rand(BATCH, TIME, HEADS, DIM), rand(BATCH, TIME, HEADS)
    got = families.kimi_delta_attention(query=q, key=k, log_decay=g, beta=beta).operator().to_dense()
    want = triangular(q, k, beta, g)
    assert error(got, want) <= 1e-12
    wrong = triangular(q, k, beta, g, inverse=False)
    off = float((wrong - want).norm() / want.norm())
    assert off > (0.3 if keys == "random" else 2.0)


def test_what_dropping_the_inverse_costs():
    """15 % for the random keys of a short sequence in many dimensions, 200 % and more for correlated keys."""
    torch.manual_seed(4)
    time, dim, heads = 32, 128, 8
    q, k, beta = randn(1, time, heads, dim), randn(1, time, heads, dim), rand(1, time, heads)
    off = {}
    for name, keys in (("random", k), ("correlated", 0.3 * k + randn(1, 1, heads, dim))):
        keys = F.normalize(keys, dim=-1)
        exact = families.delta_net(query=q, key=keys, beta=beta).operator().to_dense()
        short = triangular(q, keys, beta, torch.zeros_like(keys), inverse=False)
        off[name] = float((short - exact).norm() / exact.norm())
    assert 0.1 < off["random"] < 0.2
    assert off["correlated"] > 1.5


def test_the_order_of_gate_and_correction_matters(drawn):
    """Diag(g) (I - beta k k^T) is another mixer, unless the gate is the same in every dimension."""
    from mixerlens.dynamics import CoefficientDynamics
    from mixerlens.evolution import DiagonalPlusRankOne

    def other(g: Tensor) -> Tensor:
        left = -drawn["beta"][..., None] * drawn["key"] * g.exp()
        evolution = DiagonalPlusRankOne(left, drawn["key"], log_decay=g)
        return CoefficientDynamics(drawn["query"], drawn["key"], evolution, scaling=drawn["beta"]).operator().to_dense()

    g = drawn["log_decay"]
    right = families.kimi_delta_attention(**drawn).operator().to_dense()
    assert float((other(g) - right).norm() / right.norm()) > 0.05
    same = g.mean(-1, keepdim=True).expand_as(g)
    right = families.kimi_delta_attention(**(drawn | {"log_decay": same})).operator().to_dense()
    assert error(other(same), right) <= 1e-12


def test_groups_share_keys_and_a_closed_gate_forgets_one_dimension(drawn):
    torch.manual_seed(3)
    k = F.normalize(vectors(heads=1), dim=-1)
    g = drawn["log_decay"].clone()
    g[:, 70, :, 2] = -torch.inf
    given = drawn | {"key": k, "log_decay": g}
    shared = families.kimi_delta_attention(**given).operator().to_dense()
    full = families.kimi_delta_attention(**(given | {"key": k.expand(-1, -1, HEADS, -1)})).operator().to_dense()
    assert error(shared, full) <= 1e-14  # how a product rounds depends on how its keys lie in memory
    u = families.kimi_delta_attention(**(given | {"beta": torch.zeros_like(drawn["beta"])})).evolution
    state = u.step(torch.ones(BATCH, HEADS, DIM, 1, dtype=torch.float64), 70)
    assert (state[:, :, 2] == 0).all()
    assert (state[:, :, 3] > 0).all()


@pytest.mark.parametrize(
    "name",
    [
        *("kimi_delta_attention", "gated_delta_net_2", "comba", "delta_product", "gated_delta_product", "prism"),
        *("log_linear_attention", "mesa_net", "titans_linear", "titans_linear_plain", "ttt_linear"),
    ],
)
def test_float32(name):
    """Against the float64 reference on the same float32 numbers."""
    family = families.FAMILIES[name]
    given = {n: x.float() for n, x in family.arguments(3).items()}
    value = given.pop("value")
    got = family.function(**given).operator() @ value
    assert got.dtype == torch.float32
    assert error(got.double(), family.recurrence_by_hand(value=value, **given)) <= 1e-6


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("kimi_delta_attention", {"log_decay": torch.rand(1, 6, 2, 3)}, "log_decay must not be positive"),
        ("kimi_delta_attention", {"log_decay": -torch.rand(1, 6, 2, 4)}, "sizes do not fit"),
        ("kimi_delta_attention", {"beta": torch.rand(1, 5, 2)}, "sizes do not fit"),
        ("gated_delta_net_2", {"erase": torch.rand(1, 6, 4, 3)}, "sizes do not fit|must divide"),
        ("gated_delta_net_2", {"erase": None}, "erase is a NoneType"),
        ("comba", {"log_decay": torch.rand(1, 6, 2)}, "log_decay must not be positive"),
        ("comba", {"feedback": torch.rand(1, 6, 2, 4)}, "dimensions"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, change, what):
    x, g = torch.randn(1, 6, 2, 3), -torch.rand(1, 6, 2)
    given = {
        "kimi_delta_attention": {"query": x, "key": x, "log_decay": -torch.rand(1, 6, 2, 3), "beta": -g},
        "gated_delta_net_2": {"query": x, "key": x, "log_decay": -torch.rand(1, 6, 2, 3), "erase": x},
        "comba": {"query": x, "key": x, "feedback": x, "log_decay": g, "beta": -g},
    }[name]
    with pytest.raises(InputError, match=what) as refused:
        getattr(families, name)(**(given | change))
    assert "\n" not in str(refused.value)
