"""What a function's bytecode says about it: the names it uses, and whether it rounds to float32 by itself.

Modelling files look their scan functions up by name when they run, so the names a class uses tell which mixer it is
without running it and without a table of models.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn


def functions(kind: type) -> Iterator[FunctionType]:
    """The plain functions a module class defines or inherits (decorators unwrapped), up to torch's own class."""
    for base in kind.__mro__:
        if base in (nn.Module, object):
            return
        for item in vars(base).values():
            inner = item.__func__ if isinstance(item, (staticmethod, classmethod)) else item
            inner = inspect.unwrap(inner) if callable(inner) else inner
            if isinstance(inner, FunctionType):
                yield inner


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those nested in it (comprehensions, inner functions)."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def names(function: FunctionType) -> frozenset[str]:
    """Global and attribute names that a function uses."""
    return frozenset(name for code in codes(function.__code__) for name in code.co_names)


@cache
def users(kind: type, name: str) -> tuple[FunctionType, ...]:
    """The functions of a module class that use a name."""
    return tuple(function for function in functions(kind) if name in names(function))


def dotted(function: Callable[..., Any]) -> str:
    """``package.module.function``."""
    plain = inspect.unwrap(function)
    return f"{plain.__module__}.{plain.__qualname__}"


def rounds_to_float32(function: Callable[..., Any]) -> bool:
    """``x.float()`` or ``torch.float32`` occur in the function's own code, so that it may round what it is given.

    A sign, not a proof: the cast may sit in a branch that is not taken, and what the function calls is not read.
    """
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        return False
    attributes = ("LOAD_ATTR", "LOAD_METHOD")
    return any(
        step.opname in attributes and step.argval in ("float", "float32")
        for code in codes(plain.__code__)
        for step in dis.get_instructions(code)
    )
