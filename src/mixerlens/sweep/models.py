"""The trained models of a sweep, kept as saved designs: a folder a run, which `mixerlens.open` opens.

    FOLDER/NAME/config.json, model.safetensors    as `design.save` writes them
    FOLDER/NAME/run.json                          the run's configuration and row

NAME is the run's label and id. A folder appears whole or not at all, and is there before its run is stored. Files
travel with the result, so that only the process that was started writes, wherever the model was trained.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..files import WriteError
from .config import MEASURED, RunConfig, RunResult, canonical
from .store import flush_folder, flushed, make_folder
from .training import train

__all__ = ["Models", "Trained", "train_whole"]

LONGEST = 60  # characters of a model's name in the name of a folder
RUN = "run.json"


@dataclass(frozen=True)
class Trained(RunResult):
    """A result together with the files of its model, by name."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        return RunResult(**{each.name: getattr(self, each.name) for each in fields(RunResult)}).columns()


def train_whole(config: RunConfig) -> Trained:
    """`train`, and the model of the best look as `design.save` writes it. Raises as both."""
    from ..design.saved import save

    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, inspect=lambda task, model: save(model, folder))  # type: ignore[arg-type]
        for path in sorted(Path(folder).iterdir()):
            files[path.name] = path.read_bytes()
    own = {each.name: getattr(result, each.name) for each in fields(RunResult)}
    return Trained(**own, files=files)


class Models:
    """The kept models below a folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def prepare(self) -> None:
        """Make the folder. Raises InputError where it cannot be made or takes no files."""
        make_folder(self.folder)

    def path(self, config: RunConfig) -> Path:
        """The folder of a run's model."""
        label = replace(config, name=config.name[:LONGEST]).label
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_.+]+', '-', label).strip('-.')}-{config.id}"

    def put(self, config: RunConfig, trained: Trained, row: dict[str, Any]) -> None:
        """Write a model's folder, in place of an older one. Raises WriteError where the disk is full."""
        told = canonical({"key": config.key, "row": row}) + "\n"
        target = self.path(config)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a process of this number that was killed
            part.mkdir()
            for name, data in {**trained.files, RUN: told.encode()}.items():
                flushed(part / name, data)
            if target.exists():
                shutil.rmtree(target)
            os.rename(part, target)
            flush_folder(self.folder)
        except BaseException as error:
            with suppress(OSError):
                shutil.rmtree(part)
            if isinstance(error, OSError):
                raise WriteError(f"cannot write {target}: {error.strerror or error}") from error
            raise

    def lacks(self, config: RunConfig, row: dict[str, Any]) -> str | None:
        """Why the model of a stored run does not count as kept, None where it does: it is there, can be opened, and
        comes from the training that the row is of."""
        from ..design.saved import load

        path = self.path(config)
        if not path.exists():
            return f"it is not in {self.folder}"
        try:
            load(path)
            found = json.loads((path / RUN).read_text(encoding="utf-8"))
            same = found["key"] == config.key and _decided(found["row"]) == _decided(row)
        except ModelError as error:
            return str(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return f"{path / RUN} is missing or damaged"
        return None if same else f"{path} is of another training than the stored run"


def _decided(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in MEASURED}
