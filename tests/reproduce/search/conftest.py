"""A search of a few mixers: the same rungs, less to name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mixerlens.reproduce.search import tables
from mixerlens.reproduce.search.families import families


@pytest.fixture
def small(monkeypatch):
    """Five families, five candidates; two of each in the second rung."""
    few = dict(list(families().items())[:5])
    monkeypatch.setattr(tables, "families", lambda: few)
    size = replace(tables.SCALES["quick"], candidates=5, kept=2, finalists=2)
    monkeypatch.setitem(tables.SCALES, "quick", size)
    return size
