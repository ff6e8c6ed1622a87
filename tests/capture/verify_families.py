"""Certificates of a tiny random model of every recurrent, linear and hybrid family of transformers.

    make verify-families            one table; ARGS=--json for JSON, ARGS="mamba rwkv" for some families only

Exit code 0 iff every mixer's operator is within 1e-5 of what the model's own mixer computed (float32), nothing was left
out beyond what is stated below, and the faults found are exactly the library's that are listed below.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: it reads this once

import torch

import mixerlens as ml
from capture import recurrent, tiny
from mixerlens.verify import Certificate

BAR = 1e-5
TOKENS = 21

BOTH = ("plain", "position_ids")
RESTART = "the scan of Mamba-1 takes no initial state: several tokens on a cache start from zero"
ROPE = "position ids restart at 0 on a cache unless they are passed"
CLAMP = "the scan clamps its step sizes at time_step_min, its one-token twin does not"
KEPT = "its state lives on its modules; several tokens on a cache start the convolution from zeros"
BEFORE = "no attention mask reaches its recurrence, so padding before a row becomes part of its state"
CONV = "padding is not masked before the convolution either, which position ids do not mend"
SIZES = "its cache rounds head dimensions up to multiples of 64, which its layers do not"


@dataclass(frozen=True)
class Fault:
    """A fault of the library, transformers 5.23.0, that a check must find: the checks' variants, and why."""

    check: str
    variants: tuple[str, ...]
    why: str


FAULTS: dict[str, tuple[Fault, ...]] = {
    "mamba": (Fault("chunk", ("plain",), RESTART),),
    "falcon_mamba": (Fault("chunk", ("plain",), RESTART),),
    "jamba": (Fault("chunk", BOTH, RESTART),),
    "zamba": (Fault("chunk", BOTH, RESTART),),
    "bamba": (Fault("step", ("plain",), ROPE), Fault("chunk", ("plain",), ROPE)),
    "zamba2": (Fault("step", BOTH, CLAMP),),
    "nemotron_h": (Fault("step", BOTH, CLAMP),),
    "recurrent_gemma": (
        Fault("chunk", BOTH, KEPT),
        Fault("padding", ("left/plain",), BEFORE),
        Fault("padding", ("left/position_ids",), CONV),
    ),
    "rwkv": (Fault("padding", ("left/plain",), BEFORE),),
    "xlstm": (Fault("step", ("plain",), SIZES), Fault("chunk", ("plain",), SIZES)),
}
# modules that mix tokens and are no mixer of values, or are not run on text
LEFT_OUT = {
    "qwen4_exp": ("model.layers.1.ple.ple_embedding",),
    "glm5_next": ("model.visual.blocks.0.attn",),
}


@dataclass(frozen=True)
class Row:
    """What was found for one family.  ok: as the module's first lines say."""

    family: str
    mixers: dict[str, int]
    operator_error: float | None
    faults: list[dict[str, Any]]
    absent: list[str]
    left_out: dict[str, str]
    seconds: float
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **vars(self)}


def check(name: str, checks: tuple[str, ...] = ("operator", "step", "chunk", "padding")) -> Row:
    """Build, open, trace and certify one family."""
    began = time.perf_counter()
    trace = ml.open(tiny.stirred(name)).trace(tiny.ids(2, TOKENS))
    certificate = trace.verify(checks=checks)
    return judge(name, trace, certificate, time.perf_counter() - began, checks)


def judge(name: str, trace: ml.Trace, found: Certificate, seconds: float, checks: tuple[str, ...]) -> Row:
    operator = [c for c in found.checks if c.check == "operator"]
    error = max((c.max_rel for c in operator if c.variant == "model" and c.max_rel is not None), default=None)
    known = {(f.check, v): f.why for f in FAULTS.get(name, ()) if f.check in checks for v in f.variants}
    failed = {(c.check, c.variant): c for c in found.checks if c.check != "operator" and c.status == "fail"}
    faults = [
        {"check": key[0], "variant": key[1], "error": c.max_rel, "why": known.get(key), "reason": c.reason}
        for key, c in failed.items()
    ]
    absent = [f"{check}/{variant}" for check, variant in known if (check, variant) not in failed]
    problems = [f"operator: {c.reason}" for c in operator if c.status == "fail"]
    problems += [f"operator: {c.reason}" for c in operator if c.variant == "beside"]
    if error is None or not error <= BAR:
        problems.append(f"operator error {number(error)} is not within {BAR}")
    problems += [f"unknown fault in {f['check']}/{f['variant']}: {f['reason']}" for f in faults if f["why"] is None]
    problems += [f"the known fault in {what} was not found" for what in absent]
    expected = LEFT_OUT.get(name, ())
    problems += [f"{path} was left out: {why}" for path, why in trace.not_captured.items() if path not in expected]
    mixers = dict(Counter(call.family for call in trace.mixers.values()))
    return Row(name, mixers, error, faults, absent, trace.not_captured, round(seconds, 1), problems)


def number(x: float | None) -> str:
    return "none" if x is None else f"{x:.1e}"


def table(rows: list[Row]) -> Any:
    """The rows as a rich table, and as notes the reasons of the faults and what was left out."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown = Table("family", "mixers", "operator error", "faults of the library", "notes", "as expected")
    shown.columns[0].no_wrap = True
    notes: dict[str, int] = {}
    for row in rows:
        mixers = "\n".join(f"{count} {family}" for family, count in row.mixers.items())
        faults = "\n".join(
            f"{fault['check']} {fault['variant']}: " + ("crash" if fault["error"] is None else f"{fault['error']:.0e}")
            for fault in row.faults
        )
        reasons = [fault["why"] or "unknown" for fault in row.faults]
        reasons += [f"left out: {path}: {why}" for path, why in row.left_out.items()]
        numbers = ", ".join(str(notes.setdefault(why, len(notes) + 1)) for why in dict.fromkeys(reasons))
        cells = (row.family, mixers, number(row.operator_error), faults, numbers, "yes" if row.ok else "NO")
        shown.add_row(*(Text(cell) for cell in cells))
    told = [Text(f"{number}  {why}") for why, number in notes.items()]
    wrong = [Text(f"{row.family}: {problem}", "bold red") for row in rows for problem in row.problems]
    return Group(shown, *told, *wrong)


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if name != "--json"] or list(recurrent.FAMILIES)
    unknown = [name for name in names if name not in recurrent.FAMILIES]
    if unknown:
        print(f"unknown family {unknown[0]}: there are {', '.join(recurrent.FAMILIES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows = []
    for k, name in enumerate(names):
        if sys.stderr.isatty():
            print(f"\r{k + 1}/{len(names)} {name:<20}", end="", file=sys.stderr, flush=True)
        rows.append(check(name))
    if sys.stderr.isatty():
        print(f"\r{'':<40}\r", end="", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps([row.to_json() for row in rows], indent=1))
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    from mixerlens.capture.quiet import quiet

    with quiet():
        sys.exit(main(sys.argv[1:]))
