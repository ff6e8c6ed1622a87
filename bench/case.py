"""What a case of the benchmark is: inputs, contenders, a float64 reference and the bars it has to meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

from torch import Tensor

Size: TypeAlias = Mapping[str, int]
Inputs: TypeAlias = dict[str, Any]
Outputs: TypeAlias = tuple[Tensor, ...]

OURS, PEER_TOLERANCE = 1e-6, 1e-3  # largest relative error in float32 that the gate lets pass


@dataclass(frozen=True)
class Contender:
    """One way to compute a case.

    run: what is timed. prepare: untimed, from the case's inputs to this contender's own layout. unpack: untimed, from
    what ``run`` returned to the outputs of the reference. needs: modules that must be importable. tolerance: the
    largest relative error against the reference that still counts as correct. reference: where this contender computes
    another quantity than the case's reference. ladder: for a way that does not reach
    the case's length, candidate lengths; ``fits`` (size -> bytes) says which of them the memory allows, and the time
    at the case's own length is extrapolated by the contender's own fitted exponent.
    remark: what is to be said of the result at the measured size. peer: not ours. native: ours, with the
    optional C library; every other way is measured without it. once: a single call, shown as one and not as a median:
    for ways of half a minute and more that no ratio rests on. checks: ``run`` itself raises where its result is wrong,
    so that no gate goes before it.
    """

    name: str
    run: Callable[[Inputs], Any]
    prepare: Callable[[Inputs], Inputs] = dict
    unpack: Callable[[Any], Outputs] = lambda out: out if isinstance(out, tuple) else (out,)
    needs: tuple[str, ...] = ()
    tolerance: float = PEER_TOLERANCE
    reference: Callable[[Inputs], Outputs] | None = None
    ladder: tuple[int, ...] = ()
    fits: Callable[[Size], float] | None = None
    remark: Callable[[Any], str] | None = None
    peer: bool = False
    native: bool = False
    once: bool = False
    checks: bool = False

    def call(self, given: Inputs) -> Any:
        """``run``, on the torch paths unless this way is the one with the C library."""
        from mixerlens import native

        with nullcontext() if self.native else native.without():
            return self.run(given)

    @property
    def lacking(self) -> str | None:
        """What has to be installed before this way can be measured."""
        from mixerlens import native

        for module in self.needs:
            try:
                if find_spec(module) is None:
                    return module.partition(".")[0]
            except ImportError:
                return module.partition(".")[0]
        return (native.status().reason or None) if self.native else None


@dataclass(frozen=True)
class Bar:
    """One promise: ``measure`` of ``ours`` (over that of ``against``) is at least or at most ``bound``.

    Without a bound nothing is promised: the value is shown beside the promises.

    measure: "speed" (time of against / time of ours), "memory" (bytes of against / bytes of ours), "units" (time of
    ours in times of against), "share" (our flops a second over the machine's GEMM), "seconds", "excess" (seconds over
    those of against), "MiB", "exponent".
    """

    measure: str
    ours: str
    bound: float | None
    against: str = ""

    @property
    def least(self) -> bool:
        return self.measure in ("speed", "memory", "share")


@dataclass(frozen=True)
class Case:
    """One row block of the table.

    make: inputs of a size, from seeded torch random numbers. size, quick, gate: the sizes that are measured, measured
    with --quick, and checked (the measured size unless given). flops: of a size, with ``flops_note`` saying how it is
    counted; multiply_adds: those of them that are no exponential, where there are exponentials. lengths: the case is
    measured at each and an exponent fitted; ``length`` is the size's key that grows.
    """

    name: str
    title: str
    make: Callable[[Size], Inputs]
    size: Size
    quick: Size
    contenders: tuple[Contender, ...]
    reference: Callable[[Inputs], Outputs]
    bars: tuple[Bar, ...] = ()
    gate: Size | None = None  # checked at this size, where the float64 reference cannot reach the measured one
    flops: Callable[[Size], float] | None = None
    multiply_adds: Callable[[Size], float] | None = None
    flops_note: str = ""
    lengths: tuple[int, ...] = ()
    quick_lengths: tuple[int, ...] = (32, 64, 128)
    length: str = "time"
    memory: bool = True
    note: str = ""
    seconds: float = 5.0  # to spend on timing; every contender gets its rounds, be it longer

    def contender(self, name: str) -> Contender:
        return next(c for c in self.contenders if c.name == name)
