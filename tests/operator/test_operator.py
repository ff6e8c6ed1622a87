"""The operator's own rules: broadcasting, grouped heads, indexing, the FFT path, states, memory, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from mixerlens.dynamics import CoefficientDynamics
from mixerlens.errors import InputError, MemoryBudgetError, UnsupportedError
from mixerlens.evolution import Delta, Diagonal, Identity, Rotation, Scalar
from mixerlens.normalizer import PerToken, RowSum
from mixerlens.readout import Exp, RealPart
from mixerlens.support import Support

from ..evolution import plain
from ..evolution import test_kinds as kinds
from ..evolution.drawn import BATCH, HEADS, randn, unit


def s4d(time=333, features=4, modes=3):
    """A time-invariant mixer and the same one told token by token, which may not use the FFT."""
    A = torch.complex(
        -0.5 * torch.ones(features, modes).double(), 3 * torch.arange(modes).double().expand(features, -1)
    )
    q, k = randn(1, 1, features, modes, complex_=True), randn(1, 1, features, modes, complex_=True)
    evolution = Diagonal(rate=A, step_size=torch.linspace(0.001, 0.2, features).double())
    short = CoefficientDynamics(q, k, evolution, readout=RealPart(2.0), length=time)
    return short, CoefficientDynamics(q.expand(1, time, -1, -1), k, evolution, readout=RealPart(2.0))


@pytest.mark.parametrize("time", [2, 32, 333])
def test_the_fft_path_is_the_chunked_path(time):
    short, long = s4d(time)
    assert short.time_invariant
    assert not long.time_invariant
    v, w = randn(3, time, 4, 2), randn(3, time, 4, 2)
    fast, slow = short.operator(), long.operator()
    assert plain.error(fast @ v, slow @ v) <= 1e-12
    assert plain.error(fast.T @ w, slow.T @ w) <= 1e-12
    assert plain.error(fast.to_dense(), slow.to_dense()) <= 1e-12
    y, state = fast.apply(v, return_state=True)
    assert plain.error(y, slow @ v) <= 1e-12
    assert plain.error(state, slow.state_at(time - 1, v)) <= 1e-12
    toeplitz = fast.to_dense()
    for lag in {0, time // 2, time - 1}:
        band = toeplitz.diagonal(-lag, -2, -1)
        assert (band - band[..., :1]).abs().max() <= 1e-12 * toeplitz.abs().max()


def test_the_fft_path_has_the_chunked_paths_gradient():
    found = []
    v, pull = randn(2, 100, 4, 1), randn(2, 100, 4, 1)
    A = torch.complex(-torch.rand(4, 3).double(), randn(4, 3))
    q, k = randn(1, 1, 4, 3, complex_=True), randn(1, 1, 4, 3, complex_=True)
    for time in (1, 100):
        leaves = [x.clone().requires_grad_() for x in (A, q, k, torch.full((4,), 0.1).double())]
        a, b, c, dt = leaves
        d = CoefficientDynamics(
            b.expand(1, time, -1, -1), c, Diagonal(rate=a, step_size=dt), readout=RealPart(2.0), length=100
        )
        assert d.time_invariant == (time == 1)
        found.append(torch.autograd.grad(((d.operator() @ v) * pull).sum(), leaves))
    for fast, slow in zip(*found, strict=True):
        assert plain.error(fast, slow) <= 1e-12


@pytest.mark.parametrize("kind", [kinds.TestScalarLogDecay, kinds.TestDelta, kinds.TestIdentity])
@pytest.mark.parametrize("readout", ["identity", "exp"])
def test_batch_one_broadcasts(kind, readout):
    """Dynamics of batch 1 over values of batch 4, and values of batch 1 over dynamics of batch 2."""
    case = kind()
    p = case.leaves(70)
    one = {n: x[:1] if x.dim() > 2 else x for n, x in p.items()}
    v = randn(4, 70, HEADS, 2)
    op = case.dynamics(one, readout).operator()
    alpha = case.alpha(case.scores(one), readout)
    assert op.to_dense().shape[0] == 1
    assert plain.error(op @ v, plain.mix(alpha.expand(4, -1, -1, -1), v)) <= 1e-12
    assert plain.error(op.T @ v, plain.mix(alpha.mT.expand(4, -1, -1, -1), v)) <= 1e-12
    if readout == "identity":
        y, state = op.apply(v, return_state=True)
        assert y.shape == v.shape
        assert state.shape == (4, HEADS, case.dim, 2)
        again = op.apply(v[:, :70], initial_state=state)
        assert plain.finite(again)
    op, alpha = case.dynamics(p, readout).operator(), case.alpha(case.scores(p), readout)
    want = plain.mix(alpha, v[:1].expand(BATCH, -1, -1, -1))
    assert plain.error(op @ v[:1], want) <= 1e-12


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("evolution", ["identity", "rotation", "scalar", "delta"])
def test_grouped_heads(groups, evolution):
    """query, key, direction and values with fewer heads: head h uses group h // (heads / groups)."""
    heads, time, dim = 6, 75, 4
    q, k = randn(BATCH, time, groups, dim), unit(randn(BATCH, time, groups, dim))
    g, beta, angle = -torch.rand(BATCH, time, heads).double(), torch.rand(BATCH, time, heads).double(), randn(2)
    spread = lambda x: x.repeat_interleave(heads // groups, dim=2)
    few, many = {
        "identity": (Identity(), Identity()),
        "rotation": (Rotation(angle), Rotation(angle)),
        "scalar": (Scalar(log_decay=g), Scalar(log_decay=g)),
        "delta": (Delta(k, beta, log_decay=g), Delta(spread(k), beta, log_decay=g)),
    }[evolution]
    v = randn(BATCH, time, groups, 3)
    for options in ({}, {"readout": Exp(), "normalizer": RowSum()}):
        shared = CoefficientDynamics(q, k, few, scaling=beta, **options).operator()
        full = CoefficientDynamics(spread(q), spread(k), many, scaling=beta, **options).operator()
        assert shared.shape == full.shape
        assert plain.error(shared.to_dense(), full.to_dense()) <= 1e-13
        assert plain.error(shared @ v, full @ spread(v)) <= 1e-13
        assert plain.error(shared.T @ v, full.T @ spread(v)) <= 1e-13
        assert plain.error(shared.row_mass(), full.row_mass()) <= 1e-13
        for chosen in ([4], [1, 4, 5], [5, 0]):
            part = shared.dynamics.select_heads(chosen).operator()
            assert plain.error(part.to_dense(), full.to_dense()[:, chosen]) <= 1e-13
    state = CoefficientDynamics(q, k, few, scaling=beta).operator().state_at(40, v)
    assert state.shape == (BATCH, heads, dim, 3)


def test_indexing():
    case = kinds.TestDeltaGated()
    p = case.leaves(90)
    op, alpha = case.dynamics(p).operator(), case.alpha(case.scores(p))
    wanted = torch.tensor([3, 88, 3, 41])
    chosen = torch.zeros(90, dtype=torch.bool)
    chosen[[5, 70]] = True
    for rows, columns, want in [
        (-1, slice(None), alpha[:, :, -1:]),
        (slice(None, None, 7), slice(80, 10, -3), alpha[:, :, ::7][..., list(range(80, 10, -3))]),
        ([-1, 0, 45], 12, alpha[:, :, [-1, 0, 45]][..., 12:13]),
        (wanted, chosen, alpha[:, :, wanted][..., chosen]),
        (range(60, 30, -1), [0], alpha[:, :, list(range(60, 30, -1))][..., :1]),
    ]:
        got = op.block(rows, columns)
        assert got.shape == want.shape
        assert (got - want).abs().max() <= 1e-12 * alpha.abs().max()
        assert (op.T.block(columns, rows) - want.mT).abs().max() <= 1e-12 * alpha.abs().max()
    assert (op.T.row(7) - alpha[..., 7]).abs().max() <= 1e-12 * alpha.abs().max()
    assert (op.T.column(-2) - alpha[:, :, -2]).abs().max() <= 1e-12 * alpha.abs().max()
    assert plain.error(op.T.T @ p["v"], op @ p["v"]) == 0
    for bad in (90, -91, [], [3, 90]):
        with pytest.raises(InputError, match="does not exist"):
            op.block(bad, 0)


def test_the_transpose_is_plain():
    """Never conjugated, also for complex coefficients and cotangents."""
    case = kinds.TestDiagonalComplex()
    p = case.leaves(40)
    w = randn(BATCH, 40, HEADS, 2, complex_=True)
    op, alpha = case.dynamics(p).operator(), case.alpha(case.scores(p))
    assert plain.error(op.T @ w, plain.mix(alpha.mT, w)) <= 1e-12
    assert plain.error(op.T.to_dense(), alpha.mT) <= 1e-12


def test_complex_values():
    """alpha is linear over the reals in 2 Re, so complex values are two real ones."""
    for kind, readout in [(kinds.TestDiagonalComplex, "real"), (kinds.TestDiagonalComplex, "identity")]:
        case = kind()
        p = case.leaves(50)
        v = randn(BATCH, 50, HEADS, 2, complex_=True)
        op, alpha = case.dynamics(p, readout).operator(), case.alpha(case.scores(p), readout)
        assert plain.error(op @ v, plain.mix(alpha, v)) <= 1e-12
        assert plain.error(op.T @ v, plain.mix(alpha.mT, v)) <= 1e-12


def test_a_request_beyond_the_budget_says_its_bytes(monkeypatch):
    case = kinds.TestScalarLogDecay()
    op = case.dynamics(case.leaves(200)).operator()
    need = BATCH * HEADS * 200 * 200 * 8
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", str(need // 2))
    with pytest.raises(MemoryBudgetError) as refused:
        op.to_dense()
    message = str(refused.value)
    numbers = [int(word) for word in message.replace(",", " ").split() if word.isdigit()]
    assert str(need // 2) in message
    assert "\n" not in message
    assert any(need <= n <= 4 * need for n in numbers), message
    assert plain.finite(op @ torch.ones(BATCH, 200, HEADS, 1, dtype=torch.float64))
    assert plain.finite(op.row_mass())
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", str(16 * need))
    assert op.to_dense().shape == (BATCH, HEADS, 200, 200)
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "lots")
    with pytest.raises(InputError, match="lots"):
        op.to_dense()


def test_a_dense_matrix_of_long_text_is_refused_before_they_are_allocated():
    time = 300_000
    op = CoefficientDynamics(
        randn(1, 1, 1, 2), randn(1, 1, 1, 2), Scalar(decay=torch.tensor([0.5])), length=time
    ).operator()
    with pytest.raises(MemoryBudgetError, match=str(time)):
        op.to_dense()


def test_states_carry_gradients():
    case = kinds.TestDeltaGated()
    p = {n: x.requires_grad_() for n, x in case.leaves(80).items()}
    start = randn(BATCH, HEADS, case.dim, 2).requires_grad_()
    y, end = case.dynamics(p).operator().apply(p["v"], initial_state=start, return_state=True)
    A, rows, S = case.matrices(p, BATCH, 80, HEADS), [], start
    for t in range(80):
        key = p["scaling"][:, t, :, None] * p["key"][:, t]
        S = A[:, t] @ S + key[..., None] * p["v"][:, t, :, None, :]
        rows.append((p["query"][:, t, :, :, None] * S).sum(-2))
    want = torch.stack(rows, 1)
    assert plain.error(y, want) <= 1e-12
    assert plain.error(end, S) <= 1e-12
    leaves = [start, *(x for n, x in p.items() if n != "w")]
    for g, h in zip(*(torch.autograd.grad(a.sum() + b.sum(), leaves) for a, b in ((y, end), (want, S))), strict=True):
        assert plain.error(g, h) <= 1e-11


@pytest.mark.parametrize("kind", [kinds.TestScalarLogDecay, kinds.TestDeltaGated, kinds.TestDiagonalComplex])
def test_states_of_packed_sequences(kind):
    """The state after t holds its own segment only, nothing on padding; a sequence may be cut inside a segment."""
    case, time = kind(), 150
    p, v = case.leaves(time), randn(BATCH, time, HEADS, 2)
    segments = torch.tensor([[-1] * 4 + [0] * 66 + [1] * 80, [3] * 100 + [9] * 45 + [-1] * 5])
    support = Support(segments=segments)
    op = case.dynamics(p, support=support).operator()
    A = case.matrices(p, BATCH, time, HEADS)
    dtype = torch.promote_types(A.dtype, p["key"].dtype)
    u = plain.impulses(A.to(dtype), p["key"].to(dtype), p["scaling"])
    for t in (0, 4, 63, 64, 70, 99, 100, 149):
        own = (segments[:, : t + 1] == segments[:, t : t + 1]) & (segments[:, t : t + 1] >= 0)
        want = u[t] @ (v[:, : t + 1] * own[:, :, None, None]).transpose(1, 2).to(dtype)
        assert plain.finite(op.state_at(t, v))
        assert (op.state_at(t, v) - want).abs().max() <= 1e-12 * max(float(want.abs().max()), 1.0)
    whole, last = op.apply(v, return_state=True)
    for cut in (30, 90, 110):
        parts = []
        for a, b in ((0, cut), (cut, time)):
            q = {n: x[:, a:b] if x.dim() > 2 and x.shape[:2] == (BATCH, time) else x for n, x in p.items()}
            parts.append(case.dynamics(q, support=Support(segments=segments[:, a:b])).operator())
        first, state = parts[0].apply(v[:, :cut], return_state=True)
        second, end = parts[1].apply(v[:, cut:], initial_state=state, return_state=True)
        assert plain.error(torch.cat([first, second], 1), whole) <= 1e-12
        assert plain.error(end, last) <= 1e-12


def test_a_state_does_not_pass_padding():
    """An initial state belongs to the first token's segment: padding there neither reads it nor hands it on."""
    case = kinds.TestScalarLogDecay()
    p = case.leaves(9)
    support = Support(segments=torch.tensor([[-1, -1, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1, -1, -1]]))
    op = case.dynamics(p, support=support).operator()
    start = randn(BATCH, HEADS, case.dim, 2)
    y, end = op.apply(p["v"], initial_state=start, return_state=True)
    fresh, fresh_end = op.apply(p["v"], return_state=True)
    assert torch.equal(y[0], fresh[0])
    assert (y[0, :2] == 0).all()
    assert (y[1, :5] - fresh[1, :5]).abs().amin() > 0
    assert torch.equal(y[1, 5:], fresh[1, 5:])
    assert torch.equal(end, fresh_end)


def test_states_that_do_not_exist_are_refused():
    case = kinds.TestScalarLogDecay()
    p = case.leaves(9)
    v, state = p["v"], randn(BATCH, HEADS, case.dim, 2)
    for options in (
        {"readout": "exp"},
        {"readout": "polynomial"},
        {"support": Support(window=3)},
    ):
        op = case.dynamics(p, **options).operator()
        with pytest.raises(UnsupportedError):
            op.apply(v, initial_state=state)
    op = case.dynamics(p).operator()
    with pytest.raises(InputError):
        op.apply(v, initial_state=state[..., :1])
    with pytest.raises(InputError, match="this mixer's state is"):  # a row sum carries one column more
        case.dynamics(p, normalizer=RowSum()).operator().apply(v, initial_state=state)
    for t in (-1, 9):
        with pytest.raises(InputError, match="does not exist"):
            op.state_at(t, v)
        with pytest.raises(InputError, match="does not exist"):
            op.dynamics.impulse(t)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 9, 3), torch.float64), ((2, 8, 3, 1), torch.float64), ((3, 9, 3, 1), torch.float64),
     ((2, 9, 2, 1), torch.float64), ((2, 9, 3, 1), torch.long)],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(shape, dtype):
    case = kinds.TestScalarLogDecay()
    op = case.dynamics(case.leaves(9)).operator()
    for act in (lambda v: op @ v, lambda v: op.T @ v, lambda v: op.state_at(3, v)):
        with pytest.raises(InputError):
            act(torch.ones(shape, dtype=dtype))


def test_half_precisions_are_computed_in_float32():
    q, k, v = (torch.randn(1, 40, 2, 4, dtype=torch.bfloat16) for _ in range(3))
    op = CoefficientDynamics(q, k, readout=Exp(), normalizer=RowSum()).operator()
    z = torch.einsum("bihn,bjhn->bhij", q.double(), k.double()).masked_fill(
        ~torch.ones(40, 40).tril().bool(), -math.inf
    )
    want = torch.softmax(z, -1)
    assert op.to_dense().dtype == torch.float32
    assert plain.error(op.to_dense(), want) <= 1e-6 * float(z[z.isfinite()].abs().max())
    assert plain.error(op @ v.float(), plain.mix(want, v.double())) <= 1e-5


def test_mixed_precisions_are_promoted():
    case = kinds.TestDeltaGated()
    p = case.leaves(30)
    op = case.dynamics(p).operator()
    assert (op @ p["v"].float()).dtype == torch.float64
    low = case.dynamics(case.leaves(30, "single")).to(torch.float64)
    assert low.dtype == torch.float64
    rounded = {n: x.double() for n, x in case.leaves(30, "single").items()}
    assert plain.error(low.operator() @ p["v"], plain.mix(case.alpha(case.scores(rounded)), p["v"])) <= 1e-12


def test_parts_that_do_not_fit_are_refused():
    q, k = randn(2, 9, 4, 3), randn(2, 9, 4, 3)
    for bad in (
        lambda: CoefficientDynamics(q, randn(2, 8, 4, 3)),
        lambda: CoefficientDynamics(q, randn(2, 9, 3, 3)),
        lambda: CoefficientDynamics(q, randn(2, 9, 4, 2)),
        lambda: CoefficientDynamics(q, randn(3, 9, 4, 3)),
        lambda: CoefficientDynamics(q[0], k),
        lambda: CoefficientDynamics(q, k, scaling=randn(2, 9, 4, 1)),
        lambda: CoefficientDynamics(q, k, Scalar(log_decay=-torch.rand(2, 9, 2))),
        lambda: CoefficientDynamics(q, k, Diagonal(decay=torch.rand(2))),
        lambda: CoefficientDynamics(q, k, Rotation(torch.rand(2))),
        lambda: CoefficientDynamics(q, k, Delta(randn(2, 9, 4, 2), torch.rand(2, 9, 4))),
        lambda: CoefficientDynamics(q, k, normalizer=PerToken(torch.zeros(2, 9, 4))),
        lambda: CoefficientDynamics(q, k, support=Support(window=0)),
        lambda: CoefficientDynamics(q, k, support=Support(segments=torch.zeros(2, 8, dtype=torch.long))),
        lambda: CoefficientDynamics(q, k, length=8),
        lambda: CoefficientDynamics(q, k).operator(head=4),
        lambda: Scalar(),
        lambda: Diagonal(decay=torch.rand(3), log_decay=-torch.rand(3)),
    ):
        with pytest.raises(InputError) as refused:
            bad()
        assert "\n" not in str(refused.value)


def test_detached_dynamics_carry_no_history_in_any_part():
    leaves = [randn(1, 7, 2, 4), randn(1, 7, 2, 4), randn(1, 7, 2), randn(1, 7, 2).abs() + 1, -randn(1, 7, 2).abs()]
    q, k, b, eta, g = (x.requires_grad_() for x in leaves)
    mixer = CoefficientDynamics(q, k, Scalar(log_decay=g), scaling=b, normalizer=PerToken(eta))
    assert mixer.operator().to_dense().requires_grad
    assert not mixer.detach().operator().to_dense().requires_grad
