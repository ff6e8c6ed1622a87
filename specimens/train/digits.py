"""Trains the S4D classifier of handwritten digits.

Four variants (output map GLU or linear; LayerNorm or none) are trained on the training part and compared on the
validation part; the best is kept and measured once on the test part. The four take a few minutes, so there are no
checkpoints.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch.nn import functional as F

from mixerlens.data import Digits, digits
from mixerlens.models.s4d import S4DClassifier, S4DConfig

EPOCHS = 30
BATCH = 64
RATE, SYSTEM_RATE = 4e-3, 1e-3  # the systems' own parameters move slowly, so that their waves stay coherent
WEIGHT_DECAY = 0.05
SYSTEM = ("log_dt", "log_decay", "frequency")
VARIANTS = [{"output": output, "norm": norm} for output in ("glu", "linear") for norm in ("none", "layer")]


def train_one(options: dict[str, str], seed: int) -> S4DClassifier:
    """AdamW, one cosine; no weight decay on A, dt, D, biases and norms. A function of the options and the seed."""
    torch.manual_seed(seed)
    config = S4DConfig(
        channels=1, classes=10, features=64, modes=32, layers=2, step_range=(0.01, 0.2), length=64, **options
    )
    model = S4DClassifier(config)
    data = digits("train")
    groups: dict[str, list[torch.nn.Parameter]] = {"system": [], "plain": [], "decayed": []}
    for name, parameter in model.named_parameters():
        system = name.rsplit(".", 1)[-1] in SYSTEM
        groups["system" if system else "plain" if parameter.ndim < 2 else "decayed"].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups["system"], "lr": SYSTEM_RATE, "weight_decay": 0.0},
            {"params": groups["plain"], "weight_decay": 0.0},
            {"params": groups["decayed"], "weight_decay": WEIGHT_DECAY},
        ],
        lr=RATE,
    )
    steps = EPOCHS * (len(data.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in track(range(EPOCHS), description=" ".join(f"{key}={value}" for key, value in options.items())):
        order = torch.randperm(len(data.labels), generator=generator)
        for chosen in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            loss = F.cross_entropy(model(data.inputs[chosen]), data.labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def correct(model: S4DClassifier, data: Digits) -> int:
    return int((model(data.inputs).argmax(-1) == data.labels).sum())


def run(output: Path, seed: int) -> None:
    """Trains the variants, chooses by validation, measures on the test part, writes the folder whole or not at all."""
    import publish

    validation, runs = digits("validation"), []
    models: list[S4DClassifier] = []
    for options in VARIANTS:
        clock = time.monotonic()
        model = train_one(options, seed)
        right = correct(model, validation)
        runs.append({**options, "validation_correct": right, "seconds": round(time.monotonic() - clock, 1)})
        models.append(model)
    best = max(range(len(runs)), key=lambda i: runs[i]["validation_correct"])
    test = digits("test")
    recipe: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch": BATCH,
        "peak_rate": RATE,
        "system_rate": SYSTEM_RATE,
        "weight_decay": WEIGHT_DECAY,
        "label_smoothing": 0.05,
        "seed": seed,
    }
    right = correct(models[best], test)
    publish.classifier(models[best], runs, best, right, len(validation.labels), test, recipe, output)
