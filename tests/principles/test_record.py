"""Counter-examples run and show what they say; a report holds every record and nothing that was not asked for."""

from __future__ import annotations

import json

import pytest
import torch

from mixerlens import families, principles
from mixerlens.errors import InputError
from mixerlens.principles.record import Principle

KINDS = Principle.__subclasses__()
EXAMPLES = [
    pytest.param(example, id=f"{kind.number} {n}") for kind in KINDS for n, example in enumerate(kind.counterexamples)
]


def test_every_principle_is_told():
    for kind in KINDS:
        assert kind.title and kind.wording and kind.theorem and kind.counterexamples
        assert kind.headline in kind.labels


@pytest.mark.parametrize("example", EXAMPLES)
def test_counterexamples_show_what_they_say(example):
    assert "assert" in example.code and example.shows.endswith(".") and example.against.endswith(".")
    example.run()


def mixer():
    query, key = torch.randn(2, 24, 3, 2), torch.randn(2, 24, 3, 2)
    return families.softmax_attention(query=query, key=key)


def test_a_report_holds_all_and_is_the_same_twice():
    once, again = (principles.measure(mixer_, seed=3) for mixer_ in [mixer()] * 2)
    assert list(once) == list(principles.MEASURES)
    assert json.dumps(once.to_json(), allow_nan=False) == json.dumps(again.to_json(), allow_nan=False)


def test_heads_sequences_and_options_are_those_asked_for():
    d = mixer()
    found = principles.measure(d, which=["readout"], heads=[2, -3], sequence=1, readout={"longest": 16})
    assert found.heads == (2, 0) and list(found) == ["readout"]
    alone = principles.readout(d.select_heads([2, 0]), sequence=1, longest=16)
    assert torch.equal(found["readout"].ranks, alone.ranks) and alone.lengths == (16,)


def test_refusals():
    d = mixer()
    with pytest.raises(InputError, match="no principle is called 'colour'"):
        principles.measure(d, which=["colour"])
    with pytest.raises(InputError, match="head 3 does not exist"):
        principles.measure(d, heads=[3])
    with pytest.raises(InputError, match="sequence 2 does not exist"):
        principles.measure(d, sequence=2)
    q, found = torch.randn(1, 4, 1, 2), principles.measure(d, which=["readout"])
    padding = families.linear_attention(q, q, segments=torch.full((1, 4), -1))
    with pytest.raises(InputError, match="padding only"):
        principles.readout(padding)
    with pytest.raises(InputError, match="was measured"):
        _ = found["position"]
