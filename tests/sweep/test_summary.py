"""The grid point is chosen by validation and never by the test; differences are on the same seeds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mixerlens.design import preset
from mixerlens.errors import InputError
from mixerlens.reproduce.intervals import wilson
from mixerlens.sweep import RunConfig
from mixerlens.sweep.figure import draw
from mixerlens.sweep.summary import summarize
from mixerlens.tasks import TASKS
from sweep.doubles import config, result


def row(name, seed, lr=1e-3, *, validation=50, test=100, task="recall", options=None, **changed):
    one = config(name, task, seed=seed, lr=lr, **({} if options is None else {"options": options}))
    numbers = {"validation_correct": validation, "test_correct": test} | changed
    return json.loads(json.dumps(one.columns() | result(one, **numbers).columns()))


def test_validation_chooses_the_point_over_all_seeds():
    rows = [
        *(row("a", seed, 1e-3, validation=v, test=150) for seed, v in enumerate((90, 10))),
        *(row("a", seed, 3e-3, validation=v, test=60) for seed, v in enumerate((60, 60))),
    ]
    found = summarize(rows)
    assert found.grid == {"lr": [1e-3, 3e-3]} and found.recipe["wd"] == 0 and "lr" not in found.recipe
    (cell,) = found.cells
    assert cell.point == {"lr": 3e-3} and cell.mean == 0.3 and cell.validation == 0.6 and cell.points == 2


def test_the_lower_loss_decides_between_equals_and_a_missing_loss_is_the_worst():
    rows = [
        row("a", 0, 1e-3, validation_loss=float("nan")),
        row("a", 0, 2e-3, validation_loss=0.4),
        row("a", 0, 3e-3, validation_loss=0.3),
    ]
    assert summarize(rows).cells[0].point == {"lr": 3e-3}


def test_a_point_with_missing_seeds_is_not_chosen_over_a_complete_one():
    rows = [row("a", 0, 1e-3, validation=99), row("a", 0, 3e-3), row("a", 1, 3e-3)]
    (cell,) = summarize(rows, ["a recall seed 1 lr 0.001 wd 0"]).cells
    assert cell.point == {"lr": 3e-3} and cell.seeds == [0, 1] and cell.points == 1


def test_differences_are_later_less_earlier_on_common_seeds():
    rows = [row("a", seed, test=t) for seed, t in enumerate((20, 60, 100))]
    rows += [row("b", seed, test=t) for seed, t in zip((1, 2, 3), (160, 198, 7), strict=True)]
    found = summarize(rows)
    (difference,) = found.differences
    assert (difference.spec, difference.other, difference.seeds) == ("b", "a", [1, 2])
    assert difference.mean == pytest.approx(((160 - 60) + (198 - 100)) / 2 / 200)
    assert difference.verdict == "higher" and found.difference("b", "a", "recall") is difference
    assert found.difference("a", "b", "recall") is None
    apart = summarize([row("a", 0), row("b", 1)])
    assert apart.differences == []


def test_recipes_that_no_grid_tells_apart_are_refused():
    first = row("a", 0)
    with pytest.raises(InputError, match="several recipes"):
        summarize([first, first | {"features": 128}])
    with pytest.raises(InputError, match="no run"):
        summarize([])


def test_json_says_everything_and_numbers_that_are_none_are_null():
    found = summarize([row("a", 0, status="diverged"), row("b", 0)], ["b seed 1"]).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["measure"] == "Summary" and found["missing"] == ["b seed 1"]
    assert [cell["diverged"] for cell in found["cells"]] == [1, 0] and found["cells"][0]["above_chance"] is True
    assert found["differences"][0]["verdict"] == "one seed"


def test_one_seed_gives_no_verdict_however_far_apart_two_models_are():
    (apart,) = summarize([row("a", 0, test=0), row("b", 0, test=200)]).differences
    assert apart.low > 0.9 and apart.verdict == "one seed"


def test_answers_that_stand_or_fall_together_widen_the_intervals():
    apart, together = (summarize([row("a", 0, test_squares=squares)]).cells[0] for squares in (50.0, 800.0))
    assert (apart.low, apart.high) == pytest.approx(wilson(100, 200), rel=1e-12)
    assert (together.low, together.high) == pytest.approx(wilson(100 / 16, 200 / 16), rel=1e-12)


def test_a_finite_test_set_is_counted_once_for_all_seeds():
    """360 digits: three seeds that agree are asked 360 different questions, not 1080."""
    digits = {"order": "rows", "examples": 1257}
    numbers = {"test_total": 360, "test_sequences": 360}

    def rows(name, right):
        squares = right * (360 - right) / 360
        return [
            row(name, s, task="digits", options=digits, test=right, test_squares=squares, **numbers) for s in range(3)
        ]

    found = summarize(rows("a", 324) + rows("b", 300))
    assert [cell.shared for cell in found.cells] == [360, 360]
    assert (found.cells[0].low, found.cells[0].high) == pytest.approx(wilson(324, 360), rel=1e-12)
    (difference,) = found.differences
    assert difference.high - difference.low > 0.09
    assert summarize([row("a", 0)]).cells[0].shared is None


def test_what_every_token_adds_is_told_where_no_finite_state_exists():
    rows = []
    for name in ("softmax_attention", "gated_delta_net", "softmax_attention+gated_delta_net"):
        specs = [preset(each, heads=2, dim=4, width=3) for each in name.split("+")]
        made = RunConfig(name, tuple(specs * (2 // len(specs))), "recall", {"length": 16}, features=8)
        state = 100 if name == "gated_delta_net" else None
        rows.append(made.columns() | result(made, state_bytes=state).columns())
    grows = [cell.grows_bytes for cell in summarize(rows).cells]
    assert grows == [2 * 8 * 2 * (4 + 3), None, 8 * 2 * (4 + 3)]


def test_the_figure_shows_every_cell_and_is_the_same_bytes_again(tmp_path):
    rows = [row(name, seed, task=task) for name in "ab" for seed in (0, 1) for task in ("recall", "parity")]
    found = summarize(rows)
    draw(found, tmp_path / "one.svg", {"parity": "Parity"})
    text = (tmp_path / "one.svg").read_text()
    for words in ("recall", "Parity", "chance", "95 % interval", "test accuracy", "a seed"):
        assert f"<!-- {words}" in text or f"{words} -->" in text
    draw(found, tmp_path / "two.svg", {"parity": "Parity"})
    assert text == (tmp_path / "two.svg").read_text()
    partly = replace(found, cells=found.cells[:1])
    draw(partly, tmp_path / "part.svg")
    assert (tmp_path / "part.svg").read_text().count("<use") < text.count("<use")


def test_a_finite_test_set_is_the_same_for_every_seed():
    """What the intervals of a shared test set rest on, for every task that has one."""
    finite = [task for entry in TASKS.values() if (task := entry.make("small")).examples("test") is not None]
    assert [task.name for task in finite] == ["digits"]
    for task in finite:
        zero, one = (task.batch("test", 0, task.examples("test"), seed).inputs.flatten(1).tolist() for seed in (0, 1))
        assert zero != one and sorted(zero) == sorted(one)
