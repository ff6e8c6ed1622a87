"""The lifted linear operator against powers of a dense convolution, and against the orders of the decoder."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from mixerlens.errors import InputError, MemoryBudgetError
from mixerlens.explicit.carleman import CarlemanLift, lift_of_modes
from mixerlens.explicit.orders import orders
from mixerlens.explicit.series import taylor

D = -0.4


def system(pairs: int, time: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Weights and exponents of the modes, and the kernel they give."""
    torch.manual_seed(seed)
    weight = 0.3 * torch.randn(pairs, dtype=torch.complex128)
    log = torch.complex(-0.2 * torch.rand(pairs).double(), 2 * torch.randn(pairs).double())
    kernel = [(weight.numpy() * np.exp(log.numpy() * lag)).sum().real for lag in range(time)]
    return weight, log, np.array(kernel)


@pytest.mark.parametrize(("pairs", "degree", "size"), [(2, 4, 781), (4, 3, 820), (1, 6, 1093)])
def test_matrices_alone_give_every_power(pairs, degree, size):
    weight, log, kernel = system(pairs, 12)
    u = torch.randn(12, dtype=torch.float64)
    y = np.convolve(kernel, u.numpy())[:12] + D * u.numpy()
    lift = lift_of_modes(weight, log, D, degree)
    assert lift.size == size
    found = lift.run(u).numpy()
    for p in range(degree + 1):
        np.testing.assert_allclose(found[:, p], y**p, rtol=0, atol=1e-12 * np.abs(y**p).max())


def test_the_lift_is_the_orders():
    """781 numbers, P = 4: linear all the way, and equal to the FFT's orders to 1e-12."""
    time = 20
    weight, log, kernel = system(2, time, seed=1)
    u, q = 0.3 * torch.randn(time, dtype=torch.float64), torch.randn(time, dtype=torch.float64)
    lifted = taylor("gelu", 4) * (q @ lift_of_modes(weight, log, D, 4).run(u))
    skip = torch.tensor([D], dtype=torch.float64)
    wanted = orders(torch.from_numpy(kernel)[None], skip, u[:, None], "gelu", q[:, None], 4, tolerance=1)
    scale = float(wanted.values.abs().max())
    assert float((lifted - wanted.values).abs().max()) <= 1e-12 * scale


def test_a_step_is_linear_in_the_lift_and_triangular_in_the_degree():
    weight, log, _ = system(2, 1)
    lift = lift_of_modes(weight, log, D, 3)
    x, u, entering = torch.randn(4, dtype=torch.float64), 0.7, -1.3
    after = lift.A @ x + lift.B * u
    got = lift.step(entering) @ lift.lift(torch.cat([x, x.new_tensor([u])]))
    v = np.append(after.numpy(), entering)
    want = [np.prod(v[list(word)]) for p in range(4) for word in product(range(5), repeat=p)]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    edges = np.cumsum([0, *lift.sizes])
    for p, q in product(range(4), repeat=2):
        block = lift.step(entering)[edges[p] : edges[p + 1], edges[q] : edges[q + 1]]
        assert bool(block.any()) is (q <= p)


def test_left_alone_its_eigenvalues_are_products_of_the_modes():
    weight, log, _ = system(2, 1)
    lift = lift_of_modes(weight, log, D, 2)
    pair = lift.step(0.0)[6:, 6:]
    modes = np.concatenate([np.exp(log.numpy()), np.exp(log.numpy().conj()), [0]])
    want = np.sort(np.abs(np.outer(modes, modes)).ravel())
    np.testing.assert_allclose(np.sort(np.abs(np.linalg.eigvals(pair.numpy()))), want, atol=1e-6)


def test_refusals(monkeypatch):
    weight, log, _ = system(2, 1)
    with pytest.raises(InputError, match=r"A must be \(n, n\), B and C \(n,\)"):
        CarlemanLift(torch.eye(2).double(), torch.ones(3).double(), torch.ones(3).double(), 0.0, 2)
    monkeypatch.setenv("MIXERLENS_MEMORY_BUDGET", "1000000")
    with pytest.raises(MemoryBudgetError, match=r"a step of the lift needs .* lower the degree"):
        lift_of_modes(weight, log, D, 4)
