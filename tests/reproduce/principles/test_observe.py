"""What a training of the study records: against plain loops on the model itself."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.design import MixerSpec, Vector, part
from mixerlens.reproduce.principles.observe import eigenvalues, observed, scores, spikes
from mixerlens.sweep.config import RunConfig
from mixerlens.sweep.training import build
from mixerlens.tasks import make

UNIT = Vector(norm="l2")
OPTIONS = {"vocabulary": 4, "length": 12, "delay": 2}


def config(spec, **changes):
    told = {"steps": 12, "batch": 8, "features": 16, "looks": 2, "held": 16, "tested": 32, "lr": 1e-2}
    return RunConfig(spec.name, (spec, spec), "delay", make("delay", **OPTIONS).describe()["options"], **told | changes)


def one(spec):
    task, model = build(config(spec))
    return model.double(), task.batch("validation", 0, 2, 0).inputs


def signals_of(model, inputs):
    """Of every mixer, for what it reads."""
    caught = []
    hooks = [
        block.mixer.register_forward_pre_hook(lambda mixer, given: caught.append(mixer.signals(given[0].detach())))
        for block in model.blocks
    ]
    model(inputs)
    for hook in hooks:
        hook.remove()
    return caught


def test_a_spike_is_a_rise_above_what_was_before_counted_once():
    calm = [1.0] * 60
    assert spikes(calm) == 0
    assert spikes([*calm, 1.6, 3.0, math.nan, 1.0, 1.5, 1.51]) == 2
    assert spikes([3.0 - 0.01 * i for i in range(100)]) == 0
    assert spikes([1.0, math.nan]) == 1
    # a level that was left fifty steps ago is forgotten
    assert spikes([1.0] * 10 + [2.0] * 60) == 1 and spikes([5.0] * 60 + [1.0] * 60 + [2.0]) == 1


def test_eigenvalues_of_a_delta_rule_with_their_multiplicities():
    spec = MixerSpec(
        "delta", heads=2, dim=4, width=4, query=UNIT, key=UNIT, evolution=part("delta"), scaling=part("beta")
    )
    model, inputs = one(spec)
    for values, signals in zip(eigenvalues(model, inputs), signals_of(model, inputs), strict=True):
        assert values.shape == (2, 11, 2, 4)  # of the tokens from the second on
        expected = torch.ones(2, 11, 2, 4, dtype=torch.float64)
        expected[..., 0] -= signals["beta"][:, 1:]
        assert torch.allclose(values.real.sort(-1).values, expected.sort(-1).values, atol=1e-9)
        assert values.imag.abs().max() < 1e-9


def test_eigenvalues_of_a_decay_are_its_decay_repeated():
    spec = MixerSpec("scalar", heads=2, dim=3, width=4, evolution=part("scalar", decay="decay"))
    model, inputs = one(spec)
    for values, signals in zip(eigenvalues(model, inputs), signals_of(model, inputs), strict=True):
        assert torch.allclose(values.real, signals["decay"][:, 1:, :, None].expand(-1, -1, -1, 3), atol=1e-12)


@pytest.mark.parametrize("scaling", ["one", "inverse_sqrt_dim"])
def test_scores_are_queries_times_keys_times_b(scaling):
    spec = MixerSpec(
        "softmax", heads=2, dim=4, width=4, scaling=part(scaling), readout=part("exp"), normalizer=part("row_sum")
    )
    model, inputs = one(spec)
    for found, signals in zip(scores(model, inputs), signals_of(model, inputs), strict=True):
        b = 1 if scaling == "one" else 0.5
        every = [
            b * float(signals["query"][n, i, h] @ signals["key"][n, j, h])
            for n in range(2) for h in range(2) for i in range(12) for j in range(i + 1)
        ]  # fmt: skip
        assert found["mean"] == pytest.approx(sum(every) / len(every), abs=1e-9)
        assert found["deviation"] == pytest.approx(torch.tensor(every).std().item(), rel=1e-5)


def test_a_run_is_told_whole_and_is_a_function_of_its_settings():
    spec = MixerSpec("scalar", heads=2, dim=3, width=4, evolution=part("scalar", decay="decay"))
    ours, theirs = (observed(config(spec), longer=[{"length": 24}], inside=True, sizes=True) for _ in range(2))
    assert ours == theirs
    assert ours["status"] == "finished" and ours["steps_done"] == 12
    assert ours["outcome"]["total"] == 32 * 10 and ours["chance"] == 0.25
    assert ours["longer"]["24"]["outcome"]["total"] == 32 * 22 and ours["longer"]["24"]["overflows"] == 0
    assert 0 < ours["eigenvalues"]["median"] < 1 and ours["scores"].keys() == {0, 1}
    assert 0 < ours["norms"]["median"] <= ours["norms"]["largest"] and ours["norms"]["not finite"] == 0
    assert observed(config(spec, seed=1))["history"] != ours["history"]


def test_a_run_that_breaks_is_recorded_and_not_finished():
    spec = MixerSpec("wild", heads=1, dim=4, width=4)
    found = observed(config(spec, lr=1e12, clip=1e6, steps=40))
    assert found["status"] == "diverged" and found["steps_done"] < 40
    assert found["outcome"]["total"] == 32 * 10
