"""A whole training step of a Mamba model of transformers: as it is, and with `mixerlens.accelerate`."""

from __future__ import annotations

import copy
from typing import Any

import torch

from bench.case import Case, Contender, Inputs, Outputs, Size
from bench.cases import overhead
from bench.peers.transformers import MAMBA


def make(size: Size) -> Inputs:
    model = overhead.model("mamba", size)
    return {"model": model, "ids": torch.randint(3, 256, (1, size["time"]))}


def accelerated(given: Inputs) -> Inputs:
    import mixerlens

    model = copy.deepcopy(given["model"])
    return given | {"model": model, "held": mixerlens.accelerate(model)}


def step(given: Inputs) -> Outputs:
    """Logits, and the gradients of the loss in all parameters."""
    model: Any = given["model"]
    answer = model(given["ids"], labels=given["ids"], use_cache=False)
    return answer.logits.detach(), *torch.autograd.grad(answer.loss, list(model.parameters()))


def exact(given: Inputs) -> Outputs:
    return step(given | {"model": copy.deepcopy(given["model"]).double()})


CASES = (
    Case(
        name="accelerate-mamba",
        title="A training step of a Mamba model, 2 layers of 512, L = 128",
        make=make,
        size={"time": 128, "hidden": 512, "layers": 2},
        quick={"time": 24, "hidden": 32, "layers": 2},
        gate={"time": 100, "hidden": 512, "layers": 2},
        contenders=(
            Contender("mixerlens", step, accelerated, needs=MAMBA),
            Contender("mixerlens, C", step, accelerated, needs=MAMBA, native=True),
            Contender("transformers", step, needs=MAMBA, peer=True),
        ),
        reference=exact,
        note="forward, loss and backward of the whole model; not a bar, but what the scans are for",
    ),
)
