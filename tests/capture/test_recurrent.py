"""Recurrent models: exact against plain recurrences, one adapter a scan; what cannot be read is refused by name."""

from collections import Counter

import pytest
import torch

import mixerlens as ml
from capture import recurrent, tiny
from capture.judge import error, mixed_share
from mixerlens.capture.translate import convolution
from mixerlens.errors import InputError, UnsupportedError

SOFTMAX = {"softmax_attention": 1}
DELTA = {"gated_delta_net": 3} | SOFTMAX
KIMI = {"kimi_delta_attention": 3} | SOFTMAX
CONVOLUTION = {"short_convolution": 2} | SOFTMAX

# how many calls of which family a forward pass of each model makes
CALLS = {
    "mamba": {"mamba": 2},
    "falcon_mamba": {"mamba": 2},
    "mamba2": {"mamba2": 2},
    "jamba": {"mamba": 3} | SOFTMAX,
    "bamba": {"mamba2": 2} | SOFTMAX,
    "zamba": {"mamba": 8, "softmax_attention": 2},  # two scans a layer
    "zamba2": {"mamba2": 4, "softmax_attention": 2},
    "recurrent_gemma": {"rg_lru": 2} | SOFTMAX,
    "rwkv": {"rwkv4": 3, "short_convolution": 3},  # the token shift of its feed-forward layers
    "qwen3_next": DELTA,
    "qwen3_5": DELTA,
    "qwen3_5_moe": DELTA,
    "qwen4_exp": DELTA | {"short_convolution": 1},
    "olmo_hybrid": DELTA,
    "kimi_linear": KIMI,
    "bailing_hybrid": KIMI,
    "glm5_next": KIMI,
    "minimax": {"retention": 1, "softmax_attention": 2},
    "falcon_h1": {"mamba2": 2, "softmax_attention": 2},
    "granitemoehybrid": {"mamba2": 2} | SOFTMAX,
    "nemotron_h": {"mamba2": 2} | SOFTMAX,
    "lfm2": CONVOLUTION,
    "lfm2_moe": CONVOLUTION,
    "lfm3": CONVOLUTION | {"softmax_attention": 2},
    "xlstm": {"mlstm": 2},
    "zaya": {"softmax_attention": 2},
}
LEFT_OUT = {
    "qwen4_exp": {"model.layers.1.ple.ple_embedding": "looks up n-grams of token ids"},
    "glm5_next": {"model.visual.blocks.0.attn": "its call was not seen in the forward pass"},
}
# the function in which a float64 model drops to float32; None where it stays in float64
FLOAT64 = {
    "mamba": "mamba_selective_scan",
    "mamba2": "mamba2_chunk_scan",
    "qwen3_next": "torch_chunk_gated_delta_rule",
    "kimi_linear": "chunk_kimi_delta_attention",
    "rwkv": "rwkv_linear_attention",
    "recurrent_gemma": "RecurrentGemmaRglru._rnn_scan",
    "minimax": "MiniMaxLightningAttention.decay_factors",
    "xlstm": "xLSTMBackend.forward",
    "lfm2": None,
}


def recurrent_calls(trace):
    return [call for call in trace.mixers.values() if call.kind != "attention"]


def test_every_family_is_there():
    assert list(CALLS) == list(recurrent.FAMILIES)
    assert len(CALLS) == 26


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_exact_and_the_forward_is_the_models_own(name):
    model = tiny.stirred(name)
    lens = ml.open(model)
    ids = tiny.ids(2)
    left = torch.ones(2, 21, dtype=torch.long)
    left[1, :5] = 0
    for given in ({}, {"attention_mask": left} if lens.accepts("attention_mask") else {}):
        trace = lens.trace(ids, **given)
        assert Counter(call.family for call in trace.mixers.values()) == CALLS[name]
        left_out = LEFT_OUT.get(name, {})
        assert list(trace.not_captured) == list(left_out)
        assert all(left_out[path] in why for path, why in trace.not_captured.items())
        assert max(error(call) for call in trace.mixers.values()) < 1e-5
        assert all(mixed_share(call) > 0.1 for call in recurrent_calls(trace))
        with torch.no_grad():
            assert torch.equal(trace.logits, model(input_ids=ids, use_cache=False, **given)[0])


@pytest.mark.parametrize("name", FLOAT64)
def test_float64_models_lose_it_in_the_function_that_is_named(name):
    model = tiny.stirred(name, dtype=torch.float64)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    calls = [call for call in recurrent_calls(ml.open(model).trace(tiny.ids(2))) if "time_shift" not in call.path]
    kind = type(model).__module__.split(".")[-2]
    where = f"transformers.models.{kind}.modeling_{kind}.{FLOAT64[name]}" if FLOAT64[name] else None
    for call in calls:
        assert call.cast_by == where
        assert call.compute_dtype == call.values.dtype == torch.float64
        assert {x.dtype for x in call.arguments.values() if isinstance(x, torch.Tensor)} == {torch.float64}
    worst = max(error(call) for call in calls)
    # the cast is real: those functions do not reach float64
    assert 1e-11 < worst < 1e-5 if where else worst < 1e-13


def test_shapes_follow_the_families():
    mamba = recurrent_calls(ml.open(tiny.build("mamba")).trace(tiny.ids(2)))[0]
    assert mamba.values.shape == mamba.skip.shape == mamba.gate.shape == mamba.output.shape == (2, 21, 64, 1)
    assert {k: tuple(v.shape) for k, v in mamba.arguments.items()} == {
        "A": (64, 4), "B": (2, 21, 4), "C": (2, 21, 4), "dt": (2, 21, 64)
    }  # fmt: skip
    assert (mamba.arguments["A"] < 0).all() and (mamba.arguments["dt"] > 0).all()
    mamba2 = recurrent_calls(ml.open(tiny.build("mamba2")).trace(tiny.ids(2)))[0]
    assert mamba2.values.shape == (2, 21, 4, 16)
    assert mamba2.arguments["B"].shape == (2, 21, 2, 8)
    assert mamba2.gate is None
    trace = ml.open(tiny.stirred("qwen3_next")).trace(tiny.ids(2))
    delta = trace.mixers["model.layers.0.linear_attn"]
    assert delta.arguments["key"].shape == (2, 21, 2, 8)
    assert delta.values.shape == delta.output.shape == (2, 21, 4, 8)
    assert (delta.arguments["log_decay"] <= 0).all()
    norms = delta.arguments["key"].norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "path", "dim"),
    [
        ("kimi_linear", "model.layers.3.self_attn", 12),
        ("bailing_hybrid", "model.layers.3.self_attn", 12),
        ("glm5_next", "model.language_model.layers.3.self_attn", 8),
    ],
)
def test_multi_latent_attention_has_values_of_another_size_than_its_queries(name, path, dim):
    call = ml.open(tiny.stirred(name)).trace(tiny.ids(2)).mixers[path]
    assert call.arguments["query"].shape == call.arguments["key"].shape == (2, 21, 4, dim)
    assert call.values.shape == call.output.shape == (2, 21, 4, 10)


def test_hybrids_are_indexed_by_layer_and_named_by_path():
    lens = ml.open(tiny.build("jamba"))
    assert [(i.index, i.path, i.kind, i.family) for i in lens.layers] == [
        (0, "model.layers.0.mamba", "recurrent", "mamba"),
        (1, "model.layers.1.mamba", "recurrent", "mamba"),
        (2, "model.layers.2.self_attn", "attention", "softmax_attention"),
        (3, "model.layers.3.mamba", "recurrent", "mamba"),
    ]
    assert list(lens.trace(tiny.ids(), layers=[3, 2]).mixers) == ["model.layers.2.self_attn", "model.layers.3.mamba"]


def test_attention_and_scan_side_by_side_in_one_layer():
    lens = ml.open(tiny.stirred("falcon_h1"))
    assert [(i.index, i.family) for i in lens.layers if i.index == 1] == [(1, "mamba2"), (1, "softmax_attention")]
    assert list(lens.trace(tiny.ids(), layers=[1]).mixers) == ["model.layers.1.mamba", "model.layers.1.self_attn"]


def test_several_scans_of_one_layer_are_numbered():
    mixers = ml.open(tiny.stirred("zamba")).trace(tiny.ids()).mixers
    assert [path for path in mixers if "layers.2." in path] == ["model.layers.2.mamba#0", "model.layers.2.mamba#1"]
    first, second = mixers["model.layers.2.mamba#0"], mixers["model.layers.2.mamba#1"]
    assert first.values.shape == second.values.shape == (1, 21, 32, 1)
    assert not torch.equal(first.values, second.values)


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


# --- going on from a cache ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mamba2", "qwen3_next", "kimi_linear", "minimax", "bamba"])
def test_a_call_that_goes_on_from_a_state_is_exact_with_that_state(name):
    model = tiny.stirred(name)
    lens, ids = ml.open(model), tiny.ids(2)
    with torch.no_grad():
        begun = model(ids[:, :10], use_cache=True)
    cache = getattr(begun, lens.caches[0])
    whole, rest = lens.trace(ids), lens.trace(ids[:, 10:], cache=cache)
    assert [call.path for call in recurrent_calls(rest)] == [call.path for call in recurrent_calls(whole)]
    for call in recurrent_calls(rest):
        assert call.initial_state.abs().max() > 0
        assert relative(call.predict(call.mixed()), call.output) < 1e-5
        # without the state it would be another mixer
        assert relative(call.predict(call.operator() @ call.values), call.output) > 1e-3
    first = recurrent_calls(rest)[0]  # the first mixer has the same input either way
    if first.layer == 0:
        assert relative(first.output, recurrent_calls(whole)[0].output[:, 10:]) < 1e-5
    assert all("11 queries on 21 keys" in why for why in rest.not_captured.values())
    checks = rest.verify(checks=["operator"]).checks
    assert {c.status for c in checks if c.mixer} == {"pass"}


def test_a_state_that_the_modules_themselves_keep_is_recorded_too():
    from transformers import DynamicCache

    model = tiny.stirred("recurrent_gemma")
    ids, cache = tiny.ids(2), DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :10], past_key_values=cache, use_cache=True)
    rest = ml.open(model).trace(ids[:, 10:], cache=cache)
    calls = recurrent_calls(rest)
    assert [call.initial_state.shape for call in calls] == [(2, 32, 1, 1)] * 2
    assert all(relative(call.predict(call.mixed()), call.output) < 1e-6 for call in calls)


def test_a_model_without_a_cache_cannot_go_on():
    with pytest.raises(InputError, match="BertForMaskedLM takes no cache"):
        ml.open(tiny.build("bert")).trace(tiny.ids(), cache=object())


def relative(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


# --- what is refused ---------------------------------------------------------------------------------------------


def rebind(monkeypatch, model, name, function):
    monkeypatch.setattr(__import__(type(model).__module__, fromlist=["x"]), name, function)


def test_a_scan_with_another_signature_is_refused(monkeypatch):
    model = tiny.build("mamba2")

    def mamba2_chunk_scan(x, *args, **kwargs):
        return torch.zeros_like(x)

    rebind(monkeypatch, model, "mamba2_chunk_scan", mamba2_chunk_scan)
    with pytest.raises(UnsupportedError) as caught:
        ml.open(model).trace(tiny.ids())
    assert "backbone.layers.0.mixer (Mamba2Mixer): " in str(caught.value)
    assert "mamba2_chunk_scan has no parameter hidden_states" in str(caught.value)
    assert str(caught.value).endswith("(and 1 more)")


def test_a_filter_with_a_nonlinearity_behind_it_is_refused():
    x, weight = torch.randn(1, 3, 7), torch.randn(3, 2)
    given = {"hidden_states": x, "weight": weight, "bias": None, "activation": "silu"}
    with pytest.raises(UnsupportedError, match="followed by silu, which is not linear"):
        convolution.causal_convolution(given, x)


def test_an_rwkv_that_goes_on_from_a_state_is_refused_by_name():
    model = tiny.stirred("rwkv")
    lens, ids = ml.open(model), tiny.ids(1)
    with torch.no_grad():
        state = model(ids[:, :10], use_cache=True).state
    trace = lens.trace(ids[:, 10:], cache=state)
    assert {call.family for call in trace.mixers.values()} == {"short_convolution"}
    assert all("rwkv_linear_attention was given state" in why for why in trace.not_captured.values())


def test_lightning_attention_of_another_version_is_refused():
    model = tiny.stirred("minimax")
    mixer = model.model.layers[1].self_attn
    mixer.slope_rate.mul_(2)  # the buffers that the forward uses no longer belong to this rate
    trace = ml.open(model).trace(tiny.ids())
    assert list(trace.mixers) == ["model.layers.0.self_attn", "model.layers.2.self_attn"]
    assert (
        "its first tokens are not what linear attention with its decay gives"
        in trace.not_captured["model.layers.1.self_attn"]
    )


def test_an_rg_lru_that_scales_its_inputs_otherwise_is_refused(monkeypatch):
    model = tiny.stirred("recurrent_gemma")
    root = __import__(type(model).__module__, fromlist=["x"]).SqrtBoundDerivative
    monkeypatch.setattr(root, "apply", staticmethod(lambda x: 0.5 * torch.sqrt(x)))
    trace = ml.open(model).trace(tiny.ids())
    assert list(trace.mixers) == ["model.layers.2.temporal_block"]
    assert set(trace.not_captured) == {f"model.layers.{k}.temporal_block.rg_lru" for k in (0, 1)}
    assert all("sqrt(1 - decay^2)" in why for why in trace.not_captured.values())
