"""Looks at a checkpoint folder before anything is built from it, so that what is wrong can be said in one line."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixerlens.errors import ModelError, UnsupportedError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
RECURRENT_WEIGHTS = ("weight_hh", "weight_ih", "recurrent_kernel", "lstm", "gru")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder.  Raises ModelError if it is missing or no JSON object, and names what is there."""
    path = folder / "config.json"
    if not path.is_file():
        content = sorted(item.name for item in folder.iterdir())
        if not content:
            raise ModelError(f"{folder} is an empty folder: a model folder has config.json and model.safetensors")
        for file in folder.glob("*.safetensors"):
            refuse_nonmember(file)
        raise ModelError(f"{folder} has no config.json (it holds {', '.join(content[:5])})")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is no readable JSON: {one_line(error)}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds a JSON {type(config).__name__}, not an object")
    return config


def check_weight_files(folder: Path) -> None:
    """Open every weight file's header.  Raises ModelError for missing, truncated or corrupt ones."""
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{index} is no readable weight index: {one_line(error)}") from error
        absent = sorted(name for name in shards if not (folder / name).is_file())
        if absent:
            raise ModelError(f"{folder} lacks {len(absent)} of {len(shards)} weight files, first {absent[0]}")
    if not files:
        raise ModelError(f"{folder} has a config.json but no weights (model.safetensors)")
    for file in files:
        if file.suffix == ".safetensors":
            tensor_names(file)


def tensor_names(file: Path) -> list[str]:
    """Names of the tensors in a safetensors file.  Raises ModelError if it is truncated or corrupt."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            return list(handle.keys())
    except (SafetensorError, OSError) as error:
        raise _corrupt(file, error) from error


def refuse_pickled_objects(folder: Path) -> None:
    """Raises ModelError naming the first pytorch_model*.bin that is no dict of tensors or is broken.

    For a folder that failed to load: reading the files only to look at them would double the time of one that does.
    """
    if any(folder.glob("*.safetensors")):
        return  # those are what is read then
    for file in sorted(folder.glob("pytorch_model*.bin")):
        try:
            weights = torch.load(file, map_location="meta", weights_only=True)
        except pickle.UnpicklingError as error:
            if not (zipfile.is_zipfile(file) or file.read_bytes()[:1] == b"\x80"):  # neither form that torch writes
                raise _corrupt(file, error) from error
            weights = None
        except (OSError, RuntimeError, EOFError) as error:
            raise _corrupt(file, error) from error
        if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise ModelError(f"{file} is a pickled object, not a dict of tensors: save the weights as safetensors")


def _corrupt(file: Path, error: Exception) -> ModelError:
    size = file.stat().st_size
    return ModelError(f"{file} cannot be read, it is truncated or corrupt ({size} bytes): {one_line(error)}")


def refuse_nonmember(file: Path) -> None:
    """Raises UnsupportedError if a weight file holds an LSTM, GRU or plain recurrent network."""
    for name in tensor_names(file):
        if any(mark in name.lower() for mark in RECURRENT_WEIGHTS):
            raise UnsupportedError(
                f"{file} holds a recurrent network ({name}): an LSTM, GRU or RNN is not additive in what it reads, so "
                "it has no coefficients"
            )


def check_finite(model: nn.Module) -> None:
    """Raises ModelError naming the first parameter that is not finite or stored buffer that is NaN.

    A buffer may be infinite: it may hold bounds that nothing reaches.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if tensor.device.type == "meta":
            raise ModelError(f"{name} has no values (it is on the meta device)")
        wrong = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        bad = int(wrong.sum())
        if bad:
            what = "1 weight that is" if bad == 1 else f"{bad} weights that are"
            raise ModelError(f"{name} {tuple(tensor.shape)} has {what} NaN or infinite: the checkpoint is corrupt")


def check_complete(info: dict[str, Any], model: nn.Module, source: str) -> list[str]:
    """Raises ModelError for missing, misshapen or, inside the backbone, unexpected weights.

    Returns the unexpected weights outside the backbone: heads that the model's class does not have.
    """
    names = {key: sorted(_names(info.get(key) or ())) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if names["missing_keys"]:
        raise ModelError(f"{source} lacks {_some(names['missing_keys'])} of the model, which would be random")
    if names["mismatched_keys"]:
        raise ModelError(f"{source} has {_some(names['mismatched_keys'])} in another shape than its config.json says")
    if info.get("error_msgs"):
        raise ModelError(f"{source}: {one_line(info['error_msgs'][0])}")
    prefix = getattr(model, "base_model_prefix", "")
    inner = [name for name in names["unexpected_keys"] if not prefix or name.startswith(f"{prefix}.")]
    if inner:
        raise ModelError(f"{source} has {_some(inner)} that {type(model).__name__} does not have")
    return names["unexpected_keys"]


def _names(keys: Iterable[Any]) -> list[str]:
    return [key if isinstance(key, str) else str(key[0]) for key in keys]


def _some(names: list[str]) -> str:
    return f"{len(names)} weights, first {names[0]}," if len(names) > 1 else f"one weight, {names[0]},"


def one_line(error: object) -> str:
    """The first sentence of a library's message, without colours and shortened: what follows it is advice for a
    programmer of that library."""
    text = TERMINAL_CODES.sub("", str(error)).strip().splitlines()
    return SENTENCE_END.split(text[0])[0].removesuffix(".")[:200] if text else type(error).__name__
