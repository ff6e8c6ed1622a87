"""From a mask to its structure and back: exact, or refused."""

import pytest
import torch

from mixerlens.capture.masks import support_of
from mixerlens.errors import UnsupportedError
from mixerlens.support import Support


def dense(support: Support, batch: int, time: int) -> torch.Tensor:
    """The mask by definition, one pair at a time: (batch, 1, time, time)."""
    mask = torch.zeros(batch, 1, time, time, dtype=torch.bool)
    for b in range(batch):
        for i in range(time):
            for j in range(time):
                near = support.window is None or abs(i - j) < support.window
                order = j <= i or not support.causal
                s = support.segments
                same = s is None or (s[b, i] == s[b, j] and s[b, i] >= 0)
                mask[b, 0, i, j] = bool(near and order and same)
    return mask


SEGMENTS = {
    "one": None,
    "left padding": torch.tensor([[0] * 13, [-1] * 4 + [0] * 9]),
    "right padding": torch.tensor([[0] * 13, [0] * 9 + [-1] * 4]),
    "packed": torch.tensor([[0] * 5 + [1] * 8, [0] * 2 + [1] * 2 + [2] * 9]),
    "packed and padded": torch.tensor([[0] * 5 + [1] * 8, [-1] * 3 + [0] * 4 + [1] * 4 + [-1] * 2]),
}


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("window", [None, 1, 2, 5])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("additive", [False, True])
def test_every_support_is_found_again(causal, window, segments, additive):
    given = Support(causal=causal, window=window, segments=SEGMENTS[segments])
    mask = dense(given, 2, 13)
    valid = torch.ones(2, 13, dtype=torch.bool) if given.segments is None else given.segments >= 0
    shown = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min) if additive else mask
    # rows of padding say nothing: whatever a library writes there must not matter
    shown = torch.where(valid[:, None, :, None], shown, torch.zeros((), dtype=shown.dtype))
    found = support_of(shown, True, 13, valid)
    assert torch.equal(dense(found, 2, 13)[valid.expand(2, 13)[:, None]], mask[valid[:, None]])


@pytest.mark.parametrize("length", [1, 2, 257, 600])
def test_long_masks_are_read_in_blocks(length):
    index = torch.arange(length)
    mask = (index[:, None] >= index) & (index[:, None] - index < 100) & (index[:, None] // 300 == index // 300)
    found = support_of(mask[None, None], True, length, None)
    rebuilt = found.mask((0, length), (0, length), torch.device("cpu"))
    assert torch.equal(rebuilt[0, 0], mask)


def test_no_mask_means_what_the_implementation_says():
    assert support_of(None, True, 5, None) == Support() or support_of(None, True, 5, None).causal
    assert not support_of(None, False, 5, None).causal


def test_one_row_for_all_queries_is_padding():
    """BERT-like encoders may hand on a mask of keys only."""
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, 5:] = False
    given = torch.zeros(2, 1, 1, 7).masked_fill(~valid[:, None, None], torch.finfo(torch.float32).min)
    found = support_of(given, False, 7, valid)
    assert not found.causal and found.window is None
    assert found.segments.tolist() == [[0] * 7, [0] * 5 + [-1] * 2]
    assert support_of(torch.zeros(2, 1, 1, 7), False, 7, None).segments is None


def prefix(time=9, free=4):
    """A prefix that sees itself in both directions, then causal."""
    index = torch.arange(time)
    return ((index[:, None] >= index) | (index < free))[None, None]


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (prefix(), "no combination of causal, window and segments"),
        (torch.zeros(1, 1, 9, 9).masked_fill(~prefix(), -1e4) - 0.5, "adds a bias"),
        (torch.stack([torch.ones(9, 9).tril(), torch.ones(9, 9)]).bool()[None], "differs between heads"),
        (torch.ones(1, 1, 9, 9, dtype=torch.bool).tril(-1), "token 0 of row 0 is no padding"),
        (torch.ones(1, 1, 9, 12, dtype=torch.bool), "a mask of shape"),
        (torch.ones(9, 9, dtype=torch.bool), "a mask of shape"),
    ],
)
def test_what_is_no_support_is_refused(mask, why):
    with pytest.raises(UnsupportedError, match=why) as caught:
        support_of(mask, True, 9, None)
    assert "\n" not in str(caught.value)


def test_one_wrong_pair_far_from_every_border_is_noticed():
    mask = torch.ones(400, 400, dtype=torch.bool).tril()[None, None].clone()
    mask[0, 0, 333, 17] = False
    with pytest.raises(UnsupportedError, match=r"query 333, key 17 differs"):
        support_of(mask, True, 400, None)


@pytest.mark.parametrize("length", [3, 255, 257, 2048, 2300])
@pytest.mark.parametrize("additive", [False, True])
def test_one_wrong_pair_is_found_wherever_it_is(length, additive):
    """The extents of a row and how many pairs it opens decide, so each way to be wrong is tried: a hole in a run, a
    pair too many beside it or far from it, one pair moved."""
    index = torch.arange(length)
    right = (
        (index[:, None] >= index)
        & (index[:, None] - index < length // 2 + 1)
        & (index[:, None] // 2000 == index // 2000)
    )
    row = length - 1
    low = int(right[row].nonzero()[0])
    wrongs = {"a hole": [(low + (row - low) // 2, False)], "moved": [(low, False), (max(low - 2, 0), True)]}
    wrongs |= {"one more": [(low - 1, True)]} if low else {"the first": [(low, False)]}
    for flips in wrongs.values():
        mask = right.clone()
        for column, opened in flips:
            mask[row, column] = opened
        if torch.equal(mask, right):
            continue
        given = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min) if additive else mask
        found = read(given[None, None])
        if isinstance(found, str):
            assert "no combination" in found
        else:  # only if what was made is a combination after all
            assert torch.equal(found.mask((0, length), (0, length), torch.device("cpu"))[0, 0], mask)


def read(mask):
    """The support of a mask, or why it has none."""
    try:
        return support_of(mask, True, mask.shape[-1], None)
    except UnsupportedError as refusal:
        return str(refusal)
