"""The draw: deterministic, of one state size, with what was refused counted; the families of the same size."""

from __future__ import annotations

from collections import Counter

import pytest

from mixerlens.design import Mixer, MixerSpec, cost, part, preset
from mixerlens.design.presets import PRESETS
from mixerlens.reproduce.search import space
from mixerlens.reproduce.search.families import FAMILIES, LEFT_OUT, SIZED, SLOW, families, sized
from mixerlens.reproduce.search.sizes import NUMBERS, TOLERANCE, WIDTH, fits, numbers
from mixerlens.reproduce.search.space import SPACE, draw
from mixerlens.reproduce.search.tables import DRAW, SCALES

COUNT = SCALES["quick"].candidates


@pytest.fixture(scope="module")
def drawn():
    return draw(COUNT, DRAW)


def test_the_same_seed_draws_the_same_and_more_begin_with_the_same(drawn):
    again = draw.__wrapped__(6, DRAW)
    assert list(again.specs.items()) == list(drawn.specs.items())[:6]
    assert draw.__wrapped__(3, DRAW + 1).choices != draw.__wrapped__(3, DRAW).choices
    assert list(drawn.specs) == [f"candidate {k:02d}" for k in range(1, COUNT + 1)]


def test_every_draw_is_a_candidate_refused_or_known(drawn):
    assert drawn.draws == len(drawn.specs) + drawn.refused.total() + drawn.known
    assert drawn.refused["no finite state"] > 0 and drawn.refused["parts that cannot go together"] > 0


def test_all_have_one_state_size_and_values_as_wide_as_the_model(drawn):
    for spec in (*drawn.specs.values(), *families().values()):
        found = numbers(spec)
        assert found is not None
        assert abs(found - NUMBERS) <= TOLERANCE * NUMBERS and spec.heads * spec.width == WIDTH, spec.name
    assert fits(1092) and not fits(1100) and not fits(512)


def test_numbers_of_state_by_hand():
    """4 heads of 16 x 16; a normaliser's column; 15 lifted dimensions; a convolution and copies are not counted."""
    assert numbers(MixerSpec("plain")) == 4 * 16 * 16
    assert numbers(MixerSpec("summed", normalizer=part("row_sum"))) == 4 * 16 * 17
    assert numbers(preset("based", dim=4)) == 4 * 15 * 17
    assert numbers(preset("gated_delta_net")) == 4 * 16 * 16
    assert numbers(preset("delta_product")) == numbers(preset("rwkv5")) == 4 * 16 * 16
    assert numbers(preset("mesa_net", dim=10)) == 4 * 10 * (16 + 10)
    assert numbers(preset("softmax_attention")) is None


def test_candidates_are_what_was_drawn_and_no_family(drawn):
    known = [sized(name) for name in PRESETS if name not in LEFT_OUT]
    for name, words in drawn.choices.items():
        changes = {}
        for slot, word in words.items():
            changes |= SPACE[slot][word]
        assert drawn.specs[name] == MixerSpec(name, **changes)
        assert all({**spec.to_dict(), "name": name} != drawn.specs[name].to_dict() for spec in known)
    bodies = [str({**spec.to_dict(), "name": ""}) for spec in drawn.specs.values()]
    assert len(set(bodies)) == COUNT


def test_a_family_or_a_candidate_that_is_drawn_again_is_counted_and_left_out(monkeypatch):
    """A space of two: linear attention, which is a family, and the same with an output norm."""
    small = {slot: dict(list(choices.items())[:1]) for slot, choices in SPACE.items()}
    small["query and key"] = {"elu + 1": SPACE["query and key"]["elu + 1"]}
    small["norm"] = SPACE["norm"]
    monkeypatch.setattr(space, "SPACE", small)
    found = draw.__wrapped__(1, 0)
    assert found.choices["candidate 01"]["norm"] == "rms" and found.refused == Counter()
    with pytest.raises(ValueError, match="200 draws made 1 of 2"):
        draw.__wrapped__(2, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"phi": "exp"}, "no finite state"),
        ({"A": "two deltas, beta < 2", "positions": "RoPE"}, "parts that cannot go together"),
    ],
)
def test_why_a_combination_is_refused(changes, reason):
    words = {slot: next(iter(choices)) for slot, choices in SPACE.items()}
    assert isinstance(space._made("x", words), MixerSpec)
    assert space._made("x", words | changes) == reason


def test_another_state_size_is_refused(monkeypatch):
    monkeypatch.setitem(SPACE["A"], "small", {"dim": 8})
    words = {slot: next(iter(choices)) for slot, choices in SPACE.items()} | {"A": "small"}
    assert space._made("x", words) == "a state of another size"


def test_every_family_is_run_or_left_out_for_one_reason():
    assert sorted([*FAMILIES, *LEFT_OUT, *SLOW]) == sorted(PRESETS)
    for name, spec in families().items():
        assert spec == preset(name, **SIZED.get(name, {}))
    for name in SLOW:
        assert fits(numbers(sized(name)) or 0), name


def test_the_reasons_are_true():
    """What has no finite state has none, and no number of dimensions makes the others fit."""
    for name, reason in LEFT_OUT.items():
        spec = preset(name)
        if "grows" in reason:
            assert not Mixer(spec, WIDTH, seed=0).recurrent, name
        elif "a channel" in reason:
            state = numbers(spec)
            assert state in (WIDTH, 2 * WIDTH, 5 * WIDTH // 2), name  # rwkv4's, with numerator and denominator
            assert spec.heads * spec.width == WIDTH and not fits(state)
        elif "filter" in reason:
            assert spec.dim >= 256, name
    one, two = (cost(preset("log_linear_attention", dim=dim), WIDTH, length=2).state or 0 for dim in (1, 2))
    assert (one, two) == (768, 1536) and not any(fits(768 * dim) for dim in range(1, 4))
