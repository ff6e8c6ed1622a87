"""The page is a function of stored numbers, the committed one included, and its verdicts follow their rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mixerlens.reproduce import page
from mixerlens.reproduce.intervals import pack, wilson
from mixerlens.reproduce.study import STUDIES, document
from mixerlens.reproduce.verdicts import verdicts
from mixerlens.reproduce.words import to_text

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def committed():
    return json.loads((DOCS / "explicit-operator.json").read_text())


def test_the_committed_page_is_written_from_the_committed_numbers(committed):
    assert page.markdown(committed) == (DOCS / "explicit-operator.md").read_text()
    assert to_text(committed) == (DOCS / "explicit-operator.json").read_text()


def test_the_committed_numbers_are_scores_of_the_test_parts_they_name(committed):
    for name, variants in committed["tables"]["sets"].items():
        size = committed["sets"][name]["sizes"]["test"]
        for runs in variants.values():
            for run in runs.values():
                correct, total = run["test"]["score"]
                bits = np.unpackbits(np.frombuffer(bytes.fromhex(run["test"]["right"]), np.uint8))
                assert total == size and int(bits.sum()) == correct


def test_every_cell_is_stored_or_named_as_missing(committed):
    asked = {cell.name for cell in STUDIES[committed["study"]].cells(committed["scale"], to_run=False)}
    stored = {
        f"{table}/{data}/{variant}-{seed}"
        for table, rows in committed["tables"].items()
        for data, variants in rows.items()
        for variant, runs in variants.items()
        for seed in runs
    }
    assert asked == stored | set(committed["missing"]) and not stored & set(committed["missing"])


def run(right: int, total: int, validated: int = 5) -> dict:
    bits = np.arange(total) < right
    return {"test": {"score": [right, total], "right": pack(bits)}, "best": {"validation_correct": validated}}


@pytest.mark.parametrize(
    ("full", "identity", "raw", "kind"),
    [(95, 50, 60, "holds"), (95, 50, 94, "partly"), (80, 79, 60, "not shown"), (50, 90, 60, "reversed")],
)
def test_verdicts(full, identity, raw, kind):
    rows = {"full": {"0": run(full, 100)}, "identity": {"0": run(identity, 100)}, "raw sequence": {"0": run(raw, 100)}}
    (found,) = verdicts({"set": rows})
    assert (found.kind, found.chosen) == (kind, "full")
    assert found.differences["full - identity"].mean == pytest.approx((full - identity) / 100)
    assert found.differences["full - frozen"] is None
    assert found.seeds["best - raw sequence"] == 1 and found.seeds["full - frozen"] == 0


def test_verdicts_are_corrected_over_the_sets():
    """A difference that is just there at 5 % by itself is not among ten sets; a large one is."""

    def rows(full: int, identity: int) -> dict:
        return {
            "full": {"0": run(full, 100)},
            "identity": {"0": run(identity, 100)},
            "raw sequence": {"0": run(identity, 100)},
        }

    just = {"just": rows(55, 50)}
    assert verdicts(just)[0].kind == "holds" and verdicts(just)[0].differences["best - identity"].p > 0.02
    among = verdicts(just | {f"none {k}": rows(50, 50) for k in range(8)} | {"large": rows(95, 30)})
    kinds = {each.data: each.kind for each in among}
    assert kinds["just"] == "not shown" and kinds["large"] == "holds"
    first = among[0]
    assert first.differences["best - identity"].verdict() == "higher"
    assert first.says("best - identity") == "no difference" and first.says("full - frozen") is None
    assert first.adjusted["best - identity"] == pytest.approx(9 * first.differences["best - identity"].p)


def test_a_linear_model_read_at_the_last_step_counts_too():
    rows = {"full": {"0": run(95, 100)}, "identity": {"0": run(50, 100)}, "raw sequence": {"0": run(60, 100)}}
    assert verdicts({"set": rows})[0].kind == "holds"
    rows["identity, last step"] = {"0": run(94, 100)}
    assert verdicts({"set": rows})[0].kind == "partly"


def test_the_best_model_is_chosen_by_validation_and_not_by_test():
    rows = {
        "full": {"0": run(60, 100, validated=9)},
        "two layers": {"0": run(99, 100, validated=8)},
        "identity": {"0": run(60, 100)},
        "raw sequence": {"0": run(60, 100)},
    }
    assert [each.chosen for each in verdicts({"set": rows})] == ["full"]
    assert verdicts({"set": {"identity": {"0": run(6, 10)}}}) == []


def test_intervals_on_the_page_are_wilsons():
    cell = {
        "table": "sets", "data": "one", "variant": "full", "seed": 0, "settings": {}, "versions": {"torch": "2"},
        "cpu_seconds": 1.0,
        "result": {
            "data": {
                "title": "One: a set", "time": 2, "channels": 1, "classes": 2, "source": "here", "prepared": "not",
                "sizes": {"train": 3, "validation": 2, "test": 40},
            },
            "test": {"correct": 31, "total": 40, "right": pack(np.arange(40) < 31)},
            "best": {"validation_correct": 2},
            "steps": 7,
        },
    }  # fmt: skip
    text = page.markdown(document("explicit-operator", "quick", [], [cell]))
    low, high = wilson(31, 40)
    assert f"31/40 | {100 * low:.1f} to {100 * high:.1f} | 7" in text and "77.5" in text
