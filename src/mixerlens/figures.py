"""Pictures in files: who may write one, in which formats, and how. What they show stands where it was measured.

Colours are those of Okabe and Ito, safe for colour-blind readers and apart in grey print. Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import check_writable, write_whole

__all__ = ["BLUE", "INK", "ORANGE", "check_drawable", "drawing"]

BLUE, ORANGE, INK = "#0072b2", "#d55e00", "#222222"
# no date in the file, so that the same numbers give the same bytes
FORMATS: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def check_drawable(path: str | Path) -> tuple[Path, str]:
    """The path and its format, before anything long has run.

    Raises InputError without matplotlib, or for a path that is no .png, .pdf or .svg or cannot be written.
    """
    target = check_writable(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise InputError(f"cannot draw {path}: end it in .{', .'.join(FORMATS)}")
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("the figure needs matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg")
    return target, kind


@contextmanager
def drawing(path: str | Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes (rows, columns), size in inches; written whole when the block ends, or not at all.

    Raises as `check_drawable`.
    """
    target, kind = check_drawable(path)
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 8, "axes.edgecolor": INK, "svg.hashsalt": "mixerlens"}):
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        try:
            yield figure, axes
            write_whole(target, lambda part: figure.savefig(part, format=kind, dpi=150, metadata=FORMATS[kind]))
        finally:
            plt.close(figure)
