"""Verify the shipped specimens and write a report on each: what `make demo` runs.

    python examples/demo.py [--output FOLDER]

The models in `specimens/` were trained by `specimens/train`. Every check must hold, with one exception: transformers
restarts the state of Mamba-1 when several tokens continue a cache, so the `chunk` check fails on the jamba model.
That is a fault of the library the model runs in, and it is shown as one. Any other failing check makes the demo fail,
and so does that fault when it is not found.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console

import mixerlens as ml
from mixerlens.measures.record import unit_of

SPECIMENS = Path(__file__).resolve().parents[1] / "specimens"
TOKENS = 384
DIGITS = 10
DURATION = "half a minute on one core"
CHUNK_FAULT = "transformers restarts Mamba-1's state when several tokens continue a cache"

console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


class Shown(NamedTuple):
    """A report, and whether the failing checks were exactly the known ones."""

    path: Path
    good: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("reports"), help="folder of the reports (%(default)s)")
    folder = parser.parse_args().output
    torch.set_num_threads(1)  # models this small are slower on two
    digits = torch.from_numpy(np.load(SPECIMENS / "digits-s4d" / "examples.npy")[:DIGITS])
    text = (SPECIMENS / "text" / "held-out.txt").read_text(encoding="utf-8")[:TOKENS]
    console.print(f"Verifies three small trained models and writes a report on each to {folder}: about {DURATION}.\n")
    shown = [
        show("qwen3-next-bytes", ml.open(SPECIMENS / "qwen3-next-bytes"), text, folder),
        show("digits-s4d", ml.open(SPECIMENS / "digits-s4d"), digits, folder),
        show("jamba-bytes", ml.open(SPECIMENS / "jamba-bytes"), text, folder, known_faults={"chunk": CHUNK_FAULT}),
    ]
    return finish(shown)


def show(name: str, lens: ml.Lens, inputs, folder: Path, known_faults: dict[str, str] | None = None) -> Shown:
    """Verify one model and write its report.

    known_faults: check -> the reason why it is known to fail in the library the model runs in.
    """
    known_faults = known_faults or {}
    start = time.perf_counter()
    console.rule(f"[bold]{name}", align="left")
    trace = lens.trace(inputs)
    certificate = trace.verify()
    failed = {check.check for check in certificate.checks if check.status == "fail"}
    for check, reason in known_faults.items():
        if check in failed:
            console.print(f"[yellow]{check}: a known fault of the library, found as it should be:[/] {reason}.")
        else:
            console.print(f"[red]{check}: the known fault was not found:[/] {reason}.")
    console.print(certificate.render(unit_of(trace)))
    for check in sorted(failed - known_faults.keys()):
        console.print(f"[red]{check}: fails, and is not known to.[/]")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.html"
    ml.report.write(trace, certificate, path)
    console.print(f"report: {path}  ({path.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - start:.0f} s)\n")
    return Shown(path, failed == known_faults.keys())


def finish(shown: list[Shown]) -> int:
    """Say where the reports are; the exit code of the demo."""
    for report in shown:
        console.print(f"open {report.path.resolve().as_uri()}", soft_wrap=True)
    good = all(report.good for report in shown)
    console.print("[green]Everything is as it should be.[/]" if good else "[red]Something is not as it should be.[/]")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
