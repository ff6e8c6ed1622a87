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


@cache
def parameters(kind: type) -> frozenset[str]:
    """The names of the parameters of a module class's forward."""
    try:
        return frozenset(inspect.signature(kind.forward).parameters)  # type: ignore[attr-defined]
    except (ValueError, TypeError, AttributeError):  # one that is not written in Python
        return frozenset()


def dotted(function: Callable[..., Any]) -> str:
    """``package.module.function``."""
    plain = inspect.unwrap(function)
    return f"{plain.__module__}.{plain.__qualname__}"


def rounds_to_float32(function: Callable[..., Any]) -> bool:
    """``x.float()`` or ``torch.float32`` occur in the code of a function or of one of its own file that it calls, so
    that it may round what it is given.

    A sign, not a proof: the cast may sit in a branch that is not taken, and code of other files is not read.
    """
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        return False
    return any(_loads_float(code) for reached in (plain, *callees(plain)) for code in codes(reached.__code__))


@cache
def _loads_float(code: CodeType) -> bool:
    return any(
        step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in ("float", "float32")
        for step in dis.get_instructions(code)
    )


def _nothing() -> None:
    """Stands for a name that no function of the file has."""


def callees(function: FunctionType) -> list[FunctionType]:
    """The functions of its own file that a function uses, and those that they use."""
    found: list[FunctionType] = []
    waiting = [function]
    while waiting:
        for name in names(waiting.pop()):
            inner = inspect.unwrap(function.__globals__.get(name, _nothing))
            if isinstance(inner, FunctionType) and inner.__module__ == function.__module__ and inner not in found:
                found.append(inner)
                waiting.append(inner)
    return found


# what may carry numbers from one token to another, beside the functions of a file
# fmt: off
MIXING_NAMES = frozenset((
    "matmul", "bmm", "baddbmm", "mm", "einsum", "softmax", "cumsum", "cumprod", "logcumsumexp", "roll", "flip", "fft",
    "scan", "associative_scan", "scaled_dot_product_attention", "get_interface",
))
# fmt: on
# the second is the one-token twin of the convolution itself
MIX_NO_TOKENS = ("apply_mask_to_padding_states", "causal_conv1d_update")


@cache
def mixes_by_itself(kind: type, besides: str) -> bool:
    """Whether a class's code may mix tokens beside calling one function: another function of its file, a matrix
    product, a running sum, a loop.  Rather too often than not often enough.
    """
    for function in functions(kind):
        if function.__name__ == "__init__":
            continue
        used = names(function)
        if used & MIXING_NAMES:
            return True
        others = (inspect.unwrap(function.__globals__.get(name, _nothing)) for name in used - {besides, *MIX_NO_TOKENS})
        if any(isinstance(other, FunctionType) and other.__module__ == function.__module__ for other in others):
            return True
        steps = [step for code in codes(function.__code__) for step in dis.get_instructions(code)]
        if any(step.opname == "FOR_ITER" or (step.opname == "BINARY_OP" and "@" in step.argrepr) for step in steps):
            return True
    return False
