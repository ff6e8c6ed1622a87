"""Training of one S4D classifier: AdamW, one cosine, and the step that was best on the validation part is kept.

The recipe of the digits specimen: the systems' own parameters (dt and A) move slowly, no weight decay on them, on
biases, norms and D. All of it is a function of data, options, recipe and seed; one thread.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ..data import DataSet, Sequences
from ..models.s4d import S4DClassifier, S4DConfig
from ..models.s4d_layer import S4D

__all__ = ["Recipe", "Trained", "build", "right", "train"]

SYSTEM = ("log_dt", "log_decay", "frequency")


@dataclass(frozen=True)
class Recipe:
    """Sizes and rates. steps: of the optimiser, at most; the validation part is looked at ``looks`` times on the way,
    and training ends once ``patience`` looks in a row were no better. most: training sequences used, None for all;
    most_held: validation sequences. system_rate: of dt and A."""

    steps: int
    batch: int
    features: int = 32
    modes: int = 32
    rate: float = 1e-2
    system_rate: float = 1e-3
    weight_decay: float = 0.05
    smoothing: float = 0.05
    clip: float = 1.0
    looks: int = 10
    patience: int = 6
    most: int | None = None
    most_held: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def with_system_rate(self, rate: float) -> Recipe:
        return replace(self, system_rate=rate)


class LastStep(S4DClassifier):
    """The same model, read at its last time step instead of by the mean over time."""

    def forward(self, inputs: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch classes"]:
        x = self.encoder(inputs.to(self.encoder.weight.dtype))
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, -1])


@dataclass(frozen=True, eq=False)
class Trained:
    """model: at its best look. initial: the same model before the first step. history: one entry a look."""

    model: S4DClassifier
    initial: S4DClassifier
    history: list[dict[str, float]]
    best: dict[str, float]


def build(data: DataSet, recipe: Recipe, options: dict[str, Any], seed: int) -> S4DClassifier:
    """A fresh model whose laps reach from ten steps to three lengths of the series. options: of S4DConfig, and
    pool="last" for `LastStep`."""
    torch.manual_seed(seed)
    options = dict(options)
    kind = LastStep if options.pop("pool", "mean") == "last" else S4DClassifier
    config = S4DConfig(
        channels=data.channels,
        classes=len(data.classes),
        features=recipe.features,
        modes=recipe.modes,
        step_range=(min(0.1, 2 / (3 * data.time)), 0.2),
        length=data.time,
        **{"layers": 1, **options},
    )
    return kind(config)


def train(
    data: DataSet,
    recipe: Recipe,
    options: dict[str, Any],
    seed: int,
    *,
    frozen: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """options: as `build`. frozen: the S4D systems, kernel and D, stay as they were drawn; the rest is trained.

    The look with the most validation sequences right is kept, of several the one with the smallest loss. progress:
    called with the steps done and their number, at each look.
    """
    model = build(data, recipe, options, seed)
    initial = copy.deepcopy(model)
    for module in model.modules():
        if frozen and isinstance(module, S4D):
            module.requires_grad_(False)
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    part, held = data.train.first(recipe.most), data.validation.first(recipe.most_held)
    batches = _batches(len(part), recipe.batch, torch.Generator().manual_seed(seed))
    every = max(1, recipe.steps // recipe.looks)
    history: list[dict[str, float]] = []
    best, kept, waited = {}, initial.state_dict(), 0
    for step in range(1, recipe.steps + 1):
        chosen = next(batches)
        loss = F.cross_entropy(model(part.inputs[chosen]), part.labels[chosen], label_smoothing=recipe.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], recipe.clip)
        optimizer.step()
        schedule.step()
        if step % every and step < recipe.steps:
            continue
        progress(step, recipe.steps)
        logits = _logits(model, held)
        found = {
            "step": step,
            "loss": float(loss.detach()),
            "validation_loss": float(F.cross_entropy(logits, held.labels)),
            "validation_correct": int((logits.argmax(-1) == held.labels).sum()),
        }
        history.append(found)
        if not best or _better(found, best):
            best, kept, waited = found, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited == recipe.patience:
                break
    model.load_state_dict(kept)
    return Trained(model.eval(), initial.eval(), history, best)


def right(model: S4DClassifier, part: Sequences) -> Bool[Tensor, " sequences"]:
    """Which sequences the model puts in their class."""
    return _logits(model, part).argmax(-1) == part.labels


@torch.no_grad()
def _logits(model: S4DClassifier, part: Sequences) -> Float[Tensor, "sequences classes"]:
    some = max(1, (1 << 22) // (part.inputs.shape[1] * model.config.features))  # 16 MiB a tensor
    return torch.cat([model(inputs) for inputs in part.inputs.split(some)])


def _better(found: dict[str, float], best: dict[str, float]) -> bool:
    order = ("validation_correct", "validation_loss")
    return (found[order[0]], -found[order[1]]) > (best[order[0]], -best[order[1]])


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Every sequence once in a random order, again and again; the last of a round that make no batch are left out."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count // size * size].view(-1, size)


def _optimizer(model: S4DClassifier, recipe: Recipe) -> torch.optim.AdamW:
    groups: dict[str, list[torch.nn.Parameter]] = {"system": [], "plain": [], "decayed": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            system = name.rsplit(".", 1)[-1] in SYSTEM
            groups["system" if system else "plain" if parameter.ndim < 2 else "decayed"].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups["system"], "lr": recipe.system_rate, "weight_decay": 0.0},
            {"params": groups["plain"], "weight_decay": 0.0},
            {"params": groups["decayed"], "weight_decay": recipe.weight_decay},
        ],
        lr=recipe.rate,
    )
