"""The README keeps its promises: its quickstart runs as it stands, its links and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def quickstart() -> str:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_the_quickstart_is_ten_lines():
    assert len([line for line in quickstart().splitlines() if line.strip()]) <= 10


def test_the_quickstart_runs(tmp_path, monkeypatch, capsys):
    """As a reader runs it: in the folder of the project, here with the output elsewhere."""
    (tmp_path / "specimens").symlink_to(ROOT / "specimens")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(quickstart(), "README.md", "exec"), names)
    assert capsys.readouterr().out == "gated_delta_net (1, 4, 31, 31) all checks hold: True\n"
    values = names["mixer"].values
    values = values.repeat_interleave(4 // values.shape[2], dim=2)
    by_hand = (names["alpha"] @ values.transpose(1, 2)).transpose(1, 2)
    returned = names["mixer"].output
    assert (by_hand - returned).abs().max() <= 1e-5 * returned.abs().max()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?://|#)([^)]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_every_make_target_named_here_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for target in re.findall(r"(?:^|`| )make ([a-z][a-z-]*)(?=`|  |\n)", text):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_command_table_is_the_command_line():
    from mixerlens.cli.app import VERBS

    named = re.findall(r"^\| `mixerlens ([a-z-]+)[ `]", README, re.MULTILINE)
    assert named == [verb.__name__.replace("_", "-") for verb in VERBS]
