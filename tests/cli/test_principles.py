"""``mixerlens principles``: of a model, a specification and a family, and bad requests."""

from __future__ import annotations

import json

import pytest

from mixerlens import principles


def as_json(result):
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_model_in_json(llama_folder, mixerlens, tmp_path):
    target = tmp_path / "principles.json"
    found = as_json(mixerlens("principles", llama_folder, "--json", "--length", "24", "--layers", "0", "-o", target))
    ((path, mixer),) = found["mixers"].items()
    assert path.startswith("model.layers.0.") and mixer["family"] == "softmax_attention"
    assert list(mixer["principles"]) == list(principles.MEASURES) and found["tokens"] == 24
    readout = mixer["principles"]["readout"]
    assert found["principles"]["readout"]["principle"] == 1 and "no finite state" in readout["value"]
    assert {c["condition"]: c["holds"] for c in readout["conditions"]}["phi is linear: n numbers"] is False
    for record in found["principles"].values():
        assert record["theorem"] and record["counterexamples"]
    for record in mixer["principles"].values():
        assert record["meaning"] and record["value"] and not {"theorem", "labels"} & set(record)
    assert json.loads(target.read_text()) == found


def test_the_table_says_value_meaning_truth_and_counter_case(s4d_folder, mixerlens, tmp_path):
    target = tmp_path / "principles.svg"
    result = mixerlens("principles", s4d_folder, "--length", "16", "--heads", "2", "--figure", target)
    assert result.exit_code == 0, result.stderr
    six = ("1 Readout", "2 Selectivity", "3 Position", "4 Structure", "5 Scaling", "6 Normalisation")
    for title in (*six, "Retention", "Folded normaliser", "Eigenvalues"):
        assert title in result.stdout
    for word in ("wording: Only a linear readout", "true: ", "holds here? ", "counter-case: "):
        assert word in result.stdout
    assert "at your request 2 of 5 heads" in " ".join(result.stdout.split())
    assert target.read_text().startswith("<?xml")
    assert result.stdout.endswith(f"figure: {target}\n")


def test_a_family_and_a_part_of_the_principles(mixerlens):
    found = as_json(
        mixerlens(
            "principles", "gated_delta_net", "--json", "--full", "--length", "20", "--only", "readout, eigenvalues"
        )
    )
    (mixer,) = found["mixers"].values()
    assert list(mixer["principles"]) == ["readout", "eigenvalues"] and "seed 0" in found["note"]
    assert mixer["principles"]["readout"]["finite"] == 4


def test_json_is_small_unless_all_numbers_are_asked_for(mixerlens):
    """By default nothing grows with lags, tokens or lengths, and no text of a principle is told twice."""
    options = ["principles", "differential_attention", "--json", "--length", "40"]
    small, full = mixerlens(*options), mixerlens(*options, "--full")
    brief, whole = as_json(small), as_json(full)
    assert len(small.stdout) < len(full.stdout) / 3
    for path, mixer in whole["mixers"].items():
        for name, record in mixer["principles"].items():
            told = brief["mixers"][path]["principles"][name]
            assert told["meaning"] == record["meaning"] and told["conditions"] == record["conditions"]
            assert brief["principles"][name]["theorem"] == record["theorem"]
            assert told["headline"] == record.get(record["headline"], told["headline"])
    for name in principles.MEASURES:
        assert small.stdout.count(json.dumps(brief["principles"][name]["theorem"])) == 1


def test_a_specification(mixerlens, tmp_path):
    from mixerlens.design import preset
    from mixerlens.design.files import write

    path = write(preset("retnet"), tmp_path / "mixer.toml")
    options = ["--json", "--length", "20", "--only", "dsf", "--seed", "5"]
    found = as_json(mixerlens("principles", path, *options))
    assert "drawn with seed 5" in found["note"] and found["tokens"] == 20
    (mixer,) = found["mixers"].values()
    assert mixer["kind"] == "specification"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gated_delta_net", "--only", "beauty"], "no principle is called 'beauty'; choose from readout, "),
        (["gated_delta_net", "--heads", "0"], "look at one head a mixer at least"),
        (["gated_delta_net", "--length", "0"], "--length 0: at least 1 token"),
        (["gated_delta_net", "--text", "In"], "--text is for models: the inputs of a family are drawn"),
        (["nowhere.yaml", "--input", "a.npy"], "--input is for models: the inputs of a specification are drawn"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["gated_delta_nets"], "no folder here and not in the cache; did you mean gated_delta_net or "),
        (["gated_delta_net", "--length", "20000000"], "at most 65536 tokens are drawn"),
        (["gated_delta_net", "--figure", "a.txt"], "end it in .png, .pdf, .svg"),
        (["gated_delta_net", "-o", "nowhere/a.json"], "the folder nowhere does not exist"),
    ],
)
def test_bad_requests_are_one_line(arguments, message, mixerlens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = mixerlens("principles", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
