"""Small real data sets as sequences, with a fixed split, read from what installed packages carry."""

from __future__ import annotations

from .digits import Digits, digits

__all__ = ["Digits", "digits"]
