"""Opening what can be opened, and one clear line for everything else."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

import mixerlens as ml
from capture import tiny
from mixerlens.capture.checkpoint import one_line
from mixerlens.errors import InputError, ModelError, UnsupportedError


def refused(kind, pattern, *args, **kwargs):
    with pytest.raises(kind, match=pattern) as caught:
        ml.open(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny llama in a folder, with its weights and configuration, to be copied and spoilt."""
    folder = tmp_path_factory.mktemp("llama")
    tiny.build("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A fresh copy of the folder."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", ["llama", "bert", "jamba", "mamba2", "qwen3_next"])
def test_a_folder_gives_the_model_that_was_saved(name, tmp_path):
    model = tiny.build(name)
    model.save_pretrained(tmp_path)
    lens = ml.open(tmp_path)
    assert type(lens.model) is type(model)
    assert lens.model_type == model.config.model_type
    assert not lens.model.training
    with torch.no_grad():
        assert torch.equal(lens.trace(tiny.ids()).logits, model(tiny.ids())[0])
    assert ml.open(str(tmp_path), dtype="float64").dtype == torch.float64


def test_half_precision_is_raised_to_float32_unless_asked_for(tmp_path):
    tiny.build("llama", dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert ml.open(tmp_path).dtype == torch.float32
    lens = ml.open(tmp_path, dtype=torch.bfloat16)
    assert lens.dtype == torch.bfloat16
    call = next(iter(lens.trace(tiny.ids()).mixers.values()))
    assert call.compute_dtype == torch.bfloat16
    assert call.values.dtype == call.arguments["query"].dtype == torch.float32


def test_info_is_plain_data(folder):
    info = ml.open(folder).info()
    assert json.loads(json.dumps(info)) == info
    assert (info["model_type"], info["class"], info["dtype"]) == ("llama", "LlamaForCausalLM", "float32")
    assert (info["context_length"], info["vocabulary"], info["tokenizer"]) == (128, 97, None)
    assert info["parameters"] == sum(p.numel() for p in tiny.build("llama").parameters())
    assert info["layers"][1] == {
        "index": 1, "path": "model.layers.1.self_attn", "kind": "attention", "family": "softmax_attention"
    }  # fmt: skip


def test_missing_paths_and_wrong_files(folder, tmp_path):
    refused(ModelError, r"no/such/folder/here does not exist", "no/such/folder/here")
    refused(ModelError, r"model\.gguf does not exist", str(tmp_path / "model.gguf"))
    refused(
        ModelError, r"missing-model is no folder here, not in the cache, and the hub does not answer", "missing-model"
    )
    refused(ModelError, r"model\.safetensors is a file: name the folder", folder / "model.safetensors")
    refused(InputError, "a model is a folder, a hub id, a .gguf file or a torch.nn.Module, not a int", 7)
    for nameless in ("", "  "):
        refused(InputError, "the name of the model is empty", nameless)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(20))
    refused(ModelError, r"broken\.gguf cannot be read as GGUF", broken)


def test_an_empty_folder_and_folders_without_parts(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    refused(ModelError, "is an empty folder", empty)
    (empty / "notes.txt").write_text("x")
    refused(ModelError, r"has no config\.json \(it holds notes\.txt\)", empty)
    (folder / "model.safetensors").unlink()
    refused(ModelError, r"has a config\.json but no weights", folder)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_broken_config(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(ModelError, r"config\.json (is no readable JSON|holds a JSON list)", folder)


@pytest.mark.parametrize("keep", [0, 6, 100, -100])
def test_truncated_weights(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(ModelError, r"model\.safetensors cannot be read, it is truncated or corrupt", folder)


def test_truncated_weights_of_an_s4d_folder(tmp_path):
    from mixerlens.models.s4d import S4DClassifier, S4DConfig

    S4DClassifier(S4DConfig(channels=1, classes=3, features=4, modes=2, layers=1)).save(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    refused(ModelError, r"model\.safetensors cannot be read, it is truncated or corrupt", tmp_path)


def spoil(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_first_tensor(folder, value):
    spoil(folder, lambda w: w["model.layers.1.self_attn.q_proj.weight"][3, 2:4].fill_(value))
    refused(ModelError, r"model\.layers\.1\.self_attn\.q_proj\.weight \(32, 32\) has 2 weights that are NaN", folder)
    model = tiny.build("llama")
    model.model.norm.weight.data[0] = value
    refused(ModelError, r"model\.norm\.weight \(32,\) has 1 weight that is NaN or infinite", model)


def test_a_buffer_may_be_infinite_but_not_nan():
    """Bounds that nothing reaches are stored as infinities."""
    model = tiny.build("llama")
    model.model.register_buffer("highest", torch.tensor(float("inf")))
    ml.open(model)
    model.model.highest.fill_(float("nan"))
    refused(ModelError, r"model\.highest \(\) has 1 weight that is NaN", model)


def test_missing_weights_are_never_left_random(folder):
    spoil(folder, lambda w: w.pop("model.layers.0.mlp.up_proj.weight"))
    refused(
        ModelError, r"lacks one weight, model\.layers\.0\.mlp\.up_proj\.weight, of the model, which would be", folder
    )


def test_misshapen_weights(folder):
    spoil(folder, lambda w: w.update({"model.norm.weight": torch.ones(5)}))
    refused(ModelError, r"has one weight, model\.norm\.weight, in another shape", folder)


def test_unexpected_weights_in_the_backbone_are_refused_and_heads_are_told(folder):
    spoil(folder, lambda w: w.update({"another_head.weight": torch.ones(5)}))
    assert ml.open(folder).unused_weights == ["another_head.weight"]
    spoil(folder, lambda w: w.update({"model.layers.0.gate.weight": torch.ones(5)}))
    refused(ModelError, r"has one weight, model\.layers\.0\.gate\.weight, that LlamaForCausalLM does not have", folder)


def test_a_missing_shard(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(ModelError, r"lacks 1 of 2 weight files, first model-00001-of-00002\.safetensors", folder)


def test_no_code_of_a_checkpoint_is_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Mine", "AutoConfig": "mine.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    marker = folder / "ran"
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    refused(UnsupportedError, "model_type 'mine' is unknown.*code that comes with a checkpoint is never run", folder)
    assert not marker.exists()


def test_pickled_weights_that_carry_code_are_not_unpickled(folder):
    marker = folder / "ran"

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {marker}",))

    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Evil()}, folder / "pytorch_model.bin")
    refused(ModelError, r"pytorch_model\.bin is a pickled object, not a dict of tensors: save", folder)
    assert not marker.exists()


def test_pickled_weights_that_are_tensors_open_and_other_files_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save(weights, file)
    assert torch.equal(ml.open(folder).trace(tiny.ids()).logits, ml.open(tiny.build("llama")).trace(tiny.ids()).logits)
    for spoilt in (torch.nn.Linear(2, 2), torch.ones(3), {"model": weights, "step": 7}):
        torch.save(spoilt, file)
        refused(ModelError, r"^[^\x1b]*pytorch_model\.bin is a pickled object, not a dict of tensors: save", folder)
    for content in (b"", b"garbage", file.read_bytes()[:-200]):
        file.write_bytes(content)
        refused(ModelError, r"^[^\x1b]*pytorch_model\.bin cannot be read, it is truncated or corrupt", folder)


def test_a_message_of_a_library_is_cut_to_its_first_sentence():
    message = "\x1b[1mRead 1.5 GB, e.g. x.bin.\x1b[0m You can still load it unsafely.\nSee"
    assert one_line(message) == "Read 1.5 GB, e.g. x.bin"
    assert one_line(ValueError()) == "ValueError"


def test_recurrent_networks_are_no_members(tmp_path):
    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Conv1d(1, 4, 3)
            self.decoder = torch.nn.ModuleDict({"rnn": torch.nn.LSTMCell(4, 4)})

    pattern = r"decoder\.rnn is LSTMCell \(its state is not additive"
    refused(UnsupportedError, pattern, Detector())
    refused(UnsupportedError, "the model itself is GRU", torch.nn.GRU(2, 2))
    save_file(Detector().state_dict(), tmp_path / "detector.safetensors")
    refused(UnsupportedError, r"holds a recurrent network \(decoder\.rnn\.", tmp_path)
    refused(UnsupportedError, r"holds a recurrent network", tmp_path / "detector.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "silero_vad"}')
    refused(UnsupportedError, r"holds a recurrent network", tmp_path)


def test_encoder_decoders_are_refused():
    import transformers

    settings = transformers.BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, vocab_size=20,
                                       encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8,
                                       decoder_ffn_dim=8)  # fmt: skip
    refused(UnsupportedError, "encoder-decoder", transformers.BartForConditionalGeneration(settings))


def test_a_wrong_dtype_or_device():
    refused(InputError, r"dtype 'int8' is none of float64, float32", tiny.build("llama"), dtype="int8")
    refused(InputError, r"device 'gpu9' is not known", tiny.build("llama"), device="gpu9")
