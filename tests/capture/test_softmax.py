"""Softmax models, read through the attention interface: exact, and the forward is the model's own."""

import pytest
import torch

import mixerlens as ml
from capture import tiny
from capture.judge import error
from mixerlens.errors import UnsupportedError

SDPA = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "neox",
    "phi",
    "opt",
    "gpt2",
    "llama4",
    "bert",
    "distilbert",
    "modernbert",
]
EAGER_ONLY = ["gemma2", "gpt_oss"]
# eager attention of these casts its softmax to float32; sdpa and gpt_oss's own do not
CASTS = ["llama", "mistral", "qwen2", "qwen3", "neox", "phi", "opt", "modernbert", "gemma2"]


def masks(time: int = 21):
    """No padding, left padding, right padding, and tokens missing in the middle."""
    yield None
    for place in (slice(0, 5), slice(time - 4, time), slice(6, 9)):
        mask = torch.ones(2, time, dtype=torch.long)
        mask[1, place] = 0
        yield mask


@pytest.mark.parametrize("name", SDPA + EAGER_ONLY)
def test_float32_calls_are_exact_and_the_forward_is_the_models_own(name):
    model = tiny.build(name)
    lens = ml.open(model)
    ids = tiny.ids(2)
    for mask in masks():
        trace = lens.trace(ids, attention_mask=mask)
        assert {call.family for call in trace.mixers.values()} == {"softmax_attention"}
        assert len(trace.mixers) == len(lens.layers) == model.config.num_hidden_layers
        assert max(error(call) for call in trace.mixers.values()) < 1e-6
        with torch.no_grad():
            own = model(input_ids=ids, attention_mask=mask)
        assert torch.equal(trace.logits, own[0])


@pytest.mark.parametrize("name", [*SDPA, "gpt_oss"])
def test_float64_calls_are_exact_to_rounding_where_nothing_is_cast(name):
    model = tiny.build(name, dtype=torch.float64)
    if name in ("llama4", "gpt_oss"):
        model.set_experts_implementation("eager")
    for mask in masks():
        for call in ml.open(model).trace(tiny.ids(2), attention_mask=mask).mixers.values():
            assert call.cast_by is None
            assert call.compute_dtype == torch.float64
            assert error(call) < 1e-13


@pytest.mark.parametrize("name", SDPA + EAGER_ONLY)
def test_the_casting_function_is_named_exactly_where_float64_is_lost(name):
    model = tiny.build(name, dtype=torch.float64, attention="eager")
    if name in ("llama4", "gpt_oss"):
        model.set_experts_implementation("eager")
    for call in ml.open(model).trace(tiny.ids(2)).mixers.values():
        if name in CASTS:
            assert call.cast_by.endswith(".eager_attention_forward")
            assert call.cast_by.startswith("transformers.models.")
            assert 1e-10 < error(call) < 1e-6
        else:
            assert call.cast_by is None
            assert error(call) < 1e-13


def test_grouped_heads_stay_grouped():
    call = ml.open(tiny.build("llama")).trace(tiny.ids(2)).mixers["model.layers.1.self_attn"]
    assert call.arguments["query"].shape == (2, 21, 4, 8)
    assert call.arguments["key"].shape == call.values.shape == (2, 21, 2, 8)
    assert call.output.shape == (2, 21, 4, 8)
    assert (call.layer, call.kind) == (1, "attention")


def test_windows_caps_sinks_and_chunks_are_read():
    gemma = ml.open(tiny.build("gemma2")).trace(tiny.ids()).mixers
    assert [c.arguments["window"] for c in gemma.values()] == [4, None]
    assert {c.arguments["softcap"] for c in gemma.values()} == {2.0}
    model = tiny.build("gpt_oss")
    for call, layer in zip(ml.open(model).trace(tiny.ids()).mixers.values(), model.model.layers, strict=True):
        torch.testing.assert_close(call.arguments["sinks"], layer.self_attn.sinks.detach())
    bert = ml.open(tiny.build("bert")).trace(tiny.ids()).mixers.values()
    assert not any(c.arguments["causal"] for c in bert)
    chunked = next(iter(ml.open(tiny.build("llama4")).trace(tiny.ids(time=15)).mixers.values()))
    assert chunked.arguments["segments"].tolist() == [[0] * 6 + [1] * 6 + [2] * 3]


def test_the_captured_values_share_no_memory_with_the_model_and_have_no_history():
    call = ml.open(tiny.build("gpt2")).trace(tiny.ids()).mixers["transformer.h.0.attn"]
    tensors = [call.values, call.output, *(x for x in call.arguments.values() if isinstance(x, torch.Tensor))]
    for x in tensors:
        assert not x.requires_grad
        assert x.untyped_storage().nbytes() == x.numel() * x.element_size()


def test_a_vision_transformer_is_read_too():
    pixels = torch.randn(2, 3, 12, 12)
    trace = ml.open(tiny.build("vit")).trace(pixels)
    assert all(error(call) < 1e-6 for call in trace.mixers.values())
    assert trace.tokens == [[], []]


def test_what_has_no_counterpart_is_refused_by_name():
    import transformers

    torch.manual_seed(0)
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(d_model=32, num_layers=1, num_heads=4, d_ff=48, vocab_size=97)
    )
    with pytest.raises(
        UnsupportedError, match=r"encoder\.block\.0\.layer\.0\.SelfAttention \(T5Attention\).*position_bias"
    ):
        ml.open(t5).trace(tiny.ids())
    settings = {k: v for k, v in tiny.SMALL.items() if k != "num_key_value_heads"}
    doge = transformers.DogeForCausalLM(transformers.DogeConfig(**settings))
    with pytest.raises(UnsupportedError, match=r"DogeAttention.*mask adds a bias"):
        ml.open(doge).trace(tiny.ids())


def test_another_attention_implementation_is_refused_with_the_way_out():
    from transformers import AttentionInterface

    def flash_like(module, query, key, value, attention_mask, **kwargs):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2), None

    AttentionInterface.register("flash_like", flash_like)
    try:
        model = tiny.build("gpt2")
        model.config._attn_implementation = "flash_like"
        with pytest.raises(UnsupportedError, match=r"'flash_like' cannot be read.*'sdpa' or 'eager'"):
            ml.open(model).trace(tiny.ids())
    finally:
        del AttentionInterface._global_mapping["flash_like"]
