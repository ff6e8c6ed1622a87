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


@pytest.mark.parametrize(
    ("build", "unread"),
    [
        (lambda: model("RecurrentGemmaConfig", "RecurrentGemmaForCausalLM", num_hidden_layers=3, lru_width=32),
         {"model.layers.0.temporal_block": "RecurrentGemmaRecurrentBlock",
          "model.layers.1.temporal_block": "RecurrentGemmaRecurrentBlock"}),
        (lambda: model("Lfm2Config", "Lfm2ForCausalLM", layer_types=["conv", "full_attention"]),
         {"model.layers.0.conv": "Lfm2ShortConv"}),
        (lambda: model("MiniMaxConfig", "MiniMaxForCausalLM", num_local_experts=2),
         {"model.layers.1.self_attn": "MiniMaxLightningAttention"}),
    ],
)  # fmt: skip
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
        ("RwkvConfig", "RwkvForCausalLM", {"num_attention_heads": None}, "RwkvSelfAttention"),
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
