"""Every row of the registry: its function against its reference, its claims about the state, sequences in parts."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor

from families.helpers import error
from mixerlens import families, oracle, references
from mixerlens.errors import InputError, NonMemberError
from mixerlens.families import FAMILIES, Draw, Family, outsiders, register

MEMBERS = list(FAMILIES)
RECURRENT = [name for name, f in FAMILIES.items() if f.recurrence == "finite"]


def drawn(name: str, seed: int = 5) -> tuple[Family, dict, Tensor]:
    family = FAMILIES[name]
    given = family.arguments(seed)
    return family, given, given.pop("value")


def timed(x: object, time: int) -> bool:
    return isinstance(x, Tensor) and x.dim() > 1 and x.shape[1] == time


@pytest.mark.parametrize("name", MEMBERS)
def test_forward_transpose_and_oracle(name):
    family, given, value = drawn(name)
    want = family.recurrence_by_hand(value=value, **given)
    dynamics = family.function(**given)
    op = dynamics.operator()
    assert error(op @ value, want) <= family.bar
    assert error(oracle(dynamics, value), want) <= family.bar
    if value.shape == want.shape:  # <w, alpha v> = <alpha^T w, v> ties the transpose to the reference
        w = torch.randn(want.shape, dtype=want.dtype)
        gap = (w * want).sum() - ((op.T @ w) * value).sum()
        assert abs(gap) <= 10 * family.bar * float(w.norm() * want.norm())


@pytest.mark.parametrize("name", MEMBERS)
def test_gradients(name):
    """By the values and by every argument, against autograd through the plain reference."""
    family, given, value = drawn(name)
    given["value"] = value
    free = [n for n, x in given.items() if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())]
    found = []
    for run in (lambda value, **a: family.function(**a).operator() @ value, family.recurrence_by_hand):
        leaves = {n: given[n].clone().requires_grad_() for n in free}
        y = run(**(given | leaves))
        torch.manual_seed(0)
        loss = (y * torch.randn(y.shape, dtype=y.dtype)).sum()
        loss = loss.real + 0.7 * loss.imag if loss.is_complex() else loss
        found.append(torch.autograd.grad(loss, list(leaves.values()), allow_unused=True))
    size = max(float(h.abs().max()) for h in found[1] if h is not None)
    for n, g, h in zip(free, *found, strict=True):
        h = torch.zeros_like(given[n]) if h is None else h
        g = torch.zeros_like(given[n]) if g is None else g
        assert (g - h).abs().max() <= 10 * family.bar * max(float(h.abs().max()), 0.1 * size), n


@pytest.mark.parametrize("name", MEMBERS)
def test_the_state_rank_agrees_with_the_claim(name):
    family, given, _ = drawn(name)
    d = family.function(**given)
    if not d.causal:
        assert family.recurrence == "grows"
        return
    rank = int(d.operator().state_rank(tol=1e-10, cuts="all").max())
    half = d.time // 2
    if family.recurrence == "finite":
        assert d.recurrent
        assert rank <= min(d.dim * (2 if d.dtype.is_complex else 1), half)
    elif family.recurrence == "by lifting":
        assert d.readout.finite_state
        assert not d.readout.linear
    else:
        assert not d.recurrent or "T" in family.state  # a state that grows with the length is carried as well


@pytest.mark.parametrize("name", RECURRENT)
def test_a_sequence_in_two_parts(name):
    """The final state of the first part is the initial state of the second; the values of all tokens are as before."""
    family, given, value = drawn(name)
    dynamics = family.function(**given)
    time, cut = dynamics.time, 17
    whole, last = dynamics.operator().apply(value, return_state=True)
    assert error(whole, family.recurrence_by_hand(value=value, **given)) <= family.bar
    state = None
    rows = []
    for a, b in ((0, cut), (cut, time)):
        part = dynamics.select_tokens(a, b)
        y, state = part.operator().apply(value[:, a:b], initial_state=state, return_state=True)
        rows.append(y)
    assert error(torch.cat(rows, 1), whole) <= family.bar
    assert state is not None
    assert error(state, last) <= family.bar


@pytest.mark.parametrize("name", [n for n in MEMBERS if FAMILIES[n].takes_segments])
def test_packed_and_padded_sequences(name):
    """Several sequences in a row with padding around them, against the reference with the same segments."""
    family, given, value = drawn(name)
    time = value.shape[1]
    segments = torch.tensor([[-1] * 4 + [0] * 15 + [1] * (time - 19), [3] * 26 + [2] * (time - 29) + [-1] * 3])
    want = family.recurrence_by_hand(value=value, **given, segments=segments)
    op = family.function(**given, segments=segments).operator()
    assert error(op @ value, want) <= family.bar
    assert (want[0, :4] == 0).all()
    assert ((op @ value)[0, :4] == 0).all()


def test_every_recurrent_family_takes_segments():
    assert [n for n in RECURRENT if not FAMILIES[n].takes_segments] == []


def test_references_import_nothing_of_the_library():
    for path in Path(inspect.getfile(references)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("mixerlens") for alias in node.names), path.name
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or not (node.module or "").startswith("mixerlens"), path.name


def test_measure_reports_what_it_measured(monkeypatch):
    (row,) = families.measure(["delta_net"], seeds=2)
    assert row.holds
    assert 0 < row.error <= 1e-12
    assert row.rank == Draw.dim
    right = references.REGISTRY["delta_net"]
    monkeypatch.setitem(references.REGISTRY, "delta_net", lambda **a: right(**a) * (1 + 1e-9))
    (row,) = families.measure(["delta_net"])
    assert not row.holds
    assert 0.9e-9 < row.error < 1.1e-9


def test_an_unknown_family_is_named():
    with pytest.raises(InputError, match="no family is called 'nonsense'"):
        families.measure(["nonsense"])


def test_names_are_taken_once():
    with pytest.raises(InputError, match="registered already"):
        register(Family(**{**vars(FAMILIES["mamba"]), "title": "another"}))


@pytest.mark.parametrize("outsider", outsiders.OUTSIDERS, ids=lambda x: x.name)
def test_a_non_member_is_refused_with_its_witness(outsider):
    with pytest.raises(NonMemberError, match="is not a member") as caught:
        getattr(families, outsider.name)(query=None, anything=3)
    assert caught.value.witness.outcome == "refutes"
    (row,) = families.measure([outsider.name])
    assert row.holds
    assert not row.member
    assert str(caught.value.witness) == row.witness


def test_a_witness_that_does_not_show_fails_the_row(monkeypatch):
    """A mean over the past is linear in its values: no witness against it."""
    mean = lambda query, key, value, **_: value.cumsum(1)
    monkeypatch.setattr(references.outsiders, "lstm", mean)
    (row,) = families.measure(["lstm"])
    assert not row.holds
    assert "does not refute" in row.witness
