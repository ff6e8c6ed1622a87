"""What decides a training run, and what comes out of one: both as flat columns of a table."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..measures.record import plain

if TYPE_CHECKING:
    from ..design.spec import MixerSpec

__all__ = ["COLUMNS", "MEASURED", "PACKAGES", "RunConfig", "RunResult", "canonical"]

MOST = 10**9  # of steps, examples or numbers: far beyond any run that ends, far within the table's int64
SCHEMA = 1  # of the recipe: another number, and no older run counts
PACKAGES = ("mixerlens", "torch", "numpy", "accelerate")

# every column of the table and its Parquet type, in this order
COLUMNS: dict[str, str] = {
    **dict.fromkeys(("id", "spec", "task"), "string"),
    **dict.fromkeys(("seed", "steps", "batch", "features", "depth", "looks", "held", "tested"), "int64"),
    **dict.fromkeys(("lr", "wd", "warmup", "clip", "mlp_ratio"), "double"),
    **dict.fromkeys(("positions", "layers", "options", "status", "reason"), "string"),
    **dict.fromkeys(("steps_done", "best_step"), "int64"),
    **dict.fromkeys(("train_loss", "validation_loss", "test_loss"), "double"),
    **dict.fromkeys(("validation_correct", "validation_total", "test_correct", "test_total"), "int64"),
    "test_sequences": "int64",
    "test_squares": "double",
    **dict.fromkeys(("validation_accuracy", "test_accuracy", "chance"), "double"),
    **dict.fromkeys(("parameters", "state_bytes"), "int64"),
    **dict.fromkeys(("history", "versions"), "string"),
    **dict.fromkeys(("seconds", "cpu_seconds"), "double"),
}
# the columns that another machine may fill otherwise; all others are decided by the configuration
MEASURED = ("versions", "seconds", "cpu_seconds")


@dataclass(frozen=True, eq=False)
class RunConfig:
    """One training run. Two of them are equal where their ids are, and so then are their results.

    name: of the model, in tables. layers: the mixer of every block. task, options: of `tasks.TASKS`, the options
    complete. seed: of the weights and of the data, so that runs of one seed see the same examples. steps, batch: of the
    optimiser, AdamW; lr: at its top, after a warm-up over the share ``warmup`` of the steps, then a cosine to zero; wd:
    weight decay of the matrices; clip: of the gradient's norm. looks: at the validation examples, ``held`` of them, or
    all there are; tested: test examples. features, mlp_ratio, positions: of `design.model.ModelConfig`.

    Raises InputError for a number outside its range, and for a layer that sees later tokens on a task whose answers
    stand in them.
    """

    name: str
    layers: tuple[MixerSpec, ...]
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    steps: int = 400
    batch: int = 32
    lr: float = 3e-3
    wd: float = 0.0
    features: int = 64
    mlp_ratio: float = 2.0
    positions: str = "none"
    warmup: float = 0.1
    clip: float = 1.0
    looks: int = 10
    held: int = 256
    tested: int = 1024

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "features", "looks", "held", "tested"):
            _number(name, getattr(self, name), int, lambda x: 1 <= x <= MOST, "a whole number from 1 to 10^9")
        _number("seed", self.seed, int, lambda x: 0 <= x < 1 << 31, "a whole number from 0 on, below 2^31")
        for name in ("lr", "clip"):
            _number(name, getattr(self, name), float, lambda x: x > 0, "a number above 0")
        for name in ("wd", "mlp_ratio"):
            _number(name, getattr(self, name), float, lambda x: x >= 0, "a number from 0 on")
        _number("warmup", self.warmup, float, lambda x: 0 <= x < 1, "a share, from 0 to below 1")
        for name in ("lr", "clip", "wd", "mlp_ratio", "warmup"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 0 and 0.0 are one run
        if not self.layers:
            raise InputError(f"{self.name}: a model needs a layer")
        self._blind()

    def _blind(self) -> None:
        """Where the next input is the answer, a mixer that sees it is right for nothing."""
        from ..tasks import TASKS

        if self.task not in TASKS or not TASKS[self.task].causal:
            return
        for spec in self.layers:
            if spec.support.kind == "bidirectional":
                raise InputError(f"{spec.name} sees later tokens, which hold the answers of {self.task}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunConfig) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that decides the result, JSON-able."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.loads(canonical(_whole(own) | {"schema": SCHEMA}))

    @cached_property
    def id(self) -> str:
        """Twenty hexadecimal digits of the key's SHA-256."""
        return hashlib.sha256(canonical(self.key).encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        """For people: unique only together with the recipe."""
        return f"{self.name} {self.task} seed {self.seed} lr {self.lr:g} wd {self.wd:g}"

    def columns(self) -> dict[str, Any]:
        flat = {name: value for name, value in self.key.items() if name in COLUMNS}
        layers = canonical([spec.to_dict() for spec in self.layers])
        told = {"id": self.id, "spec": self.name, "depth": len(self.layers), "layers": layers}
        return flat | told | {"options": canonical(self.key["options"])}


@dataclass(frozen=True)
class RunResult:
    """status: "finished", or "diverged" after ``steps_done`` steps for the ``reason`` named, such as a loss that is not
    finite. Losses are cross-entropies. Of the looks the one with the most validation examples right is kept, of several
    the one with the lowest validation loss; by it the test set is measured once, over ``test_sequences`` whose answers
    stand or fall together as ``test_squares`` says (`intervals.Answers`). chance: the accuracy of guessing.
    state_bytes: a sequence's, of all layers, None where no finite state exists. history: one entry a look. versions: of
    the packages where the run was made."""

    status: str
    reason: str | None
    steps_done: int
    best_step: int
    train_loss: float
    validation_loss: float
    validation_correct: int
    validation_total: int
    test_loss: float
    test_correct: int
    test_total: int
    test_sequences: int
    test_squares: float
    chance: float
    parameters: int
    state_bytes: int | None
    history: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    seconds: float
    cpu_seconds: float

    def columns(self) -> dict[str, Any]:
        own = plain({each.name: getattr(self, each.name) for each in fields(self)})
        return own | {
            "history": canonical(own["history"]),
            "validation_accuracy": self.validation_correct / self.validation_total,
            "test_accuracy": self.test_correct / self.test_total,
            "versions": canonical(own["versions"]),
        }


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Raises InputError where it is no JSON."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"a run's configuration is no JSON: {error}") from error


def _whole(value: Any) -> Any:
    """With every field, those that are as by default too: a default that changes makes another run."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _whole(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, (list, tuple)) else value


def _number(name: str, value: Any, kind: type, allowed: Any, said: str) -> None:
    right = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not (right and math.isfinite(value) and allowed(value)):
        raise InputError(f"{name} {value!r}: {said}")
