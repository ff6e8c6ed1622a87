"""What each verb says about a model it can open."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

CHECK_FIELDS = {
    "check", "variant", "status", "max_abs", "max_rel", "tolerance", "reason", "layer", "head", "position",
}  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]


def as_json(result):
    assert result.exit_code in (0, 1) and result.stderr == "", result.stderr
    return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_help_names_every_verb_and_the_version_is_the_packages(mixerlens):
    import mixerlens as package
    from mixerlens.cli.app import VERBS

    assert mixerlens("--version").stdout == f"mixerlens {package.__version__}\n"
    listed = mixerlens("--help")
    names = [verb.__name__.replace("_", "-") for verb in VERBS]
    assert listed.exit_code == 0 and all(name in listed.stdout for name in names)
    subjects = {"families": "NAME", "reproduce": "STUDY", "design": "FILE", "bench-tasks": "SPEC"}
    subjects |= dict.fromkeys(("doctor", "tasks"), "--json")
    for name in names:
        assert subjects.get(name, "MODEL") in mixerlens(name, "--help").stdout


@pytest.mark.parametrize("arguments", [["verify"], ["verify", "a", "b"], ["verify", "a", "--dtype", "int8"], ["prove"]])
def test_usage_errors_are_2(arguments, mixerlens):
    result = mixerlens(*arguments)
    assert (result.exit_code, result.stdout) == (2, "") and result.stderr and "Traceback" not in result.stderr


def test_inspect_counts_what_is_in_the_file(llama_folder, mixerlens):
    info = as_json(mixerlens("inspect", llama_folder, "--json"))
    assert info["parameters"] == sum(
        tensor.numel() for tensor in load_file(llama_folder / "model.safetensors").values()
    )
    assert (info["model_type"], info["dtype"], info["vocabulary"], info["context_length"]) == (
        "llama",
        "float32",
        97,
        128,
    )
    assert info["layers"] == [
        {"index": k, "path": f"model.layers.{k}.self_attn", "kind": "attention", "family": "softmax_attention",
         "heads": 4, "value_dim": 8, "state": "grows"}
        for k in range(2)
    ]  # fmt: skip


def test_inspect_names_the_tokens_that_the_tokenizer_adds_to_a_text(mixerlens):
    model = ROOT / "specimens" / "qwen3-next-bytes"
    (added,) = as_json(mixerlens("inspect", model, "--json"))["tokenizer_adds"]
    ids = {
        token["content"]: token["id"] for token in json.loads((model / "tokenizer.json").read_text())["added_tokens"]
    }
    assert ids[added] == 1 and "tokenizer adds" in mixerlens("inspect", model).stdout


def test_inspect_names_a_mixer_of_ones_own_and_its_lifted_state(mixerlens, tmp_path):
    from mixerlens.design import ModelConfig, SequenceModel, part, preset
    from mixerlens.design.saved import save

    own = {"name": "squares", "heads": 2, "dim": 3, "width": 5, "readout": part("polynomial", coefficients=(0, 0, 1))}
    layers = (replace(preset("gated_linear_attention"), **own), preset("softmax_attention", heads=2, dim=3, width=5))
    save(SequenceModel(ModelConfig(layers=layers, features=10, vocabulary=7)), tmp_path / "saved")
    found = as_json(mixerlens("inspect", str(tmp_path / "saved"), "--json"))["layers"]
    assert [(layer["specification"], layer["state"]) for layer in found] == [
        ("squares", 3 * 4 // 2 * 5),  # the monomials of degree 2 of three numbers, for each of five channels
        ("softmax_attention", "grows"),
    ]
    assert "squares" in mixerlens("inspect", str(tmp_path / "saved")).stdout


def test_ratios_beyond_the_range_of_floats_are_told_as_powers(mixerlens, tmp_path):
    from mixerlens.design import ModelConfig, SequenceModel, preset, save

    layers = (preset("softmax_attention", heads=2, dim=3, width=5),)
    model = SequenceModel(ModelConfig(layers=layers, features=10, vocabulary=7), seed=0)
    model.blocks[0].norm.weight.data *= 1e3
    save(model, tmp_path / "saved")
    written = as_json(mixerlens("spectrum", tmp_path / "saved", "--length", 24, "--json"))["layers.0.mixer"]
    assert max(written["log_ratio_quantiles"][0]) > 1e4 and written["ratio_quantiles"][0][-1] is None
    shown = mixerlens("spectrum", tmp_path / "saved", "--length", 24).stdout
    assert re.search(r"e\^\d", shown) and "e^-" in shown and "never" not in shown and "inf" not in shown
    assert mixerlens("report", tmp_path / "saved", "--length", 24, "-o", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "lie beyond e^±708 and have no dot" in page and re.search(r"e\^−\d+.* – e\^\d", page)


def test_inspect_s4d(s4d_folder, mixerlens):
    info = as_json(mixerlens("inspect", s4d_folder, "--json", "--layers", "1"))
    (layer,) = info["layers"]
    assert (layer["path"], layer["family"], layer["heads"]) == ("layers.1.s4d", "s4d", 5)
    assert (layer["value_dim"], layer["state"]) == (1, 2 * 4), "4 complex modes are 8 numbers"


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("verb", ["inspect", "verify", "spectrum", "horizon"])
def test_tables_fit_the_width_and_name_every_layer(verb, columns, llama_folder, mixerlens):
    options = [] if verb == "inspect" else ["--length", 24]
    result = mixerlens(verb, llama_folder, *options, columns=columns)
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    table = [line for line in lines if str(llama_folder) not in line]  # a path is as long as it is
    assert max(map(len, table)) <= columns and len(lines) < 60
    if verb != "verify":  # which shows the worst of the layers that pass
        assert all(any(line.split()[:1] == [str(layer)] for line in lines) for layer in range(2))
    whole = {
        "inspect": ["model.layers.1.self_attn", "softmax_attention"],
        "verify": ["position_ids", "operator", "sum,", "tolerance"],
        "spectrum": ["self_attn", "eta_ratio"],
        "horizon": ["self_attn", "effective"],
    }
    assert set(whole[verb]) <= set(re.sub("(left|right)/", "", result.stdout).split()), "no word is cut in two"


def test_floats_are_time_steps_and_ids_are_tokens(s4d_folder, llama_folder, mixerlens):
    for verb in ("verify", "horizon", "spectrum", "inspect"):
        options = [] if verb == "inspect" else ["--length", 24]
        floats, ids = (
            " ".join(mixerlens(verb, folder, *options).stdout.split()) for folder in (s4d_folder, llama_folder)
        )
        assert re.search(r"time\s+step", floats) and not re.search(r"time\s+step", ids), verb
        assert "token" not in floats.replace("token mixers", "") and re.search(r"token", ids), verb


def test_the_terminal_and_the_page_say_the_same_of_a_certificate(s4d_folder, mixerlens, tmp_path):
    result = mixerlens("report", s4d_folder, "--length", 24, "-o", tmp_path / "report.html")
    assert "certificate: all 4 checks pass" in result.stdout
    assert "All 4 checks pass" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "holds" not in result.stdout


def test_verify_has_the_published_schema(llama_folder, mixerlens):
    result = as_json(mixerlens("verify", llama_folder, "--length", 24, "--json"))
    assert set(result) == {"passed", "checks"} and result["passed"] is True
    assert all(set(check) == CHECK_FIELDS for check in result["checks"])
    assert {check["check"] for check in result["checks"]} == {"operator", "step", "chunk", "padding"}
    assert {check["status"] for check in result["checks"]} <= {"pass", "n/a"}


def test_verify_runs_only_the_checks_and_layers_asked_for(llama_folder, mixerlens):
    arguments = ("--length", 24, "--checks", "operator", "--layers", "1", "--json")
    result = as_json(mixerlens("verify", llama_folder, *arguments))
    assert {check["check"] for check in result["checks"]} == {"operator"}
    assert {check["layer"] for check in result["checks"]} == {1}


def test_verify_in_float64_is_held_to_float64(llama_folder, mixerlens):
    arguments = ("--length", 24, "--checks", "operator", "--dtype", "float64", "--json")
    for check in as_json(mixerlens("verify", llama_folder, *arguments))["checks"]:
        assert check["status"] == "pass" and check["max_rel"] <= 1e-11


def test_the_output_file_is_the_json(llama_folder, mixerlens, tmp_path):
    target = tmp_path / "out.json"
    for verb, options in (("verify", ["--length", 16]), ("horizon", ["--length", 16]), ("inspect", [])):
        printed = as_json(mixerlens(verb, llama_folder, *options, "--json", "-o", target))
        assert json.loads(target.read_text()) == printed
        shown = mixerlens(verb, llama_folder, *options, "-o", target)
        assert json.loads(target.read_text()) == printed and not shown.stdout.startswith("{")


def test_the_same_seed_is_the_same_input(llama_folder, mixerlens):
    def horizon(*options):
        return as_json(mixerlens("horizon", llama_folder, "--length", 16, "--json", *options))

    assert horizon() == horizon("--seed", 0) != horizon("--seed", 1)


def test_arrays_go_in_as_they_are(llama_folder, mixerlens, tmp_path):
    """Ids from a file give what the same ids give in Python; --length keeps the first of them."""
    import mixerlens as ml

    ids = np.arange(3, 43).reshape(1, 40)
    np.save(tmp_path / "ids.npy", ids.astype(">i4"))
    trace = ml.open(llama_folder).trace(torch.from_numpy(ids[:, :32]))
    name = "model.layers.1.self_attn"
    alpha = trace.mixers[name].operator().to_dense()[0].double()
    lag = (torch.arange(32)[:, None] - torch.arange(32)).double()
    printed = as_json(mixerlens("horizon", llama_folder, "--input", tmp_path / "ids.npy", "--length", 32, "--json"))
    assert printed[name]["mean"] == pytest.approx(
        ((alpha.abs() * lag).sum(-1) / alpha.abs().sum(-1)).mean(-1).tolist(), rel=1e-5
    )


def test_floats_for_models_that_read_floats(s4d_folder, mixerlens, tmp_path):
    np.savez(tmp_path / "x.npz", inputs=np.random.default_rng(0).normal(size=(2, 33, 3)).astype(np.float32))
    result = as_json(mixerlens("verify", s4d_folder, "--input", tmp_path / "x.npz", "--json"))
    assert result["passed"] is True
    assert {c["status"] for c in result["checks"] if c["check"] == "operator"} == {"pass"}


def test_spectrum_of_s4d_is_exp_of_dt_times_a(s4d_folder, mixerlens):
    from mixerlens.models.s4d import load_s4d

    printed = as_json(mixerlens("spectrum", s4d_folder, "--length", 16, "--eigenvalues", "--json"))
    given = load_s4d(s4d_folder).layers[0].s4d.parameters_for_family()
    a, dt = (torch.as_tensor(given[name]).detach() for name in ("A", "dt"))
    expected = torch.exp(dt.reshape(-1, 1).double() * a.to(torch.complex128))
    found = torch.view_as_complex(torch.tensor(printed["layers.0.s4d"]["eigenvalues"], dtype=torch.float64))[:, 0]
    order = lambda x: x[torch.arange(5)[:, None], x.imag.argsort(-1)]
    assert (order(found) - order(expected)).abs().max() <= 1e-6


def test_report_writes_one_page(llama_folder, mixerlens, tmp_path):
    target = tmp_path / "report.html"
    result = mixerlens("report", llama_folder, "--length", 16, "--title", "<b>mine</b>", "-o", target, "--json")
    printed = as_json(result)
    assert printed["report"] == str(target) and printed["certificate"]["passed"] is True and result.exit_code == 0
    page = target.read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>") and "<b>mine</b>" not in page and "mine" in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_is_written_also_when_a_check_fails(mixerlens, tmp_path):
    from cli.helpers import save

    target = tmp_path / "report.html"
    result = mixerlens("report", save("gpt2", tmp_path / "gpt2"), "--length", 16, "--checks", "padding", "-o", target)
    assert result.exit_code == 1 and target.exists() and str(target.name) in result.stdout
