"""A mixer that cannot be read is named; it is never left out in silence."""

import pytest
import torch
import transformers
from torch import nn

import mixerlens as ml
from capture import tiny
from mixerlens.errors import UnsupportedError


def model(config, kind, **changes):
    torch.manual_seed(0)
    settings = {k: v for k, v in (tiny.SMALL | changes).items() if v is not None}
    return getattr(transformers, kind)(getattr(transformers, config)(**settings))


class OtherLinearAttention(nn.Module):
    """A mixer of a kind that nobody here knows."""

    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(width, width)

    def forward(self, hidden_states, **_):
        return self.proj(hidden_states.cumsum(1)), None


def with_another_mixer():
    llama = tiny.build("llama")
    llama.model.layers[1].self_attn = OtherLinearAttention(32)
    return llama


@pytest.mark.parametrize(
    ("build", "unread"),
    [
        (with_another_mixer, {"model.layers.1.self_attn": "OtherLinearAttention"}),
        (lambda: tiny.stirred("qwen4_exp"), {"model.layers.1.ple.ple_embedding": "Qwen4ExpTextNGramEmbedding"}),
    ],
)
def test_a_model_that_mixes_known_and_unknown_kinds(build, unread):
    lens = ml.open(build())
    assert {path: why.split()[0] for path, why in lens.not_captured.items()} == unread
    trace = lens.trace(tiny.ids())
    assert trace.mixers
    assert trace.not_captured == lens.not_captured
    told = [c for c in trace.verify(checks=["operator"]).checks if c.status == "n/a"]
    assert [c.reason.split(":")[0] for c in told] == list(unread)


@pytest.mark.parametrize(
    ("config", "kind", "changes", "name"),
    [
        ("BloomConfig", "BloomForCausalLM", {"n_head": 4, "n_layer": 2}, "BloomAttention"),
        ("FalconConfig", "FalconForCausalLM", {}, "FalconAttention"),
        ("DebertaV2Config", "DebertaV2Model", {}, "DebertaV2Attention"),
    ],
)
def test_a_model_of_unknown_mixers_is_refused(config, kind, changes, name):
    with pytest.raises(UnsupportedError, match=f"no token mixer that is covered: .* is {name}"):
        ml.open(model(config, kind, **changes))


def test_a_model_without_any_mixer_is_refused():
    with pytest.raises(UnsupportedError, match=r"^Sequential has no token mixer that is covered$"):
        ml.open(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(UnsupportedError, match=r"0 is MultiheadAttention"):
        ml.open(nn.Sequential(nn.MultiheadAttention(4, 2)))


class Shuffle(nn.Module):
    """Mixes tokens and looks like nothing in particular."""

    def forward(self, hidden_states, **_):
        return hidden_states.flip(1), None


def test_a_layer_in_which_nothing_is_recognised_is_reported():
    llama = tiny.build("llama")
    llama.model.layers[1].self_attn = Shuffle()
    trace = ml.open(llama).trace(tiny.ids())
    assert list(trace.not_captured) == ["model.layers.1"]
    assert "LlamaDecoderLayer" in trace.not_captured["model.layers.1"]


def test_layers_that_mix_no_tokens_are_not_reported():
    nemotron = model("NemotronHConfig", "NemotronHForCausalLM", num_hidden_layers=4, hybrid_override_pattern="M-*-",
                     mamba_num_heads=4, mamba_head_dim=16, ssm_state_size=8, n_groups=1, head_dim=8)  # fmt: skip
    assert ml.open(nemotron).not_captured == {}


def test_a_mixer_that_is_not_called_is_reported():
    mamba = tiny.build("mamba")
    mamba.backbone.layers[0].forward = lambda hidden_states, **_: hidden_states
    trace = ml.open(mamba).trace(tiny.ids())
    assert list(trace.mixers) == ["backbone.layers.1.mixer"]
    assert trace.not_captured == {"backbone.layers.0.mixer": "its call was not seen in the forward pass"}


# --- short filters -----------------------------------------------------------------------------------------------


def wide_layers(filter, block=None):
    """llama whose second layer has a filter in its feed-forward block, or in the block given."""
    llama = tiny.build("llama")
    layer = llama.model.layers[1]
    (block(layer) if block else layer.mlp).filter = filter
    return llama


def depthwise(width=3, padding=2, channels=32, **more):
    return nn.Conv1d(channels, channels, width, groups=channels, padding=padding, **more)


def test_a_filter_that_stands_apart_is_a_mixer():
    found = ml.open(wide_layers(depthwise())).layers
    assert [(i.path, i.kind, i.family) for i in found if i.kind == "convolution"] == [
        ("model.layers.1.mlp.filter", "convolution", "short_convolution")
    ]
    assert [i.index for i in found] == [0, 1, 1]


def test_a_filter_inside_a_mixer_is_part_of_it():
    lens = ml.open(wide_layers(depthwise(), lambda layer: layer.self_attn))
    assert {i.family for i in lens.layers} == {"softmax_attention"}
    assert lens.not_captured == {}


def test_a_filter_outside_of_the_layers_is_none_of_them():
    llama = tiny.build("llama")
    llama.model.front = depthwise()
    assert {i.family for i in ml.open(llama).layers} == {"softmax_attention"}


@pytest.mark.parametrize("other", [nn.Conv1d(32, 32, 3), nn.Conv1d(32, 32, 3, groups=32, stride=2), nn.Conv2d(1, 1, 3)])
def test_a_convolution_of_another_kind_is_reported(other):
    lens = ml.open(wide_layers(other))
    assert list(lens.not_captured) == ["model.layers.1.mlp.filter"]
    assert "mixes neighbouring tokens" in lens.not_captured["model.layers.1.mlp.filter"]


def test_one_that_sees_no_neighbours_is_not_reported():
    assert ml.open(wide_layers(nn.Conv1d(32, 32, 1))).not_captured == {}
