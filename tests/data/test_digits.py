"""The digits: what the sequences are, and that the parts are a partition that never changes."""

from __future__ import annotations

import sys

import pytest
import torch
from sklearn.datasets import load_digits

from mixerlens.data import digits
from mixerlens.errors import UnsupportedError


def test_the_parts_hold_every_digit_once():
    parts = {part: digits(part) for part in ("train", "validation", "test")}
    assert {name: len(part.labels) for name, part in parts.items()} == {"train": 1257, "validation": 180, "test": 360}
    pixels, labels = load_digits(return_X_y=True)
    rows = sorted((*pixels[i], labels[i]) for i in range(len(labels)))
    got = []
    for part in parts.values():
        assert part.inputs.shape[1:] == (64, 1) and part.inputs.dtype == torch.float32
        images = (part.inputs[..., 0] * 16).double().tolist()
        got += [(*image, label) for image, label in zip(images, part.labels.tolist(), strict=True)]
    assert sorted(got) == rows


def test_the_split_is_fixed():
    assert digits("test").labels[:12].tolist() == [6, 6, 6, 2, 5, 6, 6, 2, 2, 1, 1, 9]


def test_an_unknown_part_is_refused():
    with pytest.raises(UnsupportedError, match="'dev'"):
        digits("dev")


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UnsupportedError, match="pip install scikit-learn"):
        digits("test")
