"""Whatever is wrong with the input: one clear line on stderr, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "model.safetensors"


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def missing_path(folder: Path) -> None:
    shutil.rmtree(folder)


def truncated_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def truncated_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5])


def edit_weights(folder: Path, edit) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def nan_weights(folder: Path) -> None:
    edit_weights(
        folder, lambda weights: weights["model.layers.1.self_attn.q_proj.weight"].view(-1)[7:8].fill_(torch.nan)
    )


def infinite_weights(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["model.norm.weight"].view(-1)[:1].fill_(torch.inf))


def missing_tensor(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("model.layers.0.self_attn.k_proj.weight"))


def wrong_shape(folder: Path) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    edit_weights(folder, lambda weights: weights.update({name: torch.zeros(3, 5)}))


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def pickled_model(folder: Path) -> None:
    no_weights(folder)
    torch.save(torch.nn.Linear(2, 2), folder / "pytorch_model.bin")


def edit_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def recurrent_network(folder: Path) -> None:
    """An LSTM, which is no member of the family, under a model type nobody knows."""
    empty_folder(folder)
    save_file(dict(torch.nn.LSTM(4, 8).state_dict()), folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps({"model_type": "voice_lstm", "hidden_size": 8}))


def only_weights(folder: Path) -> None:
    empty_folder(folder)
    save_file(dict(torch.nn.LSTM(4, 8).state_dict()), folder / WEIGHTS)


def convolutional_network(folder: Path) -> None:
    """Known to transformers, but it has no token mixer at all."""
    from transformers import ResNetConfig, ResNetModel

    empty_folder(folder)
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(folder)


def code_in_the_checkpoint(folder: Path) -> None:
    """A checkpoint that brings its own code, which must not run."""
    edit_config(folder, model_type="of_my_own", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass C: ...\nclass M: ...\n")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama",')


def config_is_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def impossible_config(folder: Path) -> None:
    edit_config(folder, hidden_size=-3)


def config_of_another_type(folder: Path) -> None:
    edit_config(folder, hidden_size="big")


def unknown_layer_types(folder: Path) -> None:
    edit_config(folder, layer_types=["full_attention", "my_attention"])


def unknown_activation(folder: Path) -> None:
    edit_config(folder, hidden_act="my_gelu")


def unknown_positions(folder: Path) -> None:
    edit_config(folder, rope_parameters={"rope_type": "my_rope", "rope_theta": 1e4})


BAD_MODELS = {
    empty_folder: "config.json",
    missing_path: "no such|not exist|there is no",
    truncated_weights: "truncated|corrupt|cannot be read|incomplete",
    truncated_header: "truncated|corrupt|cannot be read|incomplete",
    nan_weights: "model.layers.1.self_attn.q_proj.weight.*has 1 weight that is NaN or infinite",
    infinite_weights: "model.norm.weight.*has 1 weight that is NaN or infinite",
    missing_tensor: "model.layers.0.self_attn.k_proj.weight",
    wrong_shape: "model.layers.0.self_attn.k_proj.weight",
    no_weights: "weights|safetensors",
    pickled_model: "pytorch_model.bin is a pickled object, not a dict of tensors: save the weights as safetensors$",
    recurrent_network: "LSTM.*no coefficients",
    only_weights: "LSTM.*no coefficients",
    convolutional_network: "resnet|mixer",
    code_in_the_checkpoint: "of_my_own|code",
    broken_config: "config.json",
    config_is_a_list: "config.json",
    impossible_config: r"cannot be read: The hidden size \(-3\) is not a multiple of .* heads \(4\)$",
    config_of_another_type: r"cannot be read: Field 'hidden_size' expected int, got str \(value: 'big'\)$",
    unknown_layer_types: r"cannot be read: .*`layer_types` .* got \['full_attention', 'my_attention'\]$",
    unknown_activation: "does not find 'my_gelu', the value of hidden_act in config.json$",
    unknown_positions: "does not find 'my_rope', the value of rope_parameters.rope_type in config.json$",
}


def assert_refused(result, pattern: str) -> None:
    lines = result.stderr.splitlines()
    assert result.exit_code == 2, (result.exit_code, result.stderr)
    assert len(lines) == 1 and lines[0].startswith("mixerlens: "), result.stderr
    assert re.search(pattern, lines[0]), lines[0]
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert len(lines[0]) < 500, "a line somebody can read"


@pytest.fixture
def folder(llama_folder, tmp_path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


@pytest.mark.parametrize("damage", BAD_MODELS, ids=lambda damage: damage.__name__)
def test_models_that_cannot_be_opened(damage, folder, mixerlens, tmp_path):
    damage(folder)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(mixerlens("report", folder, "--length", 8, "-o", tmp_path / "report.html"), BAD_MODELS[damage])
    assert_refused(mixerlens("verify", folder, "--length", 8, "--json"), BAD_MODELS[damage])
    assert_refused(mixerlens("inspect", folder), BAD_MODELS[damage])
    assert sorted(tmp_path.rglob("*")) == before, "nothing may be left behind"


@pytest.mark.parametrize("name", ["nobody/nothing", "no-such-model", "./nowhere", "missing.gguf"])
def test_names_of_no_model(name, mixerlens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(mixerlens("inspect", name), name)


def test_a_file_that_is_no_model(mixerlens, tmp_path):
    (tmp_path / "fake.gguf").write_bytes(b"GGUF but not really")
    (tmp_path / "notes.txt").write_text("hello")
    assert_refused(mixerlens("inspect", tmp_path / "fake.gguf"), "fake.gguf")
    assert_refused(mixerlens("inspect", tmp_path / "notes.txt"), "notes.txt")


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (["--length", 129], "129.*128|128.*129"),
        (["--length", 0], "--length 0"),
        (["--length", -4], "--length -4"),
        (["--layers", "7", "--length", 8], "no layer 7.*0-1"),
        (["--layers", "0-99", "--length", 8], "no layer 2.*0-1"),
        (["--layers", "first", "--length", 8], "--layers 'first'"),
        (["--checks", "everything", "--length", 8], "--checks 'everything'"),
        (["--device", "cuda:99", "--length", 8], "device cuda:99"),
        (["--device", "toaster", "--length", 8], "device 'toaster'"),
        (["--text", "hello"], "tokenizer"),
        (["--text", "a", "--input", "b.txt"], "--text and --input"),
        (["--input", "nowhere.npy"], "nowhere.npy.*no such file"),
    ],
)
def test_options_that_cannot_be_met(options, pattern, llama_folder, mixerlens, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert_refused(mixerlens("report", llama_folder, *options, "-o", tmp_path / "report.html"), pattern)
    assert sorted(tmp_path.rglob("*")) == before
    if "--checks" not in options:
        assert_refused(mixerlens("horizon", llama_folder, *options, "--json"), pattern)


@pytest.mark.parametrize(
    ("array", "pattern"),
    [
        (np.zeros((1, 8), dtype=np.float32), r"token ids.*float32 \(1, 8\)"),
        (np.zeros((1, 8, 3), dtype=np.int64), r"token ids.*int64 \(1, 8, 3\)"),
        (np.zeros((0, 8), dtype=np.int64), "empty"),
        (np.zeros((1, 0), dtype=np.int64), "empty"),
        (np.full(8, 3), r"int64 \(8,\): the batch axis is missing, add it with ids\[None\]$"),
        (np.full((1, 8), 97), "97"),
        (np.full((1, 8), -1), "-1"),
        (np.full((1, 8), "word"), "<U4.*integers"),
        (np.zeros((1, 8), dtype=complex), "complex128.*integers"),
    ],
)
def test_arrays_the_model_cannot_take(array, pattern, llama_folder, mixerlens, tmp_path):
    np.save(tmp_path / "in.npy", array)
    assert_refused(mixerlens("verify", llama_folder, "--input", tmp_path / "in.npy"), pattern)
    assert_refused(mixerlens("verify", llama_folder, "--input", tmp_path / "in.npy", "--length", 8), pattern)


def test_an_array_of_objects_is_refused_without_advice_to_unpickle_it(llama_folder, mixerlens, tmp_path):
    np.save(tmp_path / "in.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps({}))
    for name in ("in.npy", "raw.npy"):
        result = mixerlens("verify", llama_folder, "--input", tmp_path / name)
        assert_refused(result, f"{name}: not a readable array file")
        assert "unsafe" not in result.stderr and "pickle.load" not in result.stderr


def test_a_folder_as_input_and_no_model_at_all(llama_folder, mixerlens, tmp_path, monkeypatch):
    assert_refused(mixerlens("verify", llama_folder, "--input", tmp_path), "that is a folder; give a .npy")
    monkeypatch.chdir(llama_folder)  # an empty name must not mean the folder one is in
    assert_refused(mixerlens("inspect", ""), "the name of the model is empty")


@pytest.mark.parametrize("options", [[], ["--length", 4]])
def test_an_empty_text_is_refused_though_the_tokenizer_ends_it_with_a_token(options, mixerlens, tmp_path):
    model = ROOT / "specimens" / "qwen3-next-bytes"
    (tmp_path / "empty.txt").write_text("")
    for given in (["--text", ""], ["--input", tmp_path / "empty.txt"]):
        assert_refused(mixerlens("horizon", model, *given, *options), "the text is empty$")


USAGE = {
    "verify": "mixerlens verify: Missing argument 'MODEL' (see mixerlens verify --help)",
    "verify m --length abc": "'--length'.*'?abc'?",
    "verify m --seed 1.5": "'--seed'.*1.5",
    "verify m --dtype bfloat16": "'--dtype': 'bfloat16' is not one of 'float32', 'float64' ",
    "verify m --lenght 3": "--lenght",
    "verify m --length": "'--length' requires an argument",
    "verify m n": "unexpected extra argument.*n",
    "frobnicate m": "No such command 'frobnicate'",
    "--frobnicate": "No such option.*--frobnicate",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_usage_errors_are_one_line(arguments, mixerlens):
    result = mixerlens(*arguments.split())
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert result.stderr.startswith("mixerlens") and result.stderr.endswith(" --help)\n")
    assert "Value error" not in result.stderr
    pattern = USAGE[arguments]
    assert result.stderr == pattern + "\n" if pattern.startswith("mixerlens") else re.search(pattern, result.stderr)


def test_no_arguments_and_help_are_no_errors(mixerlens):
    assert "inspect" in mixerlens().output and "inspect" in mixerlens("--help").stdout
    assert mixerlens("verify", "--help").exit_code == 0


@pytest.mark.parametrize("verb", ["inspect", "verify", "report", "spectrum", "horizon"])
@pytest.mark.parametrize(("target", "pattern"), [("missing/out", "does not exist"), ("", "is a folder")])
def test_outputs_that_cannot_be_written(verb, target, pattern, llama_folder, mixerlens, tmp_path):
    options = [] if verb == "inspect" else ["--length", 8]
    assert_refused(mixerlens(verb, llama_folder, *options, "-o", tmp_path / target), pattern)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["verify", "report"])
def test_a_full_disk(verb, llama_folder, mixerlens, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device", str(paths[-1]))

    monkeypatch.setattr(os, "replace", full)
    result = mixerlens(verb, llama_folder, "--length", 8, "--checks", "operator", "-o", tmp_path / "out")
    assert_refused(result, f"cannot write {re.escape(str(tmp_path / 'out'))}: No space left on device$")
    assert list(tmp_path.iterdir()) == [], "no part of a file may stay behind"
