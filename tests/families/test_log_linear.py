"""Log-linear attention: its buckets by bits, Mamba-2 where all weights are one, parts of a sequence, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families.helpers import error, rand, randn
from mixerlens import families
from mixerlens.errors import InputError

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 300, 4, 2, 3, 4
LEVELS = 10


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "query": randn(BATCH, TIME, GROUPS, DIM),
        "key": randn(BATCH, TIME, GROUPS, DIM),
        "log_decay": -0.1 * rand(BATCH, TIME, HEADS),
        "level_weights": rand(BATCH, TIME, HEADS, LEVELS),
    }


def test_a_bucket_is_the_highest_bit_in_which_two_tokens_differ(drawn):
    """alpha_ij = lambda_{i,l} exp(sum of log decays) q_i^T k_j with l the bit length of i xor j."""
    i, j = torch.arange(TIME)[:, None], torch.arange(TIME)[None, :]
    level = torch.tensor([[(a ^ b).bit_length() for b in range(TIME)] for a in range(TIME)])
    q, k = (drawn[n].repeat_interleave(2, 2).transpose(1, 2) for n in ("query", "key"))
    total = drawn["log_decay"].cumsum(1).transpose(1, 2)
    weight = drawn["level_weights"].transpose(1, 2).gather(-1, level.expand(BATCH, HEADS, -1, -1))
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(i < j, -torch.inf).exp()
    want = weight * decay * (q @ k.mT)
    assert error(families.log_linear_attention(**drawn).operator().to_dense(), want) <= 1e-12


def test_with_equal_weights_it_is_transformers_mamba2(drawn):
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    x, dt, A = randn(BATCH, TIME, HEADS, WIDTH), 0.1 * rand(BATCH, TIME, HEADS), -rand(HEADS)
    want = mamba2_chunk_scan(x, dt, A, drawn["key"], drawn["query"], chunk_size=64)
    given = drawn | {"log_decay": dt * A, "level_weights": torch.ones_like(drawn["level_weights"])}
    got = families.log_linear_attention(**given).operator() @ (dt[..., None] * x)
    assert error(got, want) <= 2e-6  # that scan is float32


@pytest.mark.parametrize("cut", [1, 37, 64, 255])
def test_a_sequence_in_two_parts(drawn, cut):
    """The tokens of a continued sequence keep their numbers, and so their buckets."""
    dynamics = families.log_linear_attention(**drawn)
    v = randn(BATCH, TIME, HEADS, WIDTH)
    whole, last = dynamics.operator().apply(v, return_state=True)
    state, rows = None, []
    for a, b in ((0, cut), (cut, TIME)):
        part = dynamics.select_tokens(a, b).operator()
        y, state = part.apply(v[:, a:b], initial_state=state, return_state=True)
        rows.append(y)
    assert error(torch.cat(rows, 1), whole) <= 1e-12
    assert error(state, last) <= 1e-12


def test_packed_sequences_are_numbered_one_by_one(drawn):
    lengths = [1, 64, 100, 7]
    ids = [5, 2, -1, 0]  # one of them is padding
    segments = torch.tensor([[n for n, length in zip(ids, lengths, strict=True) for _ in range(length)]] * BATCH)
    drawn = {n: x[:, : sum(lengths)] for n, x in drawn.items()}
    packed = families.log_linear_attention(**drawn, segments=segments).operator().to_dense()
    want, start = torch.zeros_like(packed), 0
    for number, length in zip(ids, lengths, strict=True):
        part = slice(start, start + length)
        start += length
        if number >= 0:
            alone = {n: x[:, part] for n, x in drawn.items()}
            want[..., part, part] = families.log_linear_attention(**alone).operator().to_dense()
    assert error(packed, want) <= 1e-13


def test_the_state_grows_with_the_logarithm_of_the_length(drawn):
    """Random level weights make every bucket count: the rank exceeds Mamba-2's n and stays below (1 + log2 T) n."""
    ranks = []
    for time in (16, 64):
        given = {n: x[:1, :time] for n, x in drawn.items()}
        op = families.log_linear_attention(**given).operator(head=0)
        ranks.append(int(op.state_rank(tol=1e-10, cuts="all").max()))
        assert DIM < ranks[-1] <= (1 + time.bit_length() - 1) * DIM
    assert ranks[1] > ranks[0]


def test_what_cannot_be_is_refused_in_one_line(drawn):
    time = 1 << (LEVELS - 1)
    just = {n: x[:1, :1].expand(1, time, -1, -1) for n, x in drawn.items() if x.dim() == 4}
    just["log_decay"] = drawn["log_decay"][:1, :1].expand(1, time, -1)
    families.log_linear_attention(**just)
    more = {n: torch.cat([x, x[:, :1]], 1) for n, x in just.items()}
    twice = torch.tensor([[0] * 100 + [1] * 100 + [0] * 100])
    for change, what in (
        (more, "11 levels"),
        (drawn | {"log_decay": -drawn["log_decay"]}, "must not be positive"),
        (drawn | {"segments": twice}, "runs of tokens"),
        (drawn | {"level_weights": drawn["level_weights"][:, :, :3]}, "level_weights must be"),
        (drawn | {"level_weights": drawn["level_weights"][..., 0]}, "level_weights must be"),
    ):
        with pytest.raises(InputError, match=what) as refused:
            families.log_linear_attention(**change)
        assert "\n" not in str(refused.value)
