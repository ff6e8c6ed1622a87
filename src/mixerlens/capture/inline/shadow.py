"""Ways to look into one module's forward without copying or changing what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def shadowed(module: nn.Module, name: str, around: Callable[[Callable], Callable]) -> Iterator[None]:
    """A method of one module is replaced by ``around(method)`` while the context is open, then put back."""
    own = vars(module)
    before, had = own.get(name), name in own
    own[name] = around(getattr(module, name))
    try:
        yield
    finally:
        if had:
            own[name] = before
        else:
            del own[name]


@dataclass(frozen=True, eq=False)
class Seen:
    """One call of a watched torch function."""

    arguments: tuple[Any, ...]
    result: Any


class Watching(TorchFunctionMode):
    """While it is entered, calls of the given torch functions are noted; they compute what they always do."""

    def __init__(self, *functions: Callable) -> None:
        super().__init__()
        self.functions = functions
        self.calls: list[Seen] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in self.functions:
            self.calls.append(Seen(tuple(args), result))
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs in it is not looked at: a mode costs every torch function a call in Python."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()
