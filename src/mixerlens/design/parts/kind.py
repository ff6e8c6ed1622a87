"""What a kind of part says of itself: its options, the signals it needs, and how it is built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mixerlens.design.values import REQUIRED, Option, mapping
from mixerlens.errors import InputError
from mixerlens.evolution import Evolution

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly
    from mixerlens.design.parts.evolution.decay import Decay
    from mixerlens.design.signals import Signal
    from mixerlens.design.spec import MixerSpec

Options = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """What signals depend on: heads, dimensions of query and key, and the signals of query and key themselves."""

    heads: int
    dim: int
    vectors: tuple[Signal, ...] = ()


@dataclass(frozen=True)
class Pieces:
    """What an evolution makes of query and key, (batch, time, heads, dim).

    key: as it is, which directions are made of. written: what enters, b_j k_j but for ``scaling``, which is a number
    a head and token, or None for 1.
    """

    query: Tensor
    key: Tensor
    written: Tensor
    scaling: Tensor | None
    evolution: Evolution


def no_signals(sizes: Sizes, options: Options) -> Iterable[Signal]:
    return ()


def no_check(spec: MixerSpec) -> None:
    pass


@dataclass(frozen=True)
class Kind:
    """One kind of a slot.

    says: what it is, in one line. options: by name. signals(sizes, options): what it needs. build(assembly, options,
    ...): what it makes of them; the arguments behind are the slot's. plain: an evolution that leaves query and key as
    they are, so that others can be put around it. entry(assembly, options): the key of an evolution that says itself
    what enters. decay(assembly, options): the a_t of one that has some. check(spec): raises InputError for other parts
    of the specification that this kind cannot go with.
    """

    name: str
    says: str
    build: Callable[..., Any]
    options: dict[str, Option] = field(default_factory=dict)
    signals: Callable[[Sizes, Options], Iterable[Signal]] = no_signals
    plain: bool = False
    entry: Callable[[Assembly, Options], Tensor] | None = None
    decay: Callable[[Assembly, Options], Decay] | None = None
    check: Callable[[MixerSpec], None] = no_check


def table(*kinds: Kind) -> dict[str, Kind]:
    """Kinds by name."""
    return {kind.name: kind for kind in kinds}


PART: Any = object()  # the check of an option that is itself an evolution


def options_of(where: str, kind: Kind, given: Options, read_part: Callable[[str, str, Any], Any]) -> Options:
    """The options of a kind, checked, defaults filled in. Raises InputError for what is unknown, missing or wrong."""
    given = mapping(where, given, kind.options)
    options = {}
    for name, option in kind.options.items():
        if name not in given and option.default is REQUIRED:
            raise InputError(f"{where}: {kind.name} needs {name}: {option.says or 'give a value'}")
        value = given.get(name, option.default)
        field_name = f"{where}.{name}"
        options[name] = read_part(field_name, "evolution", value) if option.check is PART else option.check(
            field_name, value
        )  # fmt: skip
    return options
