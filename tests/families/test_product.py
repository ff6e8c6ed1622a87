"""DeltaProduct and PRISM: the sum of the micro-steps' contributions is the mixer, as transformers' scan computes it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from families.helpers import error, rand, randn
from mixerlens import families, references
from mixerlens.errors import InputError

BATCH, TIME, HEADS, DIM, WIDTH = 2, 53, 2, 6, 4


def drawn(steps: int, groups: int = HEADS) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(steps)
    given = {
        "query": randn(BATCH, TIME, groups, DIM),
        "key": F.normalize(randn(BATCH, TIME, groups, steps, DIM), dim=-1),
        "beta": 1.9 * rand(BATCH, TIME, HEADS, steps),
        "log_decay": -0.5 * rand(BATCH, TIME, HEADS),
    }
    return given, randn(BATCH, TIME, HEADS * steps, WIDTH)


def summed(contributions: Tensor, steps: int) -> Tensor:
    return contributions.unflatten(2, (-1, steps)).sum(3)


def in_a_row(x: Tensor) -> Tensor:
    """(batch, time, heads, steps, ...) -> (batch, time * steps, heads, ...): micro-steps as tokens."""
    return x.transpose(2, 3).flatten(1, 2)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("gated", [False, True])
def test_the_micro_steps_are_transformers_tokens(steps, gated):
    """A gated delta rule over time * steps tokens, decayed at every token's first micro-step and read at its last."""
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

    given, v = drawn(steps)
    gate = given.pop("log_decay")
    gates = torch.zeros(BATCH, TIME, HEADS, steps, dtype=torch.float64)
    if gated:
        gates[..., 0] = gate
    want, _ = torch_recurrent_gated_delta_rule(
        given["query"].repeat_interleave(steps, 1),
        in_a_row(given["key"]),
        in_a_row(v.unflatten(2, (HEADS, steps))),
        g=in_a_row(gates),
        beta=in_a_row(given["beta"]),
        initial_state=None,
        output_final_state=False,
    )
    given["query"] = given["query"] * DIM**-0.5
    name = "gated_delta_product" if gated else "delta_product"
    given |= {"log_decay": gate} if gated else {}
    got = summed(getattr(families, name)(**given).operator() @ v, steps)
    assert error(got, want[:, steps - 1 :: steps]) <= 2e-6  # that scan is float32
    contributions = getattr(references, name)(value=v, **given)
    assert error(summed(contributions, steps), want[:, steps - 1 :: steps]) <= 2e-6


def prism_loop(query, key, gain, erase, beta, log_decay, values) -> Tensor:
    """The equation with matrices, one batch row and head; key, values (time, steps, ...)."""
    state, rows = torch.zeros(DIM, WIDTH, dtype=torch.float64), []
    for t in range(TIME):
        forget = torch.eye(DIM, dtype=torch.float64) - beta[t] * torch.outer(erase[t], erase[t])
        state = log_decay[t].exp() * forget @ state + (gain[t][:, None] * key[t]).T @ values[t]
        rows.append(query[t] @ state)
    return torch.stack(rows)


@pytest.mark.parametrize("groups", [1, HEADS])
def test_prism_is_its_equation(groups):
    given, v = drawn(3, groups)
    given["gain"] = given.pop("beta")
    given |= {"erase": F.normalize(randn(BATCH, TIME, groups, DIM), dim=-1), "beta": 2 * rand(BATCH, TIME, HEADS)}
    got = summed(families.prism(**given).operator() @ v, 3)
    for b in range(BATCH):
        for h in range(HEADS):
            own = {n: x[b, :, h % x.shape[2]] for n, x in given.items()}
            want = prism_loop(**own, values=v[b].unflatten(1, (HEADS, 3))[:, h])
            assert error(got[b, :, h], want) <= 1e-12


def test_prism_with_one_step_that_erases_its_key_is_gated_delta_net():
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    given, v = drawn(1)
    q, k, beta, g = given["query"], given["key"][:, :, :, 0], given["beta"][..., 0], given["log_decay"]
    want, _ = torch_chunk_gated_delta_rule(q, k, v, g=g, beta=beta)
    got = families.prism(
        query=q * DIM**-0.5, key=given["key"], gain=given["beta"], erase=k, beta=beta, log_decay=g
    ).operator()
    assert error(got @ v, want) <= 2e-6  # that scan is float32


def test_two_reflections_rotate_and_one_does_not():
    """Five tokens of a fifth of a turn each bring an impulse back; a single delta step has real eigenvalues only."""
    half = math.pi / 5
    pair = torch.tensor([[1.0, 0.0], [math.cos(half), math.sin(half)]], dtype=torch.float64)
    key = pair.expand(1, 12, 1, 2, 2)
    beta = torch.full((1, 12, 1, 2), 2.0, dtype=torch.float64)
    dynamics = families.delta_product(query=randn(1, 12, 1, 2), key=key, beta=beta)
    values = dynamics.evolution.eigenvalues().flatten(0, 2)
    turn = 2 * math.pi / 5
    assert (values.real - math.cos(turn)).abs().max() <= 1e-14
    assert (values.imag.abs() - math.sin(turn)).abs().max() <= 1e-14
    u = dynamics.impulse(0)[0, :, 0]
    assert (u[5] - u[0]).abs().max() <= 1e-14
    assert (u[1] - u[0]).abs().max() > 1.0
    single = families.delta_product(query=randn(1, 12, 1, 2), key=key[:, :, :, :1], beta=beta[..., :1])
    assert single.evolution.eigenvalues().imag.abs().max() == 0


def test_groups_share_keys_and_queries():
    given, v = drawn(2, groups=1)
    shared = families.gated_delta_product(**given).operator()
    full = given | {n: given[n].expand(-1, -1, HEADS, *given[n].shape[3:]) for n in ("query", "key")}
    assert error(shared @ v, families.gated_delta_product(**full).operator() @ v) <= 1e-15


@pytest.mark.parametrize(
    "change",
    [
        {"key": torch.randn(1, 6, 2, 3)},
        {"key": torch.randn(1, 6, 2, 3, 4)},
        {"beta": torch.rand(1, 6, 3, 2)},
        {"log_decay": torch.rand(1, 6, 2)},
        {"log_decay": None},
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change):
    good = {
        "query": torch.randn(1, 6, 2, 4),
        "key": torch.randn(1, 6, 2, 2, 4),
        "beta": torch.rand(1, 6, 2, 2),
        "log_decay": -torch.rand(1, 6, 2),
    }
    families.gated_delta_product(**good)
    with pytest.raises(InputError) as refused:
        families.gated_delta_product(**(good | change))
    assert "\n" not in str(refused.value)
