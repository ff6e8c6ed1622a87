"""Accelerated models give the plain models' logits, gradients, caches and tokens."""

import pytest
import torch

import mixerlens as ml
from acceleration.models import (
    FAMILIES,
    ONE_EACH,
    float64_throughout,
    gradients,
    left_padded,
    logits,
    relative,
    wide_model,
)
from capture import tiny


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_in_float64_throughout(name):
    scan, mixers, calls = FAMILIES[name]
    model = wide_model(name)
    ids, mask = left_padded()
    with float64_throughout():
        plain = [logits(model, ids), logits(model, ids, attention_mask=mask)]
        with ml.accelerate(model) as fast:
            found = [logits(model, ids), logits(model, ids, attention_mask=mask)]
    assert plain[0].dtype == torch.float64
    assert list(fast.mixers.values()) == [scan] * mixers
    assert fast.replaced == dict.fromkeys(fast.mixers, 2 * calls) and not fast.kept
    assert relative(plain[1], plain[0]) > 1e-3
    for a, b in zip(found, plain, strict=True):
        assert 0 < relative(a, b) < 1e-12


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_in_float64_throughout(name):
    model = wide_model(name)
    ids = tiny.ids(2, 67)
    with float64_throughout():
        plain = gradients(model, ids)
        with ml.accelerate(model) as fast:
            found = gradients(model, ids)
    assert sum(fast.replaced.values()) == len(fast.mixers) * FAMILIES[name][2]
    assert list(found) == list(plain)
    largest = max(float(g.abs().max()) for g in plain.values())
    for parameter, wanted in plain.items():
        # a gradient whose terms cancel is no more exact than they are
        scale = max(float(wanted.abs().max()), 1e-3 * largest)
        assert float((found[parameter] - wanted).abs().max()) < 1e-11 * scale, parameter


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_is_as_exact_as_the_plain_model(name):
    model, ids = tiny.stirred(name), tiny.ids(2, 67)
    plain = logits(model, ids)
    with ml.accelerate(model):
        found = logits(model, ids)
    with float64_throughout():
        exact = logits(wide_model(name), ids)
    assert not torch.equal(found, plain)
    assert relative(found, exact) < max(1e-6, 4 * relative(plain, exact))


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba", "jamba", "zamba"])
def test_a_float64_mamba_is_the_plain_one_with_the_roundings_it_has(name):
    """mamba_selective_scan rounds its values and B to float32 and computes in float64 from there; so do we."""
    model, ids = wide_model(name), tiny.ids(2, 67)
    plain = logits(model, ids)
    with ml.accelerate(model):
        assert relative(logits(model, ids), plain) < 1e-12


def states(cache):
    held = [getattr(layer, "recurrent_states", {}) for layer in cache.layers]
    return [state for each in held for state in each.values() if state is not None]


@pytest.mark.parametrize("name", FAMILIES)
def test_caches_and_what_follows_on_them(name):
    """A prefix, one token, then several at once on its cache: states and answers are the plain model's."""
    model, ids = wide_model(name), tiny.ids(2, 45)

    def run():
        seen, cache = [], None
        for start, stop in ((0, 30), (30, 31), (31, 32), (32, 45)):
            with torch.no_grad():
                output = model(input_ids=ids[:, start:stop], use_cache=True, **({key: cache} if cache else {}))
            key = next(k for k in ("past_key_values", "cache_params") if getattr(output, k, None) is not None)
            cache = output[key]
            seen += [output[0], *(state.clone() for state in states(cache))]
        return seen

    with float64_throughout():
        plain = run()
        with ml.accelerate(model) as fast:
            found = run()
    assert fast.replaced == dict.fromkeys(fast.mixers, 2 * FAMILIES[name][2])  # one token at a time is no scan
    assert len(plain) > 4 and [x.shape for x in found] == [x.shape for x in plain]
    assert all(relative(a, b) < 1e-11 for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_tokens_are_generated(name):
    model, ids = tiny.stirred(name), tiny.ids(2, 19)
    given = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(ids, **given)
    with ml.accelerate(model) as fast:
        found = model.generate(ids, **given)
    assert sum(fast.replaced.values()) == len(fast.mixers) * FAMILIES[name][2]
    assert plain.shape == (2, 31)
    assert torch.equal(found, plain)


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_keep_their_dtypes(name, dtype):
    model, ids = tiny.stirred(name).to(dtype), tiny.ids(2, 67)
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=True)
        with ml.accelerate(model) as fast:
            found = model(input_ids=ids, use_cache=True)
    key = "past_key_values" if "past_key_values" in found else "cache_params"
    assert fast.replaced and found[0].dtype == plain[0].dtype
    kinds = [[state.dtype for state in states(output[key])] for output in (found, plain)]
    assert kinds[0] == kinds[1] and kinds[0]
    with float64_throughout():
        exact = logits(model.double(), ids)
    assert relative(found[0], exact) < max(1e-6, 2 * relative(plain[0], exact))


@pytest.mark.parametrize("name", ONE_EACH)
def test_training_with_recomputed_activations(name):
    model, ids = tiny.stirred(name), tiny.ids(2, 33)
    model.train()
    plain = gradients(model, ids)
    model.activation_checkpointing_enable()
    with ml.accelerate(model) as fast:
        found = gradients(model, ids)
    assert fast.replaced == dict.fromkeys(fast.mixers, 2)  # forward, and once more in the backward pass
    assert all(relative(found[parameter], plain[parameter]) < 1e-3 for parameter in plain)


@pytest.mark.parametrize("name", ONE_EACH)
def test_frozen_models_and_inputs_that_have_gradients(name):
    """Only some of a scan's arguments need a gradient: those that come from the embeddings, then one weight's."""
    model = wide_model(name).requires_grad_(False)
    x = torch.randn(1, 40, 32, dtype=torch.float64, requires_grad=True)
    (weight,) = (p for path, p in model.named_parameters() if ".0." in path and path.endswith("A_log"))

    def run():
        first = torch.autograd.grad(model(inputs_embeds=x, use_cache=False)[0].square().sum(), x)
        weight.requires_grad_()
        second = torch.autograd.grad(model(inputs_embeds=x.detach(), use_cache=False)[0].square().sum(), weight)
        weight.requires_grad_(False)
        return first + second

    with float64_throughout():
        plain = run()
        with ml.accelerate(model) as fast:
            found = run()
    assert set(fast.replaced.values()) == {2}
    assert all(relative(a, b) < 1e-11 for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize("name", ONE_EACH)
def test_inference_mode(name):
    model, ids = tiny.stirred(name), tiny.ids(2, 33)
    with ml.accelerate(model) as fast:
        wanted = logits(model, ids)
        with torch.inference_mode():
            assert torch.equal(model(input_ids=ids, use_cache=False)[0], wanted)
    assert set(fast.replaced.values()) == {2}
