"""The recurrent references against transformers' scans, closed forms and scipy's matrix exponential."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixerlens import references
from mixerlens.families import FAMILIES

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 21, 4, 2, 5, 3


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def close(got, want, bar):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= bar * want.abs().max()


def spread(x, heads=HEADS):
    """Groups to heads, then heads before time."""
    return x.repeat_interleave(heads // x.shape[2], dim=2).transpose(1, 2)


@pytest.fixture
def qkv():
    torch.manual_seed(1)
    return randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, GROUPS, DIM), randn(BATCH, TIME, GROUPS, WIDTH)


@pytest.mark.parametrize("normalize", [False, True])
def test_linear_attention_is_a_masked_product(qkv, normalize):
    q, k, v = qkv
    q, k = (F.elu(q) + 1, F.elu(k) + 1) if normalize else (q, k)
    weight = (spread(q) @ spread(k).transpose(-1, -2)).tril()
    if normalize:
        weight = weight / weight.sum(-1, keepdim=True)
    got = references.linear_attention(value=v, query=q, key=k, normalize=normalize)
    close(got, (weight @ spread(v)).transpose(1, 2), 1e-13)


def test_retention_is_its_parallel_form(qkv):
    """``(Q e^{i n theta})(K e^{i m theta})^dagger . gamma^{n-m}``, the paper's parallel form in complex arithmetic."""
    torch.manual_seed(2)
    q, k = randn(BATCH, TIME, HEADS, 6), randn(BATCH, TIME, HEADS, 6)
    v = qkv[2]
    gamma = 1 - 2 ** -torch.arange(1.0, HEADS + 1, dtype=torch.float64)
    theta = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    place = torch.arange(TIME, dtype=torch.float64)
    turn = torch.polar(torch.ones(TIME, 3, dtype=torch.float64), place[:, None] * theta)[:, None, :]
    zq, zk = torch.complex(q[..., :3], q[..., 3:]) * turn, torch.complex(k[..., :3], k[..., 3:]) * turn
    lag = place[:, None] - place[None, :]
    decay = torch.where(lag >= 0, gamma[:, None, None] ** lag.clamp(min=0), 0.0)
    weight = torch.einsum("bihd,bjhd->bhij", zq, zk.conj()).real * decay
    got = references.retention(value=v, query=q, key=k, decay=gamma, rope=theta)
    close(got, (weight @ spread(v)).transpose(1, 2), 1e-13)
    plain = references.retention(value=v, query=q, key=k, decay=gamma)
    weight = (spread(q) @ spread(k).transpose(-1, -2)) * decay
    close(plain, (weight @ spread(v)).transpose(1, 2), 1e-13)


def test_gated_linear_attention_is_its_parallel_form(qkv):
    q, k, v = qkv
    g = -0.3 * torch.rand(BATCH, TIME, HEADS, DIM, dtype=torch.float64)
    decay = g.cumsum(1).transpose(1, 2)
    weight = ((spread(q) * decay.exp()) @ (spread(k) * (-decay).exp()).transpose(-1, -2)).tril()
    got = references.gated_linear_attention(value=v, query=q, key=k, log_decay=g)
    close(got, (weight @ spread(v)).transpose(1, 2), 1e-12)


@pytest.mark.parametrize("gated", [False, True])
def test_delta_rules_are_transformers(qkv, gated):
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    torch.manual_seed(3)
    v = randn(BATCH, TIME, HEADS, WIDTH)
    q, k = (randn(BATCH, TIME, GROUPS, DIM) for _ in range(2))
    k = F.normalize(k, dim=-1)
    beta = 1.99 * torch.rand(BATCH, TIME, HEADS, dtype=torch.float64)
    g = -torch.rand(BATCH, TIME, HEADS, dtype=torch.float64) if gated else torch.zeros_like(beta)
    want, _ = torch_chunk_gated_delta_rule(q, k, v, g=g, beta=beta, chunk_size=8)
    arguments = {"value": v, "query": q * DIM**-0.5, "key": k, "beta": beta}
    if gated:
        got = references.gated_delta_net(**arguments, log_decay=g)
    else:
        got = references.delta_net(**arguments)
    close(got, want, 5e-6)  # transformers' scan is float32


def test_gated_delta_net_is_the_papers_matrix_form(qkv):
    """``S_t = S_{t-1} alpha_t (I - beta_t k_t k_t^T) + beta_t v_t k_t^T``, S (value_dim, dim)."""
    torch.manual_seed(4)
    q, k, v = randn(1, TIME, 1, DIM), F.normalize(randn(1, TIME, 1, DIM), dim=-1), randn(1, TIME, 1, WIDTH)
    g = -torch.rand(1, TIME, 1, dtype=torch.float64)
    beta = 1.99 * torch.rand(1, TIME, 1, dtype=torch.float64)
    state, rows = torch.zeros(WIDTH, DIM, dtype=torch.float64), []
    for t in range(TIME):
        kt, vt, bt = k[0, t, 0], v[0, t, 0], beta[0, t, 0]
        erase = torch.eye(DIM, dtype=torch.float64) - bt * torch.outer(kt, kt)
        state = g[0, t, 0].exp() * state @ erase + bt * torch.outer(vt, kt)
        rows.append(state @ q[0, t, 0])
    got = references.gated_delta_net(value=v, query=q, key=k, log_decay=g, beta=beta)
    close(got, torch.stack(rows)[None, :, None], 1e-13)


def test_mamba_is_transformers():
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    torch.manual_seed(5)
    channels, state = 4, 3
    # the scan rounds x and B to float32: values that float32 holds leave all of it in float64
    x, B = (torch.randn(BATCH, TIME, n).double() for n in (channels, state))
    C, dt = randn(BATCH, TIME, state), F.softplus(randn(BATCH, TIME, channels))
    A = -torch.exp(randn(channels, state))
    want = mamba_selective_scan(x.mT, dt.mT, A, B.mT, C.mT)
    got = references.mamba(value=x[..., None], A=A, B=B, C=C, dt=dt)
    close(got[..., 0], want.mT, 1e-13)


def test_mamba2_is_transformers():
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    torch.manual_seed(6)
    x, B, C = randn(BATCH, TIME, HEADS, WIDTH), randn(BATCH, TIME, GROUPS, DIM), randn(BATCH, TIME, GROUPS, DIM)
    A, dt = -torch.rand(HEADS, dtype=torch.float64) * 3, F.softplus(randn(BATCH, TIME, HEADS))
    want = mamba2_chunk_scan(x, dt, A, B, C, chunk_size=8)
    close(references.mamba2(value=x, A=A, B=B, C=C, dt=dt), want, 2e-6)  # that scan is float32


def test_s4d_is_the_exact_response_to_a_held_input():
    """The hold is exact: expm of the augmented system (A, B; 0, 0) over one step gives both sampled matrices."""
    from scipy.linalg import expm

    torch.manual_seed(7)
    features, modes = 3, 4
    A = torch.complex(-torch.rand(features, modes).double() - 0.1, math.pi * torch.arange(modes).double().expand(3, 4))
    B, C = (torch.complex(randn(features, modes), randn(features, modes)) for _ in range(2))
    dt = torch.tensor([1e-4, 0.02, 0.7], dtype=torch.float64)
    u = randn(BATCH, TIME, features, 1)
    want = torch.zeros(BATCH, TIME, features, 1, dtype=torch.float64)
    for f in range(features):
        augmented = torch.zeros(modes + 1, modes + 1, dtype=torch.complex128)
        augmented[:modes, :modes] = torch.diag(A[f])
        augmented[:modes, modes] = B[f]
        sampled = torch.from_numpy(expm((dt[f] * augmented).numpy()))
        state = torch.zeros(BATCH, modes, dtype=torch.complex128)
        for t in range(TIME):
            state = state @ sampled[:modes, :modes].mT + u[:, t, f] * sampled[:modes, modes]
            want[:, t, f, 0] = 2 * (state @ C[f]).real
    got = references.s4d(value=u, A=A, B=B, C=C, dt=dt, length=TIME)
    for f in range(features):
        close(got[:, :, f], want[:, :, f], 1e-12)


def test_s4d_refuses_another_length():
    A = -torch.ones(1, 1, dtype=torch.complex128)
    with pytest.raises(ValueError, match="length 4"):
        references.s4d(value=randn(1, 3, 1, 1), A=A, B=A, C=A, dt=torch.ones(1), length=4)


# one seeded example a family of the registry, the arguments of which are cut where they have a time axis
EXAMPLES = {f.function.__name__: f for f in FAMILIES.values()}
SEGMENTED = [name for name, f in EXAMPLES.items() if f.takes_segments]


@pytest.mark.parametrize("name", SEGMENTED)
def test_segments_are_separate_calls_and_padding_is_zero(name):
    given = EXAMPLES[name].arguments(3)
    time = given["value"].shape[1]
    segments = torch.tensor([[-1] * 3 + [0] * 8 + [1] * (time - 11), [4] * 6 + [2] * (time - 10) + [-1] * 4])
    got = references.REGISTRY[name](**given, segments=segments)
    want = torch.zeros_like(got)
    for row, start, stop in [(0, 3, 11), (0, 11, time), (1, 0, 6), (1, 6, time - 4)]:
        part = {n: cut(x, row, start, stop, time) for n, x in given.items()}
        if "length" in part:
            part["length"] = stop - start
        want[row, start:stop] = references.REGISTRY[name](**part)[0]
    close(got, want, 1e-13)


def cut(x, row: int, start: int, stop: int, time: int):
    """One row's tokens of what has a time axis."""
    if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[1] != time:
        return x
    return x[row : row + 1, start:stop] if x.shape[0] > 1 else x[:, start:stop]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_values_carry_gradients(name):
    given = EXAMPLES[name].arguments(3)
    v = given.pop("value").requires_grad_()
    references.REGISTRY[name](value=v, **given).abs().sum().backward()
    assert v.grad is not None and v.grad.isfinite().all() and v.grad.abs().max() > 0
