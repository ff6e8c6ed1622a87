"""CONTRIBUTING's worked example is code: it runs as it stands, and its mixer passes what every row passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from families import test_registry
from mixerlens.families import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def spiral(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    try:
        exec(compile(block, "CONTRIBUTING.md", "exec"), {})
        yield capsys.readouterr().out
    finally:
        FAMILIES.pop("spiral_attention", None)


def test_the_made_up_mixer_is_measured(spiral):
    found = re.fullmatch(r"Spiral attention: error at most (\S+), state rank 4, holds: True\n", spiral)
    assert found
    assert 0 < float(found[1]) <= 1e-12


@pytest.mark.usefixtures("spiral")
@pytest.mark.parametrize(
    "check",
    [
        test_registry.test_forward_transpose_and_oracle,
        test_registry.test_gradients,
        test_registry.test_the_state_rank_agrees_with_the_claim,
        test_registry.test_a_sequence_in_two_parts,
        test_registry.test_packed_and_padded_sequences,
    ],
)
def test_the_made_up_mixer_passes_what_every_row_passes(check):
    check("spiral_attention")


def test_the_inherited_tests_are_those_of_every_row():
    """Whatever takes a row's name in tests/families/test_registry.py is run on the made-up mixer as well."""
    per_row = [n for n in vars(test_registry) if n.startswith("test_") and "name" in _arguments(n)]
    assert len(per_row) == 5


def _arguments(name: str) -> tuple[str, ...]:
    code = getattr(test_registry, name).__code__
    return code.co_varnames[: code.co_argcount]
