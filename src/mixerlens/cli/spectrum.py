"""``mixerlens spectrum``: the eigenvalues of each mixer's transitions."""

from __future__ import annotations

from typing import Annotated

import typer

from .measuring import measure_model, number, show_table, span
from .options import Json, Output, Run


def spectrum(
    run: Run,
    eigenvalues: Annotated[
        bool, typer.Option("--eigenvalues", help="In JSON, the eigenvalues themselves too.")
    ] = False,
    json: Json = False,
    output: Output = None,
) -> bool:
    """Show the eigenvalues of A_t, what each mixer multiplies its state by at a token or time step.

    For softmax these are ratios of the normaliser; they are a convention, so the range it spans is shown beside them.
    """
    from .. import measures
    from ..measures.record import unit_of

    trace, measured = measure_model(
        run, measures.spectrum, json=json, output=output, to_json=lambda found: found.to_json(eigenvalues=eigenvalues)
    )
    if not json:
        conventions = {found.kind: found.convention for found in measured.values()}
        show_table(
            "|eigenvalues|",
            trace,
            ("spectrum of", "all", f"largest of a {unit_of(trace)}", "gauge range"),
            (_cells(found) for found in measured.values()),
            (f"{kind}: {convention}." for kind, convention in conventions.items()),
        )
    return True


def _cells(found) -> tuple[str, str, str, str]:
    import torch

    from ..report.words import power

    def told(logs: torch.Tensor) -> str:
        return span(logs, lambda log: power(log, number))

    gauge = "-" if found.eta is None else told(torch.stack([found.eta.log_low, found.eta.log_high]))
    return found.kind, told(found.log_radius_quantiles), told(found.log_slowest), gauge
