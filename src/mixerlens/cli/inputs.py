"""What the model is run on: text, a file, or seeded random tokens (random numbers for models that take floats)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ..capture import Lens

DEFAULT_LENGTH = 128


def model_input(lens: Lens, *, text: str | None, file: Path | None, length: int | None, seed: int) -> Tensor:
    """The input that ``--text``, ``--input``, ``--length`` and ``--seed`` ask for, ready for ``lens.trace``.

    Raises:
        InputError: options that contradict each other, or an input this model cannot take.
    """
    if text is not None and file is not None:
        raise InputError("--text and --input are two inputs; give one of them")
    if length is not None and length < 1:
        raise InputError(f"--length {length}: at least 1 token is needed")
    content = read_file(file) if file is not None else text
    if content is None:
        return random_input(lens, length, seed)
    if isinstance(content, str):
        inputs = lens.prepare(content).inputs if length is None else _first_tokens(lens, content, length)
    else:
        inputs = _tensor(content, file)
    return inputs if length is None or inputs.dim() < 2 else inputs[:, :length]  # one axis is refused later


def read_file(path: Path) -> str | np.ndarray:
    """The array of a .npy or .npz file, or the text of any other.

    Raises:
        InputError: no such file, a broken or pickled array, several arrays, or text that is not UTF-8.
    """
    if path.is_dir():
        raise InputError(f"--input {path}: that is a folder; give a .npy, .npz or text file")
    if not path.exists():  # pipes are welcome
        raise InputError(f"--input {path}: there is no such file")
    if path.suffix not in (".npy", ".npz"):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"--input {path}: neither .npy, .npz nor UTF-8 text (byte {error.start})") from error
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        names = loaded.files
        if len(names) != 1 and "inputs" not in names:
            raise InputError(f"--input {path}: holds {len(names)} arrays; keep one, or name one of them 'inputs'")
        return loaded["inputs" if "inputs" in names else names[0]]
    except InputError:
        raise
    except Exception as error:  # numpy raises ValueError, EOFError, BadZipFile, ... for what is not an array file
        from ..capture.checkpoint import one_line

        raise InputError(f"--input {path}: not a readable array file ({one_line(error)})") from error


def _tensor(array: np.ndarray, path: Path | None) -> Tensor:
    import torch

    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise InputError(f"--input {path}: holds {array.dtype}; integers (token ids) or floats are needed")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.int64))


def _first_tokens(lens: Lens, text: str, length: int) -> Tensor:
    """The first tokens of a text that may be far longer than the context."""
    import torch

    from ..capture.inputs import token_ids
    from ..capture.quiet import quiet

    if lens.tokenizer is None:
        return lens.prepare(text).inputs  # which says what is missing
    with quiet():  # the length is no mistake here
        return torch.tensor([token_ids(text, lens.tokenizer)])


def random_input(lens: Lens, length: int | None, seed: int) -> Tensor:
    """Seeded random ids (1, length) without the special ones, or standard normal numbers (1, length, channels)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    vocabulary = lens.info()["vocabulary"]
    channels = getattr(getattr(lens.model, "config", None), "channels", None)
    if vocabulary is None:
        if not isinstance(channels, int):
            raise InputError(f"{lens.model_type} reads no tokens; give its input as an array with --input FILE.npy")
        return torch.randn(1, length or DEFAULT_LENGTH, channels, generator=generator)
    ordinary = torch.tensor(sorted(set(range(vocabulary)) - _special_ids(lens)))
    count = length or min(DEFAULT_LENGTH, lens.context_length or DEFAULT_LENGTH)
    return ordinary[torch.randint(len(ordinary), (1, count), generator=generator)]


def _special_ids(lens: Lens) -> set[int]:
    """Ids that mean padding, beginning or end: a random sequence of ordinary tokens has none of them."""
    if lens.tokenizer is not None:
        return set(lens.tokenizer.all_special_ids)
    config = lens.model.config
    ids = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos"))
    return {number for number in ids if isinstance(number, int)}
