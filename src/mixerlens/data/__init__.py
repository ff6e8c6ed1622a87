"""Small real data sets as sequences, with fixed parts, read from what packages or local folders carry."""

from __future__ import annotations

from .digits import Digits, digits
from .sequences import DataSet, Sequences
from .sets import SETS, data_folder, load, present

__all__ = ["SETS", "DataSet", "Digits", "Sequences", "data_folder", "digits", "load", "present"]
