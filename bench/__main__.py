"""Measures every path of the library against its peers. A full run whose gates are green renews docs/bench.* and the
README's table; --only, --quick and --no-publish leave them as they are."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXITS = """exit codes: 0 every gate is green (bars may be unmet: the table says which; with --strict that is 4),
1 a gate is red, 2 bad arguments, 3 a case broke off, 4 with --strict, a bar is not met, 130 interrupted"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=EXITS)
    p.add_argument(
        "--only", action="append", metavar="NAME", help="this case (or all whose name starts so); repeatable"
    )
    p.add_argument("--quick", action="store_true", help="tiny sizes, for tests of the benchmark: no results")
    p.add_argument("--threads", type=int, default=1, help="threads of torch (%(default)s)")
    p.add_argument("--json", default="reports/bench.json", metavar="FILE",
                   help="kept after every case (%(default)s); - prints the JSON instead of the table")  # fmt: skip
    p.add_argument("--resume", action="store_true", help="keep rows of FILE measured on this machine with this code")
    p.add_argument("--no-publish", action="store_true", help="leave docs/bench.* and the README's table as they are")
    p.add_argument("--strict", action="store_true", help="exit with 4 if a bar is not met")
    p.add_argument("--list", action="store_true", help="print the names of the cases")
    return p


def main(arguments: list[str] | None = None) -> int:
    p = parser()
    given = p.parse_args(arguments)
    if given.threads < 1:
        p.error(f"--threads {given.threads}: at least one")
    if given.resume and given.json == "-":
        p.error("--resume needs a file: give --json FILE")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before torch is imported
        os.environ[name] = str(given.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    if given.json != "-" and not given.list:
        from mixerlens.errors import InputError
        from mixerlens.files import check_writable

        try:
            with tempfile.TemporaryFile(dir=_folder(Path(given.json))):
                check_writable(given.json)
        except OSError as error:
            p.error(f"--json {given.json}: {error.strerror}: nothing can be kept there")
        except InputError as error:
            p.error(f"--json: {error}")
    from bench.cases import CASES

    if given.list:
        print("\n".join(f"{name}: {case.title}" for name, case in CASES.items()))
        return 0
    prefixes = given.only or [""]
    unknown = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in CASES)]
    if unknown:
        p.error(f"--only {unknown[0]}: no such case; --list prints them")
    names = [name for name in CASES if name.startswith(tuple(prefixes))]
    return run(given, names)


def _folder(path: Path) -> Path:
    """The file's folder, made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


def run(given: argparse.Namespace, names: list[str]) -> int:
    import logging

    import torch

    from bench import machine, measure, memory, publish, store
    from bench.cases import CASES

    torch.set_num_threads(given.threads)
    logging.disable(logging.WARNING)  # peers say on every start that they lack GPU kernels
    path = None if given.json == "-" else Path(given.json)
    document = store.new(machine.describe(given.threads), given.quick)
    if given.resume and path is not None:
        document, lost = store.resumed(path, document)
    start, broken, stopped = time.monotonic(), [], False

    def say(what: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {what}", file=sys.stderr, flush=True)

    if given.resume:
        kept = sum(name in document["rows"] for name in names)
        say(f"going on: {kept} of {len(names)} cases are kept" + (f"; {lost}" if lost else ""))
    if not document["rates"]:
        say("machine")
        document["rates"] = machine.rates(0.1 if given.quick else 2.0)
    with memory.Server(given.threads) as server:
        for n, name in enumerate(names):
            if given.resume and name in document["rows"]:
                continue
            prefix, begun = f"{n + 1}/{len(names)} {name}", time.monotonic()
            try:
                row = measure.run(CASES[name], given.quick, server, lambda what, at=prefix: say(f"{at}: {what}"))
            except KeyboardInterrupt:
                stopped = True
                break
            except Exception as failure:
                say(f"{prefix}: {type(failure).__name__}: {failure}")
                broken.append(name)
                continue
            row["took"] = round(time.monotonic() - begun, 1)  # seconds, of the whole case
            say(f"{prefix}: {row['status']}, took {row['took']:.0f} s")
            rows = document["rows"] | {name: row}
            document["rows"] = {known: rows[known] for known in CASES if known in rows}
            if path is not None:
                store.save(document, path)
    show(document, given.json == "-")
    if stopped:
        print("interrupted: what is finished is kept, --resume goes on with the rest", file=sys.stderr)
        return 130
    code = verdict(document, broken, given.strict)
    if code in (0, 4) and not (given.quick or given.only or given.no_publish):
        for written in publish.publish(document, list(CASES)):
            say(f"wrote {written.relative_to(store.ROOT)}")
    return code


def show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    from bench import table

    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table.machine(document), table.limits(document), table.paths(document), highlight=False)
    for head, lines in ((table.WAYS, table.ways(document)), (table.BARS, table.bars(document))):
        shown = Table(*head)
        for line in lines:
            shown.add_row(*line)
        console.print(shown)


def verdict(document: dict[str, Any], broken: list[str], strict: bool) -> int:
    """The exit code; the reason goes to stderr."""
    red = [name for name, row in document["rows"].items() if row["status"] == "red"]
    unmet = [name for name, row in document["rows"].items() if any(bar["met"] is False for bar in row["bars"])]
    if broken:
        print(f"broke off: {', '.join(broken)}", file=sys.stderr)
        return 3
    if red:
        print(f"the gate is red: {', '.join(red)}", file=sys.stderr)
        return 1
    if unmet:
        print(f"bars not met: {', '.join(unmet)}", file=sys.stderr)
    return 4 if unmet and strict else 0


if __name__ == "__main__":
    sys.exit(main())
