"""Cells are stored one by one and never twice; what was interrupted goes on, what changed is computed again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mixerlens.errors import InputError
from mixerlens.reproduce.store import Cell, Store


@pytest.fixture
def counted():
    """Six cells and how often each was computed."""
    calls: list[str] = []

    def cell(variant: str, seed: int) -> Cell:
        def compute():
            calls.append(f"{variant}-{seed}")
            return {"value": 10 * seed + len(variant), "tuple": (1, 2)}

        return Cell("table", "set", variant, seed, {"steps": 3, "range": (1, 2)}, compute)

    return [cell(variant, seed) for variant in ("a", "b b") for seed in range(3)], calls


def test_an_interrupted_run_goes_on_where_it_was(counted, tmp_path):
    cells, calls = counted
    store = Store(tmp_path / "new" / "folder")

    def stop(cell, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(cells, stop)
    assert calls == ["a-0", "a-1"] and len(store.stored(cells)) == 2
    first = store.path(cells[0]).read_bytes()
    seen = []
    found = store.run(cells, lambda cell, done, total: seen.append((cell.name, done, total)))
    assert calls == ["a-0", "a-1", "a-2", "b b-0", "b b-1", "b b-2"]
    assert seen[0] == ("table/set/a-2", 2, 6) and store.path(cells[0]).read_bytes() == first
    assert [cell["result"]["value"] for cell in found] == [1, 11, 21, 3, 13, 23]
    assert store.run(cells) == found and len(calls) == 6
    assert {"torch", "python"} <= found[0]["versions"].keys() and found[0]["seconds"] >= 0


def test_nothing_half_written_is_left_when_a_cell_fails_or_is_interrupted(counted, tmp_path):
    cells, _ = counted

    def fails():
        raise KeyboardInterrupt

    broken = [cells[0], replace(cells[1], compute=fails)]
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).run(broken)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a-0.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1}', "\x00"])
def test_a_file_that_is_no_cell_is_computed_again(counted, tmp_path, text):
    cells, calls = counted
    store = Store(tmp_path)
    store.run(cells[:1])
    store.path(cells[0]).write_text(text)
    assert store.get(cells[0]) is None
    assert store.run(cells[:1])[0]["result"]["value"] == 1 and calls == ["a-0", "a-0"]


def test_other_settings_are_another_cell(counted, tmp_path):
    cells, calls = counted
    store = Store(tmp_path)
    store.run(cells[:1])
    changed = replace(cells[0], settings={"steps": 4, "range": (1, 2)})
    assert store.get(cells[0]) is not None and store.get(changed) is None
    store.run([changed])
    assert len(calls) == 2 and json.loads(store.path(changed).read_text())["settings"]["steps"] == 4


def test_two_cells_of_one_name_and_a_folder_that_cannot_be(counted, tmp_path):
    cells, calls = counted
    with pytest.raises(InputError, match="table/set/a-0 is asked for twice"):
        Store(tmp_path).run([cells[0], cells[1], cells[0]])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write below"):
        Store(tmp_path / "file" / "below").run(cells)
    assert not calls
