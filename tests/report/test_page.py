"""The page as text: complete, self-contained, escaped, written whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from example import HOSTILE, certificate, trace

from mixerlens import measures, report
from mixerlens.errors import InputError
from mixerlens.report.checks import verdict
from mixerlens.report.data import gather
from mixerlens.report.maps import decode
from mixerlens.report.words import number, plain_text, visible
from mixerlens.verify import Certificate, Check

WORDS = ["In", " the", "\n", HOSTILE, "\u2028", "\u202e", "", "\ud800", "&amp;", "'\"", "\x00"]
HYBRID = [("mamba", 40, 4), ("softmax_attention", 4, 8), ("gated_delta_net", 3, 6), ("bidirectional", 2, 4)]


@pytest.fixture(scope="module")
def example():
    return trace(HYBRID, 48, WORDS)


@pytest.fixture(scope="module")
def page(example):
    return report.build(example, certificate(("chunk",)))


def pictures(page: str) -> dict:
    text = re.search(r'<script type="application/json" id="pictures">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    return json.loads(text[1])


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


def test_it_is_one_file_that_loads_nothing(page):
    elements = Elements(page)
    for tag, attributes in elements.found:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img"), tag
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or target == "data:,", (tag, target)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    outside = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|importScripts|eval\(|innerHTML", outside)
    assert set(re.findall(r"https?://[^\s\"']+", outside)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_the_policy_forbids_everything_but_its_own_style_and_script(page):
    (policy,) = [a["content"] for t, a in Elements(page).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_tokens_stay_text(page):
    assert "alert(1)</script>" not in page.replace(html.escape(HOSTILE), "")
    assert [tag for tag, _ in Elements(page).found].count("script") == 2
    assert HOSTILE in Elements(page).text
    tokens = pictures(page)["tokens"]
    assert tokens[:11] == ["In", "␣the", "↵", HOSTILE, "\\u2028", "\\u202e", "∅", "\\ud800", "&amp;", "'\"", "\\x00"]
    assert "\u2028" not in page and "\u202e" not in page
    page.encode("utf-8")


@pytest.mark.parametrize(("words", "apart"), [(["1", "23"], True), (["In", " the"], False)])
def test_numbers_of_tokens_stand_apart(words, apart):
    shown = report.build(trace([("softmax_attention", 1, 4)], 2, words), certificate(()))
    assert ("</span> <wbr>" in shown) is apart and ("</span><wbr>" in shown) is not apart


def test_a_hostile_title_path_and_reason_stay_text(example):
    bad = f"</title>{HOSTILE}\u202e"
    hostile = SimpleNamespace(**{**vars(example), "not_captured": {bad: bad}})
    page = report.build(hostile, certificate(), title=bad)
    assert [tag for tag, _ in Elements(page).found].count("script") == 2 and "\u202e" not in page
    assert f"Layer 0{HOSTILE}" not in page


def test_the_certificate_comes_first_and_says_what_fails(page):
    text = " ".join(" ".join(Elements(page).text).split())
    assert text.index("1 of 6 checks fail") < text.index("Layers × heads", text.index("Certificate") + 60)
    assert "What it means that “chunk” fails" in text and "does not reproduce the full forward pass" in text
    assert "1 does not apply to this model and is no failure." in text
    statuses = [attributes["data-status"] for tag, attributes in Elements(page).found if "data-status" in attributes]
    assert statuses[:6] == ["pass", "pass", "pass", "fail", "n/a", "pass"]  # two operator rows stand as the worst
    assert len(statuses) == 6 + 7  # and every one is there
    assert "float32, worst of 2" in text


def test_verdicts(example):
    assert "All 6 checks pass" in report.build(example, certificate())
    assert "do not describe this model exactly" in report.build(example, certificate(("operator",)))
    assert "Not checked" in report.build(example, None)


def test_a_fault_of_the_library_names_it(example):
    kind = type("Model", (), {"__module__": "torch.nn.modules"})
    lens = SimpleNamespace(info=example.lens.info, model=kind())
    text = report.build(SimpleNamespace(**{**vars(example), "lens": lens}), certificate(("chunk",)))
    named = f"torch {torch.__version__}, the library that runs this model (type example)"
    assert f"The fault lies in {named}" in text and f"This is a fault of {named}" in text
    assert "not a fault of the coefficients" in text
    both = report.build(example, certificate(("chunk", "operator")))
    assert "not a fault of the coefficients" not in both and "the code that runs this example model" in both


def test_the_table_tells_each_reason_once_and_no_place_for_no_error():
    kinds = [
        Check(name, "plain", "n/a", None, None, None, why)
        for name, why in (("step", "no cache"), ("chunk", "no cache"), ("padding", "no mask"))
    ]
    noise = "tolerance: float32 floor (measured rounding noise 8e-07)"
    same = [Check("step", v, "pass", 0.0, 0.0, 1e-5, noise, position=3) for v in ("plain", "position_ids")]
    rows = verdict(Certificate(kinds + same)).rows
    assert [(r.check, r.variant, r.rows) for r in rows] == [
        ("step, chunk", "2 checks", 1), ("padding", "plain", 1), ("step", "plain", 2), ("step", "position_ids", 0),
    ]  # fmt: skip
    assert rows[0].reason == "does not apply: no cache" and rows[2].where == ""
    assert [text for text, help in rows[2].reason_parts if help] == ["measured rounding noise"]
    assert rows == verdict(Certificate(kinds + same)).every  # those that do not apply are merged there alike


def test_what_the_model_is(page):
    text = " ".join(Elements(page).text)
    for fact in (
        "example-hybrid",
        "ExampleForCausalLM",
        "1\u202f234\u202f567",
        "float32",
        "ByT5Tokenizer",
        "48 tokens",
    ):
        assert fact in text, fact
    assert "models/" not in text  # where it lies on this machine is nobody's business


def test_every_layer_and_head_has_its_place(page, example):
    data = pictures(page)
    assert len(data["heads"]) == 9 + 4 + 3 + 2  # 40 channels: a stated selection, and all of them in a strip
    assert sorted(data["strips"]["M0"]["heads"]) == list(range(40))
    assert "40 heads (a head is one channel). Cards for 9: those at evenly spaced quantiles" in page
    assert "4 heads, all shown." in page
    ids = {a["id"] for _, a in Elements(page).found if "id" in a}
    links = {a["href"][1:] for t, a in Elements(page).found if t == "a"}
    assert links <= ids and {head["id"] for head in data["heads"]} <= ids


def test_numbers_are_those_of_the_measures(example):
    data = gather(example, None)
    for layer in data.layers:
        call = example.mixers[layer.path]
        horizon, spectrum = measures.horizon(call), measures.spectrum(call)
        for card in layer.cards:
            curve = card.picture["horizon"]
            np.testing.assert_allclose(curve["mass"], horizon.cumulative[card.head, curve["lag"]], atol=6e-5)
            assert curve["half"] == horizon.half_life_measured[card.head]
            assert curve["effective"] == horizon.effective_context[card.head]
            facts = {fact.name: fact.value for fact in card.facts}
            assert facts["Mean distance"].startswith(number(float(horizon.mean[card.head])))
            if spectrum.eta is not None:
                steps = card.picture["steps"]
                np.testing.assert_allclose(steps["value"][1:], spectrum.eta.ratio[card.head, 1:], rtol=1e-3)
                np.testing.assert_allclose(steps["high"][1:], spectrum.eta.high[card.head, 1:], rtol=1e-3)


def test_pictures_hold_the_coefficients(example):
    data = gather(example, None)
    for layer in data.layers:
        dense = example.mixers[layer.path].operator().to_dense()[0].numpy()
        for card in layer.cards:
            stored = card.picture["map"]
            (level,) = stored["levels"]
            assert level["pixels"] == 48 and level["side"] == 1
            raw = zlib.decompress(base64.b64decode(level["data"]))
            codes = np.frombuffer(raw, np.int8 if stored["signed"] else np.uint8).reshape(48, 48)
            shown = decode(codes, stored["max"], stored["signed"])
            assert np.abs(shown - dense[card.head]).max() <= 0.02 * stored["max"]
            assert card.picture["causal"] == (layer.path != "model.layers.3.mixer")


def test_the_same_trace_gives_the_same_page(example, page):
    assert report.build(example, certificate(("chunk",))) == page


def test_float_inputs_are_labelled_by_time_step():
    page = report.build(trace([("s4d", 5, 4)], 30), certificate())
    data = pictures(page)
    assert data["tokens"] is None and data["unit"] == "time step" and "30 time steps" in page
    assert "time step" in page and "The text, token by token" not in page
    elements = Elements(page)
    said = [*elements.text, *(text for _, attributes in elements.found for text in attributes.values() if text)]
    # about generating text, and a name in code
    of_checks = ("One token", "several tokens", "real tokens", "select_tokens")
    rest = [text for text in said if "token" in text and not any(words in text for words in of_checks)]
    assert rest == [], "a model that reads floats has no tokens"


def test_a_batch_says_which_sequence_it_shows():
    batch = trace([("softmax_attention", 2, 4), ("s4d", 2, 2)], 12, ["a", "b"], batch=3)
    first, last = gather(batch, None), gather(batch, None, sequence=2)
    assert "3 sequences" in last.sequence_note and "sequence 2" in last.sequence_note
    assert first.layers[0].cards[0].picture["map"] != last.layers[0].cards[0].picture["map"]
    expected = measures.horizon(batch.mixers["model.layers.0.mixer"], sequence=2).mean[1]
    assert last.layers[0].cards[1].facts[0].value.startswith(number(float(expected)))


def test_padding_is_no_token():
    padded = trace([("softmax_attention", 2, 4), ("gated_delta_net", 2, 4)], 12, ["a", "b"])
    alone = trace([("softmax_attention", 2, 4), ("gated_delta_net", 2, 4)], 12, ["a", "b"])
    for path, call in padded.mixers.items():
        call.arguments["segments"] = torch.tensor([[-1] * 4 + [0] * 8])
        for name, value in call.arguments.items():
            if torch.is_tensor(value) and value.dim() > 2:
                alone.mixers[path].arguments[name] = value[:, 4:]
    for layer, same in zip(gather(padded, None).layers, gather(alone, None).layers, strict=True):
        for card, expected in zip(layer.cards, same.cards, strict=True):
            facts = {fact.name: fact.value for fact in card.facts if not fact.name.startswith("State")}
            assert facts == {fact.name: fact.value for fact in expected.facts if not fact.name.startswith("State")}
            assert card.picture["distance"]["value"][:4] == [None] * 4
    assert report.build(padded, None)


def test_one_token_and_max_heads():
    page = report.build(trace([("softmax_attention", 2, 4), ("mamba", 3, 2)], 1, ["a"]), None)
    assert len(pictures(page)["heads"]) == 5
    few = report.build(trace([("softmax_attention", 6, 4)], 8, ["a"]), None, max_heads=3)
    assert len(pictures(few)["heads"]) == 3 and "6 heads. Cards for 3" in few


def test_bad_input_is_one_clear_line(example, tmp_path):
    with pytest.raises(InputError, match="sequence 1 does not exist"):
        report.build(example, None, sequence=1)
    with pytest.raises(InputError, match="no mixer"):
        report.build(SimpleNamespace(**{**vars(example), "mixers": {}}), None)
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        report.write(example, None, tmp_path / "none" / "report.html")
    with pytest.raises(InputError, match="is a folder"):
        report.write(example, None, tmp_path)


def test_written_whole_or_not_at_all(example, tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            report.write(example, None, target)
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]
    assert report.write(example, certificate(), target) == target
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>") and list(tmp_path.iterdir()) == [target]


def test_two_thousand_tokens_stay_small():
    page = report.build(trace([("softmax_attention", 3, 8), ("gated_delta_net", 3, 8)], 2000, ["a ", "b"]), None)
    assert len(page) < 15e6
    for head in pictures(page)["heads"]:
        coarse, *_, fine = head["map"]["levels"]
        assert coarse["pixels"] <= 200 and fine["pixels"] >= 1000 and fine["edges"][-1] == 2000


def test_words_and_numbers():
    assert visible("été\t\u00a0\u200b") == "été⇥\\xa0\\u200b"
    assert visible("\U000e0041") == "\\U000e0041"
    assert plain_text("a b\nc") == "a b↵c"
    cases = {12.34: "12.3", 0.00012: "1.2e−4", -3.0: "−3", 0.5: "0.5", 1234.0: "1\u202f234", 0.0: "0", 99.96: "100"}
    assert {value: number(value) for value in cases} == cases
    assert number(float("inf")) == "∞" and number(float("nan")) == "–" and number(None) == "–"
    assert number(7) == "7" and number(1234567) == "1\u202f234\u202f567"


def test_a_head_that_reads_nothing_is_shown_as_such():
    empty = trace([("gated_delta_net", 2, 4)], 10, ["a"])
    call = empty.mixers["model.layers.0.mixer"]
    call.arguments["query"] = torch.zeros_like(call.arguments["query"])
    page = report.build(empty, None)
    assert pictures(page)["heads"][0]["horizon"]["half"] is None and "– tokens" in page
