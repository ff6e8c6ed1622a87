"""The folder a model of our own is kept in: config.json and model.safetensors, plain data and nothing to execute."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..files import write_whole

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)


def save(model: nn.Module, folder: str | os.PathLike[str], model_type: str, config: dict[str, Any]) -> None:
    """Writes config.json and model.safetensors; each file appears whole or not at all."""
    from safetensors.torch import save as pack

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    packed = pack(weights, metadata={"format": "pt"})
    write_whole(target / "model.safetensors", lambda part: part.write_bytes(packed))
    told = {"model_type": model_type, **config, "dtype": dtype}
    write_whole(target / "config.json", json.dumps(told, indent=2) + "\n")


def load(
    folder: str | os.PathLike[str],
    model_type: str,
    read: Callable[[dict[str, Any]], Config],
    build: Callable[[Config], Model],
    dtype: torch.dtype | None = None,
) -> Model:
    """Opens a folder that ``save`` wrote, in eval mode, in the dtype asked for or the weights' own.

    read: from the entries of config.json to a configuration; what it raises is about the file. build: the model of a
    configuration; called on the meta device, so that no size in the file takes memory.
    Raises ModelError, in one line, if a file is missing or unreadable, the configuration is not this model's, or a
    weight is missing, unexpected, of another shape or dtype, or not finite.
    """
    path = Path(folder)
    config = _config(path / "config.json", model_type, read)
    weights = _read_weights(path)
    with torch.device("meta"):
        model = build(config)
    _check(path / "model.safetensors", {n: tuple(t.shape) for n, t in model.state_dict().items()}, weights)
    target = dtype or next(iter(weights.values())).dtype
    model.load_state_dict({name: tensor.to(target) for name, tensor in weights.items()}, strict=True, assign=True)
    return model.requires_grad_(True).eval()


def _config(path: Path, model_type: str, read: Callable[[dict[str, Any]], Config]) -> Config:
    if not path.is_file():
        raise ModelError(f"{path.parent} has no config.json: it is no model folder")
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {_line(error)}") from error
    if not isinstance(values, dict) or values.get("model_type") != model_type:
        kind = values.get("model_type") if isinstance(values, dict) else type(values).__name__
        raise ModelError(f"{path} has model_type {kind!r}, not {model_type!r}")
    try:
        return read({name: value for name, value in values.items() if name not in ("model_type", "dtype")})
    except (ValueError, TypeError, OverflowError, RecursionError, RuntimeError) as error:  # InputError among them
        raise ModelError(f"{path} does not describe a model: {_line(error)[:300]}") from error


def refuse_unknown(path: Path | str, values: dict[str, Any], known: set[str]) -> None:
    """Raises ModelError for entries of a configuration that nobody reads."""
    unknown = values.keys() - known
    if unknown:
        raise ModelError(f"{path} has unknown entries {_some(unknown)}")


def _check(path: Path, wanted: dict[str, tuple[int, ...]], weights: dict[str, Tensor]) -> None:
    """Raises ModelError unless the weights are those of the model, all of them finite."""
    differences = {"lacks": wanted.keys() - weights.keys(), "has unexpected": weights.keys() - wanted.keys()}
    for problem, names in differences.items():
        if names:
            raise ModelError(f"{path} {problem} {_some(names)}: it does not fit config.json")
    for name, tensor in weights.items():
        if tuple(tensor.shape) != wanted[name] or tensor.dtype not in (torch.float32, torch.float64):
            raise ModelError(
                f"{path}: {name} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"but config.json asks for float32 or float64 {wanted[name]}"
            )
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ModelError(f"{path}: {name} has {bad} of {tensor.numel()} weights not finite")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if not path.is_file():
        raise ModelError(f"{folder} has no model.safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is truncated or no safetensors file: {_line(error)}") from error


def _some(names: Any) -> str:
    ordered = sorted(map(str, names))
    return ", ".join(ordered[:4]) + (f" and {len(ordered) - 4} more" if len(ordered) > 4 else "")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
