"""One training run: accelerate's loop on one core, a function of its configuration and of nothing else.

    loss    cross-entropy over the targets that count
    rate    lr min(1, (s + 1) / w) up to step w = warmup * steps, then lr (1 + cos(pi (s - w) / (steps - w))) / 2

Decoupled weight decay (AdamW, arXiv 1711.05101) on the matrices of linear maps alone: not on embeddings, biases, norms,
nor on what a mixer learns beside them (decays, initial states). The model is looked at before the first step and
``looks`` times on the way; the best look is kept, and the test examples are used once, by it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, UnsupportedError
from ..reproduce.store import versions
from ..tasks import IGNORED, Batch, Task
from ..tasks.task import Split
from .config import PACKAGES, RunConfig, RunResult
from .intervals import Answers

__all__ = ["REFUSED", "build", "by_sequence", "state_bytes", "train"]

AT_ONCE = 64  # examples that are measured
# what a model whose shapes fit raises where its numbers stopped being finite, or a system has no solution
REFUSED = (InputError, torch.linalg.LinAlgError)


def build(config: RunConfig) -> tuple[Task[Any], nn.Module]:
    """The task of a run and its model, with the weights drawn from the run's seed.

    Raises InputError for a task, an option or a specification that cannot be built, and for options that are not
    complete: a run would then depend on what the others are by default.
    """
    from .. import tasks
    from ..design.model import ModelConfig, SequenceModel

    task = tasks.make(config.task, **config.options)
    missing = asdict(task.options).keys() - config.options.keys()
    if missing:
        raise InputError(f"options of {config.task}: {', '.join(sorted(missing))} missing; a run gives all of them")
    shape = ModelConfig(
        vocabulary=task.vocabulary,
        channels=task.channels,
        classes=task.classes,
        features=config.features,
        layers=config.layers,
        mlp_ratio=config.mlp_ratio,
        positions=config.positions,
        max_length=task.length,
        pool=task.pool,
    )
    return task, SequenceModel(shape, seed=config.seed)


def train(
    config: RunConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    watch: Callable[[int, float, float], None] | None = None,
    inspect: Callable[[Task[Any], nn.Module], object] | None = None,
) -> RunResult:
    """Train one model and measure it.

    A loss or a gradient that is not finite ends the training as "diverged", and so does a model that took its first
    look and then refuses numbers of its own that are not finite: the best look before it is what is tested. The same
    configuration gives the same result to the last bit on the same machine and versions; torch's own random state and
    number of threads are left as they were.

    progress: called with the steps done and their number, at each look. watch: called at every step with its number,
    its loss and the gradient's norm before clipping, also at a step that diverges. inspect: called at the end with the
    task and the model of the best look, in eval mode and without gradients; neither may change the model.

    Raises InputError as ``build``, UnsupportedError without accelerate.
    """
    with _alone():
        task, model = build(config)
        result = _train(config, task, model, progress, watch)
        if inspect is not None:
            with torch.no_grad():
                inspect(task, model.eval())
        return result


def _train(
    config: RunConfig,
    task: Task[Any],
    model: nn.Module,
    progress: Callable[[int, int], None],
    watch: Callable[[int, float, float], None] | None,
) -> RunResult:
    clock, cpu = time.monotonic(), time.process_time()
    accelerator = _accelerator()
    optimizer = _optimizer(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    held = _examples(task, "validation", config.held, config)
    every = max(1, config.steps // config.looks)
    best = {"step": 0, "train_loss": math.nan} | _measure(model, task, held, fresh=True)
    kept, history, reason, step, loss = copy.deepcopy(model.state_dict()), [best], None, 0, math.nan
    for step in range(1, config.steps + 1):
        batch = task.batch("train", step - 1, config.batch, config.seed)
        optimizer.zero_grad(set_to_none=True)
        loss, norm, reason = _gradient(accelerator, model, task, batch, config.clip)
        if watch is not None:
            watch(step, loss, norm)
        if reason is not None:
            step -= 1
            break
        optimizer.step()
        schedule.step()
        if step % every and step < config.steps:
            continue
        progress(step, config.steps)
        look = {"step": step, "train_loss": loss} | _measure(model, task, held)
        history.append(look)
        if _order(look) > _order(best):
            best, kept = look, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    each: list[tuple[int, int]] = []
    tested = _measure(model, task, _examples(task, "test", config.tested, config), each=each)
    answers = Answers.of(each)
    return RunResult(
        status="finished" if reason is None else "diverged",
        reason=reason,
        steps_done=step,
        best_step=best["step"],
        train_loss=loss,
        validation_loss=best["loss"],
        validation_correct=best["correct"],
        validation_total=best["total"],
        test_loss=tested["loss"],
        test_correct=tested["correct"],
        test_total=tested["total"],
        test_sequences=answers.sequences,
        test_squares=answers.squares,
        chance=float(task.chance.value),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        state_bytes=state_bytes(model),
        history=tuple(history),
        versions=versions(PACKAGES),
        seconds=round(time.monotonic() - clock, 3),
        cpu_seconds=round(time.process_time() - cpu, 3),
    )


def _gradient(
    accelerator: Any, model: nn.Module, task: Task[Any], batch: Batch, clip: float
) -> tuple[float, float, str | None]:
    """The loss, the gradient's norm before it is clipped, and why the training cannot go on from here, if so."""
    try:
        found = task.loss(model(batch.inputs), batch.targets)
        accelerator.backward(found)
    except REFUSED as error:
        return math.nan, math.nan, " ".join(str(error).split())[:200]
    loss, norm = float(found.detach()), float(accelerator.clip_grad_norm_(model.parameters(), clip))
    if not math.isfinite(loss):
        return loss, norm, "the loss is not finite"
    return loss, norm, None if math.isfinite(norm) else "the gradient is not finite"


def _accelerator() -> Any:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise UnsupportedError("training needs accelerate: pip install 'mixerlens[design]'") from error
    return Accelerator(cpu=True)


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, and a random state of one's own."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _rate(step: int, config: RunConfig) -> float:
    warm = int(config.warmup * config.steps)
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (config.steps - warm))) / 2


def _optimizer(model: nn.Module, config: RunConfig) -> torch.optim.AdamW:
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[id(parameter) in matrices].append(parameter)
    return torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": config.wd}, {"params": groups[False], "weight_decay": 0.0}],
        lr=config.lr,
    )


def _examples(task: Task[Any], split: Split, most: int, config: RunConfig) -> list[Batch]:
    """``most`` examples of a split, or all there are, some at a time."""
    whole = task.batch(split, 0, min(most, task.examples(split) or most), config.seed)
    parts = zip(whole.inputs.split(AT_ONCE), whole.targets.split(AT_ONCE), strict=True)
    return [Batch(inputs, targets) for inputs, targets in parts]


@torch.no_grad()
def _measure(
    model: nn.Module,
    task: Task[Any],
    batches: list[Batch],
    *,
    fresh: bool = False,
    each: list[tuple[int, int]] | None = None,
) -> dict[str, Any]:
    """loss, correct and total over the examples. Nothing is right in a batch whose logits are not all finite, or whose
    numbers a trained model refuses; a fresh one raises. each: right and asked of every sequence are put there."""
    model.eval()
    loss, right, total = 0.0, 0, 0
    for batch in batches:
        asked = int((batch.targets != IGNORED).sum())
        total += asked
        try:
            logits = model(batch.inputs)
        except REFUSED:
            if fresh:
                raise
            loss, logits = math.nan, None
        finite = logits is not None and bool(logits.isfinite().all())
        if logits is not None:
            loss += float(task.loss(logits, batch.targets)) * asked
            right += task.score(logits, batch.targets)[0] if finite else 0
        if each is not None:
            each += by_sequence(task, logits if finite else None, batch.targets)
    model.train()
    return {"loss": loss / total, "correct": right, "total": total}


def by_sequence(task: Task[Any], logits: Tensor | None, targets: Tensor) -> list[tuple[int, int]]:
    """Right and asked of every sequence of a batch; without logits nothing is right."""
    if logits is None:
        return [(0, int((row != IGNORED).sum())) for row in targets]
    return [task.score(logits[i : i + 1], targets[i : i + 1]) for i in range(len(targets))]


def _order(look: dict[str, Any]) -> tuple[int, float]:
    return look["correct"], -look["loss"] if math.isfinite(look["loss"]) else -math.inf


def state_bytes(model: Any) -> int | None:
    """What the mixers carry from token to token for one sequence; None where one of them has no finite recurrence."""
    from ..design.cost import cost

    total = 0
    for layer in model.layers:
        own = cost(layer.mixer, model.config.features, length=2).state_bytes
        if own is None:
            return None
        total += own
    return total
