"""The cells: what each table changes and what it leaves, at both scales."""

from __future__ import annotations

import json

import pytest

from mixerlens import tasks
from mixerlens.design import MixerSpec
from mixerlens.reproduce.principles import mixers, tables
from mixerlens.reproduce.study import STUDIES

STUDY = STUDIES["principles"]
SLOTS = ("query", "key", "value", "evolution", "scaling", "readout", "normalizer", "norm", "short_convolution", "gate")


@pytest.mark.parametrize("scale", tables.SCALES)
def test_cells_are_named_once_and_decided_by_json(scale):
    cells = STUDY.cells(scale)
    assert len({cell.name for cell in cells}) == len(cells) == 414
    assert all(cell.name.count("/") == 2 for cell in cells)
    keys = {json.dumps(cell.key, sort_keys=True) for cell in cells}
    assert len(keys) == len(cells)
    assert [cell.key for cell in STUDY.cells(scale)] == [cell.key for cell in cells]


def test_at_least_sixty_models_are_asked_for_the_statistic():
    cells = STUDY.cells("quick", ["spectrum"])
    assert sum(cell.data == "delay line" for cell in cells) >= 60


@pytest.mark.parametrize(
    ("make", "changed"),
    [
        (mixers.readouts, {"readout"}),
        (mixers.evolutions, {"evolution", "scaling"}),
        (mixers.scalings, {"scaling", "query", "key"}),
        (mixers.normalizers, {"normalizer", "query", "key"}),
    ],
)
def test_one_part_changes(make, changed):
    specs = list(make(2, 8, 32).values())
    different = {name for name in SLOTS for spec in specs if getattr(spec, name) != getattr(specs[0], name)}
    assert different == changed
    assert len({(spec.heads, spec.width) for spec in specs}) == 1


def test_the_wide_identity_has_the_state_of_the_polynomial():
    specs = mixers.readouts(1, 8, 32)
    assert {spec.dim for name, spec in specs.items() if name != "identity, wide"} == {8}
    assert specs["identity, wide"].dim == 45  # 1 + 8 + 36 monomials of degrees 0, 1, 2


def test_learned_positions_hold_the_longer_test_and_only_they_are_learned():
    for cell in STUDY.cells("quick", ["evolution"], [0]):
        said = cell.variant.rpartition(", ")[2]
        assert (cell.settings["positions"] == "learned") == (said == "learned positions")
        kinds = {layer["positions"]["kind"] for layer in cell.settings["layers"]}
        assert kinds == {"rope" if said == "RoPE" else "none"}
        assert cell.settings["options"]["test_length"] == 32 and cell.settings["longer"] == [{"test_length": 16}]


def test_every_question_of_quick_recall_has_one_answer():
    """What followed the asked key last, if anything but a question did, is its value."""
    cells = [cell for cell in STUDY.cells("quick", ["readout", "scaling"]) if cell.settings["task"] == "mqar"]
    (options,) = {json.dumps(cell.settings["options"], sort_keys=True) for cell in cells}
    task = tasks.make("mqar", **json.loads(options))
    batch = task.batch("test", 0, 200, 1)
    for row, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        for at, answer in enumerate(targets):
            if answer != tasks.IGNORED:
                followed = [row[j + 1] for j in range(at) if row[j] == row[at]]
                assert followed == [answer]


def test_the_published_scale_has_the_published_sizes():
    options = {cell.data: cell.settings["options"] for cell in STUDY.cells("paper")}
    assert options["words"] == {"group": "S5", "tokens": "all", "length": 128, "test_length": 512, "examples": None}
    assert options["parity"]["test_length"] == 256 and options["delay line"]["delay"] == 1000
    assert options["mqar"]["vocabulary"] == 8192 and options["recall"]["examples"] == 12_800


def test_every_specification_is_read_back():
    for make in (mixers.readouts, mixers.evolutions, mixers.scalings, mixers.normalizers, mixers.spectra):
        for spec in make(2, 8, 32).values():
            assert MixerSpec.from_dict(spec.to_dict()) == spec
