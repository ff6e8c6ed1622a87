"""The training loop of the language models: deterministic, resumable, one thread.

The batch of a step is a function of (seed, step) alone, so a run that was cut off and resumed sees the same data as one
that was not.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# (share of the steps, sequences a step, length): most of the text in short windows, then the whole context.
STAGES = ((0.82, 4, 256), (0.15, 1, 1024), (0.03, 1, 4096))
CHECKPOINT_EVERY = 100


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, beside the model and the text."""

    steps: int
    seed: int = 0
    peak_rate: float = 2.5e-3
    final_rate: float = 0.03  # as a share of the peak
    warmup: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0

    def rate(self, step: int) -> float:
        """Linear warm-up, then a half cosine down to final_rate."""
        if step < self.warmup:
            return self.peak_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak_rate * (self.final_rate + (1 - self.final_rate) * cosine)

    def shape(self, step: int) -> tuple[int, int]:
        """(sequences, length) of a step."""
        end = 0.0
        for share, sequences, length in STAGES:
            end += share
            if step < end * self.steps:
                return sequences, length
        return STAGES[-1][1:]

    def tokens(self, steps: int) -> int:
        return sum(math.prod(self.shape(step)) for step in range(steps))


def optimizer_for(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; weight decay on projection matrices only: not on A_log, D, biases, norms, convolutions or embeddings."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        is_projection = parameter.ndim == 2 and "A_log" not in name and "embed" not in name
        (decayed if is_projection else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=recipe.betas)


def batch(stream: np.ndarray, recipe: Recipe, step: int) -> torch.Tensor:
    sequences, length = recipe.shape(step)
    starts = np.random.default_rng([recipe.seed, step]).integers(0, len(stream) - length - 1, sequences)
    return torch.from_numpy(np.stack([stream[s : s + length + 1] for s in starts]).astype(np.int64))


def train(
    model: PreTrainedModel,
    stream: np.ndarray,
    recipe: Recipe,
    work: Path,
    scan: AbstractContextManager[Any] | None = None,
) -> dict[str, Any]:
    """Trains in place, resuming from work/checkpoint.pt. Returns the history: losses (bits a byte), seconds."""
    work.mkdir(parents=True, exist_ok=True)
    optimizer = optimizer_for(model, recipe)
    step, history = resume(model, optimizer, recipe, work)
    model.train()
    columns = TextColumn(work.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, TextColumn("{task.fields[bits]}"))
    clock, cpu = time.monotonic(), time.process_time()
    with bar, scan or nullcontext():
        task = bar.add_task("", total=recipe.steps, completed=step, bits="")
        while step < recipe.steps:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            ids = batch(stream, recipe, step)
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            step += 1
            history["bits"].append(round(loss.item() / math.log(2), 4))
            if not math.isfinite(history["bits"][-1]):
                raise SystemExit(f"the loss is {history['bits'][-1]} at step {step}: lower the learning rate")
            recent = float(np.mean(history["bits"][-50:]))
            bar.update(task, completed=step, bits=f"{recent:.3f} bits/byte")
            if step % CHECKPOINT_EVERY == 0 or step == recipe.steps:
                now, now_cpu = time.monotonic(), time.process_time()
                history["seconds"] += now - clock
                history["cpu_seconds"] += now_cpu - cpu
                clock, cpu = now, now_cpu
                save(model, optimizer, recipe, step, history, work)
                if not bar.console.is_terminal:
                    print(f"{work.name} step {step}: {recent:.3f} bits/byte, {history['seconds']:.0f} s", flush=True)
    model.eval()
    return history


def save(model, optimizer, recipe: Recipe, step: int, history: dict[str, Any], work: Path) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "recipe": vars(recipe),
        "step": step,
        "history": history,
    }
    torch.save(state, work / "checkpoint.partial")
    os.replace(work / "checkpoint.partial", work / "checkpoint.pt")


def resume(model, optimizer, recipe: Recipe, work: Path) -> tuple[int, dict[str, Any]]:
    path = work / "checkpoint.pt"
    if not path.exists():
        return 0, {"bits": [], "seconds": 0.0, "cpu_seconds": 0.0}
    state = torch.load(path, weights_only=True)
    if state["recipe"] != vars(recipe):
        raise SystemExit(f"{path} was made with {state['recipe']}, not {vars(recipe)}: use that, or another --work")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["history"]
