"""Runs one case: the gate, the interleaved timings, the memory of each contender, and then the bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import gate, machine, resident, timing
from bench.case import Bar, Case, Contender, Size
from bench.memory import Server

LONG = 9.0  # seconds: the memory of what takes longer is measured only where a bar is about it
Row = dict[str, Any]
Say = Callable[[str], None]


def run(case: Case, quick: bool, memory: Server, say: Say) -> Row:
    """The case's row: per contender error, seconds, memory, exponent; per bar the value and whether it is met."""
    size = dict(case.quick if quick else case.size)
    row: Row = {"case": case.name, "title": case.title, "size": size, "note": case.note,
                "flops_note": case.flops_note, "quick": quick}  # fmt: skip
    ways: dict[str, Row] = {c.name: {"peer": c.peer, "native": c.native} for c in case.contenders}
    row["contenders"] = ways
    present = []
    for c in case.contenders:
        if lacking := c.lacking:
            ways[c.name]["missing"] = lacking
        else:
            present.append(c)
    say("gate")
    red = _gate(case, present, size if quick or case.gate is None else dict(case.gate), ways)
    row["status"] = "red" if red else "green"
    if not red:
        say("timing")
        _time(case, present, size, quick, ways)
        if case.memory:
            say("memory")
            _memory(case, present, size, memory, ways)
    row["bars"] = [judge(bar, ways, red, quick) for bar in case.bars]
    return row


def _gate(case: Case, present: list[Contender], size: Size, ways: dict[str, Row]) -> bool:
    red, exact = False, {}
    for c in present:
        if c.checks:
            continue
        at = {**size, case.length: c.ladder[0]} if c.ladder else size
        try:
            error = gate.check(case, c, at, exact)
        except Exception as failure:
            ways[c.name]["failure"] = f"{type(failure).__name__}: {failure}".splitlines()[0][:200]
            red = True
            continue
        ways[c.name].update(error=error, tolerance=c.tolerance, gate=at)
        red |= not error <= c.tolerance
    return red


def _time(case: Case, present: list[Contender], size: Size, quick: bool, ways: dict[str, Row]) -> None:
    """All contenders at all lengths in one round-robin; the machine's GEMM among them where flops are counted."""
    lengths: dict[str, list[int]] = {}
    for c in present:
        own = case.quick_lengths if quick and case.lengths else case.lengths
        if c.ladder:
            own = _rungs(case, c, size, c.ladder[:3] if quick else c.ladder)
        lengths[c.name] = list(own) or [size.get(case.length, 0)]
    calls: dict[str, Callable[[], Any]] = {}
    for c in present:
        for n in lengths[c.name]:
            given = c.prepare(gate.inputs(case, {**size, case.length: n} if n else size))
            calls[f"{c.name}@{n}"] = lambda call=c.call, given=given: call(given)
    flops = 0
    if case.flops is not None:
        calls["GEMM@0"], flops = machine.gemm()
    once = [f"{c.name}@{n}" for c in present for n in lengths[c.name] if c.once]
    samples = timing.interleaved(
        calls,
        0.0 if quick else case.seconds,
        1 if quick else timing.ROUNDS,
        0.02 if quick else None,
        once,
        turn=resident.Backed().turn,
    )
    for c in present:
        found = [timing.summary(samples[f"{c.name}@{n}"]) for n in lengths[c.name]]
        way, medians = ways[c.name], [s["median"] for s in found]
        way["seconds"] = found[-1]
        if len(found) > 1:
            way["by_length"] = {str(n): s for n, s in zip(lengths[c.name], found, strict=True)}
            way["exponent"] = timing.exponent(lengths[c.name], medians)
            way["last_slope"] = timing.last_slope(lengths[c.name], medians)
        if c.ladder and lengths[c.name][-1] != size[case.length]:
            way["measured_at"] = lengths[c.name][-1]
            way["extrapolated"] = timing.extrapolate(lengths[c.name], medians, size[case.length])
        if case.flops is not None and not c.ladder:
            rate = flops / timing.summary(samples["GEMM@0"])["median"]
            at = {**size, case.length: lengths[c.name][-1]}
            way["share"] = case.flops(at) / way["seconds"]["median"] / rate
            if case.multiply_adds is not None:
                way["multiply_add_share"] = case.multiply_adds(at) / way["seconds"]["median"] / rate


def _rungs(case: Case, c: Contender, size: Size, ladder: tuple[int, ...]) -> tuple[int, ...]:
    """The longest length that the memory allows, and two that are at most a half and a quarter of it."""
    chosen: list[int] = []
    for n in reversed([n for n in ladder if n <= size[case.length]]):
        if len(chosen) < 3 and (n <= chosen[0] / 2 if chosen else _fits(c, {**size, case.length: n})):
            chosen.insert(0, n)
    return tuple(chosen)


def _fits(c: Contender, size: Size) -> bool:
    return c.fits is None or c.fits(size) <= 0.6 * machine.available()


def _memory(case: Case, present: list[Contender], size: Size, memory: Server, ways: dict[str, Row]) -> None:
    for c in present:
        way = ways[c.name]
        if way["seconds"]["median"] > LONG and not any(
            c.name in (bar.ours, bar.against) and bar.measure in ("memory", "MiB") for bar in case.bars
        ):
            continue
        longest = way.get("measured_at") or max((int(n) for n in way.get("by_length", {})), default=0)
        try:
            way["bytes"] = memory.peak(case, c.name, {**size, case.length: longest} if longest else size)
        except RuntimeError as failure:
            way["memory_failure"] = str(failure)[:200]


def judge(bar: Bar, ways: dict[str, Row], red: bool = False, quick: bool = False) -> Row:
    """The bar's value and whether it is met; no value where something of it was not measured, no verdict if quick."""
    found: Row = {"measure": bar.measure, "ours": bar.ours, "against": bar.against, "bound": bar.bound,
                  "least": bar.least, "value": None, "met": None}  # fmt: skip
    if red:
        return found
    try:
        value = _value(bar, ways[bar.ours], ways.get(bar.against, {}))
    except (KeyError, ZeroDivisionError):
        return found
    if bar.bound is None or quick:
        return {**found, "value": value}
    return {**found, "value": value, "met": value >= bar.bound if bar.least else value <= bar.bound}


def _value(bar: Bar, ours: Row, against: Row) -> float:
    match bar.measure:
        case "speed":
            return _seconds(against) / _seconds(ours)
        case "units":
            return _seconds(ours) / _seconds(against)
        case "memory":
            return working(against) / max(working(ours), 1 << 20)
        case "MiB":
            return ours["bytes"]["peak"] / 2**20
        case "seconds":
            return _seconds(ours)
        case "excess":
            return _seconds(ours) - _seconds(against)
        case "share" | "exponent":
            return ours[bar.measure]
    raise KeyError(bar.measure)


def _seconds(way: Row) -> float:
    return way["extrapolated"] if "extrapolated" in way else way["seconds"]["median"]


def working(way: Row) -> int:
    """Bytes beyond the result itself, which everybody has to hold."""
    return max(way["bytes"]["peak"] - way["bytes"]["result"], 0)
