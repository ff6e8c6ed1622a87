"""What is asked wrongly gets one clear line, and what is answered can be read and saved."""

from __future__ import annotations

import json

import pytest
import torch

import mixerlens
from membership.zoo import DIM, GRID, HEADS, TIME, Case, ask, draw, members, scored
from mixerlens.errors import InputError, MixerLensError

QUERY = torch.zeros(*GRID, DIM, dtype=torch.float64)


def refuse(_query, _key, _value):
    raise KeyError("no such thing\nand a second line")


@pytest.mark.parametrize(
    ("mixer", "query", "key", "named", "says"),
    [
        (3, QUERY, QUERY, {}, "the mixer is a int"),
        (refuse, QUERY, QUERY, {}, "the mixer raised KeyError: 'no such thing"),
        (lambda q, k, v: v[:, :-1], QUERY, QUERY, {}, r"returned shape \(1, 39, 2, 4\) for values of shape \(1, 40"),
        (lambda q, k, v: v[..., 0], QUERY, QUERY, {}, r"returned shape \(1, 40, 2\)"),
        (lambda q, k, v: v.numpy(), QUERY, QUERY, {}, "returned a ndarray"),
        (lambda q, k, v: (v, None), QUERY, QUERY, {}, "returned a tuple"),
        (lambda q, k, v: v.half(), QUERY, QUERY, {}, "returned torch.float16"),
        (lambda q, k, v: v, [1.0], QUERY, {}, "query must be a tensor"),
        (lambda q, k, v: v, QUERY, QUERY[:, :, 0, 0], {}, "key must be a tensor"),
        (lambda q, k, v: v, QUERY[:, :, 0], QUERY, {}, "say heads="),
        (lambda q, k, v: v, QUERY.half(), QUERY, {}, "query is torch.float16"),
        (lambda q, k, v: v, QUERY, QUERY.long(), {}, "key is torch.int64"),
        (lambda q, k, v: v, QUERY / 0, QUERY, {}, "query is not finite"),
        (lambda q, k, v: v, QUERY[:, :-1], QUERY, {}, "must share batch and time"),
        (lambda q, k, v: v, QUERY[:, :5], QUERY[:, :5], {}, "5 tokens show too little"),
        (lambda q, k, v: v, QUERY, QUERY, {"value_dim": 0}, "value_dim is 0"),
        (lambda q, k, v: v, QUERY, QUERY, {"heads": -1}, "heads is -1"),
        (lambda q, k, v: v, QUERY, QUERY, {"gate": 1.0}, "unexpected keyword argument 'gate'"),
    ],
)
def test_a_wrong_question_is_one_line(mixer, query, key, named, says):
    with pytest.raises(InputError, match=says) as caught:
        mixerlens.membership(mixer, query, key, **named)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, MixerLensError)


def test_an_error_of_the_mixer_is_kept_as_the_cause():
    with pytest.raises(InputError) as caught:
        mixerlens.membership(refuse, QUERY, QUERY)
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_module_is_the_function():
    from mixerlens.membership import Membership, membership

    n = draw(0)
    query, key = n(*GRID, DIM), n(*GRID, DIM)
    by_module = mixerlens.membership(scored(lambda z: z), query, key)
    by_name = membership(scored(lambda z: z), query, key)
    assert isinstance(by_module, Membership)
    assert by_module.to_json() == by_name.to_json()


@pytest.mark.parametrize("name", ["softmax", "Based", "S5", "retention, both ways"])
def test_the_answer_is_strict_json(name):
    found = ask(members()[name])
    text = json.dumps(found.to_json(), allow_nan=False)
    back = json.loads(text)
    assert back["verdict"] == found.verdict
    assert [f["test"] for f in back["findings"]] == [f.test for f in found.findings]
    assert all(f["meaning"] and f["outcome"] for f in back["findings"])
    assert back["settings"]["value"][:2] == [1, TIME]


def test_the_answer_can_be_read():
    case = members()["softmax"]
    found = ask(case)
    lines = str(found).splitlines()
    assert lines[0] == "softmax_attention: member"
    assert "phi = exp" in lines[1]
    assert max(map(len, lines)) <= 110
    for finding in found.findings:
        assert any(finding.test in line and finding.outcome in line for line in lines)
    assert found["additive"].numbers["defect"] < 1e-12
    with pytest.raises(KeyError, match="nothing"):
        found["nothing"]


def test_the_same_seed_gives_the_same_answer_and_no_random_state_moves():
    case = members()["gated DeltaNet"]
    before = torch.get_rng_state()
    first = ask(case, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    assert ask(case, seed=5).to_json() == first.to_json()
    other = ask(case, seed=6)
    assert other.settings["seed"] == 6
    assert (
        other["homogeneous"].numbers != first["homogeneous"].numbers or other["query"].inputs != first["query"].inputs
    )


def test_what_was_given_is_left_as_it_was():
    """Not changed, no gradient left on it, and a module's weights stay out of it."""
    query = draw(1)(*GRID, DIM).requires_grad_()
    key = draw(2)(*GRID, DIM)
    copies = query.detach().clone(), key.clone()
    weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    found = mixerlens.membership(lambda q, k, v: weight * scored(torch.exp, normalize=True)(q, k, v), query, key)
    assert found.readout == "exp"
    assert query.grad is None and weight.grad is None
    assert torch.equal(query, copies[0]) and torch.equal(key, copies[1])


@pytest.mark.parametrize("kind", ["numpy", "detached"])
def test_without_a_gradient_the_ridge_test_says_so(kind):
    """Nothing is refuted on a gradient that is missing or wrong, and a readout is still found."""
    from mixerlens.references.outsiders import stick_breaking_attention

    def mixer(query, key, value):
        if kind == "numpy":
            query = torch.from_numpy(query.detach().numpy().copy())
        # detached: only one of the two factors of a score carries a gradient
        return stick_breaking_attention(query + (query.detach() - query) * 0.5, key, value)

    n = draw(3)
    found = ask(Case(mixer, "", query=n(*GRID, 8), key=n(*GRID, 8)))
    assert found["ridge"].outcome == "not run"
    assert found.verdict == "undecided"
    said = {"numpy": "no gradient", "detached": "disagree"}[kind]
    assert said in found["ridge"].meaning


def test_a_fixed_width_is_respected():
    """A mixer that takes its own value_dim only is asked with that."""
    widths = set()

    def mixer(query, key, value):
        widths.add(value.shape[-1])
        assert value.shape[-1] == 3
        return scored(lambda z: z)(query, key, value)

    found = ask(Case(mixer, ""), value_dim=3)
    assert found.verdict == "member" and found.state == DIM
    assert 3 in widths


def test_a_width_that_changes_the_mixer_is_not_used():
    """Scaled by its value_dim: reading coefficients at another width would be another mixer."""
    mixer = lambda q, k, v: scored(lambda z: z)(q, k, v) / v.shape[-1]
    n = draw(4)
    seen = []

    def watched(query, key, value):
        seen.append(value.shape[-1])
        return mixer(query, key, value)

    found = mixerlens.membership(watched, n(*GRID, DIM), n(*GRID, DIM), value_dim=2)
    assert found.verdict == "member"
    assert seen.count(TIME) == 1  # tried once, and left


def test_channels_are_told_from_heads():
    """A mixer of heads is matrix valued, also with one channel a head."""
    n = draw(5)
    mix = n(HEADS, HEADS)
    case = Case(lambda q, k, v: torch.einsum("gh,bthe->btge", mix, v.cumsum(1)), "")
    found = ask(case, value_dim=1)
    assert found["channels"].outcome == "note"
    assert found.verdict == "member by lifting" and found.state == HEADS


def test_matrices_that_cost_too_much_are_left_undecided():
    n = draw(6)
    width = 40
    mix = n(width, width)
    found = ask(Case(lambda q, k, v: v.cumsum(1) @ mix, ""), value_dim=width)
    assert found.verdict == "undecided"
    assert f"{TIME * HEADS * width} calls" in found.reason
