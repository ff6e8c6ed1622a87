"""What a trace keeps grows with the layers selected and with time, never with time squared."""

import torch

import mixerlens as ml
from capture import tiny
from mixerlens.capture import Trace


def kept(trace: Trace) -> int:
    """Bytes of every tensor the mixer calls hold, shared ones once."""
    storages = {}
    for call in trace.mixers.values():
        tensors = [call.values, call.output, call.skip, call.gate, call.valid, *call.arguments.values()]
        for x in tensors:
            if isinstance(x, torch.Tensor):
                storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return sum(storages.values())


def test_twice_the_time_keeps_twice_the_memory_also_under_a_mask():
    lens = ml.open(tiny.build("mistral", max_position_embeddings=2048, attention="eager"))
    sizes = []
    for time in (512, 1024):
        mask = torch.ones(2, time, dtype=torch.long)
        mask[1, :100] = 0
        sizes.append(kept(lens.trace(tiny.ids(2, time), attention_mask=mask)))
    assert 1.9 < sizes[1] / sizes[0] < 2.1
    # one mask alone would be more
    assert sizes[1] < 2 * 1024 * 1024 * 4


def test_selected_layers_bound_it():
    lens = ml.open(tiny.build("jamba"))
    whole, part = kept(lens.trace(tiny.ids(2, 60))), kept(lens.trace(tiny.ids(2, 60), layers=[0]))
    assert whole > 2.5 * part
