"""Copying, selective copying and the delay line, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from mixerlens import tasks
from tasks.solvers import IGNORED, copying


@pytest.mark.parametrize(("name", "length", "copied", "vocabulary"), [("selective_copying", 256, 16, 16)])
def test_published_sizes(name, length, copied, vocabulary):
    task = tasks.make(name)
    assert (task.length, task.options.copied, task.vocabulary) == (length, copied, vocabulary)
    assert task.examples("train") == 12_800 and task.examples("test") is None


@pytest.mark.parametrize("name", ["copying", "selective_copying"])
@pytest.mark.parametrize("options", [{}, {"length": 9, "copied": 4}, {"length": 40, "vocabulary": 5, "copied": 7}])
def test_what_is_no_blank_is_given_back(name, options):
    task = tasks.make(name, **options)
    batch = task.batch("test", 0, 64, 0)
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert targets == copying(inputs, task.blank, task.sign)
        copied = task.options.copied
        assert inputs[-copied:] == [task.blank] * copied and inputs[-copied - 1] == task.sign
        assert set(targets[-copied:]) <= set(task.tokens) and len(task.tokens) == task.vocabulary - 2
        if name == "copying":
            assert inputs[:copied] == targets[-copied:]


def test_blanks_stand_before_any_of_the_tokens_alike_and_never_behind_the_last():
    task = tasks.make("selective_copying", length=40, copied=4)
    counts = np.zeros(4)
    for inputs in task.batch("test", 0, 1000, 0).inputs.tolist():
        seen = 0
        for token in inputs[: inputs.index(task.sign)]:
            if token == task.blank:
                counts[seen] += 1
            else:
                seen += 1
        assert inputs[inputs.index(task.sign) - 1] != task.blank
    assert counts.sum() == 1000 * (40 - 9)
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("delay", [1, 7, 63])
def test_the_delay_line(delay):
    task = tasks.make("delay", "small", delay=delay)
    batch = task.batch("train", 0, 16, 0)
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert targets == [inputs[t - delay] if t >= delay else IGNORED for t in range(64)]
