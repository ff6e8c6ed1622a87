"""The pages under docs/ keep their promises: their Python runs as it stands, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SHOWS_PARTS = {"typeseg.md"}  # of examples/typeseg_mamba.py, which has its own test
WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", [p for p in WITH_CODE if p.name not in SHOWS_PARTS], ids=lambda page: page.stem)
def test_the_code_runs(page):
    torch.manual_seed(0)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target


def test_waves_of_the_trained_classifier_are_what_the_page_says():
    import numpy as np

    import mixerlens as ml

    specimen = DOCS.parent / "specimens" / "digits-s4d"
    trace = ml.open(specimen).trace(np.load(specimen / "examples.npy"))
    found = [ml.ring.survey(mixer).waves for mixer in trace.mixers.values()]
    text = (DOCS / "waves.md").read_text(encoding="utf-8")
    layers = [f"{float(waves.quarter.median()):.2f}" for waves in found]
    assert f"{layers[0]} (first" in text
    assert f"{layers[1]} nodes" in text
    laps = [[f"{float(x.median()):.3g}" for x in (waves.lap_mean, waves.lap_null)] for waves in found]
    assert laps == [["1.76", "15.8"], ["1.77", "15.7"]]
    assert "lap 1.76 and 1.77, against 15.8 and 15.7" in text
    assert {f"{float(waves.quarter_null.median()):.1f}" for waves in found} == {"16.6"}
