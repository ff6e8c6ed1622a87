"""Tokens that are mixed beside the recorded mixers are told, and nothing is told where there is no such way."""

import pytest
import torch
from torch import nn

import mixerlens as ml
from capture import recurrent, tiny
from mixerlens.verify.complete import reached_tokens


def beside(model):
    checks = ml.open(model).trace(tiny.ids(2)).verify(checks=["operator"]).checks
    return [c for c in checks if c.variant == "beside"]


class RunningMean(nn.Module):
    def forward(self, x):
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]


def test_a_layer_that_mixes_beside_its_attention_is_told():
    llama = tiny.build("llama")
    llama.model.layers[1].mlp = RunningMean()
    (check,) = beside(llama)
    assert check.status == "n/a"
    assert "a change of token 10 still reaches token 11, 12, 13, 14, 15:" in check.reason


def test_an_embedding_of_neighbours_is_told():
    """MobileBERT embeds three tokens at a time."""
    import transformers

    torch.manual_seed(0)
    config = transformers.MobileBertConfig(
        vocab_size=97, hidden_size=32, embedding_size=16, num_hidden_layers=2, intermediate_size=48,
        intra_bottleneck_size=32, num_attention_heads=4,
    )  # fmt: skip
    (check,) = beside(transformers.MobileBertForMaskedLM(config).eval())
    assert "token 10 still reaches token 9, 11:" in check.reason


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "llama4", "modernbert", *recurrent.FAMILIES])
def test_there_is_no_way_beside_the_mixers(name):
    model = tiny.stirred(name) if name in recurrent.FAMILIES else tiny.build(name)
    with torch.no_grad():
        assert reached_tokens(ml.open(model), tiny.ids()) == []


def test_the_mixers_are_what_it_says_nothing_about():
    """The same question of a model whose mixers are not known: then tokens do reach each other."""
    lens = ml.open(tiny.build("llama"))
    lens._sites = lens._sites[:1]
    with torch.no_grad():
        assert reached_tokens(lens, tiny.ids()) == list(range(11, 21))


def test_rows_too_short_to_tell_are_let_be():
    lens = ml.open(tiny.build("llama"))
    with torch.no_grad():
        assert reached_tokens(lens, tiny.ids(1, 2)) == []
        assert reached_tokens(lens, torch.full((1, 9), 5)) == []
