"""What the tests of the command line share and no fixture can carry."""

from __future__ import annotations

from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"


def save(name: str, folder: Path) -> Path:
    """Write a tiny random model of this name to a folder, as transformers does."""
    from capture.tiny import build

    build(name).save_pretrained(folder)
    return folder
