"""``mixerlens horizon``: how far back each mixer reads."""

from __future__ import annotations

from .measuring import measure_model, number, show_table, span
from .options import Json, Output, Run


def horizon(run: Run, json: Json = False, output: Output = None) -> bool:
    """Show how far back each head reads: mean distance, effective context, and half-lives, in tokens or time steps."""
    from .. import measures
    from ..measures.record import unit_of

    trace, measured = measure_model(
        run, measures.horizon, json=json, output=output, to_json=lambda found: found.to_json()
    )
    if not json:
        alike = {number(round(found.uniform_mean, 9)) for found in measured.values()}
        show_table(
            "horizon of the heads",
            trace,
            ("mean distance", "effective context", "half-life", "of the spectrum"),
            (_cells(found) for found in measured.values()),
            [
                "effective context and half-life: smallest lags that hold 90 % and 50 % of the mass; "
                f"all in {unit_of(trace)}s.",
                f"weights that are all alike would have a mean distance of {', '.join(sorted(alike))}.",
            ],
        )
    return True


def _cells(found) -> tuple[str, ...]:
    return tuple(
        span(values)
        for values in (found.mean, found.effective_context, found.half_life_measured, found.half_life_spectrum)
    )
