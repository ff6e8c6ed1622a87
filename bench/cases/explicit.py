"""Explaining one input of an S4D classifier, in its own forward passes: the gate form, and 32 waves two by two."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.case import Bar, Case, Contender, Inputs, Outputs, Size

SIZE = {"time": 784, "features": 64, "modes": 32}
QUICK = {"time": 70, "features": 4, "modes": 4}
TARGET, WAVES = 3, 32


def make(size: Size) -> Inputs:
    """A fresh classifier of one block with GLU, float64 as explanations are, and one sequence of noise."""
    from mixerlens.models.s4d import S4DClassifier, S4DConfig

    config = S4DConfig(channels=1, classes=10, layers=1, features=size["features"], modes=size["modes"])
    return {"model": S4DClassifier(config).double().eval(), "inputs": torch.randn(size["time"], 1).double()}


def forward(given: Inputs) -> torch.Tensor:
    with torch.no_grad():
        return given["model"](given["inputs"][None])[0, TARGET]


def gate(given: Inputs) -> torch.Tensor:
    from mixerlens.explicit.gate import gate_form
    from mixerlens.explicit.layer import record

    return torch.tensor(gate_form(record(given["model"], given["inputs"], TARGET)).total, dtype=torch.float64)


def pairs(given: Inputs) -> torch.Tensor:
    from mixerlens.explicit.layer import record
    from mixerlens.explicit.pairs import pair_form

    return torch.tensor(pair_form(record(given["model"], given["inputs"], TARGET), WAVES).total, dtype=torch.float64)


def explained(given: Inputs) -> torch.Tensor:
    from mixerlens.explicit import explain

    return torch.tensor(
        explain(given["model"], given["inputs"], TARGET, segments=WAVES, remove=False).total, dtype=torch.float64
    )


def recurrence(given: Inputs) -> Outputs:
    """The logit with the layer as a plain float64 recurrence, GELU by erf and GLU by its formula."""
    from mixerlens import references

    model, block = given["model"], given["model"].layers[0]
    with torch.no_grad():
        x = model.encoder(given["inputs"])
        y = references.REGISTRY["s4d"](value=x[None, ..., None], **block.s4d.parameters_for_family())[0, ..., 0]
        y = y + block.s4d.D * x
        value, gate = block.output(y * (1 + torch.erf(y / 2**0.5)) / 2).chunk(2, -1)
        return (model.head((x + value / (1 + torch.exp(-gate))).mean(0))[TARGET],)


def case(time: int) -> Case:
    def way(name: str, run: Callable[[Inputs], torch.Tensor]) -> Contender:
        return Contender(name, run, tolerance=1e-10)

    return Case(
        name=f"explain-{time}",
        title=f"Explaining a logit of an S4D classifier, 64 features, 32 modes, L = {time:,}",
        make=make,
        size=SIZE | {"time": time},
        quick=QUICK,
        gate=SIZE | {"time": min(time, 2000)},
        contenders=(
            way("one forward", forward),
            way("gate form", gate),
            way("pairs of 32 waves", pairs),
            way("all accounts", explained),
        ),
        reference=recurrence,
        bars=(
            Bar("units", "gate form", 2, "one forward"),
            Bar("units", "pairs of 32 waves", 40, "one forward"),
            Bar("units", "all accounts", None, "one forward"),
            Bar("MiB", "pairs of 32 waves", None),
        ),
    )


CASES = (case(784), case(16384))
