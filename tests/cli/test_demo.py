"""The demo says what it will do, shows what holds first, and a known fault as what it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import mixerlens as ml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_begins_with_what_it_will_do_and_ends_with_the_model_that_fails(demo, tmp_path, monkeypatch, capsys):
    order = []

    def shown(name, lens, inputs, folder, known_faults=None):
        order.append((name, bool(known_faults)))
        return demo.Shown(folder / f"{name}.html", True)

    monkeypatch.setattr(demo, "show", shown)
    monkeypatch.setattr("sys.argv", ["demo.py", "--output", str(tmp_path)])
    assert demo.main() == 0
    assert order == [("qwen3-next-bytes", False), ("digits-s4d", False), ("jamba-bytes", True)]
    first = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert first.startswith("Verifies three small trained models") and first.endswith("on one core.")


@pytest.mark.parametrize("known", [True, False])
def test_a_known_fault_is_explained_before_the_table_and_another_is_no_success(known, demo, tmp_path, capsys):
    lens = ml.open(ROOT / "specimens" / "jamba-bytes")
    faults = {"chunk": demo.CHUNK_FAULT} if known else {}
    shown = demo.show("jamba-bytes", lens, "In the beginning was the Word.", tmp_path, known_faults=faults)
    out = capsys.readouterr().out
    assert shown.good is known and shown.path.is_file()
    assert ("a known fault of the library, found as it should be" in out) is known
    assert ("fails, and is not known to" in out) is not known
    if known:
        assert out.index("found as it should be") < out.index("certificate: ")


def test_what_the_quickstart_and_the_demo_write_is_no_change_to_the_project():
    assert {"/report.html", "/reports/"} <= set((ROOT / ".gitignore").read_text(encoding="utf-8").split())
