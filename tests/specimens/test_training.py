"""The training script: the split, the schedule, and that an interrupted run ends where an uninterrupted one does."""

from __future__ import annotations

import gzip
import math
import random

import pytest
import torch


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    words = random.Random(0)
    lines = (f"{i} " + " ".join(str(words.randrange(10**5)) for _ in range(i % 13)) for i in range(9000))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_split_keeps_every_line_and_holds_one_block_in_twenty_out(book):
    import corpus

    split = corpus.read(book)
    data = book.read_bytes()
    everything = [*split.train, *split.held_out]
    assert sorted(line for block in everything for line in block.splitlines()) == sorted(data.splitlines())
    assert sum(map(len, everything)) == split.size == len(data)
    assert all(data.count(block) == 1 and (block.endswith(b"\n") or data.endswith(block)) for block in everything)
    assert len(split.held_out) == len([i for i in range(len(everything)) if i % 20 == 10]) >= 1
    stream = split.stream()
    text = bytes(int(i) - 3 for i in stream if i != 1)
    assert text == b"".join(split.train)
    assert int((stream == 1).sum()) == len(split.train)
    assert corpus.excerpt(split, size=200) in split.held_out[6 % len(split.held_out)]


def test_baselines_are_the_compressors_own(book):
    import corpus

    split = corpus.read(book)
    held_out = b"".join(split.held_out)
    table = corpus.baselines(split)
    assert table["gzip -9"] == pytest.approx(8 * len(gzip.compress(held_out, 9)) / len(held_out))
    assert 0 < table["xz -9e after the training text"] < table["xz -9e"]


@pytest.mark.parametrize("content", [None, "too short\n" * 1000])
def test_a_text_that_cannot_be_split_is_named_in_one_line(tmp_path, content):
    import corpus

    path = tmp_path / "text"
    if content:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match="text") as caught:
        corpus.read(path)
    assert "\n" not in str(caught.value)


def test_the_schedule_warms_up_then_falls_along_a_cosine():
    from loop import Recipe

    recipe = Recipe(steps=1100, warmup=100, peak_rate=1.0, final_rate=0.1)
    assert recipe.rate(0) == pytest.approx(0.01)
    assert recipe.rate(99) == pytest.approx(1.0)
    assert recipe.rate(600) == pytest.approx(0.1 + 0.9 * 0.5)
    assert recipe.rate(1099) == pytest.approx(0.1, abs=1e-3)
    assert recipe.tokens(1100) == sum(math.prod(recipe.shape(step)) for step in range(1100))
    assert recipe.shape(0)[1] < recipe.shape(1099)[1] == 4096


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(book, tmp_path, monkeypatch):
    import architectures
    import corpus
    import loop

    monkeypatch.setattr(loop, "STAGES", ((0.5, 2, 16), (0.5, 1, 32)))
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    recipe, stream = loop.Recipe(steps=6, warmup=2), corpus.read(book).stream()
    whole = architectures.qwen3_next(recipe.seed)
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    history = loop.train(whole, stream, recipe, tmp_path / "whole")

    drawn = loop.batch

    def stops_at_step_3(stream, recipe, step):
        if step == 3:
            raise KeyboardInterrupt
        return drawn(stream, recipe, step)

    monkeypatch.setattr(loop, "batch", stops_at_step_3)
    with pytest.raises(KeyboardInterrupt):
        loop.train(architectures.qwen3_next(recipe.seed), stream, recipe, tmp_path / "cut")
    monkeypatch.setattr(loop, "batch", drawn)
    resumed = architectures.qwen3_next(recipe.seed)
    again = loop.train(resumed, stream, recipe, tmp_path / "cut")
    assert again["bits"] == history["bits"] and len(history["bits"]) == 6
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    assert any(not torch.equal(before[name], tensor) for name, tensor in whole.state_dict().items())
    with pytest.raises(SystemExit, match="another --work"):
        loop.train(resumed, stream, loop.Recipe(steps=7), tmp_path / "cut")


def test_only_projections_are_decayed():
    import architectures
    import loop

    for build in architectures.LANGUAGE_MODELS.values():
        model = build(0)
        decayed, plain = (group["params"] for group in loop.optimizer_for(model, loop.Recipe(steps=1)).param_groups)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        assert len(decayed) + len(plain) == len(names)
        assert all("proj" in names[id(parameter)] for parameter in decayed)
        left = ("A_log", "D", "bias", "conv1d", "norm", "embed_tokens")
        assert all(any(part in names[id(parameter)] for part in left) for parameter in plain)


def test_strided_evaluation_counts_every_byte_once(monkeypatch):
    """With a model that only knows the position since the last end-of-text id, each byte's context is visible."""
    import bits

    seen = []

    def record(_model, ids):
        seen.append(ids)
        return torch.arange(len(ids) - 1, dtype=torch.float64)

    monkeypatch.setattr(bits, "_bits", record)
    monkeypatch.setattr(bits, "WINDOW", 8)
    monkeypatch.setattr(bits, "STRIDE", 4)
    block = bytes(range(30))
    contexts = bits._strided(None, block)
    assert contexts.tolist() == [*range(8), *[4, 5, 6, 7] * 5, 6, 7]
    assert len(contexts) == 30
    assert seen[0].tolist() == [1, *range(3, 11)]
