"""What a specification may hold: checks of plain values, each with one line that names the field and the value."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mixerlens.errors import InputError

FEW = 24  # names an error lists
LONG = 60  # characters of a value in an error
LARGEST_VECTOR = 2**22  # numbers of all heads at one token
LARGEST = 2**20  # no size of a specification is larger

Check = Callable[[str, Any], Any]
REQUIRED: Any = object()


@dataclass(frozen=True)
class Option:
    """One option of a kind of part: ``check(field, value)`` returns the value or raises InputError."""

    check: Check
    default: Any = REQUIRED
    says: str = ""


def shown(value: object) -> str:
    """A value as files write it, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, int) and abs(value) >= 10**LONG:
        return f"a number of more than {LONG} digits"
    text = repr(value)
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."


def unknown(field: str, name: object, known: Collection[str]) -> InputError:
    """The error for a name that does not exist, with the nearest ones that do, and all where they are few."""
    near = get_close_matches(name, known, n=3) if isinstance(name, str) else []
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    if not known:
        return InputError(f"{field}: {shown(name)} is unknown: there is nothing to choose here; drop it")
    told = f"known are {', '.join(sorted(known))}" if len(known) <= FEW else f"{len(known)} others are known"
    return InputError(f"{field}: {shown(name)} is unknown; {hint}{told}")


def choice(*names: str) -> Check:
    """One of the given words."""

    def check(field: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise unknown(field, value, names)
        return value

    return check


def integer(low: int = 1, high: int = LARGEST, *, none: bool = False) -> Check:
    """A whole number between low and high; also None where ``none``."""

    def check(field: str, value: Any) -> int | None:
        if value is None and none:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            allowed = f"a whole number from {low} to {high}{' or null' * none}"
            raise InputError(f"{field}: {shown(value)} must be {allowed}")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf, *, words: Collection[str] = ()) -> Check:
    """A finite number between low and high, or one of the words."""

    def check(field: str, value: Any) -> float | str:
        if isinstance(value, str) and value in words:
            return value
        given = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with suppress(OverflowError):  # of an integer beyond all floats
                given = float(value)
        if not math.isfinite(given) or not low <= given <= high:
            span = "" if low == -math.inf else f" from {low:g} on" if high == math.inf else f" from {low:g} to {high:g}"
            other = "".join(f" or {word}" for word in sorted(words))
            raise InputError(f"{field}: {shown(value)} must be a finite number{span}{other}")
        return given

    return check


def numbers(field: str, value: Any) -> tuple[float, ...]:
    """A list of at least one finite number."""
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= 64:
        raise InputError(f"{field}: {shown(value)} must be a list of 1 to 64 numbers")
    return tuple(number()(f"{field}[{i}]", x) for i, x in enumerate(value))


def bounded(where: str, numbers: int) -> None:
    """Raise InputError for more numbers at one token than a vector of a mixer has."""
    if numbers > LARGEST_VECTOR:
        raise InputError(f"{where}: {numbers} numbers a token, at most {LARGEST_VECTOR}: choose smaller sizes")


def flag(field: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{field}: {shown(value)} must be true or false")
    return value


def text(field: str, value: Any) -> str:
    """A short printable text that is not empty."""
    if not isinstance(value, str) or not value.isprintable() or not value.strip() or len(value) > 1000:
        raise InputError(f"{field}: {shown(value)} must be a printable text of 1 to 1000 characters, not only spaces")
    return value


def mapping(field: str, value: Any, known: Iterable[str] | None = None) -> dict[str, Any]:
    """A mapping with text keys, all of them known where ``known`` is given."""
    if not isinstance(value, Mapping):
        raise InputError(f"{field}: {shown(value)} must be a mapping of names to values")
    names = None if known is None else list(known)
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{field}: {shown(key)} is no name: keys are texts")
        if names is not None and key not in names:
            raise unknown(field, key, names or [])
    return dict(value)
