"""The rungs: what follows from what is stored, with which seeds; nothing is computed twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mixerlens.errors import InputError
from mixerlens.reproduce.search import tables
from mixerlens.reproduce.search.families import families
from mixerlens.reproduce.search.space import draw
from mixerlens.reproduce.search.tables import FINAL, FIRST, SCALES, SECOND, TABLES, TASKS
from mixerlens.reproduce.store import Store
from mixerlens.reproduce.study import STUDIES

STUDY = STUDIES["search"]
QUICK = SCALES["quick"]
FAMILIES = list(families())[:5]


def kept(cells, share):
    """Made-up stored cells by name; share(cell) of the answers right."""
    found = {}
    for cell in cells:
        outcome = {"correct": round(1000 * share(cell)), "total": 1000}
        found[cell.name] = {"result": {"outcome": outcome, "chance": 0.25}}
    return lambda cell: found.get(cell.name)


def mixers(cells):
    return list(dict.fromkeys(cell.variant for cell in cells))


def test_the_first_rung_has_everything_and_later_ones_wait():
    cells = STUDY.cells("quick")
    by = {name: [cell for cell in cells if cell.table == name] for name in TABLES}
    first = by[FIRST]
    assert mixers(first) == [*families(), *draw(QUICK.candidates, tables.DRAW).specs]
    assert len(first) == len(mixers(first)) * len(TASKS) and all(cell.compute for cell in first)
    assert len(by[SECOND]) == 2 * QUICK.kept * 2 * len(TASKS) and not any(cell.compute for cell in by[SECOND])
    assert len(by[FINAL]) == (QUICK.finalists + 1) * 5 * len(TASKS) and not any(cell.compute for cell in by[FINAL])
    assert "candidate 1 of rung second" in mixers(by[FINAL])
    assert len({cell.name for cell in cells}) == len(cells)


def test_seeds_that_choose_never_judge():
    seeds = [set(TABLES[name][1]) for name in TABLES] + [{tables.SETTLED}]
    assert sum(map(len, seeds)) == len(set().union(*seeds))
    with pytest.raises(InputError, match="seeds of final are 11, 12, 13, 14, 15"):
        STUDY.cells("quick", [FINAL], [2, 3])


def test_each_rung_has_the_best_of_the_one_before(small):
    names = mixers(STUDY.cells("quick", [FIRST]))
    rank = {name: k / len(names) for k, name in enumerate(names)}  # the last ones are best
    get = kept(STUDY.cells("quick", [FIRST]), lambda cell: rank[cell.variant])
    second = STUDY.cells("quick", [SECOND], get=get)
    ours, theirs = names[5:], names[:5]
    assert theirs == FAMILIES
    expected = [*theirs[:2:-1], *ours[:2:-1]]
    assert mixers(second) == expected and all(cell.compute for cell in second)
    # the other way round in the second rung
    every = kept(
        STUDY.cells("quick", [FIRST]) + second,
        lambda cell: rank[cell.variant] if cell.table == FIRST else 1 - rank[cell.variant],
    )
    final = STUDY.cells("quick", [FINAL], get=every)
    assert mixers(final) == [*expected[1::-1], expected[-1]] and {cell.seed for cell in final} == {11, 12, 13, 14, 15}
    assert all(cell.settings["steps"] == QUICK.steps for cell in final)


def test_a_choice_waits_for_the_whole_rung(small):
    cells = STUDY.cells("quick", [FIRST])
    assert not any(cell.compute for cell in STUDY.cells("quick", [SECOND], get=kept(cells[:-1], lambda cell: 0.5)))


def test_final_scores_change_no_choice(small):
    """Whatever the last rung says, the same mixers are in it."""
    first = STUDY.cells("quick", [FIRST])
    second = STUDY.cells("quick", [SECOND], get=kept(first, lambda cell: 0.5))
    before = STUDY.cells("quick", [FINAL], get=kept(first + second, lambda cell: 0.5))
    worst = before[0].variant
    after = STUDY.cells(
        "quick",
        get=kept(first + second + before, lambda cell: (cell.variant != worst) / 2 if cell.table == FINAL else 0.5),
    )
    assert [cell.key for cell in after if cell.table == FINAL] == [cell.key for cell in before]


def test_settings_decide_a_cell_and_are_json(small, monkeypatch):
    monkeypatch.setitem(SCALES, "full", replace(SCALES["full"], candidates=5))
    cells = [*STUDY.cells("quick", [FIRST]), *STUDY.cells("full", [FIRST])]
    keys = {json.dumps(cell.key, sort_keys=True) for cell in cells}
    assert len(keys) == len(cells)
    assert {cell.settings["features"] for cell in cells} == {64} and {cell.settings["lr"] for cell in cells} == {0.01}


def test_a_run_that_goes_on_counts_nothing_twice(small, tmp_path, monkeypatch):
    """With counted stand-ins for trainings: stopped after a few, then to the end, then again."""
    computed: list[str] = []

    def cell_of(table, data, config):
        def compute():
            if len(computed) == stop:
                raise KeyboardInterrupt
            computed.append(f"{table}/{data}/{config.name}-{config.seed}")
            return {"outcome": {"correct": len(config.name), "total": 100}, "chance": 0.1}

        return replace(made(table, data, config), compute=compute)

    made = tables.cell_of
    monkeypatch.setattr(tables, "cell_of", cell_of)
    store, stop = Store(tmp_path), 5

    def through():
        cells = STUDY.cells("quick", get=store.get)
        while True:
            store.run(cells)
            named = STUDY.cells("quick", get=store.get)
            if [cell.name for cell in named] == [cell.name for cell in cells]:
                return cells
            cells = named

    with pytest.raises(KeyboardInterrupt):
        through()
    assert len(computed) == 5 and len(store.stored(STUDY.cells("quick", get=store.get))) == 5
    stop = -1
    cells = through()
    assert len(computed) == len(set(computed)) == len(cells) == 3 * (10 + 4 * 2 + 3 * 5)
    through()
    assert len(computed) == len(cells)
