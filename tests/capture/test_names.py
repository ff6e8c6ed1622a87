"""A name that is a slip of a family's or a specimen's is answered at once, and no other name is kept from the hub."""

from __future__ import annotations

import json

import pytest

import mixerlens as ml
from mixerlens.capture import load, names
from mixerlens.errors import ModelError

OLD = (
    "gpt2 gpt2-large distilgpt2 openai-gpt bert-base-uncased bert-large-cased distilbert-base-uncased roberta-base "
    "distilroberta-base t5-small t5-base t5-large albert-base-v2 camembert-base ctrl transfo-xl-wt103 xlm-mlm-en-2048 "
    "xlm-roberta-base xlnet-base-cased"
)  # names of one word that the hub still knows


@pytest.fixture
def no_network(monkeypatch):
    """Whatever asks for the hub fails the test."""
    monkeypatch.setattr(load, "hub_answers", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setattr(load, "_import_transformers", lambda: pytest.fail("transformers was asked"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gated_delta_nets", "did you mean gated_delta_net or"),
        ("gated-delta-net", "did you mean gated_delta_net or"),
        ("rwkv9", "did you mean rwkv"),
        ("softmax", "did you mean softmax_attention?"),
        ("mamba2", "mamba2 is a family, no trained model: 'mixerlens principles mamba2' measures it"),
    ],
)
def test_a_near_family_is_named_without_a_network(name, meant, no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as refused:
        ml.open(name)
    assert meant in str(refused.value) and "\n" not in str(refused.value)


def test_a_near_specimen_is_named_without_a_network(no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "specimens" / "jamba-bytes"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"did you mean specimens/jamba-bytes\?"):
        ml.open("jamba-byte")
    with pytest.raises(ModelError, match=r"does not exist; did you mean \S*/specimens/jamba-bytes\?"):
        ml.open(tmp_path / "specimens" / "jamba-byte")


def test_a_slip_in_a_folder_is_named_where_the_hub_does_not_know_it_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "hub_answers", lambda: False)
    folder = tmp_path / "mine" / "small-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"the hub does not answer; did you mean mine/small-model\?"):
        ml.open("mine/smal-model")


@pytest.mark.parametrize("name", [*OLD.split(), "Qwen/gated_delta_net", "someone/mamba2"])
def test_names_of_the_hub_are_near_to_nothing(name):
    assert names.near_names(name) == []


def test_a_cached_model_is_not_taken_for_a_family(monkeypatch, tmp_path):
    """Somebody's model that was fetched under the name of a family opens as before."""
    home = tmp_path / "models--mamba2"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots" / "abc").mkdir(parents=True)
    (home / "snapshots" / "abc" / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    from huggingface_hub import constants

    assert not names.cached("mamba2")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert names.cached("mamba2")
