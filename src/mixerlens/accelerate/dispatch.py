"""Module globals that are looked up when a modelling file runs, answered by the module that is running.

A scan function is a global that all models of a class share, so it is not replaced for one of them: in its place comes
a function that finds out which module called it, and computes what it did before for every module but those that were
asked for. The models themselves are not touched: no hook, no attribute, so that they can be copied and saved meanwhile.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from mixerlens.accelerate.replacements import REPLACEMENTS, Named
from mixerlens.capture.code import users
from mixerlens.errors import InputError

NATURE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
OUTSIDE = {id(f.__code__) for f in (nn.Module._call_impl, nn.Module._wrapped_call_impl)}  # type: ignore[attr-defined]

_changing = threading.RLock()


@dataclass(eq=False)
class Record:
    """What became of one model's calls: path -> how many were replaced, and path -> why the original was called.

    Holds no module: dispatchers keep it as long as the module lives.
    """

    replaced: dict[str, int] = field(default_factory=dict)
    kept: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One call of a scan function by an accelerated module."""

    dispatcher: Dispatcher
    path: str
    args: tuple[Any, ...]
    kwargs: Named
    named: Named

    def original(self) -> Any:
        return self.dispatcher.original(*self.args, **self.kwargs)

    def replacement(self) -> Any:
        return self.dispatcher.replacement.compute(self.named)

    def with_state(self, change: Callable[[Any], Any] = lambda x: x) -> Call:
        """The same call with every argument changed, and asking for the last state."""
        named = {name: change(x) for name, x in self.named.items()}
        return self.dispatcher.prepared(self.path, (), named | {self.dispatcher.replacement.state: True})

    def lengthened(self, tokens: int) -> Call:
        """The same call on its own tokens over and over, at least so many, asking for the last state."""
        names, axis = self.dispatcher.replacement.tokens
        named = dict(self.named)
        for name in names:
            x = named[name]
            if x is not None:
                named[name] = torch.cat([x] * -(-tokens // x.shape[axis]), axis)
        return self.dispatcher.prepared(self.path, (), named | {self.dispatcher.replacement.state: True})


How = Callable[[Call], Any]
_how: ContextVar[How] = ContextVar("how", default=Call.replacement)


@contextmanager
def answered(how: How) -> Iterator[None]:
    """Within this thread, the calls of accelerated modules are answered by `how`: `Call.original` runs the library."""
    before = _how.set(how)
    try:
        yield
    finally:
        _how.reset(before)


class Dispatcher:
    """Stands for one scan function in the globals of one modelling file; see `attach`."""

    def __init__(self, scope: dict[str, Any], name: str) -> None:
        self.scope, self.name = scope, name
        self.original: Callable[..., Any] = scope[name]
        self.replacement = REPLACEMENTS[name]
        self.signature = inspect.signature(self.original)
        self._codes: dict[int, CodeType] = {}
        self._owners: weakref.WeakKeyDictionary[nn.Module, list[tuple[Record, str]]] = weakref.WeakKeyDictionary()

        @functools.wraps(self.original)
        def function(*args: Any, **kwargs: Any) -> Any:
            return self._answer(args, kwargs)

        function.dispatcher = self  # type: ignore[attr-defined]
        self.function = function

    def add(self, module: nn.Module, record: Record, path: str) -> None:
        with _changing:
            self._codes |= {id(user.__code__): user.__code__ for user in users(type(module), self.name)}
            self._owners.setdefault(module, []).append((record, path))
            self.scope[self.name] = self.function

    def remove(self, module: nn.Module, record: Record, path: str) -> None:
        with _changing:
            owners = self._owners.get(module, [])
            if (record, path) in owners:
                owners.reverse()  # the last one that was added
                owners.remove((record, path))
                owners.reverse()
            if not owners:
                self._owners.pop(module, None)
            self._retire()

    def prepared(self, path: str, args: tuple[Any, ...], kwargs: Named) -> Call:
        """Raises TypeError where the arguments do not fit the function's parameters."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        swallowed = next((n for n, p in self.signature.parameters.items() if p.kind is p.VAR_KEYWORD), "")
        named = dict(bound.arguments)
        return Call(self, path, args, kwargs, named | named.pop(swallowed, {}))

    def _retire(self) -> None:
        """Put the function back once nobody needs this one.

        Where something else has taken the place meanwhile, it is left alone; if that gives it back later, the next call
        ends here again.
        """
        with _changing:
            if not self._owners and self.scope.get(self.name) is self.function:
                self.scope[self.name] = self.original

    def _answer(self, args: tuple[Any, ...], kwargs: Named) -> Any:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self.original(*args, **kwargs)
        module = self._running()
        owners = self._owners.get(module) if module is not None else None
        if not owners:
            self._retire()
            return self.original(*args, **kwargs)
        record, path = owners[-1]
        try:
            call = self.prepared(path, args, kwargs)
        except TypeError:  # the function says it in its own words
            return self.original(*args, **kwargs)
        why = self._uncovered(call.named)
        if why is None:
            try:
                answer = _how.get()(call)
                record.replaced[path] = record.replaced.get(path, 0) + 1
                return answer
            except InputError as error:  # the scans check their arguments before they compute
                why = str(error)
        reasons = record.kept.setdefault(path, {})
        reasons[why] = reasons.get(why, 0) + 1
        return call.original()

    def _running(self) -> nn.Module | None:
        """The module whose method called the function: between the two there is no other module's call."""
        frame = inspect.currentframe()
        while frame is not None and id(frame.f_code) not in OUTSIDE:
            if id(frame.f_code) in self._codes and frame.f_code.co_argcount:
                found = frame.f_locals.get(frame.f_code.co_varnames[0])
                if isinstance(found, nn.Module):
                    return found
            frame = frame.f_back
        return None

    def _uncovered(self, named: Named) -> str | None:
        """Why these arguments are not for our scans, or None."""
        given = [name for name in self.replacement.empty if named.get(name) is not None]
        if given:
            return f"{', '.join(given)} was given"
        tensors = {name: named[name] for name in self.replacement.needed if isinstance(named[name], Tensor)}
        for name, x in tensors.items():
            if type(x) not in (Tensor, nn.Parameter):
                return f"{name} is a {type(x).__name__}, not a plain tensor"
            if x.device.type != "cpu":
                return f"{name} is on {x.device}; the scans replace the paths of the CPU"
            if not x.is_floating_point():
                return f"{name} is {x.dtype}"
            if 0 in x.shape:
                return f"{name} is empty, {tuple(x.shape)}"
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on, which chooses the precision of every operation of the original"
        if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
            return "a function transform or forward-mode derivative is active; the scans have reverse mode only"
        return None


def unknown_version(function: Callable[..., Any], name: str) -> str | None:
    """Why a function of this name is not the one that is replaced, by its parameters; None if it is."""
    replacement = REPLACEMENTS[name]
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return f"the parameters of {name} cannot be read"
    named = [n for n, p in parameters.items() if p.kind not in NATURE]
    missing = [n for n in replacement.needed if n not in named]
    more = [n for n in named if n not in (*replacement.needed, *replacement.known, *replacement.empty)]
    if missing or more:
        wrong = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(more)}"] * bool(more)
        return f"{name} is of an unknown version, {' and '.join(wrong)}"
    return None


def attach(module: nn.Module, name: str, record: Record, path: str) -> list[Callable[[], None]]:
    """Answer this module's calls of the function from now on.  Gives what ends it, a function a modelling file."""
    scopes = {id(user.__globals__): user.__globals__ for user in users(type(module), name) if name in user.__globals__}
    ends = []
    for scope in scopes.values():
        with _changing:
            there = getattr(scope[name], "dispatcher", None)
            mine = isinstance(there, Dispatcher) and there.function is scope[name]
            found = there if isinstance(there, Dispatcher) and mine else Dispatcher(scope, name)
            found.add(module, record, path)
        ends.append(functools.partial(found.remove, module, record, path))
    return ends


def functions(module: nn.Module) -> dict[str, Callable[..., Any]]:
    """The functions with a replacement that a module's code looks up, by name."""
    return {
        name: user.__globals__[name]
        for name in REPLACEMENTS
        for user in users(type(module), name)
        if name in user.__globals__
    }
