"""Words that a study's page and its pictures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["title"]


def title(name: str, document: Mapping[str, Any]) -> str:
    """The title of a set before any colon, without commas, so that several can stand in one list."""
    return document["sets"].get(name, {}).get("title", name).split(":")[0].replace(",", "")
