"""Opening a model and running it once: the part every verb but ``inspect`` needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .inputs import model_input
from .options import Dtype, Run, parse_layers
from .output import plain

if TYPE_CHECKING:
    from ..capture import Lens, Trace
    from ..verify import Certificate


def open_model(model: str, dtype: Dtype | None, device: str | None) -> Lens:
    """``mixerlens.open`` with the values of ``--dtype`` and ``--device``; raises what it raises."""
    import mixerlens

    return mixerlens.open(model, dtype=dtype and dtype.value, device=device)


def chosen_layers(text: str | None, lens: Lens) -> list[int] | None:
    """The layer numbers that ``--layers`` names, None for all.

    Raises:
        InputError: a layer the model does not have.
    """
    ranges = parse_layers(text)
    if ranges is None:
        return None
    there = sorted({layer.index for layer in lens.layers})
    for wanted in ranges:
        for index in wanted:
            if index not in there:
                raise InputError(
                    f"--layers {text}: there is no layer {index}; the layers with a mixer are {_spans(there)}"
                )
    return sorted({index for wanted in ranges for index in wanted})


def _spans(numbers: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2,5``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def run_once(run: Run, display: Any) -> Trace:
    """Open the model, give it what the options say, and trace one forward pass.

    ``display`` is the progress display of ``output.progress``.
    """
    parse_layers(run.layers)  # a slip in --layers should not cost the time to load a model
    task = display.add_task(f"opening {plain(run.model)}", total=2)
    lens = open_model(run.model, run.dtype, run.device)
    selection = chosen_layers(run.layers, lens)
    inputs = model_input(lens, text=run.text, file=run.file, length=run.length, seed=run.seed)
    display.update(task, advance=1, description="one forward pass")
    trace = lens.trace(inputs, layers=selection)
    display.update(task, advance=1)
    display.remove_task(task)
    return trace


def verify_trace(trace: Trace, checks: Sequence[str], display: Any) -> Certificate:
    """``trace.verify`` with its progress shown."""
    task = display.add_task("checking", total=None)
    certificate = trace.verify(
        checks=checks,
        progress=lambda what, done, total: display.update(task, description=plain(what), completed=done, total=total),
    )
    display.remove_task(task)
    return certificate
