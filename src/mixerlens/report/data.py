"""Everything a report says, computed before anything is drawn."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mixerlens.errors import InputError
from mixerlens.measures.record import unit_of
from mixerlens.report.checks import Verdict, verdict
from mixerlens.report.explain import ExplainPanel, explain_panel
from mixerlens.report.heads import Fact
from mixerlens.report.layers import LayerSection, plan_layer, section
from mixerlens.report.principles import PrinciplesPart, principles_part
from mixerlens.report.waves import WavePanel, wave_panel
from mixerlens.report.words import number, plain_text, visible

MAP_BYTES = 9_000_000  # what all heat maps may take on the page, so that the file stays below 15 MB
MAX_HEADS = 16


@dataclass(frozen=True)
class ReportData:
    """What the template and the page's script show. ``tokens`` is None for float inputs: places are time steps."""

    title: str
    lede: str
    verdict: Verdict
    facts: list[Fact]
    sequence_note: str
    tokens: list[str] | None
    unit: str
    time: int
    layers: list[LayerSection]
    principles: PrinciplesPart | None
    waves: list[tuple[LayerSection, WavePanel]]
    no_ring: list[tuple[LayerSection, str]]
    explain: ExplainPanel | None
    missing: list[tuple[str, str]]

    @property
    def signs(self) -> tuple[bool, bool]:
        """Whether there are signed pictures, and whether there are others."""
        signed = {card.picture["map"]["signed"] for layer in self.layers for card in layer.cards}
        return True in signed, False in signed

    @property
    def numbered(self) -> bool:
        """Whether the tokens are shown as their numbers, which bring no spaces of their own."""
        return self.tokens is not None and all(re.fullmatch("[0-9]+", token) for token in self.tokens)

    def pictures(self) -> dict[str, Any]:
        """The JSON that the page's script draws from."""
        return {
            "time": self.time,
            "unit": self.unit,
            "tokens": self.tokens,
            "heads": [card.picture for layer in self.layers for card in layer.cards],
            "strips": {layer.id: layer.strip for layer in self.layers if layer.strip is not None},
            "waves": {panel.id: panel.pictures() for _, panel in self.waves},
            "principles": {} if self.principles is None else self.principles.pictures,
            "explain": None if self.explain is None else self.explain.picture,
        }


def gather(
    trace: Any, certificate: Any | None, *, title: str | None = None, sequence: int = 0, max_heads: int = MAX_HEADS
) -> ReportData:
    """Measure every mixer of a trace on one sequence of its batch.

    Raises InputError for a sequence that is not there, a trace without mixers, or max_heads below 1.
    """
    batch, time = trace.inputs.shape[:2]
    if not 0 <= sequence < batch:
        raise InputError(f"sequence {sequence} does not exist: the trace has sequences 0 .. {batch - 1}")
    if not trace.mixers:
        raise InputError("the trace holds no mixer: select at least one layer")
    if max_heads < 1:
        raise InputError(f"max_heads is {max_heads}: show at least one head a layer")
    tokens = [visible(t) for t in trace.tokens[sequence]] or None
    unit = unit_of(trace)
    info = trace.lens.info()
    plans = [
        # a module called more than once in a forward is path#k: the number in the trace keeps ids apart
        plan_layer(f"M{k}", path, call, _of_batch(call, sequence), max_heads)
        for k, (path, call) in enumerate(trace.mixers.items())
    ]
    shown = sum(len(plan.shown) for plan in plans)
    layers = [section(plan, MAP_BYTES * len(plan.shown) // shown, unit) for plan in plans]
    panels = [wave_panel(plan, len(plans), unit) for plan in plans]
    name = _name(info)
    return ReportData(
        title=plain_text(title or name),
        lede=_lede(layers, time, unit),
        verdict=verdict(certificate, unit, _runs(trace.lens, info)),
        facts=_facts(info, batch, time, unit),
        sequence_note=_sequence_note(batch, sequence),
        tokens=tokens,
        unit=unit,
        time=time,
        layers=layers,
        principles=principles_part(plans, unit),
        waves=[(layer, panel) for layer, panel in zip(layers, panels, strict=True) if isinstance(panel, WavePanel)],
        no_ring=[  # of attention nobody expects one
            (layer, panel)
            for layer, panel in zip(layers, panels, strict=True)
            if isinstance(panel, str) and layer.kind != "attention"
        ],
        explain=explain_panel(trace, sequence),
        missing=[(plain_text(path), plain_text(why)) for path, why in getattr(trace, "not_captured", {}).items()],
    )


def _of_batch(call: Any, sequence: int) -> int:
    """Dynamics that are the same for every sequence of the batch have a batch of 1."""
    return sequence if call.dynamics.batch > 1 else 0


def _runs(lens: Any, info: dict[str, Any]) -> str:
    """Whose code ran the model: the library that its class comes from, with its version and the model's type."""
    kind = plain_text(info.get("model_type") or "")
    library = type(getattr(lens, "model", None)).__module__.split(".")[0]
    if library in ("builtins", "__main__"):
        return f"the code that runs this {kind} model".replace("  ", " ")
    version = getattr(sys.modules.get(library), "__version__", "")
    return f"{library}{f' {version}' if version else ''}, the library that runs this model (type {kind})"


def _name(info: dict[str, Any]) -> str:
    """The model's folder or hub name without where it lies on this machine."""
    source = str(info.get("source") or "").rstrip("/").replace("\\", "/")
    last = source.rsplit("/", 1)[-1]
    return last or str(info.get("model_type"))


def _lede(layers: list[LayerSection], time: int, unit: str) -> str:
    kinds: dict[str, int] = {}
    for layer in layers:
        kinds[layer.family] = kinds.get(layer.family, 0) + 1
    parts = [f"{count} {name}" for name, count in kinds.items()]
    listed = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    heads = sum(layer.heads for layer in layers)
    many = f"{number(heads)} head{'s' if heads > 1 else ''} over {number(time)} {unit}s"
    mixers = f"{listed} mixer{'s' if len(layers) > 1 else ''}"
    return f"{mixers}, {many} of one forward pass. Every mixer is shown in the same coordinates."


def _facts(info: dict[str, Any], batch: int, time: int, unit: str) -> list[Fact]:
    def fact(name: str, value: Any, help: str = "") -> Iterable[Fact]:
        return [] if value in (None, "") else [Fact(name, str(value), help)]

    def text(key: str) -> str:
        return plain_text(info.get(key) or "")

    def count(key: str) -> str | None:
        return None if info.get(key) is None else number(int(info[key]))

    return [
        *fact("Model", plain_text(_name(info)), "Folder or hub name it was opened from."),
        *fact("Type", text("model_type"), "The architecture its configuration names."),
        *fact("Class", text("class")),
        *fact("Parameters", count("parameters"), "Numbers that were trained."),
        *fact("Computed in", text("dtype"), "Number format of the weights in this run."),
        *fact("Mixers", str(len(info.get("layers", []))), f"Layers that mix {unit}s and can be read."),
        *fact("Context", count("context_length"), f"The longest sequence the model is meant for, in {unit}s."),
        *fact("Vocabulary", count("vocabulary")),
        *fact("Tokenizer", text("tokenizer")),
        *fact("This run", f"{number(time)} {unit}s" + (f" × {batch} sequences" if batch > 1 else "")),
    ]


def _sequence_note(batch: int, sequence: int) -> str:
    if batch == 1:
        return ""
    return f"The batch has {batch} sequences. Pictures and numbers are of sequence {sequence}, counted from 0."
