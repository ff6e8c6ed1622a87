"""Only the model that was asked for, and only until it is undone."""

import copy
import gc
import io
import threading

import pytest
import torch

import mixerlens as ml
from acceleration.models import FAMILIES, ONE_EACH, logits, relative, scope_of
from capture import tiny
from mixerlens.accelerate.dispatch import Call, answered
from mixerlens.errors import InputError, UnsupportedError


@pytest.fixture(autouse=True)
def every_file_is_as_it_was():
    models = [tiny.build(name) for name in ONE_EACH]
    before = [dict(scope_of(model)) for model in models]
    yield
    assert all(before[k].items() <= scope_of(model).items() for k, model in enumerate(models))


@pytest.mark.parametrize("name", FAMILIES)
def test_undone_the_model_and_its_file_are_what_they_were(name):
    model = tiny.build(name)
    scope = dict(scope_of(model))
    inside = [(dict(vars(m)), dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    fast = ml.accelerate(model)
    during = {key for key, value in scope_of(model).items() if value is not scope.get(key)}
    assert len(during) == 1 and fast.active
    # nothing is written on the model meanwhile either
    assert inside == [(dict(vars(m)), dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    fast.undo()
    fast.undo()
    assert not fast.active
    assert scope.keys() == scope_of(model).keys()
    assert all(scope_of(model)[key] is value for key, value in scope.items())


def test_it_can_be_applied_again():
    model, ids = tiny.build("mamba"), tiny.ids()
    fast = ml.accelerate(model)
    logits(model, ids)
    fast.undo()
    logits(model, ids)
    assert set(fast.replaced.values()) == {1}
    with fast:
        logits(model, ids)
    assert set(fast.replaced.values()) == {2} and not fast.active
    assert "undone" in repr(fast) and "2 x selective_scan" in repr(fast)


def test_an_exception_undoes_it():
    model, ids = tiny.build("mamba2"), tiny.ids()
    plain = logits(model, ids)
    with pytest.raises(RuntimeError, match="stop"), ml.accelerate(model):
        raise RuntimeError("stop")

    def fails(*_):
        raise RuntimeError("inside")

    with ml.accelerate(model) as fast:
        hook = model.backbone.layers[0].mixer.norm.register_forward_hook(fails)
        with pytest.raises(RuntimeError, match="inside"):
            logits(model, ids)
        hook.remove()
        logits(model, ids)
        assert fast.replaced["backbone.layers.0.mixer"] == 2
    assert torch.equal(logits(model, ids), plain)


def test_another_model_of_the_class_runs_as_before():
    one, other, ids = tiny.stirred("mamba"), tiny.stirred("mamba", seed=1), tiny.ids()
    plain = logits(one, ids), logits(other, ids)
    with ml.accelerate(one) as fast:
        assert torch.equal(logits(other, ids), plain[1])
        assert not fast.replaced
        assert not torch.equal(logits(one, ids), plain[0])
        assert relative(logits(one, ids), plain[0]) < 1e-5


@pytest.mark.parametrize("first", [0, 1])
def test_two_models_at_once_are_undone_in_any_order(first):
    models, ids = [tiny.stirred("qwen3_next", seed=k) for k in (0, 1)], tiny.ids()
    plain = [logits(model, ids) for model in models]
    handles = [ml.accelerate(model) for model in models]
    assert not any(torch.equal(logits(m, ids), p) for m, p in zip(models, plain, strict=True))
    handles[first].undo()
    assert torch.equal(logits(models[first], ids), plain[first])
    assert not torch.equal(logits(models[1 - first], ids), plain[1 - first])
    handles[1 - first].undo()
    assert torch.equal(logits(models[1 - first], ids), plain[1 - first])


def test_blocks_of_one_model_nest():
    model, ids = tiny.stirred("mamba2"), tiny.ids()
    plain = logits(model, ids)
    with ml.accelerate(model) as outer:
        with ml.accelerate(model) as inner:
            fast = logits(model, ids)
        assert torch.equal(logits(model, ids), fast) and not torch.equal(fast, plain)
        assert set(outer.replaced.values()) == set(inner.replaced.values()) == {1}
    assert torch.equal(logits(model, ids), plain)


def test_handles_of_one_model_are_undone_in_any_order():
    model, ids = tiny.stirred("mamba2"), tiny.ids()
    plain = logits(model, ids)
    first, second = ml.accelerate(model), ml.accelerate(model)
    first.undo()
    assert not torch.equal(logits(model, ids), plain)
    second.undo()
    assert torch.equal(logits(model, ids), plain)


def test_copies_and_saved_models_are_plain():
    model, ids = tiny.stirred("mamba"), tiny.ids()
    plain = logits(model, ids)
    with ml.accelerate(model):
        copied = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model, file)
        assert torch.equal(logits(copied, ids), plain)
        assert not torch.equal(logits(model, ids), plain)
    file.seek(0)
    assert torch.equal(logits(torch.load(file, weights_only=False), ids), plain)


def test_a_model_that_is_gone_leaves_nothing_behind():
    other, ids = tiny.build("mamba"), tiny.ids()
    scan = scope_of(other)["mamba_selective_scan"]
    ml.accelerate(tiny.build("mamba"))  # neither is kept
    gc.collect()
    logits(other, ids)
    assert scope_of(other)["mamba_selective_scan"] is scan


def test_each_thread_has_its_own_model():
    models, ids = [tiny.stirred("mamba", seed=k) for k in range(4)], tiny.ids(1, 33)
    plain = [logits(model, ids) for model in models]
    found: dict[int, list] = {k: [] for k in range(4)}

    def work(k):
        for _ in range(5):
            if k % 2:
                with ml.accelerate(models[k]):
                    found[k].append(logits(models[k], ids))
            else:
                found[k].append(logits(models[k], ids))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert len(found[k]) == 5
        assert all(torch.equal(x, plain[k]) != bool(k % 2) for x in found[k])
        assert all(relative(x, plain[k]) < 1e-5 for x in found[k])


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_trace_of_an_accelerated_model_sees_its_calls(name):
    model, ids = tiny.stirred(name), tiny.ids(2, 33)
    plain = ml.open(model).trace(ids)
    with ml.accelerate(model) as fast:
        trace = ml.open(model).trace(ids)
        assert set(fast.replaced.values()) == {1}
        certificate = trace.verify(checks=["operator", "step"])
        assert torch.equal(trace.logits, logits(model, ids))
    assert list(trace.mixers) == list(plain.mixers)
    assert certificate.passed, str(certificate)
    for path in fast.mixers:
        assert trace.mixers[path].cast_by == plain.mixers[path].cast_by
        assert relative(trace.mixers[path].output, plain.mixers[path].output) < 1e-4


def test_an_opened_model_is_accelerated_itself():
    model = tiny.build("mamba")
    with ml.accelerate(ml.open(model)) as fast:
        assert fast.model is model


def test_it_is_undone_below_a_wrapper_of_somebody_else():
    """Another wrapper on top when ours ends: it goes when that one does and the function is next called."""
    model, ids = tiny.build("mamba"), tiny.ids()
    scope = scope_of(model)
    plain = scope["mamba_selective_scan"]
    fast = ml.accelerate(model)
    ours = scope["mamba_selective_scan"]
    scope["mamba_selective_scan"] = lambda *args, **kwargs: ours(*args, **kwargs)
    logits(model, ids)
    assert set(fast.replaced.values()) == {1}
    fast.undo()
    logits(model, ids)
    assert set(fast.replaced.values()) == {1}
    scope["mamba_selective_scan"] = ours
    logits(model, ids)
    assert scope["mamba_selective_scan"] is plain


def test_a_block_of_plain_calls():
    model, ids = tiny.stirred("mamba"), tiny.ids()
    plain = logits(model, ids)
    with ml.accelerate(model):
        with answered(Call.original):
            assert torch.equal(logits(model, ids), plain)
        assert not torch.equal(logits(model, ids), plain)


def test_what_has_nothing_to_accelerate_is_refused():
    with pytest.raises(
        UnsupportedError, match=r"LlamaForCausalLM has no mixer.*softmax attention.*Mamba-1 \(mamba_sel"
    ):
        ml.accelerate(tiny.build("llama"))
    with pytest.raises(UnsupportedError, match="Linear has no mixer that can be accelerated; supported are Mamba-1"):
        ml.accelerate(torch.nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="kimi delta attention: there is no scan"):
        ml.accelerate(tiny.build("kimi_linear"))
    with pytest.raises(UnsupportedError, match="on meta: only the CPU's paths"):
        ml.accelerate(tiny.build("mamba").to("meta"))
    with pytest.raises(InputError, match=r"takes a torch\.nn\.Module, or what mixerlens\.open returns, not 'mamba'"):
        ml.accelerate("mamba")  # type: ignore[arg-type]


def test_a_function_of_an_unknown_version_is_left_alone(monkeypatch):
    model = tiny.build("mamba")
    function = scope_of(model)["mamba_selective_scan"]

    def newer(hidden_states, dt, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, rope=None):
        return function(hidden_states, dt, A, B, C, D, z, delta_bias, delta_softplus)

    monkeypatch.setitem(scope_of(model), "mamba_selective_scan", newer)
    with pytest.raises(UnsupportedError, match="unknown version, without return_last_state and with rope"):
        ml.accelerate(model)
