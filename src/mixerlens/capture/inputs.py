"""What a user gives a model, checked and turned into what its forward takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mixerlens.errors import InputError


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """inputs: ids (batch, time) or floats; mask: bool (batch, time), False on padding, or None."""

    inputs: Tensor
    mask: Tensor | None

    @property
    def is_ids(self) -> bool:
        return not self.inputs.is_floating_point()


def prepare(
    given: Any,
    attention_mask: Any,
    *,
    tokenizer: Any,
    takes_ids: bool,
    vocabulary: int | None,
    context: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> ModelInputs:
    """Check inputs and mask.  Raises InputError: one line with the offending values and the limit."""
    if isinstance(given, str) or _is_texts(given):
        if attention_mask is not None:
            raise InputError("attention_mask goes with ids; for text it follows from the lengths")
        if not takes_ids:
            raise InputError("this model reads floats (batch, time, channels), not text")
        inputs, mask = _tokenize([given] if isinstance(given, str) else list(given), tokenizer)
    else:
        inputs = _tensor(given, "inputs are text, ids (batch, time) or floats (batch, time, channels)")
        mask = None if attention_mask is None else _tensor(attention_mask, "attention_mask is an array (batch, time)")
    _check_kind(inputs, takes_ids)
    if takes_ids:
        inputs = inputs.long()
        _check_ids(inputs, vocabulary)
    elif not torch.isfinite(inputs).all():
        raise InputError("the inputs hold NaN or infinite numbers")
    if context is not None and takes_ids and inputs.shape[1] > context:
        raise InputError(f"the input has {inputs.shape[1]} tokens, the model's context is {context}: shorten it")
    mask = _check_mask(mask, inputs)
    inputs = inputs.to(device) if takes_ids else inputs.to(device, dtype)
    return ModelInputs(inputs, None if mask is None else mask.to(device))


def _is_texts(given: Any) -> bool:
    return isinstance(given, Sequence) and len(given) > 0 and all(isinstance(item, str) for item in given)


def _tensor(given: Any, wanted: str) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach()
    try:
        return torch.as_tensor(np.asarray(given))
    except (ValueError, TypeError) as error:
        raise InputError(f"{wanted}; got {_named(given, error)}") from error


def _named(given: Any, error: Exception) -> str:
    """What was given instead of numbers, in our own words: numpy's are about its own insides."""
    if isinstance(given, (list, tuple)) and isinstance(error, ValueError):
        return f"a {type(given).__name__} whose rows differ in length: pad them and give attention_mask"
    if isinstance(given, np.ndarray):
        return f"an array of {given.dtype}"
    return "None" if given is None else f"{type(given).__name__} {repr(given)[:40]!r}"


def _tokenize(texts: list[str], tokenizer: Any) -> tuple[Tensor, Tensor | None]:
    if tokenizer is None:
        raise InputError("this model has no tokenizer: give ids (batch, time) instead of text")
    rows = [token_ids(text, tokenizer) for text in texts]
    time = max(map(len, rows))
    pad = tokenizer.pad_token_id or 0
    inputs = torch.tensor([row + [pad] * (time - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (time - len(row)) for row in rows])
    return inputs, None if mask.all() else mask


def token_ids(text: str, tokenizer: Any) -> list[int]:
    """Ids of a text with the special tokens its tokenizer adds.  Raises InputError if it has none of its own."""
    if not list(tokenizer(text, add_special_tokens=False)["input_ids"]):
        raise InputError(f"the text {text[:40]!r} has no tokens" if text else "the text is empty")
    return list(tokenizer(text)["input_ids"])


def _check_kind(inputs: Tensor, takes_ids: bool) -> None:
    what = f"{str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape)}"
    if inputs.numel() == 0:
        raise InputError(f"the input is empty: {what}")
    integers = not inputs.is_floating_point() and not inputs.is_complex() and inputs.dtype != torch.bool
    if takes_ids and not (integers and inputs.dim() == 2):
        hint = ": the batch axis is missing, add it with ids[None]" if integers and inputs.dim() == 1 else ""
        raise InputError(f"this model reads token ids, integers (batch, time); got {what}{hint}")
    if not takes_ids and not (inputs.is_floating_point() and inputs.dim() >= 3):
        flat = inputs.is_floating_point() and inputs.dim() == 2
        hint = ": one axis is missing, add it with inputs[None] (batch) or inputs[..., None] (channels)" if flat else ""
        raise InputError(f"this model reads floats (batch, time, channels); got {what}{hint}")


def _check_ids(inputs: Tensor, vocabulary: int | None) -> None:
    low, high = int(inputs.min()), int(inputs.max())
    if low < 0 or (vocabulary is not None and high >= vocabulary):
        bad = low if low < 0 else high
        raise InputError(f"token id {bad} is outside the model's vocabulary of {vocabulary} (ids start at 0)")


def _check_mask(mask: Tensor | None, inputs: Tensor) -> Tensor | None:
    """Bool (batch, time), or None where nothing is padding."""
    if mask is None:
        return None
    if mask.shape != inputs.shape[:2]:
        rows = tuple(inputs.shape[:2])
        raise InputError(f"attention_mask is {tuple(mask.shape)}, the inputs are {rows} (batch, time)")
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError("attention_mask holds 1 for tokens and 0 for padding, nothing else")
    mask = mask.bool()
    if not mask.any(1).all():
        raise InputError("attention_mask leaves a row without a single token")
    return None if mask.all() else mask


def takes_ids(model: nn.Module) -> bool:
    """A model that embeds tokens; mixerlens's own S4D models and image models read floats."""
    return vocabulary(model) is not None and getattr(model, "main_input_name", "input_ids") == "input_ids"


def vocabulary(model: nn.Module) -> int | None:
    """Number of token ids, or None for a model that embeds none."""
    get = getattr(model, "get_input_embeddings", None)
    try:
        embedding = get() if callable(get) else None
    except (NotImplementedError, AttributeError):
        return None
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None


def first_position(model: nn.Module) -> int:
    """The position id of the first token: 0, or the one after the padding id for tables made that way (RoBERTa's)."""
    return max((1 + (table.padding_idx or 0) for table in _position_tables(model)), default=0)


def context_length(model: nn.Module) -> int | None:
    """The longest sequence the model is made for, or None where nothing limits it."""
    config = getattr(model, "config", None)
    declared = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
    limits = [limit for limit in declared if isinstance(limit, int) and limit > 0][:1]
    limits += [table.num_embeddings - 1 - (table.padding_idx or 0) for table in _position_tables(model)]
    return min(limits) if limits else None


def _position_tables(model: nn.Module) -> list[nn.Embedding]:
    """Learned position tables that keep a row for padding, so that positions begin after it."""
    return [
        module
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and "position" in path.split(".")[-1] and module.padding_idx is not None
    ]
