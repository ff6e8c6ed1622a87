"""What decides a run is its id; its columns are flat, complete and of the declared types."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace

import pytest

from mixerlens.errors import InputError
from mixerlens.sweep import RunConfig
from mixerlens.sweep.config import COLUMNS
from sweep.doubles import Spec, config, result

OTHER = {
    "name": "two",
    "layers": (Spec("one"), Spec("one", dim=16)),
    "task": "parity",
    "options": {"length": 17},
    "seed": 1,
    "steps": 401,
    "batch": 33,
    "lr": 1e-4,
    "wd": 0.1,
    "features": 32,
    "mlp_ratio": 1.0,
    "positions": "learned",
    "warmup": 0.0,
    "clip": 2.0,
    "looks": 5,
    "held": 100,
    "tested": 100,
}


def test_every_field_decides_the_id():
    assert OTHER.keys() == {each.name for each in fields(RunConfig)}
    ids = {replace(config(), **{name: value}).id for name, value in OTHER.items()} | {config().id}
    assert len(ids) == len(OTHER) + 1


def test_equal_values_are_one_run_whatever_their_type_or_order():
    first, second = config(options={"a": 1, "b": (1, 2)}, wd=0), config(options={"b": [1, 2], "a": 1}, wd=0.0)
    assert first == second and first.id == second.id and len({first, second}) == 1
    assert first != config(options={"a": 1, "b": [2, 1]})


def test_the_id_is_the_hash_of_the_whole_specification_also_where_it_is_as_by_default():
    found = config()
    assert found.key["layers"] == [{"name": "one", "dim": 8}] * 2 and found.key["schema"] == 1
    text = json.dumps(found.key, sort_keys=True, separators=(",", ":"))
    assert found.id == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_a_row_has_every_column_with_its_type():
    row = config().columns() | result(config(), validation_loss=float("nan")).columns()
    assert row.keys() == COLUMNS.keys()
    kinds = {"string": str, "int64": int, "double": (int, float)}
    assert all(row[name] is None or isinstance(row[name], kinds[kind]) for name, kind in COLUMNS.items())
    assert row["validation_loss"] is None and row["state_bytes"] is None
    assert row["test_accuracy"] == row["test_correct"] / 200 and row["depth"] == 2
    assert json.loads(row["options"]) == {"length": 16} and json.loads(row["versions"]) == {"python": "3"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps 0: a whole number from 1 to 10\\^9"),
        ({"steps": 10**23}, "steps 100000000000000000000000: a whole number"),
        ({"batch": 2.5}, "batch 2.5"),
        ({"seed": -1}, "seed -1"),
        ({"seed": True}, "seed True"),
        ({"lr": 0}, "lr 0: a number above 0"),
        ({"lr": float("nan")}, "lr nan"),
        ({"lr": "fast"}, "lr 'fast'"),
        ({"wd": -0.1}, "wd -0.1"),
        ({"warmup": 1}, "warmup 1: a share"),
        ({"layers": ()}, "a model needs a layer"),
    ],
)
def test_numbers_outside_their_range_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        replace(config(), **wrong)


def test_options_that_are_no_json_are_refused():
    with pytest.raises(InputError, match="no JSON"):
        _ = config(options={"length": object()}).id
