"""The certificate finds the faults that transformers 5.23 has and blames no model that is right."""

import pytest
import torch

import mixerlens as ml
from capture import tiny

RIGHT = [
    "llama",
    "mistral",
    "qwen3",
    "gemma2",
    "gpt_oss",
    "phi",
    "neox",
    "llama4",
    "modernbert",
    "mamba2",
    "qwen3_next",
]
# (check, variant) pairs that fail; everything else that applies must pass
FAULTS = {
    "bamba": {("step", "plain"), ("chunk", "plain")},  # cached decoding restarts RoPE without position ids
    "mamba": {("chunk", "plain")},  # several tokens on a cache restart the state
    "falcon_mamba": {("chunk", "plain")},
    "jamba": {("chunk", "plain"), ("chunk", "position_ids")},
    "gpt2": {("padding", "left/plain")},  # absolute positions count the padding
    "bert": {("padding", "left/plain")},
}


def certificate(name, seed, **more):
    return ml.open(tiny.build(name, seed, **more)).trace(tiny.ids(1, 24, seed)).verify()


def failing(certificate):
    return {(c.check, c.variant) for c in certificate.checks if c.status == "fail"}


@pytest.mark.parametrize("name", RIGHT)
def test_right_models_pass_with_room_to_spare(name):
    for seed in range(2):
        found = certificate(name, seed)
        assert found.passed
        assert not failing(found)
        assert all(c.max_rel < c.tolerance / 5 for c in found.checks if c.status == "pass")


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_and_nothing_else_is(name):
    for seed in range(4):
        found = certificate(name, seed)
        assert not found.passed
        assert failing(found) == FAULTS[name]
        for c in found.checks:
            if c.status == "pass":
                assert c.max_rel < c.tolerance / 5
            elif c.status == "fail":
                assert c.max_rel > 2 * c.tolerance
                assert (c.layer, c.head) == (None, None)
                assert 0 <= c.position < 24


def test_position_ids_clear_bamba_and_gpt2():
    checks = {(c.check, c.variant): c for c in certificate("bamba", 0).checks if c.check != "operator"}
    assert checks["step", "plain"].max_rel > 1e-3
    assert checks["step", "position_ids"].max_rel < 1e-6
    checks = {(c.check, c.variant): c for c in certificate("gpt2", 0).checks if c.check != "operator"}
    assert checks["padding", "left/plain"].max_rel > 0.5
    assert checks["padding", "left/position_ids"].max_rel < 1e-6


@pytest.mark.parametrize("name", ["llama", "mamba2", "qwen3_next", "jamba", "bamba", "gpt2"])
def test_float64_tells_the_same_story(name):
    found = certificate(name, 0, dtype=torch.float64)
    assert failing(found) == FAULTS.get(name, set())


def test_roberta_positions_begin_after_the_padding_id():
    import transformers

    settings = {k: v for k, v in tiny.SMALL.items() if k != "num_key_value_heads"} | {"pad_token_id": 1}
    torch.manual_seed(0)
    model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**settings))
    assert ml.open(model).trace(tiny.ids()).verify().passed


def test_padding_that_a_library_turns_into_nan_is_a_failure():
    """gemma2's eager softmax casts float64's lowest number to minus infinity: a row of padding becomes 0 / 0."""
    found = certificate("gemma2", 0, dtype=torch.float64)
    bad = [c for c in found.checks if c.status == "fail"]
    assert {c.check for c in bad} == {"padding"}
    assert all(c.max_rel is None and c.max_abs is None and "NaN" in c.reason for c in bad)


def test_a_cache_that_forgets_is_found():
    model = tiny.build("llama")
    attention = model.model.layers[1].self_attn

    def forget(module, args, kwargs):
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length(1) == 15:
            cache.layers[1].values[:, :, 3] *= 1.01

    attention.register_forward_pre_hook(forget, with_kwargs=True)
    found = ml.open(model).trace(tiny.ids(1, 24)).verify()
    assert failing(found) == {("step", "plain"), ("step", "position_ids")}
    assert all(c.position >= 15 for c in found.checks if c.status == "fail")


def test_a_call_that_crashes_is_a_failure_with_the_error():
    model = tiny.build("llama")
    forward = model.forward

    def broken(input_ids=None, use_cache=None, past_key_values=None, attention_mask=None, position_ids=None):
        if past_key_values is not None:
            raise IndexError("no such\nlayer")
        return forward(input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache)

    model.forward = broken
    found = ml.open(model).trace(tiny.ids(1, 24)).verify(checks=["step", "padding"])
    assert failing(found) == {("step", "plain"), ("step", "position_ids")}
    assert "the model's own call raised IndexError: no such layer" in {c.reason for c in found.checks}
