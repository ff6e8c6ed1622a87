"""What holds for every task: the streams, the loss mask, the score, the chance level and one-line errors."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from mixerlens import tasks
from mixerlens.errors import InputError

DRAWN = [name for name in tasks.TASKS if name != "digits"]
NAMES = {
    "compression", "fuzzy_recall", "noisy_recall", "recall", "memorization", "selective_copying",
    "mqar", "parity", "s5", "copying", "delay", "digits",
}  # fmt: skip


def test_the_names():
    assert set(tasks.TASKS) == NAMES


@pytest.mark.parametrize("preset", tasks.PRESETS)
@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_batch_depends_on_nothing_drawn_before(name, preset):
    large = (getattr(tasks.TASKS[name], preset).examples or 0) > 2000
    first, second = (tasks.make(name, preset, **{"examples": 600} if large else {}) for _ in range(2))
    for index in range(3):
        first.batch("train", index, 8, 1)
        first.batch("test", index, 8, 1)
    for split in tasks.SPLITS:
        ours, theirs = first.batch(split, 5, 8, 2), second.batch(split, 5, 8, 2)
        assert torch.equal(ours.inputs, theirs.inputs) and torch.equal(ours.targets, theirs.targets)
        assert ours.targets.dtype == torch.int64
        assert ours.inputs.dtype == (torch.float32 if first.channels else torch.int64)
        assert ours.inputs.shape[:2] == (8, first.time(split))


@pytest.mark.parametrize("name", DRAWN)
def test_no_two_splits_seeds_or_indices_share_an_example(name):
    # few bits would repeat by chance
    enough = {"parity": {"length": 64, "test_length": 64}, "s5": {"test_length": 16}}.get(name, {})
    task = tasks.make(name, "small", examples=None, **enough)
    seen: Counter = Counter()
    for split in tasks.SPLITS:
        for index in range(3):
            for seed in range(3):
                for size in (16, 17):
                    seen.update(map(tuple, task.batch(split, index, size, seed).inputs.tolist()))
    assert sum(seen.values()) == 27 * 33
    assert max(seen.values()) == 1


@pytest.mark.parametrize("name", DRAWN)
def test_a_task_whose_next_input_is_the_answer_is_marked_causal(name):
    for preset in tasks.PRESETS:
        batch = tasks.make(name, preset, examples=None).batch("test", 0, 16, 0)
        if batch.inputs.shape[:2] != batch.targets.shape:  # asked after the whole sequence
            assert not tasks.TASKS[name].causal
            continue
        asked = batch.targets[:, :-1] != tasks.IGNORED
        told = (batch.inputs[:, 1:] == batch.targets[:, :-1])[asked].float().mean().item()
        assert told > 0.9 if tasks.TASKS[name].causal else told < 0.6  # of two tokens half are right by chance


def test_other_options_draw_other_numbers():
    ours, theirs = (tasks.make("delay", "small", delay=d).batch("train", 0, 4, 0).inputs for d in (3, 4))
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["recall", "memorization", "delay"])
def test_a_finite_training_set_comes_in_whole_epochs(name):
    task = tasks.make(name, "small", examples=300)
    whole = Counter(map(tuple, task.batch("train", 0, 300, 0).inputs.tolist()))
    assert len(whole) == 300
    epochs = [tuple(x) for index in range(9) for x in task.batch("train", index, 100, 0).inputs.tolist()]
    for epoch in range(3):
        assert Counter(epochs[300 * epoch : 300 * epoch + 300]) == whole
    assert epochs[:300] != epochs[300:600]
    # a batch over the border of two epochs, and one of several epochs
    assert [tuple(x) for x in task.batch("train", 1, 250, 0).inputs.tolist()] == epochs[250:500]
    assert Counter(map(tuple, task.batch("train", 0, 900, 0).inputs.tolist())) == Counter(dict.fromkeys(whole, 3))
    other = Counter(map(tuple, task.batch("train", 0, 300, 1).inputs.tolist()))
    assert not whole.keys() & other.keys()


def test_the_digits_are_the_packages_own():
    from sklearn.datasets import load_digits

    task = tasks.make("digits")
    pixels, labels = load_digits(return_X_y=True)
    expected = Counter(zip(map(tuple, (pixels / 16).astype(np.float32).tolist()), labels.tolist(), strict=True))
    found: Counter = Counter()
    for split in tasks.SPLITS:
        total = task.examples(split)
        batch = task.batch(split, 0, total, 4)
        rows = map(tuple, batch.inputs.squeeze(-1).tolist())
        found.update(zip(rows, batch.targets.tolist(), strict=True))
    assert found == expected
    rows, shuffled = (
        tasks.make("digits", order=order).batch("test", 0, 360, 0).inputs.squeeze(-1) for order in ("rows", "shuffled")
    )
    assert not torch.equal(rows, shuffled)
    assert Counter(map(tuple, rows.sort(1).values.tolist())) == Counter(map(tuple, shuffled.sort(1).values.tolist()))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_loss_and_score_see_only_what_is_asked(name):
    task = tasks.make(name, "small")
    batch = task.batch("test", 0, 5, 0)
    choices = task.classes if batch.targets.dim() == 1 else task.vocabulary
    shape = (5, task.classes) if task.classes else (5, task.time("test"), choices)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    rows, answers = logits.detach().reshape(-1, choices).tolist(), batch.targets.flatten().tolist()
    losses, right = [], 0
    for row, answer in zip(rows, answers, strict=True):
        if answer != tasks.IGNORED:
            losses.append(np.log(np.exp(row).sum()) - row[answer])
            right += row.index(max(row)) == answer
    loss = task.loss(logits, batch.targets)
    assert float(loss.detach()) == pytest.approx(np.mean(losses), rel=1e-12)
    assert task.score(logits, batch.targets) == (right, len(losses))
    loss.backward()
    gradient = logits.grad.reshape(-1, choices).abs().sum(1)
    assert [bool(x) for x in gradient] == [answer != tasks.IGNORED for answer in answers]
    with pytest.raises(InputError, match="do not fit"):
        task.score(logits[:, :1], batch.targets)


def asked_at(task, batch):
    """(what is known without the sequence before, answer) of every question: the token at it, and its place where that
    tells something."""
    telling = task.name in ("s5", "parity")
    if task.channels:
        return [(0, y) for y in batch.targets.tolist()]
    if task.pool == "last":
        return [(0, y) for row in batch.targets.tolist() for y in row]
    pairs = zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
    return [
        ((x, t if telling else None), y)
        for row, answers in pairs
        for t, (x, y) in enumerate(zip(row, answers, strict=True))
        if y != tasks.IGNORED
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in sorted(NAMES)]
    + [("s5", {"tokens": "swaps"}), ("s5", {"group": "S3"}), ("fuzzy_recall", {"key_size": 3, "value_size": 3})],
)
def test_chance_is_what_the_best_guess_without_the_sequence_reaches(name, options):
    task = tasks.make(name, "small", **options)
    whole = task.examples("test")
    size, count = (whole, 1) if whole else (500, 8)
    table: dict = defaultdict(Counter)
    for index in range(count):
        for known, y in asked_at(task, task.batch("test", index, size, 0)):
            table[known][y] += 1
    guess = {known: counts.most_common(1)[0][0] for known, counts in table.items()}
    right = [
        guess.get(known) == y
        for index in range(count)
        for known, y in asked_at(task, task.batch("test", index, size, 1))
    ]
    # answers of one sequence are not independent where they repeat each other: five standard errors to be safe
    error = np.sqrt(task.chance.value * (1 - task.chance.value) / len(right))
    assert np.mean(right) == pytest.approx(task.chance.value, abs=1e-9 if whole else 5 * error)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nothing", {}, "choose from compression"),
        ("recall", {"sizes": 3}, "has no option 'sizes'; choose from examples"),
        ("recall", {"length": 7}, "length must be even"),
        ("recall", {"length": 2.5}, "length must be a whole number"),
        ("recall", {"examples": 0}, "examples must be a whole number from 1 on, not 0"),
        ("noisy_recall", {"noise": 1}, "noise must be from 0 on and below 1, not 1"),
        ("noisy_recall", {"noise": "much"}, "not 'much'"),
        ("noisy_recall", {"noise_vocabulary": 30}, "leaves no pair"),
        ("fuzzy_recall", {"vocabulary": 6}, "has 2 tokens for keys"),
        ("fuzzy_recall", {"length": 10}, "at least 11 needed"),
        ("mqar", {"length": 14}, "at least 16 needed"),
        ("mqar", {"vocabulary": 8}, "has 3 keys: too few for 4 pairs"),
        ("mqar", {"power": 0}, "power must be above 0"),
        ("mqar", {"fill": "ones"}, "one of random, zero"),
        ("copying", {"length": 20}, "at least 21 needed"),
        ("delay", {"delay": 4000}, "needs a length above it"),
        ("memorization", {"length": 3}, "length must be even"),
        ("compression", {"vocabulary": 2}, "from 3 on"),
        ("s5", {"group": "S6"}, "group must be S2 to S5"),
        ("s5", {"group": "A5", "tokens": "swaps"}, "only S2 to S5"),
        ("parity", {"test_length": 0}, "test_length must be a whole number from 1 on"),
        ("digits", {"examples": 2000}, "1257 at most"),
        ("digits", {"examples": None}, "1257 at most"),
    ],
)
def test_impossible_options_are_named_in_one_line(name, options, said):
    with pytest.raises(InputError, match=said) as caught:
        tasks.make(name, **options)
    assert "\n" not in str(caught.value)


def test_bad_batches_and_presets_are_refused():
    task = tasks.make("delay", "small")
    with pytest.raises(InputError, match="split must be one of"):
        task.batch("dev", 0, 4)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="size from 1 on"):
        task.batch("train", 0, 0)
    with pytest.raises(InputError, match="preset must be one of"):
        tasks.make("delay", "large")


def test_a_description_is_json():
    import json

    for name in tasks.TASKS:
        said = json.loads(json.dumps(tasks.describe(name)))
        assert said["published"]["chance"] == tasks.make(name).chance.value
