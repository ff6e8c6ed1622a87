"""Parts of a set: what is in them, what they are scaled by, and that the test part decides nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixerlens.data.sequences import from_series
from mixerlens.errors import InputError


def made(train, test, train_labels, test_labels):
    return from_series("Set", "A set", "here", (train, train_labels), (test, test_labels))


@pytest.fixture
def drawn():
    """Ten series of each of two classes to train on, five to test on, each of them told apart by its first number."""
    generator = np.random.default_rng(0)
    train = [np.concatenate([[[i]], generator.normal(size=(1, 6))], 1) for i in range(20)]
    test = [np.concatenate([[[100 + i]], generator.normal(size=(1, 6))], 1) for i in range(10)]
    return train, test, ["a", "b"] * 10, ["b", "a"] * 5


def test_training_series_are_in_one_part_each_and_a_fifth_of_every_class_validates(drawn):
    found = made(*drawn)
    assert found.classes == ("a", "b")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [16, 4, 10]
    assert torch.bincount(found.validation.labels).tolist() == [2, 2]
    steps = np.concatenate([drawn[0][i] for i in range(20)], 0)
    first = torch.cat([found.train.inputs[:, 0, 0], found.validation.inputs[:, 0, 0]])
    order = first.argsort()
    assert first[order].diff().min() > 0  # every one of the twenty once: their first numbers differ
    labels = torch.cat([found.train.labels, found.validation.labels])[order]
    assert labels.tolist() == [0, 1] * 10
    back = first[order].double() * (steps[19, 0] - steps[0, 0]) / float(first[order][-1] - first[order][0])
    assert torch.allclose(back - back[0], torch.arange(20, dtype=torch.float64), atol=1e-4)


def test_channels_are_scaled_by_the_training_part_alone(drawn):
    train, test, *labels = drawn
    found, other = made(train, test, *labels), made(train, [100 * one for one in test], *labels)
    assert abs(float(found.train.inputs.mean())) < 1e-6
    assert abs(float(found.train.inputs.double().var(correction=0)) - 1) < 1e-5
    assert torch.equal(found.train.inputs, other.train.inputs)
    assert not torch.equal(found.test.inputs, other.test.inputs)


def test_the_parts_never_change_and_their_digests_say_if_they_do(drawn):
    first, second = made(*drawn), made(*drawn)
    assert first.describe() == second.describe()
    drawn[1][3][0, 2] += 1e-3
    third = made(*drawn).describe()["digests"]
    before = first.describe()["digests"]
    assert third["test"] != before["test"] and third["train"] == before["train"]


def test_shorter_series_are_followed_by_zeros_that_are_the_mean():
    train = [np.full((1, 2), 1.0), np.full((1, 4), 3.0)] * 4
    found = made(train, train[:2], ["a", "b"] * 4, ["a", "b"])
    assert "lengths 2 to 4" in found.prepared
    short = found.test.inputs[0, :, 0]
    assert short.shape == (4,) and short[2:].tolist() == [0, 0] and short[0] == short[1] != 0


def test_with_few_series_a_class_validation_comes_out_of_the_test_part(drawn):
    train, test, labels, test_labels = drawn
    found = made(train[:4], test, labels[:4], test_labels)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [4, 2, 8]
    assert "archive's test part" in found.prepared
    held, tested = (set(part.inputs[:, 0, 0].tolist()) for part in (found.validation, found.test))
    assert not held & tested and len(held | tested) == 10


def test_numbered_classes_are_in_the_order_of_their_numbers(drawn):
    train, test, *_ = drawn
    found = made(train, test, ["10", "9"] * 10, ["9", "10"] * 5)
    assert found.classes == ("9", "10") and found.test.labels.tolist() == [0, 1] * 5


def test_labels_and_channels_that_do_not_fit_are_refused(drawn):
    train, test, labels, test_labels = drawn
    with pytest.raises(InputError, match="labels that training lacks: c"):
        made(train, test, labels, ["c", *test_labels[1:]])
    with pytest.raises(InputError, match=r"number of channels, found \[1, 2\]"):
        made(train, [np.zeros((2, 7)), *test[1:]], labels, test_labels)
