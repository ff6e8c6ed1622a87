"""From what a user names - a folder, a hub id, a .gguf file, a module - to a model, or one clear line.

Nothing here runs code that came with a checkpoint: trust_remote_code stays off and pickled weights are read with
weights_only=True.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from mixerlens.capture.checkpoint import (
    SENTENCE_END,
    TERMINAL_CODES,
    check_complete,
    check_finite,
    check_weight_files,
    one_line,
    read_config,
    refuse_nonmember,
    refuse_pickled_objects,
)
from mixerlens.capture.gguf import quick_reading
from mixerlens.capture.names import cached, meant, near_folders, near_names
from mixerlens.capture.quiet import quiet
from mixerlens.errors import InputError, MixerLensError, ModelError, UnsupportedError

OWN = {"mixerlens_s4d": "mixerlens.models.s4d:load_s4d", "mixerlens_designed": "mixerlens.design.saved:load"}
LONGEST = 200  # letters of a library's sentence
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model, where it came from, how to get its tokenizer, and the weights its class had no use for."""

    model: nn.Module
    source: str
    tokenizer: Callable[[], Any] = lambda: None
    unused: list[str] = field(default_factory=list)


def load(model: str | Path | nn.Module, dtype: torch.dtype | None, device: torch.device | None) -> Loaded:
    """Open a model.  Raises ModelError, UnsupportedError or InputError, each with one clear line."""
    if isinstance(model, str) and not model.strip():
        raise InputError("the name of the model is empty: name a folder, a hub id or a .gguf file")
    if isinstance(model, nn.Module):
        loaded = _in_memory(model, dtype, device)
    elif isinstance(model, (str, Path)):
        loaded = _from_path(str(model), dtype)
        try:
            loaded.model.eval().to(device or "cpu")
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device} cannot be used: {one_line(error)}") from error
    else:
        kind = type(model).__name__
        raise InputError(f"a model is a folder, a hub id, a .gguf file or a torch.nn.Module, not a {kind}")
    if getattr(getattr(loaded.model, "config", None), "is_encoder_decoder", False):
        raise UnsupportedError(f"{loaded.source} is an encoder-decoder model: cross attention is not covered")
    check_finite(loaded.model)
    return loaded


def _in_memory(model: nn.Module, dtype: torch.dtype | None, device: torch.device | None) -> Loaded:
    """The module itself; a copy of it where another dtype or device is asked for, since it must not be changed."""
    tensors = [t for t in model.parameters() if t.is_floating_point()]
    moves = any((dtype and t.dtype != dtype) or (device and t.device != device) for t in tensors)
    if moves:
        model = copy.deepcopy(model).to(device=device, dtype=dtype)
    return Loaded(model, type(model).__name__)


def _from_path(name: str, dtype: torch.dtype | None) -> Loaded:
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path, dtype)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return _gguf(path, dtype)
        if path.suffix == ".safetensors":
            refuse_nonmember(path)
        raise ModelError(f"{name} is a file: name the folder that holds it and its config.json, or a .gguf file")
    beside = meant(near_folders(name))
    if path.suffix.lower() == ".gguf" or not HUB_ID.fullmatch(name):
        raise ModelError(f"{name} does not exist{beside}")
    near = near_names(name)  # before the hub is asked, which takes long where it does not answer
    if near and not cached(name):
        raise ModelError(_no_model(name, near))
    transformers = _import_transformers()
    reachable = hub_answers()
    if not reachable:
        with quiet():
            try:
                transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=True)
            except Exception as error:
                raise ModelError(
                    f"{name} is no folder here, not in the cache, and the hub does not answer{beside}"
                ) from error
    return _transformers(name, dtype, local=not reachable)


def _no_model(name: str, near: list[str]) -> str:
    if near == [name]:
        return (
            f"{name} is a family, no trained model: 'mixerlens principles {name}' measures it, 'mixerlens design show "
            f"{name}' writes its specification; a model of the hub is named owner/name"
        )
    return f"{name} is no folder here and not in the cache{meant(near)} A model of the hub is named owner/name"


def hub_answers() -> bool:
    """The hub's name resolves, or a proxy is set: asked first because the client retries for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return not constants.HF_HUB_OFFLINE
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _folder(path: Path, dtype: torch.dtype | None) -> Loaded:
    config = read_config(path)
    model_type = config.get("model_type")
    if model_type in OWN:
        check_weight_files(path)
        return _own(path, model_type, dtype)
    known = _known_types()
    if model_type not in known:
        for file in path.glob("*.safetensors"):
            refuse_nonmember(file)
        remote = "; code that comes with a checkpoint is never run" if "auto_map" in config else ""
        raise UnsupportedError(f"{path}: model_type {model_type!r} is unknown to transformers and to mixerlens{remote}")
    check_weight_files(path)
    return _transformers(str(path), dtype, local=True)


def _own(path: Path, model_type: str, dtype: torch.dtype | None) -> Loaded:
    home, _, name = OWN[model_type].partition(":")
    try:
        model = getattr(importlib.import_module(home), name)(path)
    except MixerLensError:
        raise
    except Exception as error:
        raise ModelError(f"{path} cannot be read as {model_type}: {one_line(error)}") from error
    return Loaded(model.to(dtype) if dtype else model, str(path))


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError("reading this model needs transformers: pip install 'mixerlens[hf]'") from error
    return transformers


def _known_types() -> Any:
    _import_transformers()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING


def _transformers(name: str, dtype: torch.dtype | None, local: bool) -> Loaded:
    transformers = _import_transformers()
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=local)
            if getattr(config, "is_encoder_decoder", False):
                raise UnsupportedError(f"{name} is an encoder-decoder model: cross attention is not covered")
            model, info = _model_class(transformers, config).from_pretrained(
                name,
                dtype=dtype or _at_least_float32(config),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                weights_only=True,
                local_files_only=local,
            )
    except MixerLensError:
        raise
    except Exception as error:  # whatever the library raises on a bad checkpoint becomes one line
        if Path(name).is_dir():
            refuse_pickled_objects(Path(name))
        what = "cannot be read" if local else "is no folder here and cannot be read from the hub"
        beside = "" if local else meant(near_folders(name))
        raise ModelError(f"{name} {what}: {_why(error, Path(name))}{beside}") from error
    if info.get("missing_keys") and Path(name).is_dir():  # perhaps a whole training state, with the weights inside
        refuse_pickled_objects(Path(name))
    unused = check_complete(info, model, name)
    return Loaded(_plain_experts(model), name, lambda: _tokenizer(name, local), unused)


def _why(error: BaseException, folder: Path) -> str:
    """One line that names the field and the value where a library's error about a configuration does so anywhere."""
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) in str(error):  # its own first line only announces the cause
        text = TERMINAL_CODES.sub("", str(cause)).strip().splitlines()[0]
        text = SENTENCE_END.split(text)[0].removesuffix(".")
        # the field comes first and the value last; what is long is the list of what is allowed between them
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if isinstance(error, KeyError) and error.args and (fields := _fields(folder, error.args[0])):
        return f"transformers does not find {error.args[0]!r}, the value of {' and '.join(fields)} in config.json"
    return one_line(error)


def _fields(folder: Path, value: object) -> list[str]:
    """Fields of a folder's config.json that have this value: "rope_parameters.rope_type" for an inner one."""
    if not isinstance(value, str) or not (folder / "config.json").is_file():
        return []
    config = read_config(folder)
    inner = {f"{name}.{key}": x for name, part in config.items() if isinstance(part, dict) for key, x in part.items()}
    return [name for name, there in (config | inner).items() if there == value]


def _gguf(path: Path, dtype: torch.dtype | None) -> Loaded:
    transformers = _import_transformers()
    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    folder = str(path.parent)
    try:
        with quiet(), quick_reading():
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype or torch.float32, output_loading_info=True, trust_remote_code=False, **where
            )
    except Exception as error:
        raise ModelError(f"{path} cannot be read as GGUF: {one_line(error)}") from error
    unused = check_complete(info, model, str(path))

    def tokenizer() -> Any:
        with quick_reading():
            return _read_tokenizer(folder, **where)

    return Loaded(_plain_experts(model), str(path), tokenizer, unused)


def _model_class(transformers: Any, config: Any) -> Any:
    """The class the checkpoint was saved from, else the causal language model of its type, else the bare model."""
    for name in getattr(config, "architectures", None) or ():
        kind = getattr(transformers, name, None)
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            return kind
    if type(config) in transformers.AutoModelForCausalLM._model_mapping:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModel


def _at_least_float32(config: Any) -> torch.dtype:
    """Half precision weights are raised to float32, which changes none of them; float64 stays."""
    declared = getattr(config, "dtype", None)
    return torch.promote_types(declared, torch.float32) if isinstance(declared, torch.dtype) else torch.float32


def _plain_experts(model: Any) -> nn.Module:
    """Grouped expert kernels take no float64; the library's plain loop over experts does."""
    if next(model.parameters()).dtype == torch.float64 and hasattr(model, "set_experts_implementation"):
        with quiet():
            model.set_experts_implementation("eager")
    return model


def _tokenizer(name: str, local: bool) -> Any:
    """The tokenizer of a folder or hub id, None where it has no tokenizer file."""
    if Path(name).is_dir():
        there = any((Path(name) / file).is_file() for file in TOKENIZER_FILES)
    else:
        from transformers.utils import cached_file

        lenient: dict[str, Any] = {
            "local_files_only": local,
            "_raise_exceptions_for_missing_entries": False,
            "_raise_exceptions_for_connection_errors": False,
        }
        with quiet():
            there = any(cached_file(name, file, **lenient) for file in TOKENIZER_FILES)
    return _read_tokenizer(name, local_files_only=local) if there else None


def _read_tokenizer(name: str, **where: Any) -> Any:
    transformers = _import_transformers()
    kinds = [transformers.AutoTokenizer, _named_tokenizer(transformers, name)]
    problem: Exception | None = None
    for kind in (k for k in kinds if k is not None):
        try:
            with quiet():
                return kind.from_pretrained(name, trust_remote_code=False, **where)
        except Exception as error:  # whatever the library raises on a bad tokenizer becomes one line
            problem = problem or error
    raise ModelError(f"the tokenizer of {name} cannot be read: {one_line(problem)}") from problem


def _named_tokenizer(transformers: Any, name: str) -> Any:
    """The class a folder's tokenizer_config.json names: the automatic choice overlooks it for some model types."""
    path = Path(name) / "tokenizer_config.json"
    try:
        kind = getattr(transformers, json.loads(path.read_text(encoding="utf-8"))["tokenizer_class"], None)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kind if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedTokenizerBase) else None
