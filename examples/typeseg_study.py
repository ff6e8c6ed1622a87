"""What the typeseg example looks at: reach, spectrum, state rank and steps of both scans, and the findings in words."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import fill
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typeseg_model import Package, build, noncausal, package_steps, pairs, relative, symbols_of

import mixerlens as ml

RANK_BYTES = 128  # state rank of the leading bytes: a rank of 16 needs 4 x 16 of them to show
RANK_CUTS = 8
PROSE, MIXED = "prose", "mixed"
KINDS: dict[str, Callable[[str], bool]] = {
    "letter": str.isalpha,
    "space": " ".__eq__,
    "comma": ",".__eq__,
    "full stop": ".".__eq__,
    "line end": "\n".__eq__,
}


class Scan(NamedTuple):
    """One scan of one layer on one text; its state rank on the prose only."""

    horizon: ml.measures.Horizon
    spectrum: ml.measures.Spectrum
    rank: ml.measures.StateRank | None


class Study(NamedTuple):
    """The measures, layer by layer.

    layers: text -> (forward, backward). steps: kind of byte -> median step in ``text``, a long one; counts: how many.
    sentence: coefficients of both scans, mean over channels; negative: the share of all of them below 0.
    rates: smallest and largest A. one_rate: text -> what setting every A to -1 does: the change of the logits relative
    to the largest, and the share of bytes that get another label.
    """

    layers: dict[str, list[tuple[Scan, Scan]]]
    steps: dict[str, list[float]]
    counts: dict[str, int]
    text: str
    sentence: list[Float[np.ndarray, "time time"]]
    negative: list[float]
    rates: tuple[float, float]
    one_rate: dict[str, tuple[float, float]]


def study(package: Package, texts: dict[str, str], traces: dict[str, ml.Trace], long: str) -> Study:
    """Everything that is shown, from the calls recorded in float64, and the steps of a long text."""
    both = [noncausal(forward, backward) for forward, backward in pairs(traces["sentence"])]
    places = {kind: [t for t, byte in enumerate(long) if belongs(byte)] for kind, belongs in KINDS.items()}
    steps = package_steps(package, long)
    A = torch.cat([forward.arguments["A"] for forward, _ in pairs(traces[PROSE])])
    layers = {}
    for name in (PROSE, MIXED):
        ranked = name == PROSE
        layers[name] = [(_scan(ahead, ranked), _scan(back, ranked)) for ahead, back in pairs(traces[name])]
    return Study(
        layers=layers,
        steps={kind: [float(np.median(dt[where])) for dt in steps] for kind, where in places.items()},
        counts={kind: len(where) for kind, where in places.items()},
        text=long,
        sentence=[alpha.mean(0) for alpha in both],
        negative=[float((alpha < 0).mean()) for alpha in both],
        rates=(float(A.min()), float(A.max())),
        one_rate={name: _one_rate(package, texts[name], traces[name]) for name in (PROSE, MIXED)},
    )


def _scan(call: ml.MixerCall, ranked: bool) -> Scan:
    spectrum = ml.measures.spectrum(call)
    horizon = ml.measures.horizon(call.to(torch.float32), of=spectrum)  # sums of magnitudes: float32 is ample
    rank = ml.measures.state_rank(call, cuts=RANK_CUTS, tokens=RANK_BYTES) if ranked else None
    return Scan(horizon, spectrum, rank)


def _one_rate(package: Package, text: str, trace: ml.Trace) -> tuple[float, float]:
    plain = build(package).double()
    for name, parameter in plain.named_parameters():
        if name.endswith("A_log"):
            parameter.zero_()
    logits, before = plain(symbols_of(text))[0], trace.logits[0]
    other = (logits.argmax(-1) != before.argmax(-1)).double().mean()
    return relative(logits.numpy(), before.numpy()), float(other)


def _at(values: Tensor, level: float) -> float:
    return float(values.double().flatten().quantile(level))


# --- in words


def reach_table(s: Study) -> str:
    """Mean distance of the median channel and of the one that 90 % stay below, forward / backward."""
    lines = [
        "| layer | prose, median channel | prose, 90 % of channels | mixed, median channel | mixed, 90 % of channels |",
        "|---|---|---|---|---|",
    ]
    for k in range(len(s.sentence)):
        cells = []
        for name in (PROSE, MIXED):
            ahead, back = (scan.horizon.mean for scan in s.layers[name][k])
            cells += [f"{_at(ahead, level):.1f} / {_at(back, level):.1f}" for level in (0.5, 0.9)]
        lines.append(f"| {k} | {' | '.join(cells)} |")
    horizon = s.layers[PROSE][0][0].horizon
    return "\n".join(
        [
            *lines,
            "",
            f"In these texts of {len(horizon.uniform)} bytes, weights that are all alike have a mean distance of",
            f"{horizon.uniform_mean:.0f} bytes.",
        ]
    )


def rank_table(s: Study) -> str:
    """State rank of the median channel at each tolerance, forward / backward."""
    ranks = [[scan.rank for scan in pair if scan.rank] for pair in s.layers[PROSE]]
    some = ranks[0][0]
    lines = [f"| layer | {' | '.join(f'tolerance {t:.0e}' for t in some.tolerances)} |"]
    lines.append("|---|" + "---|" * len(some.tolerances))
    for k, (ahead, back) in enumerate(ranks):
        both = zip(ahead.ranks.T, back.ranks.T, strict=True)
        lines.append(f"| {k} | {' | '.join(f'{_at(a, 0.5):g} / {_at(b, 0.5):g}' for a, b in both)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"By design a channel carries {some.designed} numbers a scan. Measured on the first {some.tokens} bytes of",
            f"the prose at {len(some.cuts)} cuts, so each is a lower bound.",
        ]
    )


def findings(s: Study) -> str:
    scans = [pair for layers in s.layers.values() for pair in layers]
    unequal = max(float((a.spectrum.radius_quantiles - b.spectrum.radius_quantiles).abs().max()) for a, b in scans)
    middle, far = ([_at(b.horizon.mean, q) / _at(a.horizon.mean, q) for a, b in scans] for q in (0.5, 0.9))
    letter, stop, end = (s.steps[kind] for kind in ("letter", "full stop", "line end"))
    k = max(range(len(letter)), key=lambda n: stop[n] / letter[n])
    logits, labels = (max(found) for found in zip(*s.one_rate.values(), strict=True))
    low, high = s.rates
    negative = ", ".join(f"{100 * share:.1f}" for share in s.negative)
    bullets = (
        "**Neither direction has the longer memory.** Both scans use the same weights and the same steps, so their "
        f"spectra are equal (largest difference {unequal:.1g}). What they read of a given text still differs, because "
        "other bytes lie before a place than after it: backward over forward, the mean distance of the median channel "
        f"is {min(middle):.2f} to {max(middle):.2f} over layers and texts, the channels' 90 % quantile "
        f"{min(far):.2f} to {max(far):.2f}.",
        f"**Letters are short and full stops are long.** It shows most in layer {k}: over {len(s.text)} bytes of prose "
        f"the median step of a letter is {letter[k]:.3f}, of a line end {end[k]:.3f}, of a full stop {stop[k]:.3f}. In "
        f"that layer a full stop costs as much memory as {stop[k] / letter[k]:.0f} letters, in either direction.",
        "**One decay a channel would nearly do.** A Mamba-1 channel may forget each of its numbers at a rate of its "
        f"own. Here every rate A lies between {low:.2f} and {high:.2f}. With all of them set to -1 the logits move by "
        f"up to {100 * logits:.0f} % of the largest, and up to {100 * labels:.1f} % of the bytes get another label.",
        "**Deep layers hardly subtract**, though nothing in a Mamba keeps coefficients positive: the shares of "
        f"negative ones are {negative} % in layers 0 to {len(s.negative) - 1} of the sentence.",
    )
    return "\n".join(
        fill(text, 110, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False) for text in bullets
    )
