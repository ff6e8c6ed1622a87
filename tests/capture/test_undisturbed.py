"""After a trace the model, the library and the random state are what they were, also when the trace failed."""

import copy
import sys

import pytest
import torch

import mixerlens as ml
from capture import recurrent, tiny
from mixerlens.errors import UnsupportedError


def state(model):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    modelling = sys.modules[type(model).__module__]
    return {
        "training": [m.training for m in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._forward_hooks_always_called),
                   len(m._forward_hooks_with_kwargs)) for m in model.modules()],
        "config": copy.deepcopy(model.config.to_dict()),
        "implementation": model.config._attn_implementation,
        "globals": dict(vars(modelling)),
        "lookup": AttentionInterface.get_interface,
        "registry": dict(ALL_ATTENTION_FUNCTIONS),
        "gradients": [p.requires_grad for p in model.parameters()],
        "own": [{name: id(x) for name, x in vars(m).items() if name != "training"} for m in model.modules()],
        "buffers": [{name: id(x) for name, x in m._buffers.items()} for m in model.modules()],
        "grad mode": torch.is_grad_enabled(),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", *recurrent.FAMILIES])
def test_a_trace_leaves_everything_as_it_was(name):
    model = tiny.stirred(name) if name in recurrent.FAMILIES else tiny.build(name)
    model.train()
    next(model.children()).eval()
    next(model.parameters()).requires_grad_(False)
    before, weights, random = state(model), copy.deepcopy(model.state_dict()), torch.get_rng_state()
    trace = ml.open(model).trace(tiny.ids(2))
    trace.verify(checks=("step", "chunk", "padding"))
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(w, weights[k]) for k, w in model.state_dict().items())


@pytest.mark.parametrize(
    "name", ["llama", "jamba", "qwen3_next", "minimax", "recurrent_gemma", "lfm2", "xlstm", "rwkv", "qwen4_exp"]
)
def test_so_does_one_that_fails_in_the_middle(name):
    model = tiny.build(name)
    model.train()
    lens = ml.open(model)
    before = state(model)

    def broken(*_):
        raise RuntimeError("broken layer")

    last = [info.path for info in lens.layers if info.kind != "attention" or name == "llama"][-1]
    mixer = model.get_submodule(last)
    part = next((m for m in mixer.modules() if isinstance(m, torch.nn.Linear)), mixer)  # inside it if there is one
    hook = part.register_forward_hook(broken)
    hooked = state(model)
    with pytest.raises(RuntimeError, match="broken layer"):
        lens.trace(tiny.ids())
    assert state(model) == hooked
    hook.remove()
    assert state(model) == before
    again = lens.trace(tiny.ids())
    assert len(again.mixers) == len(lens.layers)


def test_weights_that_a_model_rescales_for_inference_are_scaled_back():
    """rwkv divides weights by powers of two in its first forward in evaluation mode."""
    model = tiny.stirred("rwkv", num_hidden_layers=5, rescale_every=2)
    for trained in (True, False):
        model.train(trained)
        weights = copy.deepcopy(model.state_dict())
        ml.open(model).trace(tiny.ids())
        assert not model.rwkv.layers_are_rescaled
        assert all(torch.equal(w, weights[k]) for k, w in model.state_dict().items())
    with torch.no_grad():
        model(tiny.ids())
    assert model.rwkv.layers_are_rescaled
    weights = copy.deepcopy(model.state_dict())
    ml.open(model).trace(tiny.ids())
    assert model.rwkv.layers_are_rescaled
    assert all(torch.equal(w, weights[k]) for k, w in model.state_dict().items())


def test_a_state_that_a_model_keeps_on_its_modules_is_put_back():
    model = tiny.stirred("recurrent_gemma")
    with torch.no_grad():
        model(tiny.ids(1), use_cache=True)
    kept = [m.recurrent_states for m in model.modules() if hasattr(m, "recurrent_states")]
    values = [x.clone() for x in kept]
    ml.open(model).trace(tiny.ids(2, 30)).verify(checks=("step",))
    after = [m.recurrent_states for m in model.modules() if hasattr(m, "recurrent_states")]
    assert len(kept) == 2 and all(a is b and torch.equal(a, v) for a, b, v in zip(after, kept, values, strict=True))


def test_so_does_a_refused_one():
    import transformers

    t5 = transformers.T5EncoderModel(
        transformers.T5Config(d_model=32, num_layers=1, num_heads=4, d_ff=48, vocab_size=97)
    )
    before = state(t5)
    with pytest.raises(UnsupportedError):
        ml.open(t5).trace(tiny.ids())
    assert state(t5) == before


def test_dropout_of_a_model_in_training_does_not_act():
    model = tiny.build("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    quiet = ml.open(model).trace(tiny.ids()).logits
    model.train()
    assert torch.equal(ml.open(model).trace(tiny.ids()).logits, quiet)
    assert model.training


def test_other_models_may_run_inside_a_recording():
    """Attention of a module that is not being traced goes through untouched and unrecorded."""
    other = tiny.build("llama", seed=5)
    model = tiny.build("llama")
    alone = other(tiny.ids(), use_cache=False).logits
    seen = []
    model.model.layers[0].register_forward_hook(lambda *_: seen.append(other(tiny.ids(), use_cache=False).logits))
    trace = ml.open(model).trace(tiny.ids())
    assert torch.equal(seen[0], alone)
    assert len(trace.mixers) == 2


def test_another_dtype_is_a_copy():
    model = tiny.build("mamba2")
    lens = ml.open(model, dtype="float64")
    assert lens.dtype == torch.float64
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert ml.open(model, dtype=torch.float32).model is model
