"""The operator check: it passes what is right, and fails what is not, at the right place."""

import dataclasses

import pytest
import torch

import mixerlens as ml
from capture import tiny
from mixerlens import references
from mixerlens.capture.call import MixerCall
from mixerlens.verify import certify
from mixerlens.verify.operators import model_tolerance, operator_checks

NAMES = ["llama", "gpt2", "gemma2", "gpt_oss", "bert", "modernbert", "mamba", "mamba2", "jamba", "bamba", "qwen3_next"]


def padded_trace(name, **more):
    mask = torch.ones(2, 21, dtype=torch.long)
    mask[1, -4:] = 0
    return ml.open(tiny.build(name, **more)).trace(tiny.ids(2), attention_mask=mask)


@pytest.mark.parametrize("name", NAMES)
def test_every_mixer_passes_in_both_comparisons(name):
    trace = padded_trace(name)
    checks = trace.verify(checks=["operator"]).checks
    assert len(checks) == 2 * len(trace.mixers)
    assert {c.status for c in checks} == {"pass"}
    assert [c.mixer for c in checks[::2]] == list(trace.mixers)
    for c in checks:
        assert c.max_rel < (2e-6 if c.variant == "model" else 1e-13)
        assert c.tolerance == (1e-5 if c.variant == "model" else 1e-11)
        assert c.mixer in c.reason


def test_float64_is_held_to_float64_where_nothing_casts():
    for c in padded_trace("llama", dtype=torch.float64).verify(checks=["operator"]).checks:
        assert (c.status, c.tolerance) == ("pass", 1e-11)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "qwen3_next"])
def test_float64_that_is_cast_inside_is_held_to_the_floor_and_the_function_is_named(name):
    trace = padded_trace(name, dtype=torch.float64)
    checks = {(c.mixer, c.variant): c for c in trace.verify(checks=["operator"]).checks}
    for path, call in trace.mixers.items():
        plain = "token-by-token sum" if call.family == "softmax_attention" else "recurrence"
        model, loop = checks[path, "model"], checks[path, plain]
        assert (loop.status, loop.tolerance) == ("pass", 1e-11)
        if call.cast_by:
            assert model.tolerance == 1e-5
            assert f"{call.cast_by} casts to float32" in model.reason
            assert call.cast_by.startswith(f"transformers.models.{name}.modeling_{name}.")
    assert any(call.cast_by for call in trace.mixers.values())


def test_half_precision_is_held_to_its_own_rounding():
    trace = padded_trace("llama", dtype=torch.bfloat16)
    call = next(iter(trace.mixers.values()))
    assert model_tolerance(call)[0] == 8 * torch.finfo(torch.bfloat16).eps
    checks = trace.verify(checks=["operator"]).checks
    assert {c.status for c in checks} == {"pass"}
    assert any(c.max_rel > 1e-5 for c in checks if c.variant == "model")


def test_half_precision_attention_is_allowed_the_rounding_of_its_scores():
    torch.manual_seed(0)
    query, key, values = (torch.randn(1, 60, 2, 8) for _ in range(3))
    half = {"query": (7 * query).bfloat16(), "key": (7 * key).bfloat16()}
    scores = torch.einsum("bihd,bjhd->bhij", half["query"], half["key"]) * 8**-0.5  # rounded, as eager attention does
    mask = torch.ones(60, 60).tril().bool()
    weights = torch.softmax(scores.float().masked_fill(~mask, -torch.inf), -1).bfloat16()
    output = torch.einsum("bhij,bjhd->bihd", weights, values.bfloat16())
    call = MixerCall(
        "attention", 0, "attention", "softmax_attention", half, values.bfloat16(), output, compute_dtype=torch.bfloat16
    )
    units = model_tolerance(call)[0] / torch.finfo(torch.bfloat16).eps
    assert units == pytest.approx(float(scores.masked_fill(~mask, 0).abs().max()) / 4, rel=0.02)
    checks = operator_checks(call)
    assert [c.status for c in checks] in (["pass", "pass"], ["n/a", "pass"])
    louder = dataclasses.replace(call, arguments=half | {"scale": 4.0})
    assert operator_checks(louder)[0].status == "n/a"  # all that rounding could do is more than a fault would


def test_a_wrong_output_is_found_at_its_head_and_token():
    call = padded_trace("llama").mixers["model.layers.1.self_attn"]
    output = call.output.clone()
    output[0, 13, 2] *= 1.001
    model, recurrence = operator_checks(dataclasses.replace(call, output=output))
    assert (model.status, model.layer, model.head, model.position) == ("fail", 1, 2, 13)
    assert 1e-5 < model.max_rel < 1e-3
    assert recurrence.status == "pass"


def test_what_padding_holds_is_nobodys_business():
    call = padded_trace("llama").mixers["model.layers.1.self_attn"]
    output = call.output.clone()
    output[1, -4:] = float("nan")
    assert operator_checks(dataclasses.replace(call, output=output))[0].status == "pass"
    output[1, 0, 0, 0] = float("nan")
    model = operator_checks(dataclasses.replace(call, output=output))[0]
    assert (model.status, model.max_rel, model.position) == ("fail", None, 0)
    assert "the reference is NaN" in model.reason


@pytest.mark.parametrize("name", ["llama", "mamba", "mamba2", "qwen3_next"])
def test_one_wrong_coefficient_argument_is_found(name):
    model = tiny.build(name) if name == "llama" else tiny.build(name, initializer_range=0.3)
    call = next(iter(ml.open(model).trace(tiny.ids()).mixers.values()))
    argument = "key" if "key" in call.arguments else "B"
    changed = call.arguments[argument].clone()
    changed[0, 4] *= 1.01
    bad = dataclasses.replace(call, arguments=call.arguments | {argument: changed})
    checks = operator_checks(bad)
    assert checks[0].status == "fail"
    assert checks[0].position >= 4
    assert checks[1].status == "pass"  # it compares two readings of the same arguments


def test_an_operator_that_disagrees_with_the_recurrence_is_found(monkeypatch):
    call = next(iter(padded_trace("mamba2").mixers.values()))
    right = references.REGISTRY["mamba2"]
    monkeypatch.setitem(references.REGISTRY, "mamba2", lambda **a: right(**a) * (1 + 1e-9))
    model, recurrence = operator_checks(call)
    assert (model.status, recurrence.status) == ("pass", "fail")
    assert recurrence.max_rel == pytest.approx(1e-9, rel=1e-3)


def test_a_missing_skip_or_gate_is_found():
    call = next(iter(ml.open(tiny.build("mamba")).trace(tiny.ids()).mixers.values()))
    for part in ("skip", "gate"):
        assert operator_checks(dataclasses.replace(call, **{part: None}))[0].status == "fail"


def test_selected_layers_and_progress():
    lens = ml.open(tiny.build("jamba"))
    trace = lens.trace(tiny.ids(), layers=[2, 3])
    seen = []
    certify(trace, checks=["operator", "step"], progress=lambda *step: seen.append(step))
    assert [what for what, _, _ in seen] == [
        "operator model.layers.2.self_attn", "operator model.layers.3.mamba", "full forward", "step", "done"
    ]  # fmt: skip
    assert [(done, total) for _, done, total in seen] == [(0, 3), (1, 3), (2, 3), (2, 3), (3, 3)]


@pytest.fixture
def skipping():
    """A mamba2 call of two heads: the first adds a thousandth of its skip, the second a billionth."""
    torch.manual_seed(0)
    x, B, C = torch.randn(1, 40, 2, 3), torch.randn(1, 40, 1, 4), torch.randn(1, 40, 1, 4)
    arguments = {"A": -torch.ones(2), "B": B, "C": C, "dt": torch.full((1, 40, 2), 0.1) * torch.tensor([1.0, 1e-6])}
    call = MixerCall("mixer", 0, "recurrent", "mamba2", arguments, x, x, skip=1000 * x)
    return dataclasses.replace(call, output=call.predict(call.mixed()))


def model_check(call):
    return next(c for c in operator_checks(call) if c.variant == "model")


def test_a_skip_does_not_hide_wrong_coefficients(skipping):
    """Coefficients that are left out altogether are 1e-4 of such an output and all of what the mixer adds."""
    check = model_check(skipping)
    assert check.status == "pass"
    assert "1 of 2 heads add less than the rounding of their skip" in check.reason
    without = dataclasses.replace(skipping, output=skipping.skip)
    error = (skipping.output - skipping.skip).abs().max() / skipping.output.abs().max()
    assert error < 1e-3
    check = model_check(without)
    assert check.status == "fail"
    assert check.max_rel > 100 * check.tolerance


def test_coefficients_that_drown_in_their_skip_are_not_certified(skipping):
    faint = skipping.arguments | {"dt": torch.full((1, 40, 2), 1e-7)}
    call = dataclasses.replace(skipping, arguments=faint)
    call = dataclasses.replace(call, output=call.predict(call.mixed()))
    check = model_check(call)
    assert check.status == "n/a"
    assert "2 of 2 heads" in check.reason
    assert model_check(dataclasses.replace(call, output=call.output * 1.001)).status == "fail"
