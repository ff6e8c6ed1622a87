"""``mixerlens report``: one self-contained HTML file about a model on one input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..files import check_writable
from .forward import run_once, verify_trace
from .options import Checks, Json, Run, parse_checks
from .output import plain, print_json, progress, show


def report(
    run: Run,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Title of the report.", show_default="the model")] = None,
    checks: Checks = None,
    json: Json = False,
) -> bool:
    """Write one HTML file: the certificate first, then every layer and head. It needs no network to be read.

    The report is written whether the checks pass or not; the exit code is 1 if one fails.
    """
    from .. import report as reports
    from ..measures.record import unit_of

    wanted = parse_checks(checks)
    check_writable(output)
    with progress(not json) as display:
        trace = run_once(run, display)
        certificate = verify_trace(trace, wanted, display)
        display.add_task("measuring and writing", total=None)
        reports.write(trace, certificate, output, title=title)
    if json:
        print_json({"report": str(output), "certificate": certificate.to_json()})
    else:
        show(reports.certificate_table(certificate, unit_of(trace)), f"report: {plain(output)}")
    return certificate.passed
