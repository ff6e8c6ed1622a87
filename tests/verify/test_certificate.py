"""The certificate as data, and the arithmetic of its comparisons."""

import io
import json
import math

import pytest
import torch
from rich.console import Console

import mixerlens as ml
from capture import tiny
from mixerlens.errors import InputError
from mixerlens.verify.certificate import Certificate, Check
from mixerlens.verify.compare import difference, judge
from mixerlens.verify.noise import rounding_noise

FIELDS = {"check", "variant", "status", "max_abs", "max_rel", "tolerance", "reason", "layer", "head", "position"}


def test_json_has_the_promised_shape():
    found = ml.open(tiny.build("gpt2")).trace(tiny.ids(1, 24)).verify().to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"passed", "checks"}
    assert found["passed"] is False
    assert [c["check"] for c in found["checks"]] == ["operator"] * 4 + ["step"] * 2 + ["chunk"] * 2 + ["padding"] * 4
    assert all(set(c) == FIELDS for c in found["checks"])
    operators = found["checks"][:4]
    assert [(c["variant"], c["layer"]) for c in operators] == [
        ("model", 0), ("token-by-token sum", 0), ("model", 1), ("token-by-token sum", 1)
    ]  # fmt: skip
    variants = [c["variant"] for c in found["checks"][-4:]]
    assert variants == ["left/plain", "left/position_ids", "right/plain", "right/position_ids"]


@pytest.mark.parametrize(
    ("name", "inapplicable", "reason"),
    [
        ("bert", {("step", "plain"), ("step", "position_ids"), ("chunk", "plain"), ("chunk", "position_ids")},
         "has no cache"),
        ("mamba2", {("step", "position_ids"), ("chunk", "position_ids"), ("padding", "left/position_ids"),
                    ("padding", "right/position_ids")}, "takes no position_ids"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_do_is_no_failure(name, inapplicable, reason):
    checks = ml.open(tiny.build(name)).trace(tiny.ids(1, 24)).verify().checks
    told = [c for c in checks if c.status == "n/a"]
    assert {(c.check, c.variant) for c in told} == inapplicable
    assert all(reason in c.reason for c in told)
    assert all(v is None for c in told for v in (c.max_abs, c.max_rel, c.tolerance, c.layer, c.head, c.position))


@pytest.mark.parametrize("labels", [2, 24])  # as many as there are tokens is no time axis either
@pytest.mark.parametrize("name", ["BertForSequenceClassification", "GPT2ForSequenceClassification"])
def test_heads_without_a_time_axis_have_operators_only(name, labels):
    kind = "gpt2" if name.startswith("GPT2") else "bert"
    checks = generation_checks(name, kind, num_labels=labels)
    assert len(checks) == 8 and {c.status for c in checks} == {"n/a"}
    assert {c.reason for c in checks} == {
        f"the model returns no output vector for every token: its answer has shape (1, {labels})"
    }


def test_a_number_a_token_is_no_vector_a_token():
    checks = generation_checks("BertForQuestionAnswering", "bert")
    assert len(checks) == 8 and {c.status for c in checks} == {"n/a"}
    assert all("its answer has shape (1, 24)" in c.reason for c in checks)


def test_a_bidirectional_mixer_cannot_be_decoded_on_a_cache():
    """The very same class decodes token by token where it is configured to."""
    found = {c.check: c for c in generation_checks("BertLMHeadModel", "bert") if c.variant.endswith("position_ids")}
    for name in ("step", "chunk"):
        assert found[name].status == "n/a"
        assert found[name].reason.startswith("a bidirectional mixer reads later tokens: bert.encoder.layer.0")
    assert found["padding"].status == "pass"
    causal = generation_checks("BertLMHeadModel", "bert", is_decoder=True)
    assert {c.status for c in causal if c.check in ("step", "chunk")} == {"pass"}


def generation_checks(name, kind, **changed):
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, name)(tiny.build(kind, **changed).config).eval()
    checks = ml.open(model).trace(tiny.ids(1, 24)).verify().checks
    assert {c.status for c in checks if c.check == "operator"} == {"pass"}
    return [c for c in checks if c.check != "operator"]


def test_models_that_read_floats_have_operators_only():
    from mixerlens.models.s4d import S4DClassifier, S4DConfig

    for dtype, bar in (("float32", 1e-5), ("float64", 1e-11)):
        torch.manual_seed(0)
        model = S4DClassifier(S4DConfig(channels=2, classes=3, features=5, modes=3, layers=2))
        found = ml.open(model, dtype=dtype).trace(torch.randn(2, 40, 2)).verify()
        assert found.passed
        assert [c.status for c in found.checks] == ["pass"] * 4 + ["n/a"] * 8
        assert found.checks[0].tolerance == bar


def test_short_rows_do_not_apply():
    checks = ml.open(tiny.build("llama")).trace(tiny.ids(1, 3)).verify().checks
    assert {c.status for c in checks if c.check != "operator"} == {"n/a"}
    assert "3 tokens; at least 4 are needed" in checks[-1].reason
    assert ml.open(tiny.build("llama")).trace(tiny.ids(1, 4)).verify().passed
    assert ml.open(tiny.build("qwen3_next")).trace(tiny.ids(1, 1)).verify().passed


def test_the_fullest_row_is_used_without_its_padding():
    mask = torch.ones(3, 24, dtype=torch.long)
    mask[0, 3:] = 0
    mask[1, :2] = 0
    mask[2, -9:] = 0
    trace = ml.open(tiny.build("gpt2")).trace(tiny.ids(3, 24), attention_mask=mask)
    step = trace.verify(checks=["step"]).checks[0]
    assert step.status == "pass"
    assert step.reason.startswith("tokens 11 to 21")


def test_long_rows_are_cut():
    model = tiny.build("llama", max_position_embeddings=400)
    found = ml.open(model).trace(tiny.ids(1, 300)).verify(checks=["step", "chunk"])
    assert found.passed
    assert found.checks[0].reason.startswith("tokens 125 to 156, one token at a time")
    assert found.checks[2].reason.startswith("tokens 125 to 250, 126 tokens at once")


def test_unknown_checks_are_refused():
    trace = ml.open(tiny.build("llama")).trace(tiny.ids())
    with pytest.raises(InputError, match=r"unknown checks \['steps'\]: give a list out of operator, step, chunk"):
        trace.verify(checks=["steps"])
    with pytest.raises(InputError, match=r"unknown checks \['step'\]: give a list"):
        trace.verify(checks="step")
    assert trace.verify(checks=[]).to_json() == {"passed": True, "checks": []}


def test_differences_are_relative_to_each_heads_own_largest_reference():
    reference = torch.zeros(1, 3, 2, 2)
    reference[0, :, 0], reference[0, :, 1] = 100.0, 1.0
    result = reference.clone()
    result[0, 2, 0, 1] += 0.5
    result[0, 1, 1, 0] -= 0.01
    found = difference(result, reference)
    assert (found.head, found.position) == (1, 1)
    assert found.max_rel == pytest.approx(0.01)
    assert found.max_abs == pytest.approx(0.5)
    hidden = torch.tensor([[True, False, True]])
    found = difference(result, reference, hidden)
    assert (found.head, found.position, found.max_rel) == (0, 2, pytest.approx(0.005))


def test_a_zero_reference_is_matched_by_zero_only():
    zero = torch.zeros(1, 2, 1, 1)
    assert judge("operator", "model", difference(zero, zero), 1e-5, "").status == "pass"
    bad = judge("operator", "model", difference(zero + 1e-30, zero), 1e-5, "")
    assert bad.status == "fail"
    assert math.isinf(bad.max_rel)
    assert bad.to_json()["max_rel"] is None


def test_a_head_that_should_be_silent_is_judged_by_the_rounding_of_the_others():
    reference = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1)
    rounding, fault = reference + torch.tensor([0, 1e-38])[:, None], reference + torch.tensor([0, 1e-7])[:, None]
    assert judge("operator", "model", difference(rounding, reference), 1e-5, "").status == "pass"
    assert judge("operator", "model", difference(fault, reference), 1e-5, "").status == "fail"


def test_a_tolerance_that_could_hide_a_fault_is_not_used():
    # weights tripled: in bfloat16 rounding alone moves this Mamba's answer by 10 %, as much as its chunk fault does
    model = tiny.build("mamba")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    ids = tiny.ids(1, 90)
    rough = ml.open(model, dtype=torch.bfloat16).trace(ids).verify(checks=["chunk"]).checks[0]
    assert rough.status == "n/a"
    assert "wider dtype" in rough.reason
    exact = ml.open(model).trace(ids).verify(checks=["chunk"]).checks[0]
    assert exact.status == "fail"


def test_the_noise_is_what_rounding_does_and_leaves_no_hooks():
    model = tiny.build("llama")
    lens, ids = ml.open(model), tiny.ids(1, 24)
    with torch.no_grad():
        full = model(ids, use_cache=False).logits
        measured = rounding_noise(lens, ids, full)
        double = tiny.build("llama", dtype=torch.float64)(ids, use_cache=False).logits
        assert rounding_noise(lens, ids, full) == measured
    rounding = ((full - double).abs().max() / double.abs().max()).item()
    assert rounding / 5 < measured < 20 * rounding
    assert not any(m._forward_hooks for m in model.modules())


def test_the_table_shows_every_failure_and_escapes_what_it_prints():
    checks = [
        Check("operator", "model", "pass", 1e-9, 1e-8, 1e-5, "fine", 0, 1, 2, "a"),
        Check("operator", "model", "pass", 1e-9, 3e-8, 1e-5, "worst", 1, 1, 2, "b"),
        Check("step", "plain", "fail", 0.1, 0.2, 1e-5, "[red]not markup[/red]", None, None, 7),
        Check("chunk", "plain", "n/a", None, None, None, "no cache"),
    ]
    out = io.StringIO()
    Console(file=out, width=220).print(Certificate(checks).render())
    text = out.getvalue()
    assert "1 of 3 checks fails" in text
    assert "model, worst of 2" in text and "worst" in text and "fine" not in text
    assert "[red]not markup[/red]" in text
    assert "2.0e-01" in text and "token 7" in text
    assert "no cache" in text


def test_the_text_of_a_certificate_is_its_table():
    checks = [Check("step", "plain", "fail", 0.1, 0.2, 1e-5, "[red]not markup[/red] \x1b[31m", None, None, 7)]
    text = str(Certificate(checks))
    out = io.StringIO()
    Console(file=out, width=100).print(Certificate(checks).render())
    assert text == out.getvalue().rstrip("\n")
    assert "certificate: " in text and "[red]not markup[/red]" in text and "2.0e-01" in text
    assert "\x1b" not in text and "Check(" not in text
    assert max(map(len, text.splitlines())) <= 100
