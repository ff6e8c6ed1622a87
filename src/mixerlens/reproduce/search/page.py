"""The page of the search, written from stored numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...design.files import to_text
from ...markdown import table
from ..words import not_run, spread
from .families import FAMILIES, LEFT_OUT, LIMIT, SLOW
from .results import judged, ranked, scores
from .sizes import NUMBERS, TOLERANCE, WIDTH
from .space import SPACE, Drawn, draw
from .statistic import succeeded
from .tables import DRAW, FINAL, FIRST, SCALES, SECOND, SETTLED, TABLES, TASKS, Scale, accuracy

__all__ = ["brief", "html", "markdown"]

RUN = "mixerlens reproduce search --page docs/search.md"


def markdown(document: dict[str, Any]) -> str:
    """The page; of a run that is not finished it says what is missing."""
    drawn = draw(SCALES[document["scale"]].candidates, DRAW)
    parts = [_head(document), _answer(document), _winner(document, drawn), *_rungs(document)]
    parts += [_candidates(document, drawn), _left_out()]
    return "\n".join([part for part in parts if part] + [_limits(document)])


def brief(document: dict[str, Any]) -> str:
    """The tables alone, of the cells that were asked for."""
    return "\n".join([_answer(document)] * (FINAL in document["tables"]) + _rungs(document))


def html(document: dict[str, Any]) -> str:
    """The page with its pictures as one HTML file that loads nothing."""
    from ...report import prose
    from .figures import figures

    command = RUN.replace("--page docs/search.md", "--report FILE.html")
    return prose.page(markdown(document), figures(document), command)


def _head(document: dict[str, Any]) -> str:
    done, all_ = document["cells"] - len(document["missing"]), document["cells"]
    minutes = sum(
        run["cpu_seconds"]
        for rows in document["tables"].values()
        for variants in rows.values()
        for seeds in variants.values()
        for run in seeds.values()
    )
    said = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in document["versions"])
    scale = SCALES[document["scale"]]
    return f"""# Does a drawn mixer beat the families of its state size?

A search with the [bench](bench-tasks.md): {scale.candidates} mixers are drawn from the [parts](design.md) of the
equation, {len(FAMILIES)} families of the same state size stand beside them, and the best of either meet on seeds that
no choice has seen. What counts as success was fixed before the runs; the result is here also where it is a failure.

`{RUN}` runs what is not stored in its folder and writes this page
again, its numbers in `search.json` beside it. Every number of a model here is from a stored cell. Scale
`{document["scale"]}`: {done} of {all_} cells are there{"" if done == all_ else ", the last section names the others"};
they took {minutes / 60:.0f} minutes of CPU. Made with {said or "nothing yet"}.

{_tasks()}
Two layers of width {WIDTH}, no positions beside the mixers' own; {scale.short} steps in the first rung, {scale.steps}
in the others, {_shared(document)}.
Score: the mean over the tasks of (a - c) / (1 - c), a the test accuracy and c that of guessing: 0 is guessing, 1 is all
right.
"""


def _tasks() -> str:
    said = []
    for name, (_, options) in TASKS.items():
        given = [f"{key.replace('_', ' ')} {value}" for key, value in options.items() if value is not None]
        said.append((name, ", ".join(given)))
    return table(("task of the mix", "options"), said)


def _shared(document: dict[str, Any]) -> str:
    recipe = next((r for rows in document["recipes"].values() for r in rows.values() if "lr" in r), None)
    return f"batch {recipe['batch']}, rate {recipe['lr']:g}" if recipe else "one batch and one rate for all"


def _answer(document: dict[str, Any]) -> str:
    found = judged(document)
    seeds = ", ".join(map(str, TABLES[FINAL][1]))
    rule = f"""The best candidate and the best families are chosen by the second rung, seeds
{", ".join(map(str, TABLES[SECOND][1]))}, and compared on seeds {seeds}, test examples of those seeds, which no choice
has seen: the best of many looks better than it is by the scores that chose it, and not by fresh ones. It beats a family
if the mean difference of scores, seed by seed, is above 0 with p < 0.05: two-sided, Student's t over the seeds,
adjusted by Holm's rule over the families compared. The search succeeded only if it beats every one of them.
"""
    if found is None:
        return f"## The answer\n\n**Not decided**: the last rung is not finished.\n\n{rule}"
    candidate, comparisons = found
    beaten = [each.family for each in comparisons if each.verdict == "beaten"]
    if succeeded(comparisons):
        answer = f"**The search succeeded**: {candidate} beats all {len(comparisons)} families it was compared with."
    else:
        answer = f"**The search failed**: {candidate} beats {len(beaten)} of the {len(comparisons)} families it met."
    body = [
        (
            each.family,
            f"{each.difference.mean:+.3f} [{each.difference.low:+.3f}, {each.difference.high:+.3f}]",
            f"{each.difference.p:.4f}",
            f"{each.p:.4f}",
            each.verdict,
            *(f"{points:+.1f}" for points in _by_task(document, candidate, each.family)),
        )
        for each in comparisons
    ]
    head = ("family", "score of the candidate less its score [95 %]", "p", "p after Holm", "verdict")
    return f"""## The answer

{answer} Each interval is for its family alone.
The last columns show where a difference comes from, in points of test accuracy; nothing is decided by them.

{table((*head, *(f"{data}, points" for data in TASKS)), body)}
{rule}"""


def _by_task(document: Mapping[str, Any], candidate: str, family: str) -> list[float]:
    """Of each task, how much more of the test the candidate has right, in points, mean over the seeds."""
    rows = document["tables"][FINAL]
    right = {
        (data, name): np.mean([accuracy(run)[0] for run in rows[data][name].values()])
        for data in TASKS
        for name in (candidate, family)
    }
    return [100 * float(right[data, candidate] - right[data, family]) for data in TASKS]


def _winner(document: Mapping[str, Any], drawn: Drawn) -> str:
    """The candidate of the last rung as a specification, to be used."""
    found = judged(document)
    if found is None:
        return ""
    return f"""## The candidate as a specification

`mixerlens design candidate.yaml --check` shows it, `mixerlens bench-tasks candidate.yaml ttt_linear --tasks parity` and
the like train it, if candidate.yaml is this:

```yaml
{to_text(drawn.specs[found[0]]).rstrip()}
```
"""


def _rungs(document: dict[str, Any]) -> list[str]:
    return [_rung(name, document) for name in (FINAL, SECOND, FIRST) if name in document["tables"]]


def _rung(name: str, document: dict[str, Any]) -> str:
    rows = document["tables"][name]
    found = scores(rows)
    body = []
    for mixer in ranked(found):
        runs = {data: [rows[data][mixer][seed] for seed in found[mixer]] for data in TASKS}
        values = list(found[mixer].values())
        every = [run for each in runs.values() for run in each]
        time = [1000 * run["cpu_seconds"] / max(1, run["steps_done"]) for run in runs["mqar"]]
        stopped = sum(run["status"] != "finished" for run in every)
        body.append(
            (
                mixer + (f" ({stopped} diverged)" if stopped else ""),
                f"{np.mean(values):.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""),
                *(_percent(each, len(values)) for each in runs.values()),
                f"{runs['mqar'][0]['parameters']:,}",
                f"{runs['mqar'][0]['state_bytes']:,}",
                f"{np.mean(time):.0f}",
            )
        )
    chances = ", ".join(
        f"{data} {100 * next(iter(next(iter(v.values())).values()))['chance']:.1f} %" for data, v in rows.items()
    )
    seeds = TABLES[name][1]
    partly = any(each.startswith(f"{name}/") for each in document["missing"])
    head = ("mixer", "score", *(f"{data}, %" for data in TASKS), "parameters", "state, bytes", "CPU ms a step")
    said = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    said += ", those of them that are there" * partly
    several = ": mean over seeds (lowest to highest)" if len(seeds) > 1 else ""
    return f"""## {TABLES[name][0]}

Score and test accuracies{several}; {said}.
Guessing: {chances}. State: of both layers for one sequence, with what
the library carries besides (last inputs of a convolution, a second copy). CPU time on mqar, with looks and test in it,
on a shared machine.

{table(head, body)}"""


def _percent(runs: Sequence[Mapping[str, Any]], seeds: int) -> str:
    if seeds > 1:
        return spread([run["outcome"]["score"] for run in runs])
    correct, total = runs[0]["outcome"]["score"]
    return f"{100 * correct / total:.1f}"


def _candidates(document: dict[str, Any], drawn: Drawn) -> str:
    slots = [(slot, "; ".join(choices)) for slot, choices in SPACE.items()]
    reasons = "; ".join(f"{reason}: {count}" for reason, count in drawn.refused.most_common())
    lines = [(name, *choices.values()) for name, choices in drawn.choices.items()]
    combinations = int(np.prod([len(choices) for choices in SPACE.values()]))
    return f"""## The candidates

Each part is drawn by itself, every choice alike, by a generator of seed {DRAW}: {combinations:,} combinations, refused
ones among them.

{table(("part", "choices"), slots)}
All have {NUMBERS:,} numbers of state a layer, up to {100 * TOLERANCE:.0f} % more or less: 4 heads of 16 x 16, with the
polynomial 4 dimensions of query and key, whose symmetric square is carried. {drawn.draws} draws made
{len(drawn.specs)} candidates. Refused: {reasons or "none"}. Drawn again, or a family: {drawn.known}.

{table(("", *SPACE), lines)}"""


def _left_out() -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in LEFT_OUT.items():
        reasons.setdefault(reason, []).append(name)
    lines = [(", ".join(names), reason) for reason, names in reasons.items()]
    slow = ", ".join(f"{name} ({times:.1f})" for name, times in SLOW.items())
    lines.append((slow, f"a training step takes over {LIMIT:g} times that of linear attention (in brackets)"))
    return f"""## The families

With the parts of [`mixerlens design show`](design.md), sized by the dimensions of query and key (or slots, or the
window); the values of all heads together are as wide as the model. Numbers of state are what the recurrence carries:
the library keeps two writes a token, or one that waits a token, side by side, and they are counted once; the last
inputs of a short convolution, and mamba3's last key and value, are not counted, for families and candidates alike.
Times of a step were measured once, before the runs.

{table(("left out", "because"), lines)}"""


def _limits(document: dict[str, Any]) -> str:
    lines = "\n".join(f"  - {line}" for line in not_run(document["missing"]))
    scale: Scale = SCALES[document["scale"]]
    return (
        f"""## What this does not say

- The models are small and trained for {scale.steps} steps at one rate: what wins learns fast at this size. A family at
  its own rate, with more steps, or with the convolution that some candidates have, may do better.
- The families left out for their time are not beaten, and the strongest of the recent ones are among them. Candidates
  have no such limit: their time stands beside them.
- The last rung has {scale.finalists} families, the best by the second: that the others are worse is a choice by few
  seeds and, in the first rung, by one short training.
- Student's t takes differences over seeds as normal, which {len(TABLES[FINAL][1])} seeds cannot show, and which a
  training that diverges makes far from true: its answers count as wrong, so that its score is below that of guessing.
- The sizes of the states are alike, the numbers of parameters are not: the tables show both.
- "Beaten" is about the families of the last rung alone, not about all that stand in the first.
- What a step costs was measured once beforehand, the model and its training alone; times in the tables were taken
  beside other work, with looks and tests in them, and order nothing.
- The tasks' sizes, the rate and the steps were settled in about twenty trainings of seed {SETTLED}, of ttt_linear,
  mamba2, linear_attention and delta_product, with accuracies in view. Of candidates a few steps were timed and no
  accuracy was seen; parts and draw are the first that were made. Seed {SETTLED} is in no cell.
- `--scale full` draws {SCALES["full"].candidates} candidates and trains {SCALES["full"].steps:,} steps: it was not run.
{"- Not run, or not finished:" if lines else ""}
{lines}
""".rstrip()
        + "\n"
    )
