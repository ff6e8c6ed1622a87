"""The rows of a recurrence in one call: against the recurrence in exact fractions, and what is done where the call
does not go in order."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from mixerlens.scans import walk as module

ROWS, DECAYS, START = [3.0, -1.0, 0.5, 2.0], [0.5, 0.25, -0.75, 1.5], 4.0


def by_hand() -> list[float]:
    """h_t = u_t + a_t h_{t-1}; every number here is exact in both dtypes."""
    state, found = Fraction(START), []
    for row, decay in zip(ROWS, DECAYS, strict=True):
        state = Fraction(row) + Fraction(decay) * state
        found.append(float(state))
    return found


def walked(way: module.Walk, dtype: torch.dtype) -> list[float]:
    rows = torch.tensor([START, *ROWS], dtype=dtype)[:, None].repeat(1, 3)
    each = rows.unbind(0)
    way(list(each[1:]), list(torch.tensor(DECAYS, dtype=dtype).unbind(0)), list(each[:-1]))
    assert (rows == rows[:, :1]).all()
    return rows[1:, 0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_are_the_recurrence(dtype):
    assert walked(module.walk(torch.empty(0, dtype=dtype)), dtype) == by_hand()
    assert walked(module.one_by_one, dtype) == by_hand()


def test_other_devices_get_a_call_a_row():
    assert module.walk(torch.empty(0, device="meta")) is module.one_by_one


def test_a_call_that_goes_in_another_order_is_not_used(monkeypatch):
    def at_once(rows, decays, before):
        for row, new in zip(rows, [r + a * b for r, a, b in zip(rows, decays, before, strict=True)], strict=True):
            row.copy_(new)

    monkeypatch.setattr(torch, "_foreach_addcmul_", at_once)
    module._in_order.cache_clear()
    try:
        assert module.walk(torch.empty(0)) is module.one_by_one
    finally:
        module._in_order.cache_clear()
