"""The table in words, and the files a finished run writes: whole or not at all, and never from a quick run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench import figure, measure, publish, store, table
from bench.case import Bar
from mixerlens.errors import InputError

README = f"# A project\n\nBefore.\n\n{publish.START}\nold table\n{publish.END}\n\nAfter.\n"


@pytest.fixture
def document(make_case, memory):
    bars = (Bar("speed", "mixerlens", 1e9, "peer"), Bar("exponent", "mixerlens", 9), Bar("exponent", "peer", 9))
    case = make_case(seconds=0.01, lengths=(16, 32), bars=bars)
    flat = make_case(seconds=0.01)
    machine = {
        "cpu": "abacus", "vector": "beads", "cores": 2, "memory_gib": 1, "threads": 1, "system": "Linux",
        "python": "3", "native": "MIXERLENS_NATIVE=0", "versions": {"torch": "2", "mambapy": None},
    }  # fmt: skip
    found = store.new(machine, False)
    found["rates"] = {"GEMM float32": {"rate": 100.0, "unit": "GFLOP/s"}}
    found["rows"] = {
        "grown": measure.run(case, False, memory, print),
        "squares": measure.run(flat, False, memory, print),
    }
    return found


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def test_everything_is_written_and_the_readme_changes_only_between_its_marks(document, root):
    written = publish.publish(document, ["grown", "squares"], root)
    assert [path.relative_to(root).as_posix() for path in written] == [
        "docs/bench.json", "docs/bench.png", "docs/bench.md", "README.md",
    ]  # fmt: skip
    assert json.loads((root / "docs/bench.json").read_text()) == json.loads(json.dumps(document))
    assert (root / "docs/bench.png").read_bytes().startswith(b"\x89PNG")
    text = (root / "README.md").read_text()
    before, after = README.split("old table")
    assert text.startswith(before) and text.endswith(after)
    inside = text[len(before) : -len(after)]
    assert (
        "NOT met" in inside and "abacus" in inside and document["date"] in inside and "mambapy not installed" in inside
    )
    page = (root / "docs/bench.md").read_text()
    assert "| Squares | mixerlens |" in page and "100 GFLOP/s" in page
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == [
        "README.md",
        "bench.json",
        "bench.md",
        "bench.png",
    ]


def test_rows_without_a_gate_or_without_any_time_do_not_stop_the_figure(document, tmp_path):
    """What checks itself has no error, and where all that a case needs is missing there is no time."""
    ways = document["rows"]["squares"]["contenders"]
    ungated = {name: {k: v for k, v in way.items() if k != "error"} for name, way in ways.items()}
    document["rows"]["whole"] = document["rows"]["squares"] | {"case": "whole", "contenders": ungated}
    document["rows"]["grown"]["contenders"]["other"] = {"peer": True, "native": False, "missing": "mambapy"}
    document["rows"]["lacking"] = document["rows"]["squares"] | {
        "case": "lacking", "bars": [], "contenders": {"mixerlens": {"peer": False, "native": False, "missing": "gcc"}},
    }  # fmt: skip
    assert figure.draw(document, tmp_path / "bench.png").stat().st_size > 1000


def test_a_second_run_replaces_the_first(document, root):
    publish.publish(document, ["grown", "squares"], root)
    first = (root / "README.md").read_text()
    publish.publish(document, ["grown", "squares"], root)
    assert (root / "README.md").read_text() == first


@pytest.mark.parametrize("spoil", ["quick", "unfinished", "unmarked", "twice"])
def test_what_is_no_finished_run_writes_nothing(spoil, document, root):
    cases = ["grown", "squares"]
    if spoil == "quick":
        document["quick"] = True
    if spoil == "unfinished":
        cases.append("cubes")
    if spoil == "unmarked":
        (root / "README.md").write_text("# A project\n")
    if spoil == "twice":
        (root / "README.md").write_text(README + README)
    readme = (root / "README.md").read_text()
    with pytest.raises(InputError):
        publish.publish(document, cases, root)
    assert (root / "README.md").read_text() == readme
    assert list((root / "docs").iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(document, root, monkeypatch):
    def broken(*_, **__):
        raise KeyboardInterrupt

    (root / "docs" / "bench.png").write_bytes(b"old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    with pytest.raises(KeyboardInterrupt):
        figure.draw(document, root / "docs" / "bench.png")
    assert [(p.name, p.read_bytes()) for p in (root / "docs").iterdir()] == [("bench.png", b"old")]


def test_like_bars_are_one_line_with_the_worst(document):
    row = document["rows"]["grown"]
    row["bars"][1]["value"], row["bars"][2]["value"] = 1.0, 2.5
    row["contenders"]["peer"].update(exponent=2.5, last_slope=3.25)
    lines = table.bars(document)
    (growth,) = [line for line in lines if "growth" in line[0]]
    assert "mixerlens" in growth[1] and "; peer 2.50 (last step 3.25)" in growth[1]
    assert growth[3] == "L^2.50"
    row["bars"][2].update(value=None, met=None)
    (growth,) = [line for line in table.bars(document) if "growth" in line[0]]
    assert growth[3:] == ("not measured", "at most L^9", "-")


def test_a_red_row_shows_no_speed(make_case, memory):
    row = measure.run(make_case(wrong=1.0), False, memory, print)
    lines = table.ways({"rows": {"squares": row}})
    assert [line[2] for line in lines] == ["RED, no speed shown"] * 2
    assert lines[1][4] == "1e+00"
    assert table.bars({"rows": {"squares": row}})[0][3:] == ("not measured", "at least 0.5x", "-")


def test_the_c_file_has_lines_of_its_own(document):
    del document["rows"]["grown"]
    row = document["rows"]["squares"]
    row["contenders"]["mixerlens, C"] = row["contenders"]["mixerlens"] | {
        "native": True, "share": 0.5, "multiply_add_share": 0.125,
    }  # fmt: skip
    row["bars"] = [
        measure.judge(bar, row["contenders"])
        for bar in (
            Bar("speed", "mixerlens", 1e9, "peer"), Bar("speed", "mixerlens, C", None, "peer"),
            Bar("share", "mixerlens, C", 0.45),
        )
    ]  # fmt: skip
    torch_path, c_file, share = table.bars(document)
    assert torch_path[0].endswith("speed, torch path") and torch_path[-1] == "NOT met"
    assert c_file[0].endswith("speed, C file") and c_file[4:] == ("shown beside", "")
    assert share[3:] == ("50.0% (12.5% without exp2) of GEMM", "at least 45%", "met")
    inside = publish.summary(document)
    assert "1 of 2 bars are met" in inside  # what is shown beside is none
    assert "with the optional C library off, but for those that are called C" in inside
    row["note"] = "what it is"
    assert "- Squares: time 32; what it is\n" in publish.page(document)


def test_one_call_is_not_shown_as_a_median(make_case, memory):
    case = make_case(seconds=0.01)
    ways = tuple(replace(c, once=not c.peer) for c in case.contenders)
    row = measure.run(replace(case, contenders=ways), False, memory, print)
    ours, peer = table.ways({"rows": {"squares": row}})
    assert ours[3] == "one call"
    assert " .. " in peer[3]


def test_a_missing_peer_is_named(make_case, memory):
    row = measure.run(make_case(needs=("no_such_package",), seconds=0.01), False, memory, print)
    assert table.ways({"rows": {"squares": row}})[1][2] == "missing: no_such_package"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12.34, "12.3 s"), (0.0123, "12.3 ms"), (4.56e-5, "45.6 µs"), (3e-9, "3 ns"), (-0.5, "-500 ms")],
)
def test_seconds_in_words(value, shown):
    assert table.seconds(value) == shown


def test_a_bar_in_a_cell_does_not_split_it():
    assert table.markdown(("a",), [("|x|",)]).splitlines()[-1] == "| \\|x\\| |"
