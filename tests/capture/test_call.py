"""A mixer call as a record: a gate that takes work is made when it is read, once, and only then."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import mixerlens as ml
from capture import tiny
from mixerlens.capture.call import MixerCall


def call(**given):
    return MixerCall("path", 0, "kind", "family", {}, torch.ones(1), torch.ones(1), **given)


def test_a_gate_given_as_a_function_is_made_once_when_it_is_read():
    made = []
    late = call(gate=lambda: made.append(1) or torch.full((2,), 3.0))
    assert "gate" not in repr(late) and made == []
    assert late.predict(torch.ones(2)).tolist() == [3.0, 3.0]
    assert late.gate is late.gate and made == [1]
    assert dataclasses.replace(late, path="other").gate is late.gate
    assert late.to(torch.float64).gate.dtype == torch.float64
    with pytest.raises(dataclasses.FrozenInstanceError):
        late.gate = None


def test_gates_given_as_they_are_stay_so():
    gate = torch.full((2,), 2.0)
    assert call(gate=gate).gate is gate
    assert call().gate is None and call().predict(gate) is gate


def test_what_a_late_gate_reads_is_not_the_models():
    """Between the trace and the first look at the gate, every weight is overwritten."""
    model = tiny.stirred("xlstm")
    ids = tiny.ids(time=9)
    now = ml.open(model).trace(ids).mixers
    want = {path: one.gate for path, one in now.items()}
    later = ml.open(model).trace(ids).mixers
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(7.0)
    for path, one in later.items():
        assert one.gate is not None and torch.equal(one.gate, want[path])
