"""Compression and memorisation: what is asked, and what never changes."""

from __future__ import annotations

import numpy as np
import pytest

from mixerlens import tasks


def test_compression_asks_for_the_whole_sequence_at_its_last_token():
    task = tasks.make("compression")
    assert (task.length, task.vocabulary, task.pool, task.classes) == (32, 16, "last", 31 * 16)
    batch = task.batch("test", 0, 256, 0)
    assert bool((batch.inputs[:, -1] == 15).all())
    assert batch.targets.tolist() == batch.inputs[:, :-1].tolist()
    assert set(batch.targets.unique().tolist()) == set(range(15))


@pytest.mark.parametrize("options", [{}, {"vocabulary": 64, "length": 8}])
def test_memorisation_has_one_dictionary_for_all_splits_and_seeds(options):
    task = tasks.make("memorization", **options)
    keys, values = range((task.vocabulary - 1) // 2), range((task.vocabulary - 1) // 2, task.vocabulary - 1)
    found: dict[int, int] = {}
    for split in ("train", "validation", "test"):
        for seed in range(3):
            batch = tasks.make("memorization", **options).batch(split, seed, 64, seed)
            assert bool((batch.inputs[:, 1::2] == task.vocabulary - 1).all())
            assert bool((batch.targets[:, 0::2] == -100).all())
            for key, value in zip(batch.inputs[:, 0::2].flatten(), batch.targets[:, 1::2].flatten(), strict=True):
                assert found.setdefault(int(key), int(value)) == int(value)
    assert set(found) == set(keys) and set(found.values()) <= set(values)
    assert len(set(found.values())) == len(found)  # one to one


def test_another_dictionary_is_another_task():
    ours, theirs = (tasks.make("memorization", dictionary=seed).dictionary for seed in (0, 1))
    assert sorted(ours) != list(ours)
    assert np.mean(ours == theirs) < 0.05


def test_published_sizes_of_memorisation():
    task = tasks.make("memorization")
    assert (task.vocabulary, task.length, task.examples("train")) == (256, 32, 256)
