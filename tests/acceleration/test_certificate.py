"""The certificate passes what is right, finds what is wrong, and says whose a difference is."""

import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch

import mixerlens as ml
from acceleration.models import ONE_EACH, left_padded, logits, scope_of
from capture import tiny
from mixerlens.accelerate.replacements import REPLACEMENTS
from mixerlens.errors import InputError
from mixerlens.verify import noise

NAMES = {"mamba": "mamba_selective_scan", "mamba2": "mamba2_chunk_scan", "qwen3_next": "torch_chunk_gated_delta_rule"}

SHORT = tiny.ids(1, 21)
SPECIMEN = Path(__file__).resolve().parents[2] / "specimens" / "jamba-bytes"


def failing(certificate):
    return {(c.check, c.variant) for c in certificate.checks if c.status == "fail"}


def found(certificate, check, variant=None):
    return [c for c in certificate.checks if c.check == check and variant in (None, c.variant)]


@pytest.mark.parametrize("name", ONE_EACH)
def test_every_check_passes_and_has_numbers(name):
    model = tiny.stirred(name).train()
    with ml.accelerate(model) as fast:
        certificate = fast.certify(gradients=True)
        assert fast.certificate is fast.certificate
    assert certificate.passed, str(certificate)
    assert {c.check for c in certificate.checks} == {"logits", "mixer", "step", "chunk", "padding", "gradient"}
    (answer,) = found(certificate, "logits")
    assert 0 < answer.max_rel <= answer.tolerance < 1e-3
    mixers = found(certificate, "mixer", "model"), found(certificate, "mixer", "float64")
    assert [[c.mixer for c in each] for each in mixers] == [list(fast.mixers)] * 2
    assert all(0 < c.max_rel < 1e-5 for c in mixers[0]) and all(0 < c.max_rel < 1e-11 for c in mixers[1])
    assert 0 < found(certificate, "gradient")[0].max_rel < 1e-3
    # nothing is left on the model
    assert model.training and all(p.grad is None for p in model.parameters())


def test_what_it_prints_and_writes():
    fast = ml.accelerate(tiny.stirred("jamba"))
    fast.undo()
    certificate = fast.certify(tiny.ids(2, 33))
    assert not fast.active
    text = str(certificate)
    for words in (
        "selective_scan       3  model.layers.0.mamba, model.layers.1.mamba, model.layers.3.mamba",
        "the library          1  model.layers.2.self_attn: softmax attention: there is no scan for it here",
        "float64, worst of 3",
        "a fault of the library, which acceleration keeps",
    ):
        assert words in " ".join(text.split()) or words in text, text
    written = json.loads(json.dumps(certificate.to_json()))
    assert written["passed"] is True
    assert list(written["accelerated"].values()) == ["selective_scan"] * 3
    assert list(written["unchanged"]) == ["model.layers.2.self_attn"]
    assert len([c for c in written["checks"] if c["check"] == "mixer"]) == 9  # three mixers, three variants


def test_padded_inputs():
    ids, mask = left_padded()
    with ml.accelerate(tiny.stirred("zamba2")) as fast:
        assert fast.certify(ids, mask, gradients=True).passed


def wrong(monkeypatch, name, change):
    replacement = REPLACEMENTS[NAMES[name]]

    def compute(named):
        return change(replacement.compute(named), named)

    monkeypatch.setitem(REPLACEMENTS, NAMES[name], dataclasses.replace(replacement, compute=compute))


def on_output(change):
    def both(returned, named):
        return (change(returned[0]), *returned[1:]) if isinstance(returned, tuple) else change(returned)

    return both


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_wrong_output_is_found(monkeypatch, name):
    def change(y):
        return y * (1 + 0.01 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0)))

    wrong(monkeypatch, name, on_output(change))
    with ml.accelerate(tiny.stirred(name)) as fast:
        certificate = fast.certify(SHORT, gradients=True)
    assert not certificate.passed
    assert {("logits", "forward"), ("mixer", "model"), ("mixer", "float64"), ("chunk", "plain")} <= failing(certificate)
    assert ("gradient", "parameters") in failing(certificate)
    (answer,) = found(certificate, "logits")
    assert "of a float64 run the plain one is" in answer.reason and "the library's rounding" not in answer.reason


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_wrong_state_is_found(monkeypatch, name):
    def change(returned, named):
        if isinstance(returned, tuple) and returned[1] is not None:
            return returned[0], returned[1] * 1.01
        return returned

    wrong(monkeypatch, name, change)
    with ml.accelerate(tiny.stirred(name)) as fast:
        certificate = fast.certify(SHORT)
    assert {("mixer", "model"), ("mixer", "float64"), ("step", "plain")} <= failing(certificate)
    assert found(certificate, "logits")[0].status == "pass"


@pytest.mark.parametrize("name", ONE_EACH)
def test_what_goes_wrong_late_is_found(monkeypatch, name):
    """After the first block of a scan's chunks, where a certificate's own tokens do not reach."""
    axis = 2 if name == "mamba" else 1

    def change(y):
        late = torch.ones(y.shape[axis], dtype=y.dtype)
        late[520:] = 1.5
        return y * late.view([-1 if k == axis else 1 for k in range(y.dim())])

    wrong(monkeypatch, name, on_output(change))
    with ml.accelerate(tiny.stirred(name)) as fast:
        certificate = fast.certify(SHORT)
    assert failing(certificate) == {("mixer", "long")}


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_wrong_gradient_is_found(monkeypatch, name):
    wrong(monkeypatch, name, on_output(lambda y: 1.01 * y - 0.01 * y.detach()))
    with ml.accelerate(tiny.stirred(name)) as fast:
        assert fast.certify(SHORT).passed
        assert failing(fast.certify(SHORT, gradients=True)) == {("gradient", "parameters")}


@pytest.mark.parametrize("name", ONE_EACH)
def test_rounding_of_the_library_is_told_and_passes(monkeypatch, name):
    """The library's function is off by 1e-3 in float32; a float64 run shows that ours is not."""
    model = tiny.stirred(name)
    function = scope_of(model)[NAMES[name]]

    @functools.wraps(function)
    def rough(*args, **kwargs):
        returned = function(*args, **kwargs)
        y = returned[0] if isinstance(returned, tuple) else returned
        if y.dtype != torch.float64:
            noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)) * y.detach().abs().mean()
            y = y + 1e-3 * noise
        return (y, *returned[1:]) if isinstance(returned, tuple) else y

    monkeypatch.setitem(scope_of(model), NAMES[name], rough)
    with ml.accelerate(model) as fast:
        certificate = fast.certify(SHORT, gradients=True)
    assert certificate.passed, str(certificate)
    for check in ("logits", "mixer", "chunk", "gradient"):
        told = [c for c in found(certificate, check) if "the difference is the library's rounding" in c.reason]
        assert told, check
        assert all(c.max_rel <= c.tolerance for c in told)


def test_a_fault_that_both_have_is_told():
    with ml.accelerate(tiny.stirred("mamba")) as fast:
        (check,) = found(fast.certificate, "chunk", "plain")
    assert check.status == "pass" and check.max_rel < 1e-5
    assert "both are off the model's own full forward, the plain one by" in check.reason
    with ml.accelerate(tiny.stirred("mamba2")) as fast:
        (check,) = found(fast.certificate, "chunk", "plain")
    assert "off" not in check.reason


def test_a_call_at_which_both_fail_is_no_finding_and_one_alone_is():
    model = tiny.stirred("mamba")
    mixer = model.backbone.layers[0].mixer

    def fails(module, args, kwargs):
        if kwargs.get("cache_params") is not None and args[0].shape[1] > 1:
            raise RuntimeError("no cache today")

    hook = mixer.register_forward_pre_hook(fails, with_kwargs=True)
    with ml.accelerate(model) as fast:
        certificate = fast.certify()
    hook.remove()
    told = found(certificate, "chunk", "plain")[0]
    assert certificate.passed and told.status == "n/a"
    assert "plain and accelerated alike" in told.reason and "no cache today" in told.reason


def test_calls_that_stayed_with_the_library_are_told():
    with ml.accelerate(tiny.stirred("mamba2")) as fast, torch.autocast("cpu", torch.bfloat16):
        certificate = fast.certify()
    assert {c.status for c in found(certificate, "mixer")} == {"n/a"}
    assert list(certificate.kept) == list(fast.mixers)
    assert "autocast is on" in str(certificate)


def test_text_is_read_by_the_tokenizer_that_the_model_was_opened_with():
    lens = ml.open(SPECIMEN)
    with ml.accelerate(lens) as fast:
        certificate = fast.certify("In the beginning was the Word.")
    assert certificate.passed, str(certificate)
    with ml.accelerate(lens.model) as fast, pytest.raises(InputError, match="has no tokenizer"):
        fast.certify("In the beginning was the Word.")


def test_where_rounding_hides_all_float64_tells(monkeypatch):
    # this model's routing turns one rounding into 1e-4 of the answer; how much exactly depends on the processor
    monkeypatch.setitem(noise.LOOSEST, torch.float32, 1e-5)
    with ml.accelerate(tiny.stirred("qwen4_exp")) as fast:
        certificate = fast.certify()
    assert found(certificate, "logits", "forward")[0].status == "n/a"
    (check,) = found(certificate, "logits", "float64")
    assert check.status == "pass" and 0 < check.max_rel <= check.tolerance < 1e-10


class Tower(torch.nn.Module):
    """Reads floats and has no configuration."""

    def __init__(self):
        super().__init__()
        self.mixer = tiny.stirred("mamba").backbone.layers[0].mixer

    def forward(self, x):
        return x + self.mixer(x)


def test_a_module_that_reads_floats():
    x = torch.randn(2, 40, 32)
    with ml.accelerate(Tower()) as fast:
        with pytest.raises(InputError, match="Tower reads floats: give certify the inputs"):
            fast.certify()
        certificate = fast.certify(x, gradients=True)
    assert certificate.passed
    assert {c.check: c.status for c in certificate.checks} == {
        "logits": "pass", "mixer": "pass", "step": "n/a", "chunk": "n/a", "padding": "n/a", "gradient": "pass"
    }  # fmt: skip


def test_inputs_that_the_model_cannot_take():
    model = tiny.build("mamba")
    fast = ml.accelerate(model)
    try:
        with pytest.raises(InputError, match="token id 97 is outside"):
            fast.certify(torch.full((1, 5), 97))
        assert fast.active
    finally:
        fast.undo()
    assert logits(model, tiny.ids()).isfinite().all()
