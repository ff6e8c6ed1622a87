"""The families against what models really call: torch's attention and transformers' scans."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from families.helpers import error, randn
from mixerlens import families

BATCH, TIME, HEADS, GROUPS, DIM, WIDTH = 2, 150, 4, 2, 8, 3


@pytest.mark.parametrize("causal", [True, False])
def test_softmax_attention_is_torchs(causal):
    q, k, v = randn(BATCH, TIME, HEADS, DIM), randn(BATCH, TIME, GROUPS, DIM), randn(BATCH, TIME, GROUPS, WIDTH)
    want = F.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal, enable_gqa=True
    ).transpose(1, 2)
    assert error(families.softmax_attention(query=q, key=k, causal=causal).operator() @ v, want) <= 1e-13


def test_rope_is_llamas():
    """The sign: q_i and k_j turned by i theta and j theta, as the model does it, is A = R(-theta) and not R(theta)."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, v = (randn(BATCH, TIME, HEADS, DIM) for _ in range(3))
    angles = 10000 ** -(torch.arange(0, DIM, 2, dtype=torch.float64) / DIM)
    turn = (torch.arange(TIME).double()[:, None] * angles).repeat(1, 2)[None]
    turned = apply_rotary_pos_emb(q, k, turn.cos(), turn.sin(), unsqueeze_dim=2)
    want = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (*turned, v)), is_causal=True).transpose(1, 2)
    assert error(families.softmax_attention(query=q, key=k, rope=angles).operator() @ v, want) <= 1e-12
    assert error(families.softmax_attention(query=q, key=k, rope=-angles).operator() @ v, want) > 0.05


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_partial_rope_turns_the_first_dimensions_only(layout, causal):
    """As GPT-NeoX (half) and GPT-J (interleaved) do with rotary_dim below the head's dimension."""
    from transformers.models.gptj import modeling_gptj
    from transformers.models.llama import modeling_llama

    q, k, v = (randn(BATCH, TIME, HEADS, DIM) for _ in range(3))
    angles = torch.tensor([0.7, 0.02], dtype=torch.float64)
    turn = (torch.arange(TIME).double()[:, None] * angles)[None]
    first = [x[..., :4] for x in (q, k)]
    if layout == "half":
        cos, sin = turn.cos().repeat(1, 1, 2), turn.sin().repeat(1, 1, 2)
        first = modeling_llama.apply_rotary_pos_emb(*first, cos, sin, unsqueeze_dim=2)
    else:
        first = [modeling_gptj.apply_rotary_pos_emb(x, turn.sin(), turn.cos()) for x in first]
    turned = [torch.cat([a, x[..., 4:]], -1).transpose(1, 2) for a, x in zip(first, (q, k), strict=True)]
    want = F.scaled_dot_product_attention(*turned, v.transpose(1, 2), is_causal=causal).transpose(1, 2)
    dynamics = families.softmax_attention(query=q, key=k, rope=angles, rope_layout=layout, causal=causal)
    assert error(dynamics.operator() @ v, want) <= 1e-12


def test_gated_delta_net_is_transformers():
    from transformers.models.qwen3_next.modeling_qwen3_next import (
        torch_chunk_gated_delta_rule,
        torch_recurrent_gated_delta_rule,
    )

    q, k = randn(BATCH, TIME, GROUPS, DIM), F.normalize(randn(BATCH, TIME, GROUPS, DIM), dim=-1)
    v, g = randn(BATCH, TIME, HEADS, WIDTH), -torch.rand(BATCH, TIME, HEADS).double()
    beta = torch.rand(BATCH, TIME, HEADS).double()
    dynamics = families.gated_delta_net(query=q * DIM**-0.5, key=k, log_decay=g, beta=beta)  # the scans scale q
    for scan in (torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule):
        want, state = scan(q, k, v, g=g, beta=beta, output_final_state=True, initial_state=None)
        y, last = dynamics.operator().apply(v, return_state=True)
        assert error(y, want.double()) <= 3e-6  # the scans are float32
        assert error(dynamics.operator().state_at(TIME - 1, v), state.double()) <= 3e-6
        assert error(last, state.double()) <= 3e-6


def test_mamba_is_transformers():
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    channels, state = 5, 4
    x, B = (torch.randn(BATCH, TIME, n).double() for n in (channels, state))  # the scan rounds these two to float32
    C, dt, A = randn(BATCH, TIME, state), F.softplus(randn(BATCH, TIME, channels)), -torch.exp(randn(channels, state))
    want, last = mamba_selective_scan(x.mT, dt.mT, A, B.mT, C.mT, return_last_state=True)
    operator = families.mamba(A=A, B=B, C=C, dt=dt).operator()
    assert error((operator @ x[..., None])[..., 0], want.mT) <= 1e-12
    assert error(operator.state_at(TIME - 1, x[..., None])[..., 0], last) <= 1e-12


def test_mamba2_is_transformers():
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    x, B, C = randn(BATCH, TIME, HEADS, WIDTH), randn(BATCH, TIME, GROUPS, DIM), randn(BATCH, TIME, GROUPS, DIM)
    A, dt = -3 * torch.rand(HEADS).double(), F.softplus(randn(BATCH, TIME, HEADS))
    want = mamba2_chunk_scan(x, dt, A, B, C, chunk_size=32).double()
    assert error(families.mamba2(A=A, B=B, C=C, dt=dt).operator() @ x, want) <= 3e-6  # that scan is float32


def test_s4d_is_a_convolution_with_the_sampled_response():
    """y = K * u with K_l = 2 Re sum_n C_n B_n (e^{dt A_n} - 1) / A_n e^{l dt A_n}, the kernel of the paper."""
    features, modes, time = 3, 4, 1000
    A = torch.complex(-0.5 * torch.ones(features, modes).double(), 3.14159 * torch.arange(modes).double().expand(3, 4))
    B, C = (torch.complex(randn(features, modes), randn(features, modes)) for _ in range(2))
    dt = torch.tensor([0.001, 0.01, 0.1], dtype=torch.float64)
    u = randn(BATCH, time, features, 1)
    z = dt[:, None] * A
    kernel = 2 * ((C * B * torch.expm1(z) / A)[..., None] * (z[..., None] * torch.arange(time)).exp()).sum(1).real
    size = 2 * time
    want = torch.fft.irfft(torch.fft.rfft(u[..., 0].mT, size) * torch.fft.rfft(kernel, size), size)[..., :time].mT
    operator = families.s4d(A=A, B=B, C=C, dt=dt, length=time).operator()
    assert error((operator @ u)[..., 0], want) <= 1e-12
    assert error(operator.column(0)[0], kernel) <= 1e-12


@pytest.mark.parametrize("sequential", [False, True])
def test_mamba_is_mambapys(sequential):
    """Its own scans, one step at a time and by a parallel prefix, in float64."""
    from mambapy.mamba import MambaBlock, MambaConfig

    channels, states = 6, 5
    block = MambaBlock(MambaConfig(d_model=channels // 2, n_layers=1, d_state=states))
    scan = block.selective_scan_seq if sequential else block.selective_scan
    x, dt = randn(BATCH, TIME, channels), F.softplus(randn(BATCH, TIME, channels) - 2)
    A, B, C = -torch.rand(channels, states).double() * 4, randn(BATCH, TIME, states), randn(BATCH, TIME, states)
    want = scan(x, dt, A, B, C, torch.zeros(channels, dtype=torch.float64))
    got = families.mamba(A=A, B=B, C=C, dt=dt).operator() @ x[..., None]
    assert error(got[..., 0], want) <= 1e-13


@pytest.mark.parametrize("form", ["parallel_stabilized_simple", "recurrent_step_stabilized_simple"])
def test_mlstm_is_xlstms(form):
    """The published package's cell, row by row stabilised; its 1e-6 beside the normaliser is set to zero."""
    cell = xlstm_cells()
    time, heads, dim = 60, 3, 5
    q, k, v = (randn(BATCH, heads, time, dim) for _ in range(3))
    i, f = 2 * randn(BATCH, heads, time, 1), randn(BATCH, heads, time, 1) + 1
    if form.startswith("parallel"):
        want = cell.parallel_stabilized_simple(q, k, v, i, f, eps=0.0)
    else:
        states = (torch.zeros(BATCH, heads, dim, dim).double(), torch.zeros(BATCH, heads, dim, 1).double(),
                  torch.full((BATCH, heads, 1, 1), -torch.inf).double())  # fmt: skip
        rows = []
        for t in range(time):
            at = [x[:, :, t : t + 1] for x in (q, k, v, i, f)]
            h, states = cell.recurrent_step_stabilized_simple(*states, *at, eps=0.0)
            rows.append(h)
        want = torch.cat(rows, 2)
    q, k, v, i, f = (x.transpose(1, 2) for x in (q, k, v, i, f))
    dynamics = families.mlstm(query=q / dim**0.5, key=k, log_input=i[..., 0], log_forget=F.logsigmoid(f)[..., 0])
    assert error(dynamics.operator() @ v, want.transpose(1, 2)) <= 1e-12


def xlstm_cells():
    """The package's plain torch file alone: the package itself imports kernels that need a GPU."""
    import importlib.util
    import sys
    from pathlib import Path

    path = Path(sys.prefix) / "peers" / "xlstm" / "blocks" / "mlstm" / "backends.py"
    if not path.exists():
        pytest.skip("the xlstm package is not beside the environment: make setup puts it there")
    spec = importlib.util.spec_from_file_location("xlstm_cells", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
