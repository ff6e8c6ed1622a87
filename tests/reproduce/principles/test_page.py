"""The page and its verdicts are functions of stored numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mixerlens.measures.record import plain
from mixerlens.reproduce.intervals import wilson
from mixerlens.reproduce.principles import page
from mixerlens.reproduce.principles.claims import CLAIMS, judged, longest, outcome, trained_length
from mixerlens.reproduce.principles.figures import figures
from mixerlens.reproduce.store import Store
from mixerlens.reproduce.study import STUDIES, document
from mixerlens.sweep.intervals import of_mean

STUDY = STUDIES["principles"]


def made(cell, share: float) -> dict:
    """A stored cell with this share of answers right."""
    score = {"correct": round(1000 * share), "total": 1000}
    tests = [{"time": t} for t in cell.settings.get("longer", [])]
    result = {
        "status": "finished",
        "outcome": score,
        "validation": score,
        "chance": 0.125,
        "spikes": 0,
        "norms": {"first": 1.0, "median": 1.0, "largest": 2.5, "not finite": 0},
        "state_bytes": None,
        "history": [[0, 2.0, 0.1]],
        "longer": {str(16 * 2**i): {"overflows": 0, "outcome": score} for i in range(len(tests))},
        "scores": {"0": {"mean": 0.25, "deviation": 1.5}},
        "eigenvalues": {"median": share, "quarter": 0.5, "slow": 0.125},
    }
    return cell.key | {"result": plain(result), "versions": {"torch": "2"}, "seconds": 1.0, "cpu_seconds": 60.0}


def told(share):
    cells = STUDY.cells("quick")
    return document("principles", "quick", cells, [made(cell, share(cell)) for cell in cells])


def test_every_claim_names_cells_that_are_run():
    names = {(cell.table, cell.data, cell.variant) for cell in STUDY.cells("quick")}
    for claim in CLAIMS:
        for variant in (claim.more, claim.less):
            assert (claim.table, claim.data, variant) in names, claim


def test_a_claim_agrees_only_where_its_side_is_better():
    ahead = {claim.more for claim in CLAIMS}
    behind = {claim.less for claim in CLAIMS} - ahead
    noise = np.random.default_rng(0)
    found = judged(told(lambda cell: (0.3 if cell.variant in behind else 0.8) + noise.uniform(-0.01, 0.01))["tables"])
    for each in found:
        expected = "agrees" if each.claim.less in behind else "undecided"
        assert each.verdict == expected and each.seeds == 3
    back = judged(told(lambda cell: (0.8 if cell.variant in behind else 0.3) + noise.uniform(-0.01, 0.01))["tables"])
    assert {each.verdict for each in back if each.claim.less in behind} == {"the other way"}


def test_a_verdict_stays_only_if_it_does_with_all_comparisons_in_view():
    """Without any difference a few verdicts come out by chance; hardly ever does one of them stay."""
    generator = np.random.default_rng(1)
    sides = {(claim.table, claim.data, side) for claim in CLAIMS for side in (claim.more, claim.less)}
    cells = [cell for cell in STUDY.cells("quick") if (cell.table, cell.data, cell.variant) in sides]

    def all_judged(share):
        return judged(document("principles", "quick", cells, [made(cell, share(cell)) for cell in cells])["tables"])

    decided, stayed, runs = 0, 0, 20
    for _ in range(runs):
        found = all_judged(lambda cell: 0.5 + generator.normal(0, 0.1))
        decided += sum(each.verdict != "undecided" for each in found)
        stayed += any(each.stays for each in found)
        least = min(each.p for each in found)
        assert min(each.adjusted for each in found) == pytest.approx(min(1.0, len(CLAIMS) * least))
    assert 0 < decided <= 0.08 * runs * len(CLAIMS) and stayed <= 3
    better = {claim.more for claim in CLAIMS}
    sure = all_judged(lambda cell: 0.9 if cell.variant in better else 0.2)
    agreed = [each for each in sure if each.verdict == "agrees"]
    assert agreed and all(each.stays for each in agreed)


def test_the_page_of_a_whole_run(tmp_path):
    shares = iter(np.random.default_rng(0).uniform(0.2, 0.9, 10_000))
    text = page.markdown(told(lambda cell: float(next(shares))))
    assert "414 of 414 cells" in text.replace("\n", " ")
    assert "Not run" not in text and "414 minutes of CPU" in text.replace("\n", " ")
    for title in ("Which phi", "Which A_t", "Which b", "Which eta", "Does a spectrum"):
        assert f"## {title}" in text
    # accuracy is the median eigenvalue here: the answer must be seen
    assert (
        "The answer: **predicts**" in text
        and "| delay line | median of abs(eigenvalue) | 72 | +1.00 [+1.00, +1.00]" in text
    )
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("|")))) <= 160
    assert text.count("chance: 12.5 %") == 2


def test_a_page_of_nothing_names_everything_that_is_missing():
    text = page.markdown(document("principles", "quick", STUDY.cells("quick"), []))
    assert "0 of 414 cells" in text
    assert "scaling, unit length, b = 1: n = 8, n = 16, n = 32, n = 64 (seeds 1, 2, 3)" in text
    assert page.brief(document("principles", "quick", STUDY.cells("quick"), [])) == ""


def test_numbers_that_are_not_finite_are_said():
    cells = STUDY.cells("quick", ["normalizer"])
    stored = []
    for cell in cells:
        each = made(cell, 0.5)
        each["result"] |= {"status": "diverged", "spikes": 3}
        each["result"]["norms"]["largest"] = plain(math.inf)
        stored.append(each)
    text = page.brief(document("principles", "quick", cells, stored))
    assert "| 3 of 3 | 3 | 1 | - (3 not finite) |" in text


def test_the_seed_that_settled_the_sizes_is_in_no_verdict():
    """Wildly better, or the reverse, on seed 0: nothing changes but the tables, which show what is stored."""
    generator = np.random.default_rng(3)
    cells = STUDY.cells("quick", ["readout", "spectrum"], [0, 1, 2, 3, 4, 5, 6])
    drawn = {cell.name: generator.uniform(0.4, 0.6) for cell in cells}

    def found(zero):
        stored = [made(cell, zero(cell) if cell.seed == 0 else drawn[cell.name]) for cell in cells]
        tables = document("principles", "quick", cells, stored)["tables"]
        spectra = page.brief({"tables": {"spectrum": tables["spectrum"]}, "scale": "quick"})
        return judged(tables), [line for line in spectra.splitlines() if "abs(eigenvalue) | " in line]

    first, second = found(lambda cell: 0.9 if cell.variant == "exp" else 0.1), found(lambda cell: 0.5)
    assert first == second and {each.seeds for each in first[0] if each.difference is not None} == {6}
    counted = {cell.seed for cell in STUDY.cells("quick")}
    assert counted == {1, 2, 3, 4, 5, 6} and {cell.seed for cell in STUDY.cells("quick", ["readout"])} == {1, 2, 3}
    text = " ".join(page.markdown(told(lambda cell: 0.5)).split())
    assert "after trials of seed 0" in text and "seed 0 is in no verdict" in text


def test_an_interval_takes_all_answers_of_a_sequence_as_one():
    run = {"outcome": {"score": [8 * 512, 8 * 1024]}, "longer": {"16": {"outcome": {"score": [512, 1024]}}}}
    assert of_mean([outcome(run)]) == pytest.approx((0.5, *wilson(512, 1024)), rel=1e-12)
    assert of_mean([longest(run)]) == of_mean([trained_length(run)]) == pytest.approx(of_mean([outcome(run)]))


def test_too_few_models_give_no_answer():
    cells = STUDY.cells("quick", ["spectrum"], [1, 2])
    text = page.brief(document("principles", "quick", cells, [made(cell, 0.5) for cell in cells]))
    assert "**too few models**" in text


@pytest.mark.parametrize("name", ["readout", "spectrum"])
def test_a_stored_cell_is_found_again(tmp_path, name):
    store, cell = Store(tmp_path), STUDY.cells("quick", [name], [0])[0]
    path = store.path(cell)
    path.parent.mkdir(parents=True)
    import json

    path.write_text(json.dumps(made(cell, 0.5)))
    assert store.get(cell) is not None


def test_the_pictures_are_those_of_the_numbers():
    ahead = {claim.more for claim in CLAIMS}
    found = told(lambda cell: 0.9 if cell.variant in ahead else 0.2)
    pictures = figures(found)
    ((claims, caption),) = pictures["What agrees with the literature"]
    assert "Holm" in caption and claims.count("95 %") == len(CLAIMS)
    for each in judged(found["tables"]):
        assert f"{100 * each.difference:+.1f} points, 95 % {100 * each.low:+.1f} to" in claims
    shown = pictures["Which A_t tracks a state, with and without positions?"]
    assert [caption.partition(":")[0] for _, caption in shown] == ["parity", "words"]
    assert "scalar, signed, without positions" in shown[0][0] and "3 seeds" in shown[0][0]
    whole = page.html(found)
    assert whole.count("<svg") == 1 + sum(len(each) for key, each in pictures.items() if key.startswith("Which"))
    assert "<script" not in whole and "://" not in whole.replace("http://www.w3.org/2000/svg", "")
    assert figures(document("principles", "quick", STUDY.cells("quick"), [])) == {}
