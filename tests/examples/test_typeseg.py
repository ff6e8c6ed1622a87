"""The trained bidirectional Mamba of the package typeseg: its operators against the package's own numpy code.

Skipped where the package is not installed (`make typeseg`).
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import mixerlens as ml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "typeseg.md").read_text(encoding="utf-8")
TEXT = "naïve –\tλ = `x`;\r\n<b>1</b> {}\x00 SELECT 2.\n"  # bytes of every kind, no multiple of a chunk

pytestmark = pytest.mark.skipif(find_spec("typeseg") is None, reason="typeseg is not installed")


@pytest.fixture(scope="module")
def model_file():
    import typeseg_model

    return typeseg_model


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("matplotlib")
    import typeseg_mamba

    return typeseg_mamba


@pytest.fixture(scope="module")
def package(model_file):
    return model_file.read_package()


@pytest.fixture(scope="module")
def trace(model_file, package, example):
    """The sentence of the page, in float64."""
    return model_file.our_forward(model_file.build(package).double(), example.SENTENCE)[1]


def part(name: str) -> str:
    found = re.findall(rf"<!-- measured: {name} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert len(found) == 1, name
    return found[0]


def row(name: str, first: str) -> list[float]:
    """The numbers of the table row that begins with this cell."""
    (line,) = [line for line in part(name).splitlines() if line.startswith(f"| {first} |")]
    return [float(x) for cell in line.split("|")[2:-1] for x in cell.split("/")]


def numbers(sentence: str, text: str) -> list[float]:
    """The numbers in a sentence of the findings, given as a pattern in which # is a number."""
    pattern = r"\s+".join(re.escape(word).replace(r"\#", r"(-?[\d.]+\d|\d)") for word in sentence.split())
    found = re.search(pattern, text)
    assert found, sentence
    return [float(x) for x in found.groups()]


@pytest.mark.parametrize(("dtype", "bar"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_every_scan_layer_and_logit_is_the_packages(dtype, bar, model_file, package):
    model = model_file.build(package)
    theirs = model_file.package_forward(package, TEXT, dtype)
    ours, trace = model_file.our_forward(model if dtype is np.float32 else model.double(), TEXT)
    assert (len(theirs.scans), len(theirs.layers), len(trace.mixers)) == (12, 6, 12)
    pairs = [*zip(ours.scans, theirs.scans, strict=True), *zip(ours.layers, theirs.layers, strict=True)]
    for mine, other in [*pairs, (ours.logits, theirs.logits)]:
        assert mine.dtype == other.dtype == dtype
        assert np.abs(mine - other).max() <= bar * np.abs(other).max()


def test_the_operators_of_both_directions_add_up_to_the_packages_mixer(model_file, package, example, trace):
    """Against the package's float64 scans; the two mistakes that are easiest to make are far off."""
    theirs = model_file.package_forward(package, example.SENTENCE, np.float64)
    for k, (ahead, back) in enumerate(model_file.pairs(trace)):
        forward, backward, v = ahead.operator(), back.operator(), ahead.values
        there, back_again = theirs.scans[2 * k], theirs.scans[2 * k + 1][::-1]
        want = torch.from_numpy(there + back_again)[None, :, :, None] - 2 * ahead.skip
        size = want.abs().max()
        assert (forward @ v + (backward @ v.flip(1)).flip(1) - want).abs().max() <= 1e-12 * size
        assert (forward @ v + backward @ v.flip(1) - want).abs().max() > 1e-2 * size
        assert (forward @ v + (backward @ v).flip(1) - want).abs().max() > 1e-2 * size


def test_one_formula_without_a_scan_gives_both_directions(model_file, example, trace):
    pairs = model_file.pairs(trace)
    for ahead, back in pairs:
        both = model_file.noncausal(ahead, back)
        assert np.abs(example.one_formula(ahead, back) - both).max() <= 1e-12 * np.abs(both).max()
        assert torch.equal(ahead.arguments["dt"].flip(1), back.arguments["dt"])  # one length a byte, both ways


def test_the_certificate_of_the_recorded_scans_holds(trace):
    certificate = trace.verify(checks=("operator",))
    assert certificate.passed
    assert len(certificate.checks) == 24 and {check.status for check in certificate.checks} == {"pass"}


def test_nothing_is_unpickled(tmp_path, model_file):
    np.savez(tmp_path / "mamba_al.npz", Embed_0__embedding=np.array([{"a": 1}], dtype=object))
    (tmp_path / "manifest.json").write_text('{"labels": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="allow_pickle"):
        model_file.read_package(tmp_path)


@pytest.mark.parametrize("name", ["CheckpointMambaBlock1D_5/D", "Dense_0/bias"])
def test_a_missing_array_is_no_start_value(name, model_file, package):
    fewer = {key: x for key, x in package.weights.items() if key != name}
    with pytest.raises(RuntimeError, match="Missing key"):
        model_file.build(package._replace(weights=fewer))


def test_the_code_of_the_page_runs(model_file, package, example):
    """With the model in float64; what it calls y is what the layer's scans added, without the skip."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {"model": model_file.build(package).double(), "ids": model_file.symbols_of(example.SENTENCE)}
    exec(compile(code, "typeseg.md", "exec"), names)
    ahead, back = model_file.pairs(names["trace"])[2]
    want = ahead.output + back.output.flip(1) - 2 * ahead.skip
    assert (names["y"] - want).abs().max() <= 1e-12 * want.abs().max()


def test_the_errors_on_the_page_are_below_their_bars_and_no_label_differs():
    bars = row("exactness", "bar")
    assert bars == [1e-5, 1e-12]
    for quantity in ("each scan", "forward and backward added", "output of each layer", "logits"):
        assert all(error <= bar for error, bar in zip(row("exactness", quantity), bars, strict=True))
    assert "get another label, of 804: 0." in " ".join(part("exactness").split())
    assert "hold: 24 of 24." in " ".join(part("exactness").split())


@pytest.mark.slow
def test_the_page_says_what_layer_two_does(model_file, package, example):
    """Distances from dense coefficients and steps from the package, both written out here."""
    text = example.texts()["prose"]
    trace = ml.open(model_file.build(package).double()).trace(model_file.symbols_of(text), layers=[2])
    lag = (torch.arange(len(text))[:, None] - torch.arange(len(text))).abs().double()
    said = row("reach", "2")[:4]
    for which, call in enumerate(trace.mixers.values()):
        means = []
        for first in range(0, 256, 64):
            alpha = call.dynamics.select_heads(range(first, first + 64)).operator().to_dense()[0].abs()
            means.append(((alpha * lag).sum(-1) / alpha.sum(-1)).mean(-1))
        median, high = torch.cat(means).quantile(torch.tensor([0.5, 0.9], dtype=torch.float64)).tolist()
        assert (median, high) == pytest.approx((said[which], said[2 + which]), abs=0.06)
    whole = example.PROSE_FILE.read_text(encoding="utf-8")
    dt = model_file.package_steps(package, whole)[2]
    found = part("findings")
    letter, end, stop, times = numbers(
        f"over {len(whole)} bytes of prose the median step of a letter is #, of a line end #, of a full stop #. "
        "In that layer a full stop costs as much memory as # letters", found)  # fmt: skip
    for kind, value in ((str.isalpha, letter), ("\n".__eq__, end), (".".__eq__, stop)):
        where = [t for t, byte in enumerate(whole) if kind(byte)]
        assert np.median(dt[where]) == pytest.approx(value, abs=6e-4)
    assert times == pytest.approx(stop / letter, rel=0.06)


def test_the_page_says_what_the_weights_and_the_sentence_are(model_file, package, trace):
    found = part("findings")
    rates = [-np.exp(x) for name, x in package.weights.items() if name.endswith("A_log")]
    low, high = numbers("every rate A lies between # and #.", found)
    assert (np.min(rates), np.max(rates)) == pytest.approx((low, high), abs=6e-3)
    said = numbers("negative ones are #, #, #, #, #, # %", found)
    shares = [100 * float((model_file.noncausal(*pair) < 0).mean()) for pair in model_file.pairs(trace)]
    assert shares == pytest.approx(said, abs=0.06)


def test_the_measured_parts_are_replaced_and_nothing_else(example):
    names = re.findall(r"<!-- measured: (\w+) -->", PAGE)
    assert sorted(names) == ["exactness", "findings", "rank", "reach"]
    new = example.renewed(PAGE, {name: f"| {name} | \\1 |" for name in names})
    assert [f"<!-- measured: {n} -->\n| {n} | \\1 |\n<!-- end -->" in new for n in names] == [True] * 4
    assert example.renewed(new, {name: part(name) for name in names}) == PAGE
    with pytest.raises(ml.errors.InputError, match="'reach'"):
        example.renewed(PAGE.replace("measured: reach", "measured: other"), {"reach": ""})


def test_the_figure_shows_the_coefficients_it_is_given(tmp_path, example, monkeypatch):
    import typeseg_figures

    kept = []
    monkeypatch.setattr(typeseg_figures, "_save", lambda figure, path: kept.append(figure) or path)
    layers = [np.random.default_rng(k).normal(size=(5, 5)) * 10**k for k in range(6)]
    typeseg_figures.draw_coefficients(layers, "a b`.", tmp_path / "x.png")
    panels = kept[0].axes[:6]
    for panel, alpha in zip(panels, layers, strict=True):
        (image,) = panel.images
        assert np.allclose(image.get_array(), alpha / np.abs(alpha).max())
        assert np.allclose(image.to_rgba(0.0)[:3], 1, atol=0.04)  # zero is white, whatever the values
        assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "·", "b", "`", "."]
        assert panel.get_xlabel() and panel.get_ylabel()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?://)([^)]+)\)", PAGE))))
def test_links_lead_somewhere(target):
    assert (ROOT / "docs" / target).exists()
