"""One training of the study: how it went at every step, and what the trained mixers are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor, nn

from ... import tasks
from ...design.mixer import Mixer
from ...errors import InputError
from ...normalizer import NoNormalizer
from ...readout import Identity
from ...sweep.config import RunConfig
from ...sweep.training import build, train
from ...tasks import Task

__all__ = ["eigenvalues", "observed", "scores", "spikes"]

SEQUENCES = 4  # that spectra and scores are read on
WINDOW, JUMP = 50, 0.5
SLOW = 0.99


def observed(
    config: RunConfig, longer: Sequence[Mapping[str, Any]] = (), *, inside: bool = False, sizes: bool = False
) -> dict[str, Any]:
    """Train, test, and look inside, JSON-able.

    longer: options of other tests of the same task, each of `config.tested` examples. inside: eigenvalues of A_t of the
    trained model. sizes: mean and deviation of the scores before training.
    """
    losses: list[float] = []
    norms: list[float] = []
    found: dict[str, Any] = {}

    def watch(step: int, loss: float, norm: float) -> None:
        losses.append(loss)
        norms.append(norm)

    def inspect(task: Task[Any], model: nn.Module) -> None:
        found["longer"] = dict(_tested(config, options, model) for options in longer)
        if inside:
            found["eigenvalues"] = _summary(eigenvalues(model, _inputs(task, config)))

    if sizes:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            task, model = build(config)
            found["scores"] = dict(enumerate(scores(model, _inputs(task, config))))
    result = train(config, watch=watch, inspect=inspect)
    finite = [norm for norm in norms if math.isfinite(norm)]
    ordered = sorted(finite) or [math.nan]
    return found | {
        "status": result.status,
        "steps_done": result.steps_done,
        "best_step": result.best_step,
        "outcome": {"correct": result.test_correct, "total": result.test_total},
        "chance": result.chance,
        "validation": {"correct": result.validation_correct, "total": result.validation_total},
        "history": [
            [look["step"], float(f"{look['loss']:.4g}"), float(f"{look['correct'] / look['total']:.4g}")]
            for look in result.history
        ],
        "spikes": spikes(losses),
        "norms": {
            "first": norms[0] if norms else math.nan,
            "median": ordered[len(ordered) // 2],
            "largest": ordered[-1],
            "not finite": len(norms) - len(finite),
        },
        "parameters": result.parameters,
        "state_bytes": result.state_bytes,
    }


def spikes(losses: Sequence[float]) -> int:
    """How often the loss rose above the median of the 50 steps before it by more than 0.5, or was not finite.

    A rise counts once: from there until the loss is below that level again.
    """
    found, above = 0, False
    for step in range(1, len(losses)):
        before = sorted(losses[max(0, step - WINDOW) : step])
        level = before[len(before) // 2] + JUMP
        high = not losses[step] <= level
        found += high and not above
        above = high
    return found


def _tested(config: RunConfig, options: Mapping[str, Any], model: nn.Module) -> tuple[str, Any]:
    task = tasks.make(config.task, **{**config.options, **options})
    correct = total = overflows = 0
    for index in range(max(1, config.tested // config.batch)):
        batch = task.batch("test", index, config.batch, config.seed)
        total += int((batch.targets != tasks.IGNORED).sum())
        try:
            logits = model(batch.inputs)
        except InputError:  # an operator refuses coefficients that are not finite
            overflows += 1
            continue
        if bool(logits.isfinite().all()):
            correct += task.score(logits, batch.targets)[0]
        else:
            overflows += 1
    return str(task.time("test")), {"overflows": overflows, "outcome": {"correct": correct, "total": total}}


def _inputs(task: Task[Any], config: RunConfig) -> Tensor:
    return task.batch("validation", 0, SEQUENCES, config.seed).inputs


def _mixers(model: nn.Module, inputs: Tensor) -> list[tuple[Mixer, Tensor]]:
    """Every mixer and what it reads."""
    read: list[tuple[Any, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda mixer, given: read.append((mixer, given[0].detach())))
        for module in model.modules()
        if isinstance(module, Mixer)
    ]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return read


@torch.no_grad()
def eigenvalues(model: nn.Module, inputs: Tensor) -> list[Complex[Tensor, "batch tokens heads dim"]]:
    """All eigenvalues of A_t, each as often as it is repeated, for the tokens from the second on (A_1 acts first).

    A layer each, complex128; from A_t itself, which the oracle's step makes of the identity.
    """
    found = []
    for mixer, x in _mixers(model, inputs):
        with torch.no_grad():
            dynamics, _ = mixer.dynamics(x)
            (part, _), *others = dynamics.terms
            assert not others, "one system a mixer"
            eye = torch.eye(part.dim, dtype=torch.float64)
            eye = eye.expand(part.batch, part.heads, -1, -1)
            every = [part.evolution.step(eye, t) for t in range(1, part.time)]
            found.append(torch.linalg.eigvals(torch.stack(every, 1)))
    return found


def _summary(every: Sequence[Tensor]) -> dict[str, float]:
    """Of all layers' eigenvalues together. median: of |lambda|, whose rank is that of its half-life."""
    radius = torch.cat([values.abs().flatten() for values in every])
    return {
        "median": float(radius.median()),
        "quarter": float(radius.sort().values[len(radius) // 4]),
        "slow": float((radius > SLOW).double().mean()),
    }


@torch.no_grad()
def scores(model: nn.Module, inputs: Tensor) -> list[dict[str, float]]:
    """Mean and deviation of z = q_i^T u_ij over all j <= i, a layer each: before phi and eta, b in it."""
    found = []
    for mixer, x in _mixers(model, inputs):
        dynamics, _ = mixer.dynamics(x)
        (part, _), *others = dynamics.terms
        assert not others, "one system a mixer"
        z = replace(part, readout=Identity(), normalizer=NoNormalizer()).operator().to_dense()
        kept = z[..., torch.ones(z.shape[-2:], dtype=torch.bool).tril()].double()
        found.append({"mean": float(kept.mean()), "deviation": float(kept.std())})
    return found
