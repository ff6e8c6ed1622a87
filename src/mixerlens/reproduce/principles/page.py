"""The page of the study "principles", written from stored numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...markdown import table
from ..words import not_run, spread
from .claims import CLAIMS_HEADING, judged
from .statistic import DRAWS, FEWEST, correlation
from .tables import EVOLUTION, NORMALIZER, READOUT, SCALES, SCALING, SETTLED, SPECTRUM, TABLES, Scale

__all__ = ["brief", "html", "markdown"]

RUN = "mixerlens reproduce principles --page docs/principles-study.md"
Runs = Mapping[str, Mapping[str, Any]]


def markdown(document: dict[str, Any]) -> str:
    """The page; of a run that is not finished it says what is missing."""
    parts = [_head(document), _claims(document), *_answers(document), _limits(document)]
    return "\n".join(part for part in parts if part)


def brief(document: dict[str, Any]) -> str:
    """The tables alone, of the cells that were asked for."""
    return "\n".join(part for part in _answers(document) if part)


def html(document: dict[str, Any]) -> str:
    """The page with its pictures as one HTML file that loads nothing."""
    from ...report import prose
    from .figures import figures

    command = RUN.replace("--page docs/principles-study.md", "--report FILE.html")
    return prose.page(markdown(document), figures(document), command)


def _answers(document: dict[str, Any]) -> list[str]:
    made = {
        READOUT: lambda rows: _readout(rows, SCALES[document["scale"]]),
        EVOLUTION: _evolution,
        SCALING: _scaling,
        NORMALIZER: _normalizer,
        SPECTRUM: _spectrum,
    }
    return [make(document["tables"][name]) for name, make in made.items() if name in document["tables"]]


def _head(document: dict[str, Any]) -> str:
    done, all_ = document["cells"] - len(document["missing"]), document["cells"]
    minutes = _minutes(document["tables"])
    said = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in document["versions"])
    scale = SCALES[document["scale"]]
    return f"""# What the six design principles change in trained models

arXiv 2510.09389 derives six principles for the parts of a token mixer. This page trains small models in which one part
is changed and all else stays, and asks whether the change does what the principle says; and whether the spectrum that
is measured of a trained mixer predicts what it can do.

`{RUN}` runs what is not stored in its folder, about three
hours of one idle core for all of it, and writes this page again, its numbers in `principles-study.json` beside it.
Scale `{document["scale"]}`: {scale.layers} layers of width {scale.features}. {done} of {all_} cells
{"are there" if done == all_ else "are there, the last section names the others"}; they took {minutes:.0f} minutes of
CPU. Made with {said or "nothing yet"}.
"""


def _minutes(tables: Mapping[str, Any]) -> float:
    return sum(run["cpu_seconds"] for _, _, runs in _every(tables) for run in runs.values()) / 60


def _every(tables: Mapping[str, Any]) -> list[tuple[str, str, Runs]]:
    return [
        (data, variant, runs)
        for rows in tables.values()
        for data, variants in rows.items()
        for variant, runs in variants.items()
    ]


def _claims(document: dict[str, Any]) -> str:
    found = judged(document["tables"])
    if all(each.difference is None for each in found):
        return ""
    body = []
    for each in found:
        difference, p = "not run", ""
        if each.difference is not None:
            difference = f"{100 * each.difference:+.1f} [{100 * each.low:+.1f}, {100 * each.high:+.1f}]"
            p = f"{each.adjusted:.3f}" if each.adjusted >= 0.001 else "< 0.001"
        c = each.claim
        body.append((c.says, c.source, f"{c.table}, {c.data}", f"{c.more} - {c.less}", difference, each.verdict, p))
    counts = {word: sum(each.verdict == word for each in found) for word in ("agrees", "undecided", "the other way")}
    kept = sum(each.stays for each in found)
    return f"""## {CLAIMS_HEADING}

Expectations, each as one comparison: difference of test accuracies in points [95 % interval over seeds and test
sequences, all answers of a sequence taken as one]. {counts["agrees"]} agree, {counts["the other way"]} come out the
other way, {counts["undecided"]} are undecided. They were fixed before the runs that count here and after trials of
seed {SETTLED}, which chose the settings and, in three cases, what is compared; seed {SETTLED} is in no verdict. Each
verdict is about its comparison alone: without any difference up to one in twenty would be decided all the same. With
all of them in view {kept} of the {counts["agrees"] + counts["the other way"]} decided ones hold: "p, all" is Holm's,
under 0.05. That column was added when no outcome but those of parity had been looked at.

"Of S5": what the source shows, while scale `quick` asks for S3, which a few layers of A_t that commute can solve
exactly. There the expectation is about what is learned in this training, not about what could be computed.

{table(("expected", "from", "table", "difference of", "points", "verdict", "p, all"), body)}"""


def _scores(runs: Runs, of: Callable[[Mapping[str, Any]], Sequence[int]]) -> str:
    return spread([of(run) for run in runs.values()])


def _outcome(run: Mapping[str, Any]) -> Sequence[int]:
    return run["outcome"]["score"]


def _grid(rows: Mapping[str, Mapping[str, Runs]], shown: Callable[[Runs], str]) -> tuple[list[str], list[list[str]]]:
    """Variants down, data across."""
    names = list(dict.fromkeys(variant for variants in rows.values() for variant in variants))
    return list(rows), [[name, *(shown(v[name]) if name in v else "" for v in rows.values())] for name in names]


def _chances(rows: Mapping[str, Mapping[str, Runs]]) -> str:
    found = {data: next(iter(next(iter(v.values())).values()))["chance"] for data, v in rows.items()}
    return ", ".join(f"{data} is {100 * chance:.1f} %" for data, chance in found.items())


def _chance(rows: Mapping[str, Mapping[str, Runs]]) -> str:
    """Of a table with one task."""
    return _chances(dict([next(iter(rows.items()))])).rpartition(" is ")[-1]


def _title(name: str) -> str:
    return f"## {TABLES[name][0]}\n"


SPREAD = "Test accuracy in %, mean over seeds (lowest to highest seed)"


def _readout(rows: Mapping[str, Any], scale: Scale) -> str:
    heads, dim = scale.readout
    data, body = _grid(rows, lambda runs: _scores(runs, _outcome))
    state = {name: next(iter(runs.values()))["state_bytes"] for v in rows.values() for name, runs in v.items()}
    body = [[*line, "grows" if state[line[0]] is None else str(state[line[0]])] for line in body]
    return f"""{_title(READOUT)}
A = I, b = 1 / sqrt n, an output norm that makes any eta > 0 inert, a short convolution and learned positions: phi alone
differs. n = {dim}, heads: {heads}. "identity, wide" has as many numbers of state as the polynomial's recurrence.
{SPREAD};
chance of {_chances(rows)}.

{table(("phi", *data, "state, bytes"), body)}"""


def _evolution(rows: Mapping[str, Any]) -> str:
    found = []
    for data, variants in rows.items():
        lengths = sorted({t for runs in variants.values() for run in runs.values() for t in run["longer"]}, key=int)
        body: dict[str, dict[str, str]] = {}
        for name, runs in variants.items():
            which, _, positions = name.rpartition(", ")
            short = _scores(runs, lambda run, t=lengths[0]: run["longer"][t]["outcome"]["score"])
            body.setdefault(which, {})[positions] = f"{short} ; {_scores(runs, _outcome)}"
        columns = list(dict.fromkeys(said for each in body.values() for said in each))
        lines = [(which, *(each.get(said, "") for said in columns)) for which, each in body.items()]
        found.append(f"{data}:\n\n{table(('A_t', *columns), lines)}")
    return f"""{_title(EVOLUTION)}
phi the identity, unit keys and queries, an output norm, no convolution: A_t alone differs, and with a delta rule what
enters. Each cell has two accuracies: at the trained length ; at twice that, where learned positions were never trained.
{SPREAD};
chance at the longer test of {_chances(rows)}.

{chr(10).join(found)}"""


def _scaling(rows: Mapping[str, Any]) -> str:
    data, accuracy = _grid(rows, lambda runs: _scores(runs, _outcome))
    _, first = _grid(rows, lambda runs: _mean([run["scores"]["0"]["deviation"] for run in runs.values()]))
    _, middle = _grid(rows, lambda runs: _mean([run["scores"]["0"]["mean"] for run in runs.values()]))
    _, norm = _grid(rows, lambda runs: _mean([run["norms"]["largest"] for run in runs.values()]))
    return f"""{_title(SCALING)}
Softmax attention on multi-query recall after few steps, the gradient not clipped. Queries and keys of unit variance are
the principle's case; of unit length, or positive, they are its counter-cases.
{SPREAD}; chance: {_chance(rows)}.

{table(("keys and b", *data), accuracy)}
Scores of the first layer before training: standard deviation, and mean.

{table(("deviation", *data), first)}
{table(("mean", *data), middle)}
Largest norm of the gradient in training:

{table(("keys and b", *data), norm)}"""


def _normalizer(rows: Mapping[str, Any]) -> str:
    found = []
    for data, variants in rows.items():
        body = []
        for name, runs in variants.items():
            every = list(runs.values())
            times = sorted(every[0]["longer"], key=int)
            body.append(
                (
                    name,
                    f"{sum(run['status'] != 'finished' for run in every)} of {len(every)}",
                    _mean([run["spikes"] for run in every]),
                    _mean([run["norms"]["median"] for run in every]),
                    _mean([run["norms"]["largest"] for run in every]),
                    _scores(runs, _outcome),
                    *(_scores(runs, lambda run, t=t: run["longer"][t]["outcome"]["score"]) for t in times),
                )
            )
            head = ("features, eta", "diverged", "spikes", "gradient: median", "largest", "trained length")
        found.append(f"{data}:\n\n{table((*head, *(f'{t} tokens' for t in times)), body)}")
    return f"""{_title(NORMALIZER)}
Linear attention on in-context recall, b = 1 / sqrt n, no output norm, the gradient not clipped. Diverged: a loss or
gradient that is not finite. Spike: the loss more than 0.5 above the median of the 50 steps before, or not finite.
{SPREAD}; chance: {_chance(rows)}.
A test batch in which a number is not finite counts as wrong.

{chr(10).join(found)}"""


def _spectrum(rows: Mapping[str, Any]) -> str:
    said, body, seen = [], [], {}
    for data, variants in rows.items():
        finished = [
            (name, run)
            for name, runs in variants.items()
            for seed, run in runs.items()
            if run["status"] == "finished" and seed != str(SETTLED)
        ]
        names = [name for name, _ in finished]
        accuracy = [run["outcome"]["score"][0] / run["outcome"]["score"][1] for _, run in finished]
        seen[data] = {
            number: correlation([run["eigenvalues"][number] for _, run in finished], accuracy, names)
            for number in ("median", "slow")
        }
        for number, found in seen[data].items():
            asked = "asked" if (data, number) == ("delay line", "median") else "besides"
            interval = f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
            what = "median of abs(eigenvalue)" if number == "median" else "share above 0.99"
            body.append((data, what, found.models, interval, f"{found.p:.4f}", f"{found.p_within:.4f}", asked))
        lines = [
            (
                name,
                _mean([run["eigenvalues"]["median"] for run in runs.values()]),
                _mean([run["eigenvalues"]["slow"] for run in runs.values()]),
                _scores(runs, _outcome),
            )
            for name, runs in variants.items()
        ]
        head = ("A_t, half-life at the start", "median of abs(eigenvalue)", "share above 0.99", "accuracy, %")
        said.append(f"{data}:\n\n{table(head, lines)}")
    answer = seen["delay line"]["median"].verdict if "delay line" in seen else "not run"
    return f"""{_title(SPECTRUM)}
Fixed before the runs that count (`mixerlens.reproduce.principles.statistic` says it word for word): Spearman's
correlation, over at least {FEWEST} trained models, of the median of abs(eigenvalue) of A_t after training, whose rank
is that of the half-life, and the accuracy on the delay line. Models that differ by their seed alone are no independent
evidence: the 95 % interval is from {DRAWS:,} bootstrap samples of variants and then of seeds within each, p from
{DRAWS:,} permutations of the accuracies of whole variants. The answer: **{answer}**. It is about spectra that the start
sets and training changes. Of what training alone does speaks "p within": from permutations of the accuracies among
seeds of one variant.

{table(("task", "number", "models", "rho", "p", "p within a variant", ""), body)}
Chance of {_chances(rows)}.

{chr(10).join(said)}"""


def _mean(values: Sequence[float | None]) -> str:
    """Three digits; a number that is not finite is stored as none, and said."""
    finite = [value for value in values if value is not None]
    lost = f" ({len(values) - len(finite)} not finite)" if len(finite) < len(values) else ""
    return (f"{sum(finite) / len(finite):.3g}" if finite else "-") + lost


def _limits(document: dict[str, Any]) -> str:
    lines = "\n".join(f"  - {line}" for line in not_run(document["missing"]))
    return (
        f"""## What this does not say

- The models are small, their training short, and one learning rate serves all but the table of eta: a variant that
  fails here may only be slower. Curves are in the stored cells.
- Scale `quick` asks for words of S3, six elements, in place of S5. `--scale paper` has the published sizes (S5 among
  them), width 128 and 20,000 to 50,000 steps: it was not run here.
- Sizes, steps and rates were settled in a dozen trial runs of seed 0, with accuracies in view: whether a task is
  learned, and not by every variant. In one of them plain projections had scores too small for b to matter; the table of
  b has had queries and keys of unit variance since. The statistic of the spectra was fixed before the runs that
  count, and its sizes were settled by accuracy alone. Seed {SETTLED} is in no verdict.
- The best of ten looks at validation sequences is tested, once; the longer tests are other sequences.
{"- Not run, or not finished:" if lines else ""}
{lines}
""".rstrip()
        + "\n"
    )
