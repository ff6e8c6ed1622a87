"""Open a trained bidirectional Mamba, prove what both of its scans compute, and draw them: `make demo-typeseg`.

    python examples/typeseg_mamba.py [--output FOLDER] [--page docs/typeseg.md]

The weights are those that the Python package typeseg carries; `make demo-typeseg` installs it. The example prints what
it measures and writes two figures. With --page it renews the measured parts of that page and the figures beside it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from demo import SPECIMENS, console
from rich.markdown import Markdown
from typeseg_figures import draw_coefficients, draw_memory
from typeseg_model import (
    Forward,
    Package,
    build,
    noncausal,
    our_forward,
    package_forward,
    pairs,
    public_probabilities,
    read_package,
    relative,
)
from typeseg_study import MIXED, PROSE, findings, rank_table, reach_table, study

import mixerlens as ml
from mixerlens.files import write_whole

SENTENCE = "He wept. She ran `ls -l`. It rained."
PROSE_FILE = SPECIMENS / "text" / "held-out.txt"
BYTES = 384  # of the two longer texts
SINGLE, DOUBLE = 1e-5, 1e-12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("reports"), help="folder of the figures (%(default)s)")
    parser.add_argument("--page", type=Path, help="renew the measured parts of this page, and the figures beside it")
    arguments = parser.parse_args()
    folder = arguments.page.parent if arguments.page else arguments.output
    torch.set_num_threads(1)  # on a busy machine two are slower, and one is fast enough
    console.print("Rebuilds typeseg's labeller on mixerlens operators and opens it: a minute or two on one core.\n")
    package, given = read_package(), texts()
    exact, traces = compare(package, given)
    found = study(package, given, traces, PROSE_FILE.read_text(encoding="utf-8"))
    parts = {
        "exactness": exactness_table(exact),
        "reach": reach_table(found),
        "rank": rank_table(found),
        "findings": findings(found),
    }
    for part in parts.values():
        console.print(Markdown(part), "")
    folder.mkdir(parents=True, exist_ok=True)
    draw_coefficients(found.sentence, SENTENCE, folder / "typeseg-coefficients.png")
    draw_memory(found.layers[PROSE], found.steps, found.counts, folder / "typeseg-memory.png")
    console.print(f"figures: {folder / 'typeseg-coefficients.png'}, {folder / 'typeseg-memory.png'}")
    if arguments.page:
        write_whole(arguments.page, renewed(arguments.page.read_text(encoding="utf-8"), parts))
    console.print("[green]Every bar holds.[/]" if exact.good else "[red]A bar does not hold.[/]")
    return 0 if exact.good else 1


def texts() -> dict[str, str]:
    """The sentence of the figure, a piece of prose, and the package's own sample of mixed languages."""
    from typeseg._cli import DEMO

    prose = PROSE_FILE.read_text(encoding="utf-8")
    return {"sentence": SENTENCE, PROSE: prose[:BYTES], MIXED: DEMO[:BYTES]}


class Exactness(NamedTuple):
    """single, double: quantity -> worst relative error over all texts, of a float32 and of a float64 forward.

    probabilities: largest difference from `typeseg.precise`. formula: from both operators, relative. other_labels: of
    how many bytes. certificate: the library's own, of the sentence in float64.
    """

    single: dict[str, float]
    double: dict[str, float]
    probabilities: float
    formula: float
    other_labels: int
    bytes: int
    certificate: ml.Certificate

    @property
    def good(self) -> bool:
        single = max(*self.single.values(), self.probabilities) <= SINGLE
        double = max(*self.double.values(), self.formula) <= DOUBLE
        return single and double and self.certificate.passed and self.other_labels == 0


def compare(package: Package, given: dict[str, str]) -> tuple[Exactness, dict[str, ml.Trace]]:
    """The rebuilt labeller against the package, on every text; the traces are those in float64."""
    single, double = build(package), build(package).double()
    errors: dict[type[np.floating], dict[str, float]] = {np.float32: {}, np.float64: {}}
    traces, other, probabilities = {}, 0, 0.0
    for name, text in given.items():
        for dtype, model in ((np.float32, single), (np.float64, double)):
            theirs = package_forward(package, text, dtype)
            ours, trace = our_forward(model, text)
            for quantity, error in differences(ours, theirs, trace).items():
                errors[dtype][quantity] = max(error, errors[dtype].get(quantity, 0.0))
            other += int((ours.logits.argmax(-1) != theirs.logits.argmax(-1)).sum())
            if dtype is np.float32:
                shares = torch.from_numpy(ours.logits).softmax(-1).numpy()
                probabilities = max(probabilities, float(np.abs(shares - public_probabilities(text)).max()))
            traces[name] = trace
    sentence = traces["sentence"]
    formula = max(relative(one_formula(*pair), noncausal(*pair)) for pair in pairs(sentence))
    certificate = sentence.verify(checks=("operator",))
    exact = Exactness(
        single=errors[np.float32],
        double=errors[np.float64],
        probabilities=probabilities,
        formula=formula,
        other_labels=other,
        bytes=sum(map(len, given.values())),
        certificate=certificate,
    )
    return exact, traces


def differences(ours: Forward, theirs: Forward, trace: ml.Trace) -> dict[str, float]:
    """Relative errors of one forward pass."""
    summed = []
    for k, (ahead, back) in enumerate(pairs(trace)):
        forward, backward, v = ahead.operator(), back.operator(), ahead.values
        assert ahead.skip is not None
        both = forward @ v + (backward @ v.flip(1)).flip(1) + 2 * ahead.skip  # the skip D v is in either scan
        summed.append(relative(both[0, :, :, 0].numpy(), theirs.scans[2 * k] + theirs.scans[2 * k + 1][::-1]))
    return {
        "each scan": max(map(relative, ours.scans, theirs.scans)),
        "forward and backward added": max(summed),
        "output of each layer": max(map(relative, ours.layers, theirs.layers)),
        "logits": relative(ours.logits, theirs.logits),
    }


def one_formula(ahead: ml.MixerCall, back: ml.MixerCall) -> np.ndarray:
    """alpha_ij = dt_j sum_n C_in B_jn exp(A_n d_ij) from the forward call's arguments, entry by entry: no scan.

    d_ij adds the steps on the way from j to i, whichever lies first, with that of i and without that of j. Both scans
    have the diagonal. (channels, time, time).
    """
    A, B, C, dt = (ahead.arguments[name].numpy() for name in ("A", "B", "C", "dt"))
    B, C, dt = B[0], C[0], dt[0]
    time = len(dt)
    alpha = np.zeros((dt.shape[1], time, time))
    for i in range(time):
        for j in range(time):
            distance = dt[j + 1 : i + 1].sum(0) if j < i else dt[i:j].sum(0)
            alpha[:, i, j] = dt[j] * (np.exp(A * distance[:, None]) @ (C[i] * B[j])) * (2 if i == j else 1)
    return alpha


def exactness_table(e: Exactness) -> str:
    """Errors by quantity and precision, and the checks beside them."""
    passed = sum(check.status == "pass" for check in e.certificate.checks)
    return "\n".join(
        [
            "| largest difference relative to the largest value | float32 | float64 |",
            "|---|---|---|",
            *(f"| {name} | {error:.0e} | {e.double[name]:.0e} |" for name, error in e.single.items()),
            f"| bar | {SINGLE:.0e} | {DOUBLE:.0e} |",
            "",
            f"Difference from the probabilities that `typeseg.precise` returns (float32): {e.probabilities:.0e}.",
            f"Bytes that get another label, of {e.bytes}: {e.other_labels}. The formula below against both operators",
            f"(float64): {e.formula:.0e}. Operator checks of the certificate that hold: {passed} of",
            f"{len(e.certificate.checks)}.",
        ]
    )


def renewed(page: str, parts: dict[str, str]) -> str:
    """The page with its measured parts replaced: each stands between `<!-- measured: NAME -->` and `<!-- end -->`."""
    for name, part in parts.items():
        place = re.compile(rf"(?<=<!-- measured: {name} -->\n)(?:(?!<!-- ).)*(?=<!-- end -->)", re.DOTALL)
        if len(place.findall(page)) != 1:
            raise ml.errors.InputError(f"the page needs one place for the measured part {name!r}, and has not")
        page = place.sub(lambda _, part=part: part + "\n", page)
    return page


if __name__ == "__main__":
    sys.exit(main())
