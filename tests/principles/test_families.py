"""Every row of the registry is measured by all six principles, and what is known of it comes out."""

from __future__ import annotations

import json

import pytest
import torch

from mixerlens import CoefficientDynamics, families, principles
from mixerlens.composition import CoefficientSum
from mixerlens.evolution import Identity
from mixerlens.normalizer import RowSum, RowSumFloor

SIX = ("readout", "selectivity", "position", "structure", "scaling", "normalization")


def measured(d):
    return principles.measure(d, which=SIX, structure={"most": 16}, position={"permutations": 2}, scaling={"pairs": 64})


def first(name, seed=0):
    arguments = families.FAMILIES[name].arguments(seed)
    arguments.pop("value")
    built = families.FAMILIES[name].function(**arguments)
    return built.parts[0] if isinstance(built, CoefficientSum) else built


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_every_family(name):
    d = first(name)
    report = measured(d)
    assert tuple(report) == SIX and not report.refused
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    for record in written["principles"].values():
        assert record["meaning"].endswith(".") and "nan" not in record["meaning"]
        assert set(record["units"]) <= set(record["labels"]) | set(record)
    recurrence, found = families.FAMILIES[name].recurrence, report["readout"]
    if recurrence == "grows":
        assert found.finite is None or d.support.window
    if d.support.causal and found.finite is not None:
        assert int(found.ranks.max()) <= found.finite
    if found.gap is not None:
        assert float(found.gap.max()) < 1e-12
    still = isinstance(d.evolution, Identity)
    largest = report["position"].largest
    assert (largest < 1e-13).all() if still else (largest > 1e-4).any()
    if isinstance(d.normalizer, RowSum) and not isinstance(d.normalizer, RowSumFloor) and not d.readout.linear:
        assert float(report["normalization"].mass.max()) <= 1 + 1e-12


@pytest.mark.parametrize("time", [1, 2, 3])
@pytest.mark.parametrize("name", ["softmax_attention", "gated_delta_net", "s4d", "based", "rwkv6", "encoder_attention"])
def test_the_shortest_sequences(name, time):
    d = first(name).select_tokens(0, time)
    report = measured(d)
    assert tuple(report) == SIX and json.dumps(report.to_json(), allow_nan=False)


def test_half_precision_weights_and_one_dimension():
    query, key = torch.randn(1, 20, 2, 1, dtype=torch.bfloat16), torch.randn(1, 20, 2, 1, dtype=torch.bfloat16)
    report = principles.measure(CoefficientDynamics(query, key), which=SIX)
    assert report["normalization"].mass.dtype == torch.float64 and report["readout"].finite == 1
