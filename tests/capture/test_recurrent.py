"""Recurrent models, read at their scan functions: exact against plain recurrences, one adapter a scan."""

import pytest
import torch

import mixerlens as ml
from capture import tiny
from capture.judge import error, mixed_share
from mixerlens.capture import scans
from mixerlens.errors import UnsupportedError

NAMES = ["mamba", "falcon_mamba", "mamba2", "jamba", "bamba", "qwen3_next"]
SCAN = {
    "mamba": "mamba_selective_scan",
    "mamba2": "mamba2_chunk_scan",
    "gated_delta_net": "torch_chunk_gated_delta_rule",
}


def strong(name, **more):
    """Weights large enough that the scan matters beside the skip."""
    return tiny.build(name, initializer_range=0.3, **more)


def recurrent(trace):
    return [call for call in trace.mixers.values() if call.kind == "recurrent"]


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_exact_and_the_forward_is_the_models_own(name):
    model = strong(name)
    lens = ml.open(model)
    ids = tiny.ids(2)
    left = torch.ones(2, 21, dtype=torch.long)
    left[1, :5] = 0
    for mask in (None, left):
        trace = lens.trace(ids, attention_mask=mask)
        assert len(trace.mixers) == model.config.num_hidden_layers
        assert max(error(call) for call in trace.mixers.values()) < 1e-5
        assert all(mixed_share(call) > 1e-2 for call in recurrent(trace))
        with torch.no_grad():
            assert torch.equal(trace.logits, model(input_ids=ids, attention_mask=mask, use_cache=False)[0])


@pytest.mark.parametrize("name", NAMES)
def test_float64_models_lose_it_in_the_function_that_is_named(name):
    model = strong(name, dtype=torch.float64)
    calls = recurrent(ml.open(model).trace(tiny.ids(2)))
    kind = type(model).__module__.split(".")[-2]
    for call in calls:
        assert call.cast_by == f"transformers.models.{kind}.modeling_{kind}.{SCAN[call.family]}"
        assert call.compute_dtype == call.values.dtype == torch.float64
        assert {x.dtype for x in call.arguments.values()} == {torch.float64}
    # the cast is real: the scans do not reach float64
    assert 1e-11 < max(error(call) for call in calls) < 1e-5


def test_shapes_follow_the_families():
    mamba = recurrent(ml.open(tiny.build("mamba")).trace(tiny.ids(2)))[0]
    assert mamba.values.shape == mamba.skip.shape == mamba.gate.shape == mamba.output.shape == (2, 21, 64, 1)
    assert {k: tuple(v.shape) for k, v in mamba.arguments.items()} == {
        "A": (64, 4), "B": (2, 21, 4), "C": (2, 21, 4), "dt": (2, 21, 64)
    }  # fmt: skip
    assert (mamba.arguments["A"] < 0).all() and (mamba.arguments["dt"] > 0).all()
    mamba2 = recurrent(ml.open(tiny.build("mamba2")).trace(tiny.ids(2)))[0]
    assert mamba2.values.shape == (2, 21, 4, 16)
    assert mamba2.arguments["B"].shape == (2, 21, 2, 8)
    assert mamba2.gate is None
    trace = ml.open(strong("qwen3_next")).trace(tiny.ids(2))
    delta = trace.mixers["model.layers.0.linear_attn"]
    assert delta.arguments["key"].shape == (2, 21, 2, 8)
    assert delta.values.shape == delta.output.shape == (2, 21, 4, 8)
    assert (delta.arguments["log_decay"] <= 0).all()
    norms = delta.arguments["key"].norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-3, rtol=0)


def test_hybrids_are_indexed_by_layer_and_named_by_path():
    lens = ml.open(tiny.build("jamba"))
    assert [(i.index, i.path, i.kind, i.family) for i in lens.layers] == [
        (0, "model.layers.0.mamba", "recurrent", "mamba"),
        (1, "model.layers.1.mamba", "recurrent", "mamba"),
        (2, "model.layers.2.self_attn", "attention", "softmax_attention"),
        (3, "model.layers.3.mamba", "recurrent", "mamba"),
    ]
    assert list(lens.trace(tiny.ids(), layers=[3, 2]).mixers) == ["model.layers.2.self_attn", "model.layers.3.mamba"]


def test_a_mixer_called_twice_is_recorded_twice():
    model = tiny.build("mamba")
    model.backbone.layers[1].mixer = model.backbone.layers[0].mixer
    trace = ml.open(model).trace(tiny.ids())
    path = "backbone.layers.0.mixer"
    assert list(trace.mixers) == [f"{path}#0", f"{path}#1"]
    assert trace.mixers[path] is trace.mixers[f"{path}#0"]
    assert [call.path for call in trace.mixers.values()] == [f"{path}#0", f"{path}#1"]
    assert not torch.equal(trace.mixers[f"{path}#0"].values, trace.mixers[f"{path}#1"].values)
    assert max(error(call) for call in trace.mixers.values()) < 1e-6
    with pytest.raises(KeyError, match=r"no mixer 'x' was recorded; there are: backbone\.layers\.0\.mixer#0"):
        trace.mixers["x"]


def test_a_scan_with_another_signature_is_refused(monkeypatch):
    model = tiny.build("mamba2")

    def mamba2_chunk_scan(x, dt, A, B, C):
        raise AssertionError("never called")

    module = __import__(type(model).__module__, fromlist=["x"])
    monkeypatch.setattr(module, "mamba2_chunk_scan", mamba2_chunk_scan)
    with pytest.raises(UnsupportedError, match="mamba2_chunk_scan has no parameter hidden_states"):
        ml.open(model).trace(tiny.ids())


def test_a_scan_that_starts_from_a_state_is_refused(monkeypatch):
    model = tiny.build("mamba2")
    module = __import__(type(model).__module__, fromlist=["x"])
    original = module.mamba2_chunk_scan

    def started(hidden_states, *args, initial_states=None, **kwargs):
        batch, _, heads, dim = hidden_states.shape
        return watched(hidden_states, *args, initial_states=torch.zeros(batch, heads, dim, 8), **kwargs)

    scan = scans.SCANS["mamba2_chunk_scan"]
    recorder = ml.capture.recorder.Recorder(ml.open(model)._sites)
    mixer = model.backbone.layers[0].mixer
    watched = scans._watched(original, scan, [mixer], recorder)
    monkeypatch.setattr(module, "mamba2_chunk_scan", started)
    with pytest.raises(UnsupportedError, match=r"backbone\.layers\.0\.mixer.*was given initial_states"):
        model(tiny.ids(), use_cache=False)
