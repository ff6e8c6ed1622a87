"""Norm attention, HGRN2, gated slot attention, and lightning attention as MiniMax has it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from families.helpers import error, randn
from mixerlens import families, references
from mixerlens.errors import InputError

BATCH, TIME, HEADS, DIM, WIDTH, SLOTS = 2, 100, 4, 6, 3, 5


@pytest.mark.parametrize(
    ("activation", "of_torch", "size"),
    [
        ("exp", torch.exp, 3),
        ("sigmoid", torch.sigmoid, 3),
        ("softplus", F.softplus, 3),
        ("softplus", None, 30),  # torch's own is cut off at 20
        ("elu", None, 3),
        ("elu", None, 30),
        ("given", None, 3),
    ],
)
def test_norm_attention_divides_by_a_number_of_the_token(activation, of_torch, size):
    q, k, score = randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, HEADS, DIM), size * randn(BATCH, TIME, HEADS)
    plain = {
        "softplus": lambda x: x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())),
        "elu": lambda x: torch.where(x > 0, x + 1, torch.exp(x)),
        "given": lambda x: x,
    }
    eta = (of_torch or plain[activation])(score)
    alpha = torch.einsum("bihd,bjhd->bhij", q, k).tril()
    op = families.norm_attention(query=q, key=k, score=score, activation=activation).operator()
    rows = (op.to_dense() / alpha.where(alpha != 0, torch.ones(()).double())).diagonal(dim1=-2, dim2=-1).transpose(1, 2)
    assert ((rows * eta - 1).abs() <= 1e-12).all()  # row by row: eta spans many decades
    if size == 3:
        assert error(op.to_dense(), alpha / eta.transpose(1, 2)[..., None]) <= 1e-12


def test_norm_attention_refuses_what_divides_by_nothing():
    q, k = randn(1, 8, 1, DIM), randn(1, 8, 1, DIM)
    for score, activation in ((-1e4, "exp"), (1e4, "exp"), (0.0, "given"), (0.0, "relu")):
        with pytest.raises(InputError):
            families.norm_attention(query=q, key=k, score=torch.full((1, 8, 1), score), activation=activation)


def test_hgrn2_keeps_a_weighted_mean_of_its_values():
    """Each state dimension is a mean: forget f and write 1 - f, so a constant value is kept, 1 - f_1 ... f_t of it."""
    log_forget = -torch.rand(BATCH, TIME, HEADS, DIM).double()
    read = torch.eye(DIM, dtype=torch.float64)[2].expand(BATCH, TIME, HEADS, DIM)
    op = families.hgrn2(query=read, log_forget=log_forget).operator()
    got = op @ torch.ones(BATCH, TIME, HEADS, 1).double()
    assert error(got[..., 0], 1 - log_forget.cumsum(1)[..., 2].exp()) <= 1e-12
    tiny = families.hgrn2(query=read, log_forget=1e-20 * log_forget)  # 1 - exp(-1e-20) is no zero
    assert error(tiny.key, -1e-20 * log_forget) <= 1e-15
    with pytest.raises(InputError, match="log_forget"):
        families.hgrn2(query=read, log_forget=-log_forget)


def test_gated_slot_attention_is_a_chain_of_library_systems():
    """Groups of heads share keys and gates; the second query is the softmax of what the first system reads."""
    q, k, v = randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, 2, DIM), randn(BATCH, TIME, 2, WIDTH)
    log_forget = F.logsigmoid(2 + randn(BATCH, TIME, 2, SLOTS))
    dynamics = families.gated_slot_attention(query=q, key=k, log_forget=log_forget)
    assert (
        error(dynamics.operator() @ v, references.gated_slot_attention(value=v, query=q, key=k, log_forget=log_forget))
        <= 1e-12
    )
    assert error(dynamics.query.sum(-1), torch.ones(BATCH, TIME, HEADS).double()) <= 1e-14
    f, written = log_forget.exp(), 1 - log_forget.exp()
    slots = torch.zeros(BATCH, 2, SLOTS, DIM, dtype=torch.float64)
    for t in range(40):  # the keys' memory, a row a slot
        slots = f[:, t, :, :, None] * slots + written[:, t, :, :, None] * k[:, t, :, None, :]
    asked = torch.einsum("bgmd,bghd->bghm", slots, q[:, 39].unflatten(1, (2, 2))).softmax(-1).flatten(1, 2)
    assert error(dynamics.query[:, 39], asked) <= 1e-12
    with pytest.raises(InputError, match="groups"):
        families.gated_slot_attention(query=q[:, :, :3], key=k[:, :, :1], log_forget=log_forget)


def test_the_query_of_slot_attention_depends_on_the_history_nonlinearly():
    """alpha is linear in v and not in k: twice the keys do not give the same mixer with a scaled query."""
    q, k = randn(1, TIME, 1, DIM), randn(1, TIME, 1, DIM)
    log_forget = F.logsigmoid(randn(1, TIME, 1, SLOTS))
    one, two = (families.gated_slot_attention(query=q, key=s * k, log_forget=log_forget).query for s in (1, 2))
    assert error(two, torch.softmax(2 * one.log(), -1)) <= 1e-12
    assert error(two, one) > 0.1


@torch.no_grad()
def test_lightning_attention_is_minimaxs():
    """MiniMax's layer in blocks, in float64, with its norm, gate and projections taken out."""
    from transformers import MiniMaxConfig
    from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

    config = MiniMaxConfig(
        hidden_size=HEADS * DIM, num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=DIM,
        num_hidden_layers=3, block_size=16, layer_types=["linear_attention"] * 3,
    )  # fmt: skip
    layer = MiniMaxLightningAttention(config, layer_idx=1).double().eval()
    slope = layer.get_slope_rate().double()
    layer.slope_rate = slope
    layer.query_decay, layer.key_decay, layer.diagonal_decay = layer.decay_factors(slope)
    layer.norm = layer.out_proj = torch.nn.Identity()
    x = randn(BATCH, TIME, HEADS * DIM)
    y, state = layer(x, None, None)
    want = (y / torch.sigmoid(layer.output_gate(x))).unflatten(-1, (HEADS, DIM))
    q, k, v = layer.act_fn(layer.qkv_proj(x)).unflatten(-1, (HEADS, 3 * DIM)).split(DIM, -1)
    op = families.retention(query=q, key=k, decay=(-slope).exp().flatten()).operator()
    assert error(op @ v, want) <= 1e-12
    assert error(op.state_at(TIME - 1, v), state) <= 1e-12


@pytest.mark.parametrize("name", ["rwkv5", "rwkv6"])
@pytest.mark.parametrize("sizes", [[1] * 12, [5, 1, 6]])
def test_decoding_from_a_state_is_the_whole_sequence(name, sizes):
    """Every part is a call of its own, as in decoding: token by token, and in unequal parts."""
    time = sum(sizes)
    q, k, v = (torch.randn(2, time, 3, 4, dtype=torch.float64) for _ in range(3))
    bonus = torch.randn(3, 4, dtype=torch.float64)
    decay = -torch.rand(3, 4, dtype=torch.float64) if name == "rwkv5" else -torch.rand(2, time, 3, 4).double()
    build = getattr(families, name)
    want = build(q, k, decay, bonus).operator() @ v
    state, rows, lo = None, [], 0
    for size in sizes:
        at = slice(lo, lo + size)
        options = {}
        if name == "rwkv6" and lo:
            options["previous_log_decay"] = decay[:, lo - 1]
        part = build(q[:, at], k[:, at], decay if name == "rwkv5" else decay[:, at], bonus, **options)
        y, state = part.operator().apply(v[:, at], initial_state=state, return_state=True)
        rows.append(y)
        lo += size
    assert (torch.cat(rows, 1) - want).abs().max() <= 1e-13 * want.abs().max()
