"""What a measure found, in words: with its unit, and without numbers that do not exist."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mixerlens import CoefficientDynamics, evolution, principles
from mixerlens.design import preset
from mixerlens.errors import InputError
from mixerlens.principles.model import MOST, left_out, of_family, of_model, of_spec
from mixerlens.principles.words import found, value

ODD = re.compile(r"no number|no share|\bnan\b|\binf\b|\bNone\b")
SHORT = ("softmax_attention", "rope_attention", "based", "hnet_dechunk", "normalized_linear_attention", "titans_linear")


def texts(mixer):
    for name, record in mixer.report.records.items():
        yield from found(name, mixer)
        yield record.meaning
        yield from (condition.found for condition in record.conditions)


@pytest.mark.parametrize("name", [*SHORT, "s4d", "encoder_attention"])
@pytest.mark.parametrize("length", [1, 2, 20])
def test_a_number_that_does_not_exist_is_left_out_of_the_words(name, length):
    for mixer in of_family(name, length=length):
        for text in texts(mixer):
            assert text and not ODD.search(text), text


def test_shares_say_of_what_they_are():
    (mixer,) = of_family("gated_delta_net", length=30, which=["structure", "eigenvalues"])
    structure, eigenvalues = (found(name, mixer) for name in ("structure", "eigenvalues"))
    assert re.search(r"a negative one at [\d to]+ % of tokens$", structure[0]) and " turn;" in structure[0]
    assert "% of the eigenvalues are not real" in structure[1]
    assert eigenvalues[0].endswith("% of eigenvalues") and eigenvalues[1].startswith("Shares of the eigenvalues: near")
    turning = of_family("s4d", length=30, which=["structure"]).mixers[0].report["structure"]
    assert "100 % of the eigenvalues are not real" in turning.meaning
    assert turning.conditions[1].found.startswith("100 % are not real, 0 % not known")


def test_an_interval_of_several_heads_says_which_ends_are_which():
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 60, 3, 16, dtype=torch.float64, generator=draw)
    several = principles.scaling(CoefficientDynamics(query, key), pairs=64)
    number = r"-?\d[\d.]*"
    told = several.conditions[2].found
    assert re.fullmatch(rf"low ends {number} to {number}, high ends {number} to {number}", told), told
    one = principles.scaling(CoefficientDynamics(query[:, :, :1], key[:, :, :1]), pairs=64)
    assert one.conditions[2].found == f"{float(one.low):.2g} to {float(one.high):.2g}"


def test_a_rank_that_may_be_larger_is_a_bound():
    few = of_family("softmax_attention", length=64, which=["readout"]).mixers[0].report["readout"]
    assert few.lower_bound and value("readout", few).startswith("rank at least ")
    record = SimpleNamespace(
        lengths=(64,), tolerances=(1e-6,), ranks=torch.tensor([[[5]], [[4]]]), lower_bound=True, finite=5
    )
    assert value("readout", record) == "rank at least 4 to 5 at 1e-06; state 5"
    record.ranks[1] = 5
    assert value("readout", record) == "rank 5 at 1e-06; state 5", "theory allows no more"


def test_what_is_erased_has_no_rate():
    decay = torch.ones(1, 12, 1, dtype=torch.float64)
    decay[:, 6] = 0
    vectors = torch.ones(1, 12, 1, 2, dtype=torch.float64)
    erased = principles.normalization(CoefficientDynamics(vectors, vectors, evolution.Scalar(decay=decay)))
    assert "a state present at the first token is erased" in erased.meaning and "inf" not in erased.meaning
    assert "at one of the 11 tokens." in erased.meaning, "all of them were looked at"


def test_the_first_and_last_tokens_are_named_only_where_others_are_left_out():
    short = of_family("gated_delta_net", length=30, which=["readout", "position"])
    assert short.looked_at == {} and left_out(short.looked_at) == "" and "first" not in short.note
    long = of_family("retnet", length=600, which=["readout", "position"])
    assert long.looked_at == {"readout": 512, "position": 512} == long.to_json()["looked_at"]
    assert long.note.endswith("state ranks on the first 512 and changes of order on the last 512 of them")
    (mixer,) = long
    assert "the first 512 of 600 tokens" in mixer.report["readout"].meaning
    assert "of the 511 tokens before (88 earlier ones left out)" in mixer.report["position"].meaning


@pytest.mark.parametrize("make", [lambda n, **o: of_family("retnet", length=n, **o),
                                  lambda n, **o: of_spec(preset("retnet"), length=n, **o)])  # fmt: skip
def test_no_token_is_drawn_that_nobody_looks_at(make):
    """20 million tokens are refused, or cut where the cut is exact, before anything of that size is made."""
    with pytest.raises(
        InputError, match=f"length is 20000000: at most {MOST} tokens are drawn, .* read by selectivity"
    ):
        make(20_000_000)
    found = make(20_000_000, which=["readout"], heads=1)
    assert found.tokens == 512 and "not 20000000 of them: state ranks look at the first 512 only" in found.note


def test_a_saved_design_has_its_name(tmp_path):
    import mixerlens as ml
    from mixerlens import design

    spec = replace(preset("gated_delta_net", heads=2, dim=4, width=4), name="my delta")
    config = design.ModelConfig(layers=(spec, replace(spec, name="other")), features=8, vocabulary=5)
    design.save(design.SequenceModel(config), tmp_path / "saved")
    made = of_model(ml.open(tmp_path / "saved").trace(torch.arange(10)[None] % 5), which=["readout"], seed=4)
    assert [mixer.specification for mixer in made] == ["my delta", "other"]
    for full in (True, False):
        told = made.to_json(full=full)
        assert [mixer["specification"] for mixer in told["mixers"].values()] == ["my delta", "other"]
        assert told["seed"] == 4
