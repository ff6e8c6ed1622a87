"""S5, LRU and LinOSS: a whole layer with many inputs and outputs from one mixer a mode, against scipy's simulation."""

from __future__ import annotations

import pytest
import torch
from scipy.signal import cont2discrete, dlsim

from families.helpers import error, randn
from mixerlens import families
from mixerlens.errors import InputError
from mixerlens.references.modes import system

BATCH, TIME, MODES, INPUTS, OUTPUTS = 2, 150, 4, 3, 5
DT = torch.tensor([0.01, 0.05, 0.1, 0.3], dtype=torch.float64)


def crandn(*shape):
    return torch.complex(randn(*shape), randn(*shape))


def poles(modes=MODES):
    return torch.complex(-torch.rand(modes).double() - 0.05, 4 * randn(modes))


def mixed(dynamics, u, B):
    """x_t for v = B u: every mode by itself."""
    entered = u.to(B.dtype) @ B.mT
    return (dynamics.operator() @ entered[..., None])[..., 0]


def simulated(A, B, C, u):
    """y_t = C x_t with x_t = A x_{t-1} + B u_t by scipy, which reads the state before it is driven."""
    rows = [dlsim((A.numpy(), B.numpy(), (C @ A).numpy(), (C @ B).numpy(), 1.0), row.numpy())[1] for row in u]
    return torch.stack([torch.from_numpy(y) for y in rows])


def real(M):
    """A complex matrix as a real one on (real, imaginary)."""
    return torch.cat([torch.cat([M.real, -M.imag], 1), torch.cat([M.imag, M.real], 1)])


def test_an_s5_layer_follows_from_its_modes():
    """Against the real continuous system of twice the size, held by scipy's expm and simulated step by step."""
    A, B, C, u = poles(), crandn(MODES, INPUTS), crandn(OUTPUTS, MODES), randn(BATCH, TIME, INPUTS)
    dynamics = families.s5(A=A, dt=DT, length=TIME)
    got = 2 * (mixed(dynamics, u, B) @ C.mT).real
    # every mode has its own clock: scale the rows of the system instead of the time
    rate, entry = torch.diag(A * DT), DT[:, None] * B
    B2 = torch.cat([entry.real, entry.imag])
    C2 = 2 * torch.cat([C.real, -C.imag], 1)
    Ad, Bd, *_ = cont2discrete((real(rate).numpy(), B2.numpy(), C2.numpy(), torch.zeros(OUTPUTS, INPUTS).numpy()), 1.0)
    want = simulated(torch.from_numpy(Ad), torch.from_numpy(Bd), C2, u)
    assert error(got, want) <= 1e-12
    # and the kernel of the layer is C L^l B, a matrix for each lag
    kernel = dynamics.operator().column(0)[0]
    fifth = 2 * (C @ (kernel[:, 5, None] * B)).real
    pulse = torch.zeros(1, TIME, INPUTS).double()
    for i in range(INPUTS):
        pulse[:] = 0
        pulse[0, 0, i] = 1
        assert error(2 * (mixed(dynamics, pulse, B) @ C.mT).real[0, 5], fifth[:, i]) <= 1e-12


def test_an_lru_layer_follows_from_its_modes():
    """nu_log, theta_log, gamma_log as the layer stores them, against the dense recurrence."""
    nu, theta = torch.rand(MODES).double() - 2, randn(MODES)
    log_decay = torch.complex(-nu.exp(), theta.exp())
    B, C, u = crandn(MODES, INPUTS), crandn(OUTPUTS, MODES), randn(BATCH, TIME, INPUTS)
    transition = torch.exp(log_decay)
    gamma = torch.sqrt(1 - transition.abs() ** 2)
    want = system(u[..., None], torch.diag(transition), gamma[:, None] * B, C)[..., 0].real
    for gain in (None, gamma):
        dynamics = families.lru(log_decay=log_decay, gain=gain, length=TIME)
        assert error((mixed(dynamics, u, B) @ C.mT).real, want) <= 1e-12
    twice = families.lru(log_decay=log_decay, gain=2 * gamma, length=TIME)
    assert error((mixed(twice, u, B) @ C.mT).real, 2 * want) <= 1e-12


@pytest.mark.parametrize("implicit", [True, False])
def test_a_linoss_layer_follows_from_its_oscillators(implicit):
    """The scheme as one linear solve E w_t = F w_{t-1} + G u_t over positions and velocities, simulated by scipy."""
    a, B, C, u = (
        20 * torch.rand(MODES).double(),
        randn(MODES, INPUTS),
        randn(OUTPUTS, MODES),
        randn(BATCH, TIME, INPUTS),
    )
    one, none = torch.eye(MODES, dtype=torch.float64), torch.zeros(MODES, MODES, dtype=torch.float64)
    h, force = torch.diag(DT), torch.diag(DT * a)
    # z_t (+ h a x_t) = z_{t-1} (- h a x_{t-1}) + h B u_t ; x_t - h z_t = x_{t-1}
    E = torch.cat([torch.cat([one, force if implicit else none], 1), torch.cat([-h, one], 1)])
    F = torch.cat([torch.cat([one, none if implicit else -force], 1), torch.cat([none, one], 1)])
    G = torch.cat([h @ B, torch.zeros_like(B)])
    want = simulated(torch.linalg.solve(E, F), torch.linalg.solve(E, G), torch.cat([torch.zeros_like(C), C], 1), u)
    dynamics = families.linoss(A=a, dt=DT, length=TIME, implicit=implicit)
    assert error(mixed(dynamics, u, B) @ C.mT, want) <= 1e-12
    size = dynamics.evolution.eigenvalues().abs()[0, 0]
    expected = (1 / (1 + DT**2 * a)).sqrt() if implicit else torch.ones(MODES)
    assert (size - expected[:, None]).abs().max() <= 1e-14


@pytest.mark.parametrize("implicit", [True, False])
def test_a_free_particle_is_exact(implicit):
    """At A = 0 the matrix has one eigenvector: positions are dt^2 times the double sum of the force, still exactly."""
    dynamics = families.linoss(A=torch.zeros(1).double(), dt=DT[2:3], length=TIME, implicit=implicit)
    v = randn(1, TIME, 1, 1)
    assert error(dynamics.operator() @ v, 0.01 * v.cumsum(1).cumsum(1)) <= 1e-12


def test_modes_are_convolutions():
    for dynamics in (
        families.s5(A=poles(), dt=DT, length=TIME),
        families.lru(log_decay=poles(), length=TIME),
        families.linoss(A=DT, dt=DT, length=TIME),
    ):
        assert dynamics.time_invariant


def test_float32_modes_over_four_thousand_tokens():
    """Phases and decays are formed in float64: the error does not grow with the lag."""
    time, A = 4096, torch.complex(torch.full((MODES,), -0.01), torch.linspace(1, 100, MODES))
    kernel = families.s5(A=A, dt=DT.float(), length=time).operator().column(0)
    assert kernel.dtype == torch.complex64
    A, dt = A.to(torch.complex128), DT.float().double()
    want = torch.exp(A * dt * torch.arange(time)[:, None]) * ((A * dt).exp() - 1) / A
    assert error(kernel[0].mT.to(torch.complex128), want) <= 1e-6


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: families.s5(A=-poles(), dt=DT, length=3), "Re A must be negative"),
        (lambda: families.s5(A=poles(3), dt=DT, length=3), r"A and dt must be \(modes,\): got A \(3,\), dt \(4,\)"),
        (lambda: families.lru(log_decay=-poles(), length=3), "log_decay must not be positive"),
        (lambda: families.linoss(A=-DT, dt=DT, length=3), "A must not be negative.*relu"),
        (lambda: families.linoss(A=DT, dt=-DT, length=3), "dt must not be negative"),
    ],
)
def test_a_likely_slip_is_refused_by_name(call, what):
    with pytest.raises(InputError, match=what):
        call()
