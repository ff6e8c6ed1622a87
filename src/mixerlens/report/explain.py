"""Why an S4D classifier gave this answer, as a panel of the page: constant, waves, interactions; beside it, removal.

`explicit.explain` computes and certifies; this says the numbers in words and packs the maps. What was refused has its
reason here and no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixerlens.data.examples import examples
from mixerlens.errors import InputError, MixerLensError
from mixerlens.explicit import Explanation
from mixerlens.explicit import explain as explain_input
from mixerlens.explicit.explain import LARGEST_ERROR
from mixerlens.explicit.layer import check_model
from mixerlens.explicit.removal import PAIRS
from mixerlens.explicit.words import notes, terms
from mixerlens.measures.record import plain
from mixerlens.report.heads import Fact
from mixerlens.report.words import number, plain_text

SEGMENTS = 32
WORK = 3e8  # numbers that the runs without segments may compute; what takes more is left out and said
POINTS = 600  # of the input's curve
CHANNELS = 4  # of the input that are drawn


@dataclass(frozen=True)
class Term:
    """A row of the account: bar is its place on a rail from -1 to 1, the largest term at an end."""

    name: str
    value: str
    bar: float


@dataclass(frozen=True)
class ExplainPanel:
    """refused: why there is no account; then there is nothing else. picture: what the page's script draws."""

    refused: str = ""
    question: str = ""
    certified: str = ""
    facts: list[Fact] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    removed: str = ""
    picture: dict[str, Any] | None = None


def explain_panel(trace: Any, sequence: int) -> ExplainPanel | None:
    """The panel of one sequence of the trace's batch; None for every model that is no S4D classifier."""
    model = getattr(trace.lens, "model", None)
    try:
        check_model(model)
    except MixerLensError:
        return None
    assert model is not None
    inputs = trace.inputs[sequence]
    try:
        if trace.attention_mask is not None and not bool(trace.attention_mask[sequence].all()):
            raise InputError("this sequence is padded: give it without its padding")
        pairs, removed = _removed(model, inputs)
        found = explain_input(model, inputs, segments=SEGMENTS, removed_pairs=pairs, remove=pairs != 0)
    except MixerLensError as error:
        return ExplainPanel(refused=plain_text(error))
    return _panel(found, inputs, removed, getattr(trace.lens, "source", None))


def _removed(model: Any, inputs: Tensor) -> tuple[int | None, str]:
    """How many pairs to remove, None for all, and what is said of it."""
    segments = min(SEGMENTS, len(inputs))
    each, all_pairs = len(inputs) * model.config.features * model.config.layers, segments * (segments - 1) // 2
    if each * (segments + all_pairs) <= WORK:
        return None, ""
    if each * (segments + PAIRS) <= WORK:
        return PAIRS, f"Run without the {PAIRS} pairs that interact most alone; hatched: not run."
    return 0, "Not run: the input is too long to be run without each of its segments here; `mixerlens explain` does."


def _panel(found: Explanation, inputs: Tensor, removed: str, source: str | None) -> ExplainPanel:
    rows = terms(found)
    largest = max(abs(value) for _, value in rows) or 1.0
    known = None if source is None else examples(source)
    example = None if known is None else known.find(inputs.detach().cpu().numpy())
    facts = [Fact("Predicted class", str(found.predicted), "The class with the largest logit.")]
    if known is not None and example is not None:
        label = known.label(example)
        facts.append(Fact("Input", f"example {example}", "Of those that the model's folder carries."))
        if label is not None:
            facts.append(Fact("True class", f"{label}{'' if label == found.predicted else ' (missed)'}", "Its label."))
    facts += [
        Fact("Logit", number(found.logit, 5), "The model's own answer, computed again in float64."),
        Fact(f"As stored, {found.dtype}", number(found.logit_as_stored, 5), "In the dtype its weights are stored in."),
        Fact("Account", number(found.total, 5), "Constant, waves and interactions added up."),
        Fact(
            "Error of the account",
            number(found.relative_error),
            f"Relative to the magnitudes that add up to the logit; above {LARGEST_ERROR:g} there is no account.",
        ),
    ]
    return ExplainPanel(
        question=found.pairs.question,
        certified=f"Certified: constant, waves and interactions sum to the logit within {number(found.relative_error)} "
        f"of its size; more than {number(LARGEST_ERROR)} would be refused.",
        facts=facts,
        terms=[Term(name, number(value, 4), value / largest) for name, value in rows],
        notes=[f"{said[0].upper()}{said[1:]}" for said in notes(found, number)],
        removed=removed,
        picture=_picture(found, inputs),
    )


def _picture(found: Explanation, inputs: Tensor) -> dict[str, Any]:
    account = found.pairs
    both = 2 * account.interactions[:-1, :-1] - torch.diag(account.interactions[:-1, :-1].diagonal())
    synergy = torch.full_like(both, torch.nan)
    effects = None
    if found.removal is not None:
        g, other = found.removal.pairs.T
        synergy[g, other] = synergy[other, g] = found.removal.synergy
        effects = _short(found.removal.effects)
    stride = -(-len(inputs) // POINTS)
    return {
        "borders": list(account.borders),
        "pairs": [_short(row) for row in both],
        "synergy": None if found.removal is None else [_short(row) for row in synergy],
        "rows": {
            "linear": _short(account.linear[:-1]),
            "interactions": _short(account.interactions[:-1].sum(1)),
            "effects": effects,
        },
        "input": {
            "step": list(range(0, len(inputs), stride)),
            "channels": [_short(each) for each in inputs.detach().double().cpu()[::stride, :CHANNELS].T],
            "of": inputs.shape[1],
        },
    }


def _short(values: Tensor) -> list[float | None]:
    """Four digits, None for what is no number."""
    return [None if x is None else float(f"{x:.4g}") for x in plain(values)]
