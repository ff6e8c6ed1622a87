"""Certificates of designed models: their own step with a cache, and caches that are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import mixerlens as ml
from mixerlens.design import ModelConfig, SequenceModel, part, preset
from mixerlens.design.model import ModelOutput, ModelState

SHORT = 11
SIZES = {"heads": 2, "dim": 4, "width": 3}
CUBIC = {**SIZES, "readout": part("polynomial", coefficients=[0.5, 1.0, 0.0, 0.3]), "normalizer": "none"}


def designed(*names: str, **changes) -> SequenceModel:
    layers = tuple(preset(name, **SIZES) for name in names)
    given = {"layers": layers, "features": 12, "vocabulary": 11} | changes
    return SequenceModel(ModelConfig(**given), seed=0).eval()


def ids(seed: int = 5, time: int = 24) -> torch.Tensor:
    return torch.randint(0, 11, (1, time), generator=torch.Generator().manual_seed(seed))


def rows(model: SequenceModel, inputs=None, dtype=None) -> dict[tuple[str, str], object]:
    trace = ml.open(model, dtype=dtype).trace(ids() if inputs is None else inputs)
    return {(c.check, c.variant): c for c in trace.verify(["step", "chunk", "padding"]).checks}


@pytest.mark.parametrize(
    ("model", "growing"),
    [
        (designed("gated_delta_net", "mamba2"), ""),
        (designed("based", layers=(preset("based", **CUBIC),)), ""),
        (designed("gated_delta_net", "softmax_attention"), "layer 1"),
        (designed("rope_attention", "mlstm", "softmax_attention", positions="learned", max_length=24), "layers 0, 2"),
        (designed("sliding_window_attention", "rwkv6"), ""),
    ],
    ids=lambda x: "+".join(s.name for s in x.config.layers) if isinstance(x, SequenceModel) else "",
)
def test_generation_is_certified(model, growing):
    for dtype, bar in (("float32", 1e-5), ("float64", 1e-12)):
        found = rows(model, dtype=dtype)
        for check in ("step", "chunk"):
            passed = found[check, "plain"]
            assert passed.status == "pass" and passed.max_rel < bar
            told = f"those before (which holds every token in {growing}: no finite recurrence), against"
            assert (told if growing else "those before, against the full forward") in passed.reason
        assert {c.reason for c in found.values() if c.status == "n/a"} == {
            "SequenceModel takes no position_ids", "SequenceModel takes no attention_mask"
        }  # fmt: skip


def test_channels_are_certified_too():
    model = designed("gated_delta_net", "softmax_attention", vocabulary=None, channels=3, classes=2)
    found = rows(model, torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(0)))
    assert found["step", "plain"].status == found["chunk", "plain"].status == "pass"
    assert found["padding", "left/plain"].status == "n/a"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            designed("mamba2", "sigmoid_attention"),
            "layer 1: sigmoid_attention cannot be taken token by token: its",
        ),
        (designed("mamba2", "encoder_attention"), "a bidirectional mixer reads later tokens: layers.1.mixer"),
        (designed("mamba2", pool="mean"), "the model returns no output vector for every token: its answer has shape"),
    ],
)
def test_what_cannot_be_generated_says_why(model, why):
    found = rows(model)
    for check in ("step", "chunk"):
        assert found[check, "plain"].status == "n/a" and found[check, "plain"].reason.startswith(why)


# caches that are wrong: each must turn the rows red


@pytest.fixture(scope="module")
def hybrid() -> SequenceModel:
    """Every parameter away from its initial value, so that what a layer holds is felt in the answer."""
    model = designed("gated_delta_net", "softmax_attention", "rwkv6", positions="learned", max_length=24).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def of_another_sequence(model, state: ModelState) -> ModelState:
    return model(ids(seed=6)[:, : state.position], use_cache=True).state


def one_layer(k: int):
    def of_another(model, state: ModelState) -> ModelState:
        other = of_another_sequence(model, state)
        return replace(state, layers=(*state.layers[:k], other.layers[k], *state.layers[k + 1 :]))

    return of_another


def one_field(k: int, name: str):
    def of_another(model, state: ModelState) -> ModelState:
        given = getattr(of_another_sequence(model, state).layers[k], name)
        assert given is not None
        layer = replace(state.layers[k], **{name: given})
        return replace(state, layers=(*state.layers[:k], layer, *state.layers[k + 1 :]))

    return of_another


def one_place_late(model, state: ModelState) -> ModelState:
    return replace(state, position=state.position - 1)


def without_its_newest_token(model, state: ModelState) -> ModelState:
    (near,) = state.layers[1].held
    short = replace(near, impulses=near.impulses[..., :-1], values=near.values[..., :-1, :])
    return replace(state, layers=(state.layers[0], replace(state.layers[1], held=(short,)), *state.layers[2:]))


def test_the_right_cache_passes(hybrid):
    found = rows(hybrid, ids(time=SHORT))
    assert found["step", "plain"].status == found["chunk", "plain"].status == "pass"


@pytest.mark.parametrize(
    "spoil",
    [
        of_another_sequence,
        *map(one_layer, range(3)),
        one_field(0, "held"),
        one_field(0, "near"),
        one_field(2, "before"),
        one_place_late,
        without_its_newest_token,
    ],
)
def test_a_wrong_cache_fails(spoil, hybrid, monkeypatch):
    right = SequenceModel.forward

    def wrong(self, input_ids, state=None, use_cache=False):
        out = right(self, input_ids, state, use_cache)
        if state is not None or not use_cache:
            return out
        with monkeypatch.context() as undo:
            undo.setattr(SequenceModel, "forward", right)
            return ModelOutput(out.logits, spoil(self, out.state))

    monkeypatch.setattr(SequenceModel, "forward", wrong)
    found = rows(hybrid, ids(time=SHORT))
    assert found["step", "plain"].status == found["chunk", "plain"].status == "fail"
    assert found["step", "plain"].max_rel > 1e-4
