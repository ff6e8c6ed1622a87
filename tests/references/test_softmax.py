"""The softmax reference against torch's own attention and transformers' attention functions, in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mixerlens import references

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 13, 6, 2, 4, 3
BAR = 1e-13


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    q = torch.randn(BATCH, TIME, HEADS, DIM, dtype=torch.float64) * 2
    k = torch.randn(BATCH, TIME, GROUPS, DIM, dtype=torch.float64) * 2
    v = torch.randn(BATCH, TIME, GROUPS, WIDTH, dtype=torch.float64)
    return q, k, v


def sdpa(q, k, v, **options):
    """torch's attention on (batch, time, heads, dim)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options).transpose(1, 2)


def lags():
    place = torch.arange(TIME)
    return place[:, None] - place[None, :]


def close(got, want, bar=BAR):
    assert got.dtype == torch.float64
    assert got.shape == want.shape
    assert (got - want).abs().max() <= bar * want.abs().max()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_grouped_heads(qkv, causal, scale):
    q, k, v = qkv
    got = references.softmax_attention(value=v, query=q, key=k, causal=causal, scale=scale)
    close(got, sdpa(q, k, v, is_causal=causal, scale=scale))


@pytest.mark.parametrize("window", [1, 4, TIME + 3])
@pytest.mark.parametrize("causal", [True, False])
def test_window(qkv, window, causal):
    q, k, v = qkv
    seen = lags().abs() < window
    if causal:
        seen &= lags() >= 0
    got = references.softmax_attention(value=v, query=q, key=k, window=window, causal=causal)
    close(got, sdpa(q, k, v, attn_mask=seen))


def test_segments_are_separate_calls_and_padding_is_zero(qkv):
    q, k, v = qkv
    segments = torch.tensor([[-1] * 2 + [0] * 4 + [1] * 7, [3] * 5 + [7] * 6 + [-1] * 2])
    got = references.softmax_attention(value=v, query=q, key=k, segments=segments)
    want = torch.zeros_like(got)
    for row, start, stop in [(0, 2, 6), (0, 6, 13), (1, 0, 5), (1, 5, 11)]:
        at = (slice(row, row + 1), slice(start, stop))
        want[at] = sdpa(q[at], k[at], v[at], is_causal=True)
    close(got, want)


def test_alibi_is_blooms(qkv):
    from transformers.models.bloom.modeling_bloom import _get_alibi_slopes, build_alibi_tensor

    q, k, v = qkv
    bias = build_alibi_tensor(torch.ones(BATCH, TIME), HEADS, torch.float64).reshape(BATCH, HEADS, 1, TIME)
    mask = torch.zeros(TIME, TIME, dtype=torch.float64).masked_fill(lags() < 0, -math.inf)
    slopes = _get_alibi_slopes(HEADS, torch.device("cpu"))
    got = references.softmax_attention(value=v, query=q, key=k, alibi=slopes)
    close(got, sdpa(q, k, v, attn_mask=bias + mask), bar=1e-6)  # bloom's slopes and biases are float32
    close(got, sdpa(q, k, v, attn_mask=mask - slopes.double()[:, None, None] * lags()))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_rope_is_the_models_own(qkv, layout):
    from transformers.models.gptj import modeling_gptj
    from transformers.models.llama import modeling_llama

    q, k, v = qkv
    angles = 10000 ** -(torch.arange(0, DIM, 2, dtype=torch.float64) / DIM)
    turn = torch.arange(TIME, dtype=torch.float64)[None, :, None] * angles
    if layout == "half":
        cos, sin = (torch.cat([x, x], dim=-1) for x in (turn.cos(), turn.sin()))
        turned_q, turned_k = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)
    else:
        turned_q, turned_k = (modeling_gptj.apply_rotary_pos_emb(x, turn.sin(), turn.cos()) for x in (q, k))
    got = references.softmax_attention(value=v, query=q, key=k, rope=angles, rope_layout=layout)
    close(got, sdpa(turned_q, turned_k, v, is_causal=True))


def test_softcap_is_gemmas(qkv):
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    q, k, v = qkv
    module = SimpleNamespace(num_key_value_groups=HEADS // GROUPS, training=False)
    mask = torch.zeros(TIME, TIME, dtype=torch.float64).masked_fill(lags() < 0, -math.inf)
    want, _ = eager_attention_forward(module, *(x.transpose(1, 2) for x in (q, k, v)), mask, scaling=0.7, softcap=3.0)
    got = references.softmax_attention(value=v, query=q, key=k, scale=0.7, softcap=3.0)
    close(got, want, bar=1e-6)  # gemma's softmax is float32
    assert (got - references.softmax_attention(value=v, query=q, key=k, scale=0.7)).abs().max() > 0.05


def test_sinks_are_gpt_oss(qkv):
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

    q, k, v = qkv
    sinks = torch.linspace(-2, 3, HEADS, dtype=torch.float64)
    module = SimpleNamespace(num_key_value_groups=HEADS // GROUPS, training=False, sinks=sinks)
    mask = torch.zeros(TIME, TIME, dtype=torch.float64).masked_fill(lags() < 0, -math.inf)
    want, _ = eager_attention_forward(module, *(x.transpose(1, 2) for x in (q, k, v)), mask, scaling=0.5)
    close(references.softmax_attention(value=v, query=q, key=k, scale=0.5, sinks=sinks), want)
