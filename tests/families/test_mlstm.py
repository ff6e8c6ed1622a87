"""mLSTM: transformers' recurrence, gates that overflow, the floor."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from capture import tiny
from families.helpers import error, randn
from mixerlens import families, references
from mixerlens.errors import InputError

BATCH, TIME, HEADS, DIM, WIDTH = 2, 70, 3, 4, 5


def drawn(size: float = 3.0) -> dict:
    return {
        "query": randn(BATCH, TIME, HEADS, DIM) * DIM**-0.5,
        "key": randn(BATCH, TIME, HEADS, DIM),
        "log_input": size * randn(BATCH, TIME, HEADS),
        "log_forget": F.logsigmoid(2 + randn(BATCH, TIME, HEADS)),
    }


@pytest.mark.parametrize("size", [3.0, 60.0])
def test_mlstm_is_transformers(size):
    """Their recurrence carries a unit at each token; eps, which is no part of the model, is 0."""
    tiny.config("xlstm")  # makes transformers' own xLSTM importable where half of another one is installed
    from transformers.models.xlstm import modeling_xlstm

    given, v = drawn(size), randn(BATCH, TIME, HEADS, WIDTH)
    forget = torch.logit(given["log_forget"].exp())
    given["log_forget"] = F.logsigmoid(forget)
    q, k, value, gate, forget = (
        x.transpose(1, 2) for x in (given["query"] * DIM**0.5, given["key"], v, given["log_input"], forget)
    )
    want, (memory, total, unit) = modeling_xlstm.mlstm_recurrent_sequence_native(
        q, k, value, gate, forget, eps=0.0, dtype_state=torch.float64, return_last_states=True
    )
    got, state = families.mlstm(**given).operator().apply(v, return_state=True)
    assert error(got, want.transpose(1, 2)) <= 1e-12
    peak = given["log_input"].amax(1).clamp(min=0)[..., None, None]
    theirs = torch.cat([memory, total[..., None]], -1) * (unit[..., None] - peak).exp()
    assert error(state, theirs) <= 1e-12


def test_mlstm_at_gates_beyond_float64():
    """Against the paper's own stabilised recurrence: e^1200 cannot be formed, e^300 in units of the peak can."""
    given, v = drawn(100.0), randn(BATCH, TIME, HEADS, WIDTH)
    assert given["log_input"].max() > 250
    got = families.mlstm(**given).operator() @ v
    assert error(got, references.mlstm(value=v, **given)) <= 1e-12
    given["log_input"] = given["log_input"] + 1200
    with pytest.raises(InputError, match="log input gates"):
        families.mlstm(**given)


def test_float32_goes_wide_only_where_it_must():
    given = {n: x.float() for n, x in drawn(1.0).items()}
    v = randn(BATCH, TIME, HEADS, WIDTH).float()
    narrow = families.mlstm(**given)
    assert narrow.dtype == torch.float32
    assert error((narrow.operator() @ v).double(), references.mlstm(value=v, **given)) <= 1e-6
    given["log_input"] = given["log_input"] + 60
    wider = families.mlstm(**given)
    assert wider.dtype == torch.float64
    assert error(wider.operator() @ v, references.mlstm(value=v, **given)) <= 1e-12


@pytest.mark.parametrize(("kind", "bar"), [("none", 1e-12), ("zero", 1e-9), ("number", 1e-12), ("tensor", 1e-12)])
def test_any_floor(kind, bar):
    """With floor 0 the row sum of signed scores stands alone and may come close to zero."""
    given, v = drawn(), randn(BATCH, TIME, HEADS, WIDTH)
    floors = {"none": None, "zero": 0.0, "number": 2.5, "tensor": 3 * torch.rand(BATCH, TIME, HEADS).double()}
    op = families.mlstm(**given, floor=floors[kind]).operator()
    assert error(op @ v, references.mlstm(value=v, **given, floor=floors[kind])) <= bar
    assert error(op.to_dense() @ v.transpose(1, 2), (op @ v).transpose(1, 2)) <= bar


def test_a_closed_input_gate_writes_nothing():
    given, v = drawn(), randn(BATCH, TIME, HEADS, WIDTH)
    given["log_input"][:, 5:9] = -torch.inf
    alpha = families.mlstm(**given).operator().to_dense()
    assert (alpha[..., 5:9] == 0).all()
    assert error(families.mlstm(**given).operator() @ v, references.mlstm(value=v, **given)) <= 1e-12


def test_the_floor_does_not_bound_the_absolute_mass():
    """sum_j |alpha_ij| exceeds 1 where scores cancel in the row sum; with the floor alone it is large."""
    q = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    k = torch.tensor([50.0, -50.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    zero = torch.zeros(1, 2, 1, dtype=torch.float64)
    op = families.mlstm(query=q, key=k, log_input=zero, log_forget=zero).operator()
    assert op.row_mass()[0, :, 0].tolist() == [1.0, 100.0]


def test_growing_states_are_refused():
    with pytest.raises(InputError, match="log_forget"):
        families.mlstm(**{**drawn(), "log_forget": torch.ones(BATCH, TIME, HEADS)})
