"""The recurrence of one token against whole sequences: every family of the registry, windows, and what is refused."""

from __future__ import annotations

import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, families, readout
from mixerlens.composition import CoefficientSum
from mixerlens.design.recurrent import advance, has_recurrence, refusal
from mixerlens.errors import UnsupportedError
from mixerlens.families import FAMILIES
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.operator.oracle import oracle
from mixerlens.support import Support

GROWING = (readout.Exp, readout.Sigmoid, readout.Relu, readout.Softcap)


def token_by_token(mixer, values):
    """All outputs, each from the dynamics of its token alone and what was held before."""
    held, rows = None, []
    for t in range(mixer.time):
        y, held = advance(mixer.select_tokens(t, t + 1), values[:, t : t + 1], held)
        rows.append(y)
    return torch.cat(rows, 1), held


def error(found, wanted) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_with_a_state_runs_token_by_token(name):
    arguments = FAMILIES[name].arguments(3)
    value = arguments.pop("value")
    mixer = FAMILIES[name].function(**arguments)
    growing = [d for d, _ in mixer.terms if isinstance(d.readout, GROWING) and d.support.window is None]
    assert has_recurrence(mixer) == (not growing)
    if growing:
        with pytest.raises(UnsupportedError, match="state-rank criterion" if mixer.causal else "later tokens"):
            token_by_token(mixer, value)
        return
    found, _ = token_by_token(mixer, value)
    wanted = FAMILIES[name].recurrence_by_hand(**arguments, value=value)
    assert error(found, wanted) <= 10 * FAMILIES[name].bar


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + len(shape)))


@pytest.mark.parametrize(
    "phi", [readout.Identity(), readout.Exp(), readout.Relu(), readout.Polynomial((1.0, 1.0, 0.5))]
)
@pytest.mark.parametrize("normalizer", ["none", "sum"])
def test_a_window_is_a_finite_recurrence_for_every_readout(phi, normalizer):
    kind = evolution.Scalar(log_decay=-torch.rand(2, 17, 3, dtype=torch.float64))
    parts = {"normalizer": RowSum()} if normalizer == "sum" else {}
    d = CoefficientDynamics(
        normal(2, 17, 3, 4, seed=1), normal(2, 17, 1, 4, seed=2), kind, readout=phi, support=Support(window=5), **parts
    )
    v = normal(2, 17, 3, 2)
    found, (held,) = token_by_token(d, v)
    assert error(found, oracle(d, v)) < 1e-11
    assert held.values.shape == (2, 3, 4, 2)  # the window without the newest token
    assert int(d.operator().state_rank(1e-10, "all").max()) <= 4


def test_sums_of_mixers_carry_one_state_a_part():
    parts = [
        CoefficientDynamics(normal(1, 9, 2, 3, seed=s), normal(1, 9, 2, 3, seed=s + 1), readout=phi)
        for s, phi in ((1, readout.Identity()), (5, readout.Polynomial((0.0, 1.0, 2.0))))
    ]
    mixer, v = CoefficientSum(tuple(parts), (1.0, -torch.rand(1, 9, 2))), normal(1, 9, 2, 4)
    found, held = token_by_token(mixer, v)
    assert len(held) == 2
    assert error(found, oracle(mixer, v)) < 1e-13


def test_one_relu_state_is_carried_and_its_silent_rows_are_zero():
    query, key = normal(1, 40, 2, 1, seed=1), normal(1, 40, 2, 1, seed=2).abs()
    d = CoefficientDynamics(query, key, readout=readout.Relu(), normalizer=RowSum())
    v = normal(1, 40, 2, 3)
    found, _ = token_by_token(d, v)
    assert bool((query < 0).any())
    torch.testing.assert_close(found, oracle(d, v), rtol=1e-12, atol=1e-13)


def test_a_given_eta_and_grouped_heads():
    eta = PerToken(1 + torch.rand(2, 11, 4, dtype=torch.float64))
    d = CoefficientDynamics(normal(2, 11, 2, 3), normal(2, 11, 1, 3), normalizer=eta)
    v = normal(2, 11, 2, 3)
    assert error(token_by_token(d, v)[0], oracle(d, v)) < 1e-13


def test_a_refusal_names_the_theorem_and_the_measured_rank():
    d = CoefficientDynamics(normal(1, 64, 1, 3, seed=1), normal(1, 64, 1, 3, seed=2), readout=readout.Exp())
    line = refusal("softmax", d)
    ranks = [int(d.operator().state_rank(tol, 5).max()) for tol in (1e-3, 1e-6, 1e-10)]
    assert "\n" not in line and "state-rank criterion" in line
    for rank, tolerance in zip(ranks, ("1e-03", "1e-06", "1e-10"), strict=True):
        assert f"{rank} at {tolerance}" in line or f"{rank}+ at {tolerance}" in line
    assert ranks[2] > ranks[0] > 3


def test_a_mixer_that_reads_later_tokens_is_refused():
    d = families.softmax_attention(normal(1, 5, 1, 3), normal(1, 5, 1, 3), causal=False)
    assert not has_recurrence(d)
    assert "later tokens" in refusal(None, d)
