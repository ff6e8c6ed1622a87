"""``mixerlens horizon``: how far back each mixer reads."""

from __future__ import annotations

from .measuring import measure_model, number, show_table, span
from .options import Device, InputFile, Json, Layers, Length, Model, Output, Precision, Seed, Text


def horizon(
    model: Model,
    text: Text = None,
    input: InputFile = None,
    length: Length = None,
    seed: Seed = 0,
    layers: Layers = None,
    dtype: Precision = None,
    device: Device = None,
    json: Json = False,
    output: Output = None,
) -> bool:
    """Show how far back each head reads: mean distance, effective context, and half-lives, in tokens."""
    from .. import measures

    trace, measured = measure_model(
        measures.horizon, json=json, output=output, to_json=lambda found: found.to_json(),
        model=model, text=text, file=input, length=length, seed=seed, layers=layers, dtype=dtype, device=device,
    )  # fmt: skip
    if not json:
        alike = {number(found.uniform_mean) for found in measured.values()}
        show_table(
            "horizon of the heads",
            trace,
            ("mean distance", "effective context", "half-life", "of the spectrum"),
            (_cells(found) for found in measured.values()),
            [
                "effective context and half-life: smallest lags that hold 90 % and 50 % of the mass; all in tokens.",
                f"weights that are all alike would have a mean distance of {', '.join(sorted(alike))}.",
            ],
        )
    return True


def _cells(found) -> tuple[str, ...]:
    return tuple(
        span(values)
        for values in (found.mean, found.effective_context, found.half_life_measured, found.half_life_spectrum)
    )
