"""Ranks of growing blocks, on matrices whose rank is known."""

from __future__ import annotations

import torch

from membership.zoo import draw
from mixerlens.membership.ranks import Bars, corner, crossing

BARS = Bars(1e-10, 1e-4, 1.8e-15)
TIME = 48


def recurrence(size, decay=1.0, systems=2, seed=0):
    """Lower triangular, of state rank ``size``."""
    n = draw(seed)
    lag = torch.arange(TIME)[:, None] - torch.arange(TIME)[None, :]
    return (n(systems, TIME, size) @ n(systems, size, TIME) * decay ** lag.clamp(min=0).double()).tril()


def test_a_recurrence_stops_growing_at_its_state():
    for size in (1, 3, 12):
        for decay in (1.0, 0.7):
            growth = crossing(recurrence(size, decay), None, BARS)
            assert (growth.side, growth.rank, growth.half_rank) == (24, size, size)
            assert growth.plateau and growth.gap < 1e-6
            assert growth.ranks[-1] >= size - (decay < 1)


def test_room_is_needed_to_stop():
    growth = crossing(recurrence(13), None, BARS)
    assert growth.rank == 13 and not growth.plateau  # 12 is all that half the tokens can show
    assert not crossing(draw(1)(1, TIME, TIME).tril(), None, BARS).plateau


def test_a_smooth_kernel_has_no_gap():
    """It decays, so more tokens add nothing that could be seen, and no number of state is exact."""
    place = torch.arange(160, dtype=torch.float64)
    lag = (place[:, None] - place[None, :]).clamp(min=0)
    growth = crossing((0.5**lag / (1 + lag))[None].tril(), None, BARS)
    assert growth.plateau and growth.rank > 3 and growth.gap > 1e-3


def test_the_largest_system_counts():
    both = torch.cat([recurrence(2, systems=1), recurrence(5, systems=1)])
    assert crossing(both, None, BARS).rank == 5


def test_invalid_entries_are_left_out():
    matrix = recurrence(3)
    valid = torch.ones(TIME, TIME, dtype=torch.bool)
    matrix[:, 40, 2], valid[40, 2] = torch.nan, False
    growth = crossing(torch.where(valid, matrix, 7.0), valid, BARS)
    assert growth.rank == 3 and growth.plateau
    lag = torch.arange(TIME)[:, None] - torch.arange(TIME)[None, :]
    window = crossing(matrix, lag < 14, BARS)
    assert (window.side, window.rank) == (7, 3) and window.plateau
    assert crossing(matrix, lag < 0, BARS).side == 0


def test_matrices_as_entries():
    n = draw(2)
    read, write = n(TIME, 3, 5), n(TIME, 5, 3)  # five numbers carry three channels
    matrix = torch.einsum("tan,snb->tsab", read, write)[None]
    growth = crossing(matrix, None, BARS)
    assert growth.rank == 5 and growth.cap == 24 * 3 and growth.plateau


def test_both_ways_the_whole_matrix_counts():
    n = draw(3)
    product = n(1, TIME, 4) @ n(1, 4, TIME)
    assert corner(product, None, BARS).rank == 4 and corner(product, None, BARS).plateau
    assert not corner(product.tril(), None, BARS).plateau
    assert corner(product, product[0] > 0, BARS).side == 0
