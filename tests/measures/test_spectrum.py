"""Spectra against dense matrices A_t and against literally shifted keys."""

from __future__ import annotations

import json
import math

import mpmath
import numpy as np
import pytest
import torch

from mixerlens import families, measures

T = 23


def attention(dtype=torch.float64, **changes):
    query, key = 2 * torch.randn(1, T, 2, 4, dtype=dtype), torch.randn(1, T, 2, 4, dtype=dtype)
    return query, key, families.softmax_attention(query=query, key=key, **changes)


def plain_eta(query, key, head, shift=0.0):
    """log sum_{j <= i} exp(q_i.(k_j + shift) / sqrt n), row by row with python's sums."""
    q, k = query[0, :, head].double(), key[0, :, head].double() + shift
    return [math.log(sum(math.exp(float(q[i] @ k[j]) / 2) for j in range(i + 1))) for i in range(len(q))]


def test_delta_rule_eigenvalues_are_those_of_the_matrix():
    key = torch.nn.functional.normalize(torch.randn(1, T, 2, 5, dtype=torch.float64), dim=-1)
    log_decay, beta = -torch.rand(1, T, 2).double(), 1.9 * torch.rand(1, T, 2).double()
    dynamics = families.gated_delta_net(torch.randn(1, T, 2, 5).double(), key, log_decay, beta)
    found = measures.spectrum(dynamics, keep=None)
    assert found.kind == "evolution" and not found.sampled and found.eigenvalues.shape == (2, T, 2)
    for head in range(2):
        for t in range(T):
            w = key[0, t, head]
            matrix = log_decay[0, t, head].exp() * (torch.eye(5).double() - beta[0, t, head] * torch.outer(w, w))
            expected = np.linalg.eigvalsh(matrix.numpy())
            mine = sorted(found.eigenvalues[head, t].real.tolist())
            np.testing.assert_allclose([mine[0], mine[-1]], [expected[0], expected[-1]], atol=1e-12)
            np.testing.assert_allclose(found.slowest[head, t], np.abs(expected).max(), atol=1e-12)


def test_quantiles_are_over_all_tokens_also_when_few_are_kept():
    dynamics = families.mamba(
        A=-torch.rand(5, 3), B=torch.randn(1, 300, 3), C=torch.randn(1, 300, 3), dt=torch.rand(1, 300, 5)
    )
    few, every = measures.spectrum(dynamics, keep=10), measures.spectrum(dynamics, keep=None)
    assert few.sampled and few.eigenvalues.shape == (5, 10, 3) and not every.sampled
    assert torch.equal(few.radius_quantiles, every.radius_quantiles) and few.slowest.shape == (5, 300)
    assert torch.equal(few.eigenvalues, every.eigenvalues[:, few.tokens])
    radius = every.eigenvalues.abs().flatten(1).numpy()
    expected = np.quantile(radius, every.levels, axis=1, method="nearest").T
    np.testing.assert_allclose(every.radius_quantiles, expected, atol=5e-3)
    np.testing.assert_allclose(every.radius_quantiles[:, [0, -1]], expected[:, [0, -1]])


def test_constant_evolutions_are_kept_once():
    rate = torch.complex(-torch.rand(3, 4) - 0.1, torch.randn(3, 4))
    dynamics = families.s4d(A=rate, B=torch.ones_like(rate), C=torch.ones_like(rate), dt=torch.rand(3), length=9)
    found = measures.spectrum(dynamics)
    assert found.eigenvalues.shape == (3, 1, 4)


def test_eta_ratio_is_causal_and_as_computed():
    query, key, dynamics = attention()
    found = measures.spectrum(dynamics)
    assert found.kind == "eta_ratio" and found.ratio is not None
    for head in range(2):
        log_eta = plain_eta(query, key, head)
        expected = np.exp([log_eta[i - 1] - log_eta[i] for i in range(1, T)])
        np.testing.assert_allclose(found.ratio[head, 1:], expected, rtol=1e-12)
    assert found.ratio[:, 0].isnan().all()
    # no future key enters: the ratios of a prefix are the prefix of the ratios
    shorter = measures.spectrum(families.softmax_attention(query=query[:, :9], key=key[:, :9]))
    for name in ("ratio", "gauge_low", "gauge_high", "gauge_centred"):
        torch.testing.assert_close(getattr(shorter, name), getattr(found, name)[:, :9], equal_nan=True)


def test_gauge_range_is_what_literally_shifted_keys_span():
    query, key, dynamics = attention()
    found = measures.spectrum(dynamics)
    alpha = dynamics.operator().to_dense()[0]
    for head in range(2):
        moved = {None: plain_eta(query, key, head)}
        for m in range(T):
            shift = -key[0, m, head]
            moved[m] = plain_eta(query, key, head, shift)
            shifted = families.softmax_attention(query=query, key=key + shift).operator().to_dense()[0, head]
            torch.testing.assert_close(shifted, alpha[head])  # the gauge freedom
        for i in range(1, T):
            ratios = [math.exp(moved[m][i - 1] - moved[m][i]) for m in [None, *range(i)]]
            np.testing.assert_allclose(found.gauge_low[head, i], min(ratios), rtol=1e-10)
            np.testing.assert_allclose(found.gauge_high[head, i], max(ratios), rtol=1e-10)
            quotients = [float(alpha[head, i, m] / alpha[head, i - 1, m]) for m in range(i)]
            np.testing.assert_allclose(ratios[1:], quotients, rtol=1e-9)
            centred = plain_eta(query, key, head, -key[0, :i, head].mean(0))
            np.testing.assert_allclose(found.gauge_centred[head, i], math.exp(centred[i - 1] - centred[i]), rtol=1e-10)


def test_the_ratio_moves_by_an_order_of_magnitude_under_the_gauge():
    _, _, dynamics = attention()
    found = measures.spectrum(dynamics)
    spread = (found.gauge_high / found.gauge_low)[:, 1:]
    assert float(spread.median()) > 10


@pytest.mark.parametrize("changes", [{"rope": torch.rand(2).double()}, {"alibi": torch.tensor([0.5, 0.1]).double()}])
def test_positions_keep_the_meaning_of_the_gauge_range(changes):
    _, _, dynamics = attention(**changes)
    found = measures.spectrum(dynamics, keep=None)
    alpha = dynamics.operator().to_dense()[0]
    quotients = alpha[:, 1:] / alpha[:, :-1]  # alpha_im / alpha_{i-1,m}
    seen = torch.ones(T - 1, T).tril().bool()
    low = torch.where(seen, quotients, torch.inf).amin(-1)
    high = torch.where(seen, quotients, 0).amax(-1)
    torch.testing.assert_close(found.gauge_low[:, 1:], torch.minimum(low, found.ratio[:, 1:]))
    torch.testing.assert_close(found.gauge_high[:, 1:], torch.maximum(high, found.ratio[:, 1:]))
    # rotary and ALiBi evolutions have eigenvalues of size 1, so the ratio is the radius
    torch.testing.assert_close(found.slowest, found.ratio, equal_nan=True)
    assert found.eigenvalues.shape == (2, T - 1, 4 if "rope" in changes else 1)


def test_window_and_block_borders():
    long = 300  # more than one block of rows
    query, key = torch.randn(1, long, 1, 4).double(), torch.randn(1, long, 1, 4).double()
    found = measures.spectrum(families.softmax_attention(query=query, key=key, window=7))
    scores = (query[0, :, 0] @ key[0, :, 0].T / 2).numpy()
    eta = [np.exp(scores[i, max(0, i - 6) : i + 1]).sum() for i in range(long)]
    np.testing.assert_allclose(found.ratio[0, 1:], np.array(eta[:-1]) / np.array(eta[1:]), rtol=1e-11)


def test_large_scores_do_not_overflow():
    query = torch.full((1, 6, 1, 1), 1.0).double()
    key = torch.tensor([900.0, 100, 850, 905, 0, -900]).double().reshape(1, 6, 1, 1)
    found = measures.spectrum(families.softmax_attention(query=query, key=key, scale=1.0))
    assert found.ratio[0, 1:].isfinite().all()
    assert float(found.ratio[0, 3]) == pytest.approx(math.exp(-5) / (1 + math.exp(-5)), rel=1e-12)


def exact_logs(scores, window=None):
    """Logarithms of ratio, low, centred, high of every row after the first, from scores that are exact."""
    exact = [[mpmath.mpf(float(x)) for x in row] for row in scores]
    first = [0 if window is None else max(0, i - window + 1) for i in range(len(exact))]
    eta = [mpmath.log(sum(mpmath.e**x for x in row[first[i] : i + 1])) for i, row in enumerate(exact)]
    found = []
    for i in range(1, len(exact)):
        ratio = eta[i - 1] - eta[i]
        moved = [ratio + exact[i][m] - exact[i - 1][m] for m in range(first[i], i)]
        found.append((ratio, min(ratio, *moved), mpmath.fsum(moved) / len(moved), max(ratio, *moved)))
    return found


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("size", [10.0, 1e5, 1e8])
def test_logarithms_keep_their_digits_where_floats_do_not_reach(size, window):
    """Queries and keys of whole eighths, so that every score is exact; some scores near each other, some far apart."""
    draw = torch.Generator().manual_seed(0)
    query = torch.randint(1, 4, (1, T, 1, 1), generator=draw).double()
    steps = torch.randint(-8, 9, (1, T, 1, 1), generator=draw).double()
    key = steps / 8 + torch.randint(0, 2, (1, T, 1, 1), generator=draw) * size
    mixer = families.softmax_attention(query=query, key=key, scale=1.0, window=window)
    found = measures.spectrum(mixer).eta
    with mpmath.workdps(60):
        for i, wanted in enumerate(exact_logs((query[0, :, 0] @ key[0, :, 0].T).tolist(), window), 1):
            for name, exact in zip(("log_ratio", "log_low", "log_centred", "log_high"), wanted, strict=True):
                mine = mpmath.mpf(float(getattr(found, name)[0, i]))
                assert abs(mine - exact) <= 4e-15 * max(1, abs(exact)), (name, i)
    if size > 1e3:  # both ends of the range are no floats
        assert bool(found.log_low.nan_to_num().lt(-1000).any()) and bool(found.log_high.nan_to_num().gt(1000).any())


@pytest.mark.parametrize("changes", [{}, {"rope": torch.rand(2).double()}, {"softcap": 2e8}])
def test_json_has_logarithms_beyond_the_range_of_floats(changes):
    query, key, _ = attention()
    mixer = families.softmax_attention(query=1e4 * query, key=1e4 * key, **changes)
    found = measures.spectrum(mixer, keep=None)
    written = json.loads(json.dumps(found.to_json(eigenvalues=True), allow_nan=False))
    logs = np.array(written["log_ratio_quantiles"])
    assert np.isfinite(logs).all() and np.abs(logs).max() > 1e5
    for told, log in zip(np.array(written["ratio_quantiles"], float).flat, logs.flat, strict=True):
        assert np.isnan(told) if log > 710 else told == pytest.approx(math.exp(log), rel=1e-12)
    assert "log_ratio_quantiles" in written["labels"] and "range of floats" in written["labels"]["log_ratio_quantiles"]
    np.testing.assert_allclose(found.log_slowest[:, 1:], found.eta.log_ratio[:, 1:], rtol=1e-12)  # |A_t| is 1
    assert not found.eigenvalues.real[found.eigenvalues.imag == 0].isnan().any()
    life = measures.horizon(mixer).half_life_spectrum[:, 1:]
    fading = found.log_slowest[:, 1:] < 0
    assert bool((life[fading] > 0).all()) and bool(life[~fading].isinf().all())


@pytest.mark.parametrize("changes", [{"softcap": 3.0}, {"sinks": torch.tensor([0.3, -1.0]).double()}])
def test_no_gauge_where_shifted_keys_change_alpha(changes):
    query, key, dynamics = attention(**changes)
    shifted = families.softmax_attention(query=query, key=key - key[:, :1], **changes)
    assert (shifted.operator().to_dense() - dynamics.operator().to_dense()).abs().max() > 1e-3
    found = measures.spectrum(dynamics)
    torch.testing.assert_close(found.gauge_low, found.ratio, equal_nan=True)
    torch.testing.assert_close(found.gauge_high, found.ratio, equal_nan=True)
    alpha = dynamics.operator().to_dense()[0]
    scores = (query[0].transpose(0, 1) @ key[0].permute(1, 2, 0)) / 2
    if "softcap" in changes:
        scores = 3 * torch.tanh(scores / 3)
    eta = (scores.diagonal(dim1=-2, dim2=-1).exp()) / alpha.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(found.ratio[:, 1:], eta[:, :-1] / eta[:, 1:])


def test_padding_and_bidirectional():
    segments = torch.tensor([[-1] * 3 + [0] * (T - 3)])
    query, key, dynamics = attention(segments=segments)
    found = measures.spectrum(dynamics)
    assert found.ratio[:, :4].isnan().all() and found.ratio[:, 4:].isfinite().all()
    without = measures.spectrum(families.softmax_attention(query=query[:, 3:], key=key[:, 3:]))
    torch.testing.assert_close(found.ratio[:, 4:], without.ratio[:, 1:])
    both = measures.spectrum(families.softmax_attention(query=query, key=key, causal=False))
    assert both.kind == "evolution" and "no recurrence" in both.convention


def test_json_is_strict_and_says_the_convention():
    _, _, dynamics = attention()
    written = json.loads(json.dumps(measures.spectrum(dynamics).to_json(eigenvalues=True), allow_nan=False))
    assert written["kind"] == "eta_ratio" and "convention" in written["convention"]
    assert len(written["gauge_quantiles"]["low"]) == 2 and "(0, infinity)" in written["gauge"]
    assert len(written["eigenvalues"][0][0][0]) == 2


def test_only_the_asked_sequence_counts():
    query, key = torch.randn(3, T, 2, 4), torch.randn(3, T, 2, 4)
    whole = measures.spectrum(families.softmax_attention(query=query, key=key), sequence=2)
    alone = measures.spectrum(families.softmax_attention(query=query[2:], key=key[2:]))
    assert torch.equal(whole.ratio.nan_to_num(), alone.ratio.nan_to_num())


def test_a_sequence_of_a_batch_reaches_an_evolution_inside_another():
    """Token t of RWKV-6 has the decays of token t - 1 of its own sequence, and 0; token 0 has 1."""
    q, k, g, u = torch.randn(2, T, 2, 3), torch.randn(2, T, 2, 3), -torch.rand(2, T, 2, 3).double(), torch.randn(2, 3)
    for sequence in range(2):
        found = measures.spectrum(families.rwkv6(q, k, g, u), sequence=sequence, keep=None).eigenvalues
        a = np.exp(g[sequence].numpy()).transpose(1, 0, 2)
        wanted = np.concatenate([np.concatenate([np.ones((2, 1, 3)), a[:, :-1]], 1), np.zeros((2, T, 1))], -1)
        np.testing.assert_allclose(found.real, wanted, atol=1e-15)


def test_the_first_tokens_of_a_nested_mixer_are_its_leading_block():
    from mixerlens.measures.parts import first_tokens

    q, k, g, u = (torch.randn(2, T, 2, 3).double() for _ in range(4))
    d = families.rwkv6(q, k, -g.abs(), u[0, 0])
    for count in (1, 7):
        block = d.operator().to_dense()[..., :count, :count]
        np.testing.assert_allclose(first_tokens(d, count).operator().to_dense(), block, atol=1e-13)
