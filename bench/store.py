"""The JSON of a run: written whole after every case, read again by --resume if machine, versions and source agree."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mixerlens.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = 1
# what must agree for a row to be kept, in words
SAME = {"schema": "format", "quick": "--quick", "machine": "machine or versions", "source": "code"}


def new(machine: dict[str, Any], quick: bool) -> dict[str, Any]:
    """The document of a run in which nothing was measured yet."""
    return {
        "schema": SCHEMA, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "quick": quick,
        "machine": machine, "source": digest(), "rates": {}, "rows": {},
    }  # fmt: skip


def resumed(path: Path, fresh: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The green rows at ``path`` if they belong to the same machine, versions and source, else ``fresh`` and why."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return fresh, f"{path} is not there"
    except (OSError, ValueError):
        return fresh, f"{path} is no result of this benchmark"
    if differ := other(old, fresh):
        return fresh, f"{path} differs in {', '.join(SAME[name] for name in differ)}"
    return old | {"rows": {name: row for name, row in old["rows"].items() if row["status"] == "green"}}, ""


def other(old: Any, fresh: dict[str, Any]) -> list[str]:
    """What of an old document does not agree with a new one, so that its rows cannot be kept."""
    return [name for name in SAME if not isinstance(old, dict) or old.get(name) != fresh[name]]


def save(document: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(document, indent=1, sort_keys=False, allow_nan=False) + "\n")


def digest() -> str:
    """SHA-256 over the library's and the benchmark's own source: other code, other numbers."""
    found = hashlib.sha256()
    for folder in (_library(), Path(__file__).parent):
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".c")):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def _library() -> Path:
    import mixerlens

    return Path(mixerlens.__file__).parent
