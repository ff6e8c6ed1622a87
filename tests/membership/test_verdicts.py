"""Members come out as members, and nothing else does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from membership.zoo import DIM, GRID, HEADS, TIME, Case, ask, draw, members, scored
from mixerlens.families.outsiders import OUTSIDERS

MEMBERS = members()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_found(name):
    case = MEMBERS[name]
    found = ask(case)
    assert found.verdict == case.verdict, found
    assert found.readout == case.readout
    assert found.state == case.state
    assert found.witness is None
    assert any(f.outcome == "proves" for f in found.findings) or "register" in found.reason or name == "zero"


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=lambda o: o.name)
def test_an_outsider_is_none(outsider):
    """Asked as anybody would ask, at more tokens and another seed than the registered example."""
    n = draw(3)
    given = {"ttt_layer_norm": ("weight", "rate"), "ttt_mlp": ("first", "second", "rate")}.get(outsider.name, ())
    fixed = {
        "weight": n(HEADS, 8, 8) / 3,
        "first": n(HEADS, 32, 8) / 3,
        "second": n(HEADS, 8, 32) / 6,
        "rate": torch.full(GRID, 0.1, dtype=torch.float64),
    }
    fixed = {name: fixed[name] for name in given}
    if outsider.name in ("lstm", "slstm"):
        fixed = {"forget": 1 + n(*GRID, 8), "recurrent": n(4, HEADS, 8, 8) / 3}
    elif outsider.name == "gru":
        fixed = {"recurrent": n(3, HEADS, 8, 8) / 3}
    elif outsider.name == "top_k_attention":
        fixed = {"keep": 5}
    found = ask(Case(outsider.reference, "not a member", query=n(*GRID, 8), key=n(*GRID, 8), fixed=fixed), seed=2)
    assert found.verdict == "not a member", found
    assert found.member is False
    kind = {"linear": "additive", "ridge": "ridge", "support": "support"}[outsider.kind]
    assert found.witness is not None and found.witness.test == kind
    if kind == "additive":
        assert found.witness.numbers["defect"] > 0.1, found.witness
        assert found.witness.numbers["without y(0)"] > 0.1


def test_stick_breaking_spans_one_more_direction_a_token():
    """Ranks 3, 4, 5, 6, 7 for keys two to six tokens apart; neighbours keep to two, as members do."""
    from mixerlens.references.outsiders import stick_breaking_attention

    n = draw(4)
    for current in (False, True):
        case = Case(stick_breaking_attention, "", query=n(*GRID, 8), key=n(*GRID, 8), fixed={"attend_current": current})
        ridge = ask(case)["ridge"]
        assert ridge.numbers["ranks"] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("phi", "normalize", "rank"), [(torch.exp, True, 1), (torch.sigmoid, False, 2), (torch.relu, False, 2)]
)
def test_members_keep_to_the_bound_of_the_ridge_test(phi, normalize, rank):
    n = draw(5)
    case = Case(scored(phi, normalize), "member", query=n(*GRID, 8), key=n(*GRID, 8))
    ridge = ask(case)["ridge"]
    assert ridge.outcome == "holds"
    assert set(ridge.numbers["ranks"]) == {rank}


@pytest.mark.parametrize(
    ("mixer", "why"),
    [
        (lambda q, k, v: v.cummax(1).values, "nonlinear"),
        (lambda q, k, v: torch.tanh(v.cumsum(1)), "nonlinear"),
        (lambda q, k, v: F.normalize(v, dim=-1), "nonlinear"),
        (lambda q, k, v: v + 1, "constant is added"),
        (lambda q, k, v: q, "does not depend on the values"),
        (lambda q, k, v: v.abs(), "nonlinear"),
    ],
    ids=["max pooling", "tanh", "norm", "constant", "ignores v", "abs"],
)
def test_what_is_not_linear_in_v_is_refused(mixer, why):
    found = ask(Case(mixer, "not a member"))
    assert found.verdict == "not a member"
    assert why in found.reason


def test_what_cannot_be_decided_says_so():
    def summed(query, key, value):  # differential attention: two members that share v
        soft = scored(torch.exp, normalize=True)
        return soft(query[..., :2], key[..., :2], value) - 0.4 * soft(query[..., 2:], key[..., 2:], value)

    undecided = {
        "not finite": lambda q, k, v: v / 0,
        "dropout": lambda q, k, v: F.dropout(v, 0.5),
        "rounds": lambda q, k, v: v.bfloat16().cumsum(1).double(),
        "sum of several members": summed,
        "none of those tried": scored(F.gelu),
    }
    for said, mixer in undecided.items():
        found = ask(Case(mixer, "undecided"))
        assert found.verdict == "undecided", (said, found)
        assert found.member is None and found.witness is None
        assert said in str(found)


def test_scores_that_are_small_do_not_make_a_member():
    """Queries so small that stick-breaking is nearly linear, and still none is claimed."""
    from mixerlens.references.outsiders import stick_breaking_attention

    n = draw(6)
    for size in (1e-2, 1e-5):
        case = Case(stick_breaking_attention, "", query=size * n(*GRID, 8), key=n(*GRID, 8))
        assert ask(case).verdict in ("not a member", "undecided")


def test_zeros_that_move_smoothly_are_no_choice_of_the_data():
    """relu of scores whose keys are convolved inside: a third key moves a zero, but through small values."""
    found = ask(MEMBERS["relu, keys convolved inside"])
    assert found["support"].outcome == "note" and found["support"].numbers["jump"] < 1e-3
    assert found["third key"].outcome == "note"
    assert "convolution" in found.reason


def test_a_rank_that_decay_makes_small_is_no_state():
    """Stick-breaking at 96 tokens: as many singular values above 1e-10 at both lengths, falling off without a gap."""
    from mixerlens.references.outsiders import stick_breaking_attention

    n = draw(0)
    found = ask(Case(stick_breaking_attention, "", query=n(1, 96, HEADS, 8), key=n(1, 96, HEADS, 8)))
    state = found["state rank"]
    assert state.numbers["rank at 24 tokens"] == state.numbers["at 48"] <= 24
    assert state.numbers["gap"] > 0.1 and state.outcome == "note"
    assert found.verdict == "not a member" and found.state is None


def test_a_rank_is_that_of_every_cut():
    """A burst of four numbers of state among the first tokens, and a running mean after: not one number."""
    alpha = (1 / torch.arange(1.0, TIME + 1, dtype=torch.float64))[:, None].expand(TIME, TIME).tril().clone()
    alpha[6:9, 3:6] += draw(13)(3, 3)
    found = ask(Case(lambda q, k, v: torch.einsum("ij,bjhe->bihe", alpha, v), ""))
    assert found["state rank"].numbers["at 20"] == 4
    assert found.verdict == "member" and found.state is None  # a table of positions, not a state of one number


def test_zeros_that_keys_choose_are_no_support():
    """A token whose own key switches it off: no third key is involved, and no support of positions either."""

    def mixer(query, key, value):
        on = (key[:, :, 0, 0] > 0)[:, None, None, :]
        return torch.einsum("bhij,bjhe->bihe", (torch.einsum("bihd,bjhd->bhij", query, key).exp() * on).tril(), value)

    found = ask(Case(mixer, ""))
    assert found["support"].outcome == "holds"
    assert found.verdict == "undecided"


def test_few_tokens_do_not_decide_a_state():
    """Sixteen numbers of state cannot be seen at 40 tokens: not a finite state, and not a refutation either."""
    n = draw(8)
    query, key = n(*GRID, 24), n(*GRID, 24)
    found = ask(Case(scored(lambda z: torch.sigmoid(z) * z), "", query=query, key=key))
    assert found.verdict == "undecided"


def test_the_precision_is_measured():
    """float32, and float64 that is rounded to float32 inside, are judged by their own rounding."""
    n = draw(9)
    query, key = n(*GRID, DIM), n(*GRID, DIM)
    single = ask(Case(scored(lambda z: z), "", query=query.float(), key=key.float()))
    assert single.verdict == "member" and single.state == DIM
    inside = ask(Case(lambda q, k, v: scored(lambda z: z)(q.float(), k.float(), v.float()).double(), ""))
    assert inside.verdict == "member" and inside.settings["rounding"] > 1e-9


def test_a_stick_in_single_precision_is_no_member():
    from mixerlens.references.outsiders import stick_breaking_attention

    n = draw(10)
    case = Case(
        lambda q, k, v: stick_breaking_attention(q, k, v).float(),
        "",
        query=n(*GRID, 8).float(),
        key=n(*GRID, 8).float(),
    )
    assert ask(case).verdict == "not a member"


def test_batches_and_grouped_keys():
    from membership.zoo import reference

    n = draw(11)
    case = Case(reference("softmax_attention"), "", query=n(2, TIME, 4, DIM), key=n(2, TIME, 2, DIM))
    found = ask(case)
    assert found.verdict == "member" and found.readout == "exp"
    assert found.settings["value"] == (2, TIME, 4, DIM)
