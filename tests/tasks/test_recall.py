"""Recall in its four kinds, against solvers written from the definitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from mixerlens import tasks
from tasks.solvers import IGNORED, fuzzy, mqar, recall

SIZES = [{}, {"length": 64, "vocabulary": 33}, {"length": 6, "vocabulary": 20}]


def rows(task, split="test", size=64, index=0, seed=3):
    batch = task.batch(split, index, size, seed)
    return batch.inputs.tolist(), batch.targets.tolist()


@pytest.mark.parametrize("name", ["recall", "noisy_recall"])
@pytest.mark.parametrize("options", SIZES)
def test_a_dictionary_answers_everything(name, options):
    task = tasks.make(name, **options)
    for inputs, targets in zip(*rows(task), strict=True):
        assert targets == recall(inputs, task.keys)
        assert targets[-1] != IGNORED  # the last pair is always asked


@pytest.mark.parametrize("name", ["recall", "noisy_recall"])
def test_training_asks_for_every_next_token_as_published(name):
    task = tasks.make(name, examples=None)
    for inputs, targets in zip(*rows(task, "train"), strict=True):
        assert targets[:-1] == inputs[1:] and targets[-1] == recall(inputs, task.keys)[-1]
    answers = tasks.make(name, examples=None, next_token=False)
    for inputs, targets in zip(*rows(answers, "train"), strict=True):
        assert targets == recall(inputs, task.keys)


@pytest.mark.parametrize(("name", "keys", "values", "noise"), [("recall", 8, 8, 0), ("noisy_recall", 8, 8, 16)])
def test_published_sizes_and_the_vocabulary_in_parts(name, keys, values, noise):
    task = tasks.make(name)
    assert (len(task.keys), len(task.values)) == (keys, values)
    inputs = np.array(rows(task, size=512)[0])
    assert inputs.shape[1] == 127
    first, second = inputs[:, 0::2], inputs[:, 1::2]
    assert set(np.unique(first)) == {*task.keys, *range(keys + values, keys + values + noise)}
    assert set(np.unique(second)) == {*task.values, *range(keys + values, keys + values + noise)}
    assert keys + values + noise == task.vocabulary
    noisy = first[:, :-1] >= keys
    np.testing.assert_array_equal(noisy, second >= keys + values)  # never half a pair


def test_the_share_of_noise():
    for share in (0.2, 0.6):
        task = tasks.make("noisy_recall", noise=share)
        first = np.array(rows(task, size=512)[0])[:, 0:-1:2]
        noisy = first >= len(task.keys) + len(task.values)
        assert not noisy.all(1).any()
        # one pair of 63 is none by rule
        assert binomtest(int(noisy.sum()), 512 * 62, share).pvalue > 1e-3
    loud = tasks.make("noisy_recall", noise=0.99, length=8)
    assert all(recall(inputs, loud.keys) == targets for inputs, targets in zip(*rows(loud), strict=True))


def test_the_last_key_is_any_of_those_before_it():
    task = tasks.make("recall", length=8)
    places = Counter()
    for inputs in rows(task, size=4000)[0]:
        shown = sorted(set(inputs[0:-1:2]))
        if len(shown) == 3:
            places[shown.index(inputs[-1])] += 1
    assert chisquare(list(places.values())).pvalue > 1e-3


@pytest.mark.parametrize("options", [{}, {"length": 40, "key_size": 2}, {"vocabulary": 31, "value_size": 5}])
@pytest.mark.parametrize("split", ["train", "test"])
def test_fuzzy_recall_is_solved_by_reading_pairs(options, split):
    task = tasks.make("fuzzy_recall", examples=None, next_token=False, **options)
    sizes = Counter()
    for inputs, targets in zip(*rows(task, split, size=256), strict=True):
        assert len(inputs) == task.options.length
        answers, pairs = fuzzy([*inputs, targets[-1]], task.keys, task.values, task.padding)
        assert targets == answers[:-1]
        assert all(len(set(motif)) == len(motif) for pair in pairs for motif in pair)
        assert targets[-1] != IGNORED and pairs[-1] in pairs[:-1]
        sizes.update(len(key) for key, _ in pairs)
        # as many pairs as fit: what is left is less than the largest pair
        assert inputs.count(task.padding) < 2 * (task.options.key_size + task.options.value_size)
    assert set(sizes) == (set(range(1, task.options.key_size + 1)) if split == "train" else {task.options.key_size})


def test_fuzzy_training_asks_for_every_next_token_as_published():
    task = tasks.make("fuzzy_recall")
    assert (len(task.keys), len(task.values), task.time("test"), task.examples("train")) == (7, 8, 128, 12_800)
    for inputs, targets in zip(*rows(task, "train"), strict=True):
        assert targets[:-1] == inputs[1:]


@pytest.mark.parametrize("options", [{}, {"length": 128, "pairs": 8, "vocabulary": 64}, {"length": 16, "pairs": 4}])
def test_mqar_without_filling_is_solved_by_a_dictionary(options):
    task = tasks.make("mqar", fill="zero", **options)
    for inputs, targets in zip(*rows(task), strict=True):
        assert targets == mqar(inputs, task.options.pairs)


@pytest.mark.parametrize("options", [{}, {"length": 128, "pairs": 8, "vocabulary": 64}])
def test_mqar_with_filling(options):
    task, pairs = tasks.make("mqar", **options), options.get("pairs", 4)
    half = task.vocabulary // 2
    for inputs, targets in zip(*rows(task), strict=True):
        keys, values = inputs[0 : 2 * pairs : 2], inputs[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert set(keys) <= set(range(1, half)) and set(values) <= set(range(half, 2 * half))
        asked = {at: target for at, target in enumerate(targets) if target != IGNORED}
        assert sorted(inputs[at] for at in asked) == sorted(keys)
        assert all(at >= 2 * pairs and at % 2 == 0 for at in asked)
        assert all(target == values[keys.index(inputs[at])] for at, target in asked.items())


def test_the_gaps_of_mqar_are_draws_from_a_power_law_without_replacement():
    for power in (0.01, 1.0):
        task = tasks.make("mqar", pairs=2, length=12, vocabulary=16, power=power, fill="zero")
        found = Counter()
        for inputs in rows(task, size=20_000)[0]:
            places = [(inputs.index(key, 4) - 4) // 2 for key in (inputs[0], inputs[2])]
            found[tuple(places)] += 1
        p = np.arange(1, 5) ** (power - 1)
        p /= p.sum()
        expected = {(i, j): p[i] * p[j] / (1 - p[i]) for i in range(4) for j in range(4) if i != j}
        assert found.keys() == expected.keys()
        counts = [found[pair] for pair in expected]
        assert chisquare(counts, 20_000 * np.array(list(expected.values()))).pvalue > 1e-3
