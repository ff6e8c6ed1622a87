"""Reading .gguf files with transformers and the gguf package, several times faster and without a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np


@contextmanager
def quick_reading() -> Iterator[None]:
    """While it is open, transformers reads a .gguf file once, not once for its configuration and once for its weights.

    The bytes are sliced as a plain array: each slice of a memory map is an object that costs five times as much, and
    a vocabulary takes a million. Tables of tensor names are made once for each architecture, not for every module.
    """
    from transformers import modeling_gguf_pytorch_utils as reading

    with ExitStack() as undo:
        _replace(undo, reading, "tqdm", lambda tensors, **_: tensors)  # a bar that no setting turns off
        try:
            import gguf
        except ImportError:  # transformers says so in its own words
            yield
            return

        class Reader(gguf.GGUFReader):
            def _get(self, *args: Any, **kwargs: Any) -> Any:
                if isinstance(self.data, np.memmap):
                    self.data: Any = self.data.view(np.ndarray)
                return super()._get(*args, **kwargs)

        _replace(undo, gguf, "GGUFReader", cache(Reader))
        _replace(undo, gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map))
        yield


def _replace(undo: ExitStack, module: Any, name: str, value: Any) -> None:
    undo.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)
