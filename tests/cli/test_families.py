"""``mixerlens families``: its JSON, its judgement, its errors."""

from __future__ import annotations

import json

from mixerlens import references

KEYS = {"name", "member", "error", "reference", "state", "readout", "evolution"}


def test_every_row_is_measured(mixerlens):
    result = mixerlens("families", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert all(row.keys() >= KEYS for row in rows)
    members = [row for row in rows if row["member"]]
    assert len({row["name"] for row in rows}) == len(rows)
    assert all(0 < row["error"] <= (1e-9 if row["name"].startswith("normalized") else 1e-12) for row in members)


def test_a_wrong_row_fails_the_check_alone(mixerlens, monkeypatch):
    right = references.REGISTRY["mamba2"]
    monkeypatch.setitem(references.REGISTRY, "mamba2", lambda **a: right(**a) * (1 + 1e-11))
    assert mixerlens("families", "mamba2", "mamba").exit_code == 0
    result = mixerlens("families", "mamba2", "mamba", "--check")
    assert result.exit_code == 1
    assert "FAILED: mamba2" in result.stdout


def test_names_and_a_file(mixerlens, tmp_path):
    path = tmp_path / "rows.json"
    result = mixerlens("families", "mamba", "s4d", "-o", str(path))
    assert result.exit_code == 0
    assert [row["name"] for row in json.loads(path.read_text())] == ["mamba", "s4d"]
    assert "delta_net" not in result.stdout


def test_an_unknown_name_is_one_line(mixerlens):
    result = mixerlens("families", "mambo")
    assert result.exit_code == 2
    assert result.stderr.startswith("mixerlens: no family is called 'mambo': mamba")
    assert result.stderr.count("\n") == 1


def test_a_functions_name_stands_for_its_rows_in_any_case(mixerlens):
    def listed(*names):
        return [row["name"] for row in json.loads(mixerlens("families", *names, "--json").stdout)]

    assert listed("retention") == ["retnet", "lightning_attention"]
    assert listed("Retention", "RETNET", "Mamba") == ["retnet", "lightning_attention", "mamba"]


def test_a_part_of_a_name_is_suggested_before_what_is_spelt_alike(mixerlens):
    result = mixerlens("families", "Kimi")
    assert result.exit_code == 2
    assert result.stderr == "mixerlens: no family is called 'Kimi': kimi_delta_attention\n"
    assert mixerlens("families", "").stderr == "mixerlens: no family is called '': mixerlens families lists them\n"


def test_the_summary_counts_members_and_others(mixerlens):
    from mixerlens.families.outsiders import OUTSIDERS

    result = mixerlens("families", "mamba", "retention", OUTSIDERS[0].name)
    assert result.stdout.splitlines()[-1] == "3 members, 1 non-member; every row holds"
