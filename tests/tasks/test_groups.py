"""Parity and word problems, against one permutation after the other."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from mixerlens import tasks
from mixerlens.tasks.groups import elements, products
from tasks.solvers import parity, word


def test_parity_is_a_running_xor():
    task = tasks.make("parity")
    assert [task.time(split) for split in tasks.SPLITS] == [40, 40, 256] and task.length == 256
    for split in tasks.SPLITS:
        batch = task.batch(split, 0, 32, 0)
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            assert len(inputs) == task.time(split) and targets == parity(inputs)


@pytest.mark.parametrize(("group", "order"), [("S3", 6), ("A4", 12), ("S5", 120), ("A5", 60)])
def test_words_move_things_from_place_to_place(group, order):
    task = tasks.make("s5", "small", group=group)
    every = [tuple(map(int, row)) for row in elements(group)]
    assert len(every) == order == task.vocabulary
    batch = task.batch("test", 0, 32, 0)
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert [every[y] for y in targets] == word([every[x] for x in inputs])


def test_cyclic_groups_add():
    task = tasks.make("s5", "small", group="Z60")
    batch = task.batch("test", 0, 8, 0)
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert targets == [sum(inputs[: t + 1]) % 60 for t in range(len(inputs))]


@pytest.mark.parametrize("group", ["S4", "A5", "Z7", "S5"])
def test_the_table_is_that_of_a_group(group):
    table = products(group)
    order = len(table)
    assert all(sorted(row) == list(range(order)) for row in table)
    some = np.random.default_rng(0).integers(0, order, (3, 200))
    a, b, c = some
    np.testing.assert_array_equal(table[table[a, b], c], table[a, table[b, c]])
    commutes = bool((table == table.T).all())
    assert commutes == group.startswith("Z")


def test_the_even_permutations_are_products_of_two_swaps():
    n = 5
    swaps = [p for p in permutations(range(n)) if sum(p[i] != i for i in range(n)) == 2]
    even = {tuple(p[q[i]] for i in range(n)) for p, q in product(swaps, swaps)}
    even |= {tuple(p[q[i]] for i in range(n)) for p, q in product(even, even)}
    assert even == {tuple(map(int, row)) for row in elements("A5")}


def test_swaps_for_tokens():
    task = tasks.make("s5", "small", tokens="swaps")
    inputs = task.batch("train", 0, 64, 0).inputs.unique().tolist()
    assert len(inputs) == 10
    assert all((elements("S5")[x] != np.arange(5)).sum() == 2 for x in inputs)
