"""The shipped folders: they load offline by plain means, and their stated facts are what a measurement gives again."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.stats import binomtest

from mixerlens.data import digits
from mixerlens.models.s4d import load_s4d

LANGUAGE = ("jamba-bytes", "qwen3-next-bytes")
NAMES = (*LANGUAGE, "digits-s4d")


@pytest.fixture(scope="module")
def facts(specimens):
    return {name: json.loads((specimens / name / "facts.json").read_text(encoding="utf-8")) for name in NAMES}


@pytest.fixture(scope="module")
def models(specimens):
    from transformers import AutoModelForCausalLM

    return {name: AutoModelForCausalLM.from_pretrained(specimens / name).eval() for name in LANGUAGE}


@pytest.fixture(scope="module")
def tokenizers(specimens):
    from transformers import AutoTokenizer

    return {name: AutoTokenizer.from_pretrained(specimens / name) for name in LANGUAGE}


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_small_and_holds_data_only(specimens, name):
    files = [path for path in (specimens / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".npy"}
    with safe_open(specimens / name / "model.safetensors", "pt") as weights:
        assert {str(weights.get_tensor(key).dtype) for key in weights.keys()} == {"torch.float32"}  # noqa: SIM118


def test_the_language_models_are_dense_hybrids_of_about_one_size(models, facts):
    kinds = {
        name: [
            next(part for part in ("mamba", "self_attn", "linear_attn") if hasattr(layer, part))
            for layer in model.model.layers
        ]
        for name, model in models.items()
    }
    assert kinds["jamba-bytes"] == ["mamba", "mamba", "self_attn", "mamba"]
    assert kinds["qwen3-next-bytes"] == ["linear_attn", "linear_attn", "self_attn", "linear_attn"]
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models.values()]
    assert sizes == [facts[name]["parameters"] for name in models]
    assert max(sizes) < 1.05 * min(sizes)
    for model in models.values():
        assert not [name for name, _ in model.named_modules() if "expert" in name or name.endswith("router")]
    assert facts["jamba-bytes"]["text"] == facts["qwen3-next-bytes"]["text"]


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_tokenizer_is_of_bytes(tokenizers, models, name):
    from transformers import ByT5Tokenizer

    byt5, ours = ByT5Tokenizer(extra_ids=0), tokenizers[name]
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000, 7), *range(0x100000, 0x110000, 1001)]))
    for text in ('He said, "Ναί" <script>\n\t& so  on . \r\n', "", " ", every):
        ids = ours(text, truncation=False)["input_ids"]
        assert ids == [byte + 3 for byte in text.encode()] + [1]
        assert ours.decode(ids, skip_special_tokens=True) == text
        assert ids == byt5(text)["input_ids"]
    assert ours(["a", "bcd"], padding=True)["input_ids"] == byt5(["a", "bcd"], padding=True)["input_ids"]
    assert models[name].config.vocab_size == 259 == len(ours)
    assert ours.model_max_length == models[name].config.max_position_embeddings


@pytest.mark.parametrize("name", LANGUAGE)
def test_bits_per_byte_of_the_excerpt_are_what_the_facts_say(specimens, models, facts, name):
    text = (specimens / "text" / "held-out.txt").read_bytes()
    ids = torch.tensor([[1, *(byte + 3 for byte in text)]])
    with torch.no_grad():
        log_p = torch.log_softmax(models[name](ids).logits[0, :-1].double(), -1)
    bits = -float(log_p.gather(1, ids[0, 1:, None]).mean()) / math.log(2)
    assert len(text) == facts[name]["excerpt"]["bytes"]
    assert bits == pytest.approx(facts[name]["excerpt"]["bits_per_byte"], abs=2e-4)
    assert bits < 8 * len(gzip.compress(text, 9)) / len(text)


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_whole_context_is_usable(models, name):
    """The shipped models read as many positions as they say, with finite logits."""
    model = models[name]
    context = model.config.max_position_embeddings
    ids = torch.randint(3, 259, (1, context))
    with torch.no_grad():
        assert bool(torch.isfinite(model(ids, logits_to_keep=1).logits).all())
    assert context == 4096


def test_test_accuracy_of_the_classifier_is_what_the_facts_say(specimens, facts):
    stated, test = facts["digits-s4d"]["test"], digits("test")
    for dtype in (torch.float32, torch.float64):
        model = load_s4d(specimens / "digits-s4d", dtype=dtype)
        with torch.no_grad():
            right = int((model(test.inputs).argmax(-1) == test.labels).sum())
        assert right == stated["correct"]
    assert len(test.labels) == stated["total"]
    assert stated["accuracy"] == right / stated["total"] > 0.95
    wilson = binomtest(right, stated["total"]).proportion_ci(method="wilson")
    assert stated["interval"] == pytest.approx([wilson.low, wilson.high], abs=1e-6)


def test_the_examples_are_test_digits(specimens):
    inputs, labels = (np.load(specimens / "digits-s4d" / name) for name in ("examples.npy", "labels.npy"))
    test = digits("test")
    assert inputs.dtype == np.float32 and inputs.shape == (32, 64, 1)
    np.testing.assert_array_equal(inputs, test.inputs[:32].numpy())
    np.testing.assert_array_equal(labels, test.labels[:32].numpy())


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_made_of_the_facts(specimens, facts, name):
    import card

    made = card.classifier(facts[name]) if name == "digits-s4d" else card.language_model(facts[name])
    assert (specimens / name / "README.md").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_models_beat_the_compressors_that_saw_what_they_are_scored_on(facts, name):
    stated = facts[name]
    assert stated["bits_per_byte"] < stated["baselines"]["gzip -9"]
    assert stated["bits_per_byte"] < stated["baselines"]["xz -9e"]
    assert stated["bits_per_byte"] < 2.2
