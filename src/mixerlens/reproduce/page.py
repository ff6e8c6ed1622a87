"""The documentation's page of a study, written from stored numbers alone, and the text of those numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..markdown import table
from . import rings, seen
from .baselines import BASELINES
from .classifiers import MEANS, RECIPES, TESTED, VARIANTS
from .intervals import wilson
from .parts import DEGREES
from .verdicts import ASKED, LINEAR_READINGS, Verdict, verdicts
from .words import not_run, spread, title

__all__ = ["brief", "html", "markdown"]

RUN = "mixerlens reproduce explicit-operator --page docs/explicit-operator.md"


def markdown(document: dict[str, Any]) -> str:
    """The page; of a run that is not finished it says what is missing."""
    runs = _runs(document["tables"]["sets"], document) if "sets" in document["tables"] else ""
    parts = [_head(document), *_answers(document), _limits(document)]
    if rings.TABLE in document["tables"]:
        parts.insert(-2, runs)  # before the rings
    else:
        parts.insert(-1, runs)
    return "\n".join(part for part in parts if part)


def html(document: dict[str, Any]) -> str:
    """The page with its pictures as one HTML file that loads nothing."""
    from ..report import prose
    from .figures import figures

    return prose.page(
        markdown(document), figures(document), RUN.replace("--page docs/explicit-operator.md", "--report FILE.html")
    )


def brief(document: dict[str, Any]) -> str:
    """The tables alone, of the cells that were asked for."""
    return "\n".join(part for part in _answers(document) if part)


def _answers(document: dict[str, Any]) -> list[str]:
    tables = document["tables"]
    parts = []
    if seen.TABLE in tables:
        parts.append(_seen(tables[seen.TABLE], document))
    if "sets" in tables:
        judged = verdicts(tables["sets"])
        parts += [_claim(judged, document)] * bool(judged) + [_accuracies(tables["sets"], document)]
        parts += [_differences(judged, document)] * bool(judged) + [_parts(tables["sets"], document)]
    if rings.TABLE in tables:
        parts.append(_rings(tables[rings.TABLE], document))
    return parts


def _head(document: dict[str, Any]) -> str:
    done, all_ = document["cells"] - len(document["missing"]), document["cells"]
    said = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in document["versions"])
    return f"""# Do interactions of waves classify real sequences?

arXiv 2604.20595 says of S4D that recent inputs are waves travelling over a network, that its nonlinear decoder makes
them interact, and that this is what classifies real-world sequences. This page asks how far that holds, each control
beside each number. The only nonlinearity of these models is their decoder: without it they are linear in the input.

`{RUN}` runs what is not stored in
its folder and writes this page again, its numbers in `explicit-operator.json` beside it; `--report FILE.html`
writes it with pictures, as one file that needs no network. What is here took
{_cpu_minutes(document)} minutes of one core. Scale `{document["scale"]}`: {done} of {all_} cells
{"are there" if done == all_ else "are there; the last section names the others"}. Made with {said}.
"""


def _cpu_minutes(document: dict[str, Any]) -> str:
    runs = [
        run
        for rows in document["tables"].values()
        for variants in rows.values()
        for seeds in variants.values()
        for run in seeds.values()
    ]
    return f"{sum(run['cpu_seconds'] for run in runs) / 60:.0f}"


def _seen(rows: dict[str, Any], document: dict[str, Any]) -> str:
    sizes = next(iter(document["recipes"][seen.TABLE].values()))
    cells = []
    for task, said in seen.TASKS.items():
        runs = rows.get(task, {}).get("random S4D-Lin", {})
        if runs:
            cells.append([said, *(spread([run[name]["score"] for run in runs.values()]) for name in seen.FEATURES)])
    count = max(len(runs) for row in rows.values() for runs in row.values())
    return f"""## What each order sees, without training

Two classes, {sizes["time"]} steps, {sizes["systems"]} random S4D-Lin systems, averaged over time order by order
and read by a ridge classifier; {sizes["test"]} test sequences, {count} seeds. Mean accuracy [95 % interval of that
mean over seeds] (lowest to highest seed); chance is 50 %.

{table(("the classes differ in", *seen.FEATURES), cells)}
Orders of the decoder: 1 is linear, 2 is products of two inputs, of the same time (i = j) or of different times. Classes
that differ in their mean are told apart by waves that do not interact; classes that differ in their autocorrelation
alone only by pairs launched at different times.
"""


def _claim(judged: list[Verdict], document: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for each in judged:
        one = " (one seed)" if each.seeds["best - identity"] == 1 else ""
        if each.differences[f"best - {LINEAR_READINGS[-1]}"] is None:
            one += f" (without {LINEAR_READINGS[-1]})"
        groups.setdefault(each.kind, []).append(title(each.data, document) + one)
    said = {
        "holds": "**It holds** (interactions beat every linear reading that was run)",
        "partly": "**In part** (they beat the identity decoder with the same mean over time, not every linear reading)",
        "not shown": "**Not shown** (no difference from the identity decoder that seeds and test set carry)",
        "reversed": "**The other way round** (the identity decoder is better)",
    }
    lines = [f"- {said[kind]}: {'; '.join(groups[kind])}." for kind in said if kind in groups]
    return f"""## Where the claim holds

{chr(10).join(lines)}

For each set the interacting model with the most validation sequences right ("gelu only", "full" or "two layers") is set
against the linear readings: the identity decoder, retrained, the same read at the last step where that was run, and
logistic regression on the raw sequence. A difference counts if it is there at 5 % after Holm's correction over the
{len(judged)} sets, each question by itself; it covers another test set and, where there are several, other seeds.
{_lost_to_holm(judged, document)}"""


def _accuracies(rows: dict[str, Any], document: dict[str, Any]) -> str:
    names = [name for name in document["sets"] if name in rows]
    about = [
        (
            title(name, document),
            f"{each['time']} x {each['channels']}",
            each["classes"],
            " / ".join(str(each["sizes"][part]) for part in ("train", "validation", "test")),
            each["source"],
            each["prepared"],
        )
        for name in names
        for each in [document["sets"][name]]
    ]
    body = []
    for variant, said in (*((name, f"logistic regression: {name}") for name in BASELINES), *_said()):
        cells = [spread([run["test"]["score"] for run in rows[name].get(variant, {}).values()]) for name in names]
        if any(cells):
            body.append([f"{variant}: {said}" if variant in VARIANTS else said, *(cell or "not run" for cell in cells)])
    recipes = document["recipes"]["sets"]
    sizes = "; ".join(f"{name} {recipes[name]['steps']} x {recipes[name]['batch']}" for name in names if recipes[name])
    any_ = next((recipes[name] for name in names if recipes[name]), {})
    shared = ", ".join(f"{key} {any_[key]}" for key in ("features", "modes", "rate", "system_rate") if key in any_)
    return f"""## Trained classifiers and their controls

{table(("set", "steps x channels", "classes", "train / validation / test", "from", "prepared"), about)}
Test accuracy in %: mean over seeds (lowest to highest seed); logistic regression has no seed, its brackets are
Wilson's 95 % interval. Every variant is trained afresh with the same recipe ({shared}; steps x batch: {sizes}) and is
kept at the look at the validation part that was best; no variant is tuned by itself.

{table(("variant", *(title(name, document) for name in names)), body)}"""


def _differences(judged: list[Verdict], document: dict[str, Any]) -> str:
    keys = list(dict.fromkeys(key for each in judged for key in each.differences))
    asked = {f"{ours} - {theirs}": said for (ours, theirs), said in ASKED.items()}
    body = [["best", "", *(each.chosen for each in judged)]]
    for key in keys:
        cells = [_points(each, key) for each in judged]
        body.append([key, asked.get(key, ""), *cells])
    lines = []
    for key, said in asked.items():
        groups: dict[str, list[str]] = {}
        for each in judged:
            if (said_of_it := each.says(key)) is not None:
                groups.setdefault(said_of_it, []).append(title(each.data, document))
        if groups:
            kinds = {"higher": "helps", "no difference": "not shown", "lower": "hurts"}
            told = "; ".join(f"{kinds[kind]}: {', '.join(groups[kind])}" for kind in kinds if kind in groups)
            lines.append(f"- {said} (`{key}`). {told[0].upper()}{told[1:]}.")
    head = ("difference", "what it asks", *(title(each.data, document) for each in judged))
    return f"""Differences in points of accuracy, with 95 % intervals, each by itself; "best" is what the
validation part chose. A star: there at 5 % after Holm's correction over the sets. Quantiles are
Student's with the degrees of freedom of Welch and Satterthwaite, which few seeds leave few: {_freedom(judged)}. So few
seeds cannot show that accuracies over seeds are normal, on which every p-value, star and interval here rests.

{table(head, body)}
In words, after that correction ("not shown": no difference that counts; three seeds show none but large ones):

{chr(10).join(lines)}
"""


def _parts(rows: dict[str, Any], document: dict[str, Any]) -> str:
    keys = ["linear waves, zero", "up to 1", "order 2, i = j", "order 2, i != j"]
    keys += [f"up to {degree}" for degree in DEGREES[1:]] + ["all"]
    titles = ["waves, rest zero", "waves alone", "+ i = j", "+ i != j", *(f"up to {d}" for d in DEGREES[1:]), "all"]
    titles.append("largest y")
    found = []
    for variant, gain, said in (
        ("full", "mean", "`full`, the GLU's gain at its training mean: the activation's interactions alone"),
        ("full", "realised", "`full`, the GLU's gain as it was, which knows of every wave"),
        ("gelu only", "realised", "`gelu only`, which has no GLU"),
    ):
        body = []
        for name in document["sets"]:
            runs = [run for run in rows.get(name, {}).get(variant, {}).values() if gain in run.get("parts", {})]
            if runs:
                scores = [[run["parts"][gain][key]["score"] for run in runs] for key in keys]
                reached = [run["parts"]["range"] for run in runs]
                span = f"{min(reached):.0f} to {max(reached):.0f}" if len(reached) > 1 else f"{reached[0]:.0f}"
                body.append([title(name, document), *map(_mean, scores), span])
        if body:
            found.append(f"{said}:\n\n" + table(("set", *titles), body))
    if not found:
        return ""
    return f"""### Parts of the trained model

What the trained model still gets right, in % (mean over seeds), when only a part of its activation is kept. "Waves
alone" is its slope at zero: linear in the input. "Up to p" keeps the interactions of up to p waves: the Chebyshev
series of the activation on each feature's own range, cut at degree p. "+ i = j" and "+ i != j" add to the waves one
half of order 2. What is removed is replaced by its training mean at each time step and feature; "rest zero" leaves
nothing in its place, for comparison: a low number there says little. "Largest y": the size that what the activation
takes reaches, lowest to highest seed; a Taylor series of GELU is of no use from about 10 on.
Means over {MEANS}, tests on {TESTED} sequences at most. That a trained model needs a part does not say that the task
does: for that there are the retrained controls above.

{chr(10).join(found)}"""


def _rings(rows: dict[str, Any], document: dict[str, Any]) -> str:
    body = []
    for name, variants in rows.items():
        first = True
        for variant, runs in variants.items():
            every = list(runs.values())
            if first:
                body.append([title(name, document), "before training", "", "0", *_waves(every, "initial"), ""])
                first = False
            half, most = (_over(every, lambda run, q=q: run["drift"][q]) for q in ("median", "nine in ten"))
            drift = f"{half} / {most}"
            cells = [
                str(len(every)),
                drift,
                *_waves(every, "trained"),
                spread([run["test"]["score"] for run in every]),
            ]
            body.append([title(name, document), variant, *cells])
    columns = (
        "set",
        "learning rate of dt and A",
        "seeds",
        "drift: half / nine in ten",
        "1/4 lap",
        "null",
        "1/2 lap",
        "null",
    )
    return f"""## Are trained rings still waves, and does it matter?

S4D-Lin starts with equally spaced frequencies: one node in {_nodes(rows)} carries a pulse all around its ring.
Medians over the rings, then over seeds. *Drift*: how far half, and nine in ten, of all frequencies moved at most, in
units of the spacing. *1/4 lap, 1/2 lap*: nodes that carry the pulse by then (participation ratio); *null*: the same
modes in random orders. *Velocity*: interquartile range of the group velocity over its middle.

{table((*columns, "velocity", "accuracy, %"), body)}"""


def _runs(rows: dict[str, Any], document: dict[str, Any]) -> str:
    body = []
    for name in document["sets"]:
        for variant, runs in rows.get(name, {}).items():
            for seed, run in runs.items():
                (correct, total), (low, high) = run["test"]["score"], wilson(*run["test"]["score"])
                shown = f"{correct}/{total}", f"{100 * low:.1f} to {100 * high:.1f}"
                steps = run.get("steps", "")
                body.append([name, variant, "" if variant in BASELINES else seed, *shown, steps, run["cpu_seconds"]])
    head = ("set", "variant", "seed", "right", "Wilson 95 %, %", "steps", "CPU s")
    return f"<details><summary>Every run, with its binomial interval</summary>\n\n{table(head, body)}\n</details>\n"


def _limits(document: dict[str, Any]) -> str:
    every = {name: scale for scale, recipes in reversed(RECIPES.items()) for name in recipes}
    others = {name: scale for name, scale in every.items() if name not in document["sets"]}
    said = ", ".join(f"{name} ({scale})" for name, scale in others.items())
    other = f"Sets of another scale, or without a single run here: {said}." if said else "Every set was run."
    absent = "\n".join(f"  - {line}" for line in not_run(document["missing"]))
    return (
        f"""## What this does not say

- The models are small and trained for minutes; a control that fails here might be trained better, and so might the
  full model. `--scale full` has larger ones; its numbers are not on this page.
- The recipe of scale `quick` (rate, modes, steps, patience) was settled in trial runs of seed 0, most on the digits, in
  which test accuracies were in view too. It is one recipe for all variants and was not changed after that.
- The mean over time is part of the model: an identity decoder with it reads every time step through the tails of
  its kernels, so that it is at most as rich as logistic regression on the raw sequence, and smoother. Both are linear:
  where the identity decoder is far below logistic regression, what it lacks is training or width, not interactions.
- GLU and LayerNorm multiply waves too. Where "glu only" or "norm only" does as well as "gelu only", the activation is
  not what is needed.
- {other}
- SelfRegulationSCP1, the EEG set of the paper, is carried by no package: `--data FOLDER` reads it from a folder.
{"- Not run, or not finished:" if absent else ""}
{absent}
""".rstrip()
        + "\n"
    )


def _said() -> list[tuple[str, str]]:
    return [(name, each.said) for name, each in VARIANTS.items()]


def _mean(scores: Sequence[Sequence[int]]) -> str:
    return f"{100 * sum(correct / total for correct, total in scores) / len(scores):.1f}"


def _points(judged: Verdict, key: str) -> str:
    found = judged.differences.get(key)
    if found is None:
        return "not run"
    star = "" if judged.says(key) == "no difference" else " \\*"
    one = ", one seed" if judged.seeds[key] == 1 else ""
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]{star}{one}"


def _freedom(judged: Sequence[Verdict]) -> str:
    """The range over the differences, but for those in which no answer varies."""
    every = [found.freedom for each in judged for found in each.differences.values() if found is not None]
    finite = [each for each in every if math.isfinite(each)]
    return f"{min(finite):.1f} to {max(finite):.0f} here" if finite else "no variance here"


def _lost_to_holm(judged: Sequence[Verdict], document: dict[str, Any]) -> str:
    """Which differences from a linear reading count one set at a time, and no more among all of them."""
    lost = [
        f"{title(each.data, document)} (best - {name})"
        for each in judged
        for name in LINEAR_READINGS
        if (found := each.differences[f"best - {name}"]) is not None and found.verdict() != each.says(f"best - {name}")
    ]
    return f"Taken one set at a time these would count too: {'; '.join(lost)}.\n" if lost else ""


def _over(runs: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float | None]) -> str:
    values = sorted(x for x in map(of, runs) if x is not None)
    return f"{values[len(values) // 2]:.3g}" if values else "-"


def _waves(runs: Sequence[dict[str, Any]], when: str) -> list[str]:
    names = ("quarter", "quarter_null", "half", "half_null", "spread")
    return [_over(runs, lambda run, name=name: run[when][name]) for name in names]


def _nodes(rows: dict[str, Any]) -> str:
    every = [
        run["trained"]["nodes"] for variants in rows.values() for runs in variants.values() for run in runs.values()
    ]
    return " or ".join(map(str, sorted(set(every))))
