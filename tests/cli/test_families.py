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
