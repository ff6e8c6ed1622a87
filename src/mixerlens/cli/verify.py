"""``mixerlens verify``: does the model compute what its own definition says?"""

from __future__ import annotations

from ..files import check_writable, write_whole
from .forward import run_once, verify_trace
from .options import Checks, Json, Output, Run, parse_checks
from .output import print_json, progress, show, to_json_text


def verify(run: Run, checks: Checks = None, json: Json = False, output: Output = None) -> bool:
    """Check the model's mixers against their operators, and its cache and padding against the plain forward.

    Exit code 0 if no check fails, 1 if one does.
    """
    from ..measures.record import unit_of
    from ..report import certificate_table

    wanted = parse_checks(checks)
    if output is not None:
        check_writable(output)
    with progress(not json) as display:
        trace = run_once(run, display)
        certificate = verify_trace(trace, wanted, display)
    result = certificate.to_json()
    if output is not None:
        write_whole(output, to_json_text(result) + "\n")
    if json:
        print_json(result)
    else:
        show(certificate_table(certificate, unit_of(trace)))
    return certificate.passed
