"""References of convolutions, gated scalars and state space models against scipy, torch and transformers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.polynomial import legendre
from scipy.integrate import solve_ivp
from scipy.signal import dlsim, fftconvolve, lfilter
from scipy.special import softmax

from mixerlens import references

BATCH, TIME, CHANNELS = 2, 60, 4


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def crandn(*shape):
    return torch.complex(randn(*shape), randn(*shape))


def close(got, want, bar=1e-12):
    want = torch.as_tensor(np.ascontiguousarray(want)) if isinstance(want, np.ndarray) else want
    assert got.shape == want.shape
    assert (got - want).abs().max() <= bar * want.abs().max()


def test_short_convolution_is_lfilter():
    taps, v = randn(CHANNELS, 5), randn(BATCH, TIME, CHANNELS, 2)
    got = references.short_convolution(value=v, taps=taps)
    for c in range(CHANNELS):
        close(got[:, :, c], lfilter(taps[c].numpy(), [1.0], v[:, :, c].numpy(), axis=1))


def test_hyena_is_fftconvolve_between_gates():
    taps, v = randn(CHANNELS, TIME), randn(BATCH, TIME, CHANNELS, 1)
    x1, x2 = randn(BATCH, TIME, CHANNELS), randn(BATCH, TIME, CHANNELS)
    driven = (x2 * v[..., 0]).numpy()
    want = x1 * torch.from_numpy(fftconvolve(driven, taps.mT.numpy()[None], axes=1)[:, :TIME])
    close(references.hyena(value=v, taps=taps, query_gate=x1, key_gate=x2)[..., 0], want)


@pytest.mark.parametrize("window", [1, 7, TIME + 5])
def test_windowed_attention_is_a_banded_product(window):
    q, k, v = randn(BATCH, TIME, 4, 3), randn(BATCH, TIME, 2, 3), randn(BATCH, TIME, 2, 5)
    scores = torch.einsum("bihd,bjhd->bhij", q, k.repeat_interleave(2, 2)).tril()
    want = torch.einsum("bhij,bjhe->bihe", scores - scores.tril(-window), v.repeat_interleave(2, 2))
    close(references.sliding_window_linear_attention(value=v, query=q, key=k, window=window), want)


def test_rg_lru_is_recurrent_gemmas_scan():
    from transformers import RecurrentGemmaConfig
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRglru

    lru = RecurrentGemmaRglru(RecurrentGemmaConfig(lru_width=CHANNELS, num_attention_heads=2)).double()
    log_decay, gate, x = -rand(BATCH, TIME, CHANNELS), rand(BATCH, TIME, CHANNELS), randn(BATCH, TIME, CHANNELS)
    a = torch.exp(log_decay)
    scan = partial(lru._rnn_scan, acc_dtype=torch.float64, recurrent_states=None)
    reset = torch.zeros(BATCH, TIME, 1, dtype=torch.bool)
    want, _ = scan(hidden_states=torch.sqrt(1 - a**2) * gate * x, recurrent_gate=a, reset=reset)
    close(references.rg_lru(value=x[..., None], log_decay=log_decay, input_gate=gate)[..., 0], want)


def test_min_gru_is_a_gru_whose_recurrent_weights_are_zero():
    gru = torch.nn.GRU(3, CHANNELS, batch_first=True).double()
    torch.nn.init.zeros_(gru.weight_hh_l0)
    torch.nn.init.zeros_(gru.bias_hh_l0)
    x = randn(BATCH, TIME, 3)
    with torch.no_grad():
        want, _ = gru(x)
        _, keep, candidate = (x @ gru.weight_ih_l0.mT + gru.bias_ih_l0).chunk(3, -1)
    z, v = 1 - torch.sigmoid(keep), torch.tanh(candidate)
    close(references.min_gru(value=v[..., None], update_gate=z)[..., 0], want)
    share = references.min_lstm(value=v[..., None], forget_gate=1 - z, input_gate=z)  # gates that sum to one already
    close(share[..., 0], want)


def test_dechunking_of_every_token_is_min_gru():
    p, v = rand(BATCH, TIME, 1), randn(BATCH, TIME, 1, CHANNELS)
    want = references.min_gru(value=v, update_gate=p)
    close(references.dechunk_ema(value=v, probability=p), want)
    close(references.dechunk_ema(value=v, probability=p, boundary=torch.ones(BATCH, TIME, dtype=torch.bool)), want)


def test_longhorn_solves_the_regularised_problem_on_one_axis():
    """Keys along one coordinate: k k^T is its diagonal, and the step minimises |s - s'|^2 + beta (k^T s - x)^2."""
    axis = torch.randint(0, 3, (TIME,))
    k, q, beta, x = (
        F.one_hot(axis, 3) * randn(1, TIME, 1),
        randn(1, TIME, 3),
        rand(1, TIME, CHANNELS),
        randn(1, TIME, 4),
    )
    s, rows = torch.zeros(CHANNELS, 3).double(), []
    for t in range(TIME):
        normal = torch.eye(3).double() + beta[0, t, :, None, None] * torch.outer(k[0, t], k[0, t])
        s = torch.linalg.solve(normal, s + (beta[0, t] * x[0, t])[:, None] * k[0, t])
        rows.append(s @ q[0, t])
    close(references.longhorn(value=x[..., None], query=q, key=k, beta=beta)[0, ..., 0], torch.stack(rows))


def test_s4_is_the_trapezoidal_rule_of_a_real_system():
    """One pair of modes as a real 2 x 2 system, by scipy's simulation of x_t = A x_{t-1} + B u_t."""
    A, P, B, C = (crandn(1, 1) for _ in range(4))
    A = torch.complex(-A.real.abs(), A.imag)
    h, u = 0.1, randn(1, TIME, 1, 1)
    turn = torch.tensor([[A.real, -A.imag], [A.imag, A.real]], dtype=torch.float64)
    p = torch.tensor([P.real, P.imag], dtype=torch.float64)
    M, one = turn - 2 * torch.outer(p, p), torch.eye(2, dtype=torch.float64)
    back = torch.linalg.inv(one - h / 2 * M)
    Ad, Bd = back @ (one + h / 2 * M), back @ (h * torch.tensor([[B.real], [B.imag]], dtype=torch.float64))
    Cd = 2 * torch.tensor([[C.real, -C.imag]], dtype=torch.float64)
    _, y, _ = dlsim((*(x.numpy() for x in (Ad, Bd, Cd @ Ad, Cd @ Bd)), 1), u[0, :, 0].numpy())
    got = references.s4(value=u, A=A, P=P, B=B, C=C, dt=torch.tensor([h], dtype=torch.float64))
    close(got[0, :, 0], y)


@pytest.mark.parametrize("growth", [-0.2, 0.1])
def test_dss_is_a_convolution_with_a_complex_softmax(growth):
    A, w = torch.complex(torch.full((1, 3), growth).double(), randn(1, 3)), crandn(1, 3)
    dt, u = torch.tensor([0.3], dtype=torch.float64), randn(1, TIME, 1, 1)
    exponents = (0.3 * A[0, :, None] * torch.arange(TIME)).numpy()
    kernel = ((w / A)[0].numpy()[:, None] * softmax(exponents, axis=1)).sum(0)
    want = lfilter(kernel.real, [1.0], u[0, :, 0, 0].numpy())
    close(references.dss(value=u, A=A, weight=w, dt=dt)[0, :, 0, 0], want)


def test_s5_and_lru_are_first_order_filters():
    A, dt, v = torch.complex(-rand(3), 3 * randn(3)), 0.1 + rand(3), crandn(1, TIME, 3, 1)
    got = references.s5(value=v, A=A, dt=dt)
    transition = torch.exp(A * dt)
    for m in range(3):
        held = ((transition - 1) / A)[m]
        close(got[0, :, m, 0], lfilter([complex(held)], [1, -complex(transition[m])], v[0, :, m, 0].numpy()), 1e-11)
    got = references.lru(value=v, log_decay=A * dt, gain=dt)
    for m in range(3):
        want = lfilter([float(dt[m])], [1, -complex(transition[m])], v[0, :, m, 0].numpy())
        close(got[0, :, m, 0], want)


@pytest.mark.parametrize("implicit", [True, False])
def test_linoss_converges_to_the_oscillator(implicit):
    """x'' = -A x + cos s from rest, by an adaptive integrator; both schemes are first order."""
    end, A = 2.0, 7.0
    exact = solve_ivp(lambda s, y: [y[1], np.cos(s) - A * y[0]], (0, end), [0, 0], rtol=1e-11, atol=1e-12).y[0, -1]
    gaps = []
    for steps in (400, 800):
        s = end * torch.arange(1, steps + 1, dtype=torch.float64) / steps
        x = references.linoss(
            value=torch.cos(s)[None, :, None, None],
            A=torch.tensor([A], dtype=torch.float64),
            dt=torch.tensor([end / steps], dtype=torch.float64),
            implicit=implicit,
        )
        gaps.append(float(x[0, -1, 0, 0]) - exact)
    assert abs(gaps[0]) < 0.02
    assert 1.8 < gaps[0] / gaps[1] < 2.2


def test_hippo_legs_holds_the_projection():
    """Coefficient n is the mean of the held signal times the n-th normalised Legendre polynomial of [0, t + 1]."""
    state, f = 5, randn(1, TIME, 1, 1)
    for n in range(state):
        antiderivative = legendre.legint(np.eye(state)[n])
        want = []
        for t in range(TIME):
            edges = 2 * np.arange(t + 2) / (t + 1) - 1
            weights = np.diff(legendre.legval(edges, antiderivative)) * np.sqrt(2 * n + 1) / 2
            want.append(weights @ f[0, : t + 1, 0, 0].numpy())
        query = torch.eye(state).double()[n][None, None, None]
        close(references.hippo_legs(value=f, query=query)[0, :, 0, 0], np.array(want))


def test_mamba3_lies_between_mamba2_and_mamba2_a_token_late():
    """Weight 1 is Mamba-2. Weight 0 with equal steps is Mamba-2 of the token before, decayed once more."""
    A, dt = -rand(CHANNELS), torch.full((BATCH, TIME, CHANNELS), 0.2, dtype=torch.float64)
    B, C, u = randn(BATCH, TIME, 2, 6), randn(BATCH, TIME, 2, 6), randn(BATCH, TIME, CHANNELS, 3)
    now = references.mamba2(value=u, A=A, B=B, C=C, dt=dt)
    before = [F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1] for x in (u, B)]
    late = references.mamba2(value=before[0], A=A, B=before[1], C=C, dt=dt) * torch.exp(0.2 * A)[:, None]
    for w in (0.0, 0.3, 1.0):
        got = references.mamba3(value=u, A=A, B=B, C=C, dt=dt, trapezoid=torch.full_like(dt, w))
        close(got, w * now + (1 - w) * late)
