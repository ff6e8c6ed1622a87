"""The parts that principles look at, against the dynamics' own steps and numpy."""

from __future__ import annotations

import pytest
import torch

from mixerlens import families
from mixerlens.composition import CoefficientSum
from mixerlens.errors import InputError
from mixerlens.principles import parts


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_impulses_matrices_and_scores_of_every_family(name):
    arguments = families.FAMILIES[name].arguments(1)
    arguments.pop("value")
    built = families.FAMILIES[name].function(**arguments)
    d = parts.one_run(built.parts[0] if isinstance(built, CoefficientSum) else built)
    found = parts.impulses(d)
    last = d.time - 1
    for j in (0, 17, last):
        wanted = d.impulse(j)[0, last]
        assert torch.allclose(found[:, j], wanted, rtol=1e-10, atol=1e-12 * float(wanted.abs().max()) + 1e-300)
        assert torch.equal(parts.keys(d)[:, j], d.impulse(j)[0, j])
    if d.support.causal:
        moved = parts.matrices(d, [20])[:, 0] @ d.impulse(7)[0, 19].unsqueeze(-1)
        assert torch.allclose(moved[..., 0], d.impulse(7)[0, 20], rtol=1e-11, atol=1e-13)
    z, mask = parts.scores(d, [5, last])
    assert mask[1].nonzero().flatten().tolist() == parts.columns(d, last)
    read = (parts.queries(d)[:, last, None] * found).sum(-1)
    assert torch.allclose(z[:, 1, mask[1]], read[:, mask[1]], rtol=1e-9, atol=1e-11)


def test_the_longest_run_is_what_is_looked_at():
    query = torch.randn(2, 12, 1, 2)
    segments = torch.tensor([[-1, 0, 0, 1, 1, 1, 1, 2, 2, 2, -1, -1], [0] * 12])
    d = families.linear_attention(query, query, segments=segments)
    run = parts.one_run(d)
    assert run.time == 4 and run.query.dtype == torch.float64 and run.support.segments is None
    assert torch.equal(run.query, query[:1, 3:7].double()) and parts.one_run(d, 1).time == 12
    with pytest.raises(InputError, match="not a CoefficientSum"):
        parts.one_run(CoefficientSum((d, d), (1.0, 1.0)))


def test_numbers_in_words():
    assert parts.spread_text(torch.tensor([1.0, float("nan"), 2.5])) == "1 to 2.5"
    assert parts.spread_text(torch.tensor([1e-17, -1e-16]), least=1e-12) == "0"
    assert parts.spread_text(torch.tensor([float("nan")])) == "no number"
    assert parts.spaced(3, 13, 4) == [3, 6, 9, 12] and parts.spaced(3, 5, 3) == [3, 4]
