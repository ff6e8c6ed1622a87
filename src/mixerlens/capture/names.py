"""Names that somebody may have meant: families and specimens near to a name that is no model here."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

SPECIMENS = Path("specimens")
NEAR = 0.75  # of difflib's ratio: lets a slip of one letter in four pass, and none of the hub's names of one word
PART = 4  # letters from which on a piece of a name counts as meant
MOST = 3


def near_names(name: str) -> list[str]:
    """Families, then specimens in this folder, that a name of one word is near to: itself, a piece, or a slip.

    A name with an owner is the hub's own. Nothing is asked of a network.
    """
    if "/" in name:
        return []
    from mixerlens.families import FAMILIES

    specimens = {folder.name: folder for folder in _models(SPECIMENS)}
    return [*_nearest(name, FAMILIES), *(str(specimens[found]) for found in _nearest(name, specimens))]


def near_folders(name: str) -> list[str]:
    """Model folders beside where a name would lie that it is a slip of, as they would be named."""
    path = Path(name).expanduser()
    return [str(path.parent / found) for found in _nearest(path.name, [folder.name for folder in _models(path.parent)])]


def cached(name: str) -> bool:
    """Whether the hub's model of this name was fetched before."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def meant(near: list[str]) -> str:
    """A question to end a message with; empty where nothing is near."""
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _models(folder: Path) -> list[Path]:
    return sorted(file.parent for file in folder.glob("*/config.json"))


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """The name itself where it is known, else at most three that are near, nearest first."""
    known = list(known)
    if name in known:
        return [name]
    word = _plain(name)
    told = [(SequenceMatcher(None, word, _plain(other)).ratio(), other) for other in known]
    near = [(ratio, other) for ratio, other in told if ratio >= NEAR or (len(word) >= PART and word in _plain(other))]
    return [other for _, other in sorted(near, key=lambda pair: (-pair[0], pair[1]))[:MOST]]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
