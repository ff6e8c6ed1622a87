"""The Carleman lift: a nonlinear readout of a linear system as a larger system that is linear all the way.

Keep, beside the state, every product of its entries. For one feature with state x (n numbers) and input u,

    x_t = A x_{t-1} + B u_t,   y_t = C x_t + D u_t,   v_t = (x_{t-1}, u_t),  y_t = r . v_t
    Z_t = (1, v_t, v_t (x) v_t, ..., v_t^(x)P)         the lift: sum_p (n + 1)^p numbers
    Z_{t+1} = M(u_{t+1}) Z_t                            one explicit matrix a step
    y_t^p = r^(x)p . v_t^(x)p                           every power of y is LINEAR in the lift
    f(y_t) = readout . Z_t                              for a polynomial f of degree at most P

Why it closes: (S v + e u)^(x)p is a sum of products of at most p entries of v, so degree p asks for no degree above p
and nothing is cut off in time. For a nonlinear recurrence it would, and that is where Carleman's method usually
approximates. Here the recurrence is linear; only the readout is a truncated series. While nothing enters, M(0) is
block diagonal, S (x) ... (x) S, and its eigenvalues are the products of the modes': the frequencies that waves can make
together. M(u) is lower triangular in the degree, its blocks polynomials in u.

Four state numbers (two conjugate pairs) and the input are five; with P = 4 the lift has 1 + 5 + 25 + 125 + 625 = 781
numbers. Products commute, so 126 of them are different; all are kept, because the operator is then a plain Kronecker
power that can be read. This is the device made tangible, not a way to compute: `orders` gives the same numbers by FFT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ..errors import InputError
from ..operator.memory import require

__all__ = ["CarlemanLift", "lift_of_modes"]


@dataclass(frozen=True, eq=False)
class CarlemanLift:
    """A (n, n), B (n,), C (n,), D of a real system, and the largest degree P. All float64.

    Raises InputError for shapes that do not fit, MemoryBudgetError if a step matrix does not.
    """

    A: Float64[Tensor, "state state"]
    B: Float64[Tensor, " state"]
    C: Float64[Tensor, " state"]
    D: float
    degree: int

    def __post_init__(self) -> None:
        n = len(self.B)
        if self.A.shape != (n, n) or self.C.shape != (n,) or self.degree < 1:
            shapes = f"A {tuple(self.A.shape)}, B {tuple(self.B.shape)}, C {tuple(self.C.shape)}, degree {self.degree}"
            raise InputError(f"A must be (n, n), B and C (n,) and the degree at least 1: got {shapes}")
        require("a step of the lift", self.size, self.size, dtype=torch.float64, copies=3, instead="lower the degree")

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """How many products there are of each degree, from 0 on."""
        return [(len(self.B) + 1) ** p for p in range(self.degree + 1)]

    def lift(self, v: Float64[Tensor, " ambient"]) -> Float64[Tensor, " lifted"]:
        """(1, v, v (x) v, ...) of v = (x_{t-1}, u_t)."""
        powers = [v.new_ones(1)]
        for _ in range(self.degree):
            powers.append(torch.kron(powers[-1], v))
        return torch.cat(powers)

    def step(self, u: float) -> Float64[Tensor, "lifted lifted"]:
        """M(u): from the lift at t to the lift at t + 1, when u enters at t + 1.

        Block (p, q) of (S v + e u)^(x)p: its last factor is S v after q - 1 factors v, or e u after q of them.
        """
        n = len(self.B)
        carried = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        carried[:n] = torch.cat([self.A, self.B[:, None]], 1)
        entering = torch.zeros(n + 1, 1, dtype=torch.float64)
        entering[n] = u
        row = [torch.ones(1, 1, dtype=torch.float64)]  # the blocks of one degree p, by q
        rows = [row]
        for _ in range(self.degree):
            by_state = [torch.kron(block, carried) for block in row]
            by_input = [torch.kron(block, entering) for block in row]
            row = [by_input[0], *(s + i for s, i in zip(by_state, by_input[1:], strict=False)), by_state[-1]]
            rows.append(row)
        width = self.size
        parts = [torch.cat(row, 1) for row in rows]
        return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])

    def powers(self) -> Float64[Tensor, "degrees lifted"]:
        """Row p reads y^p from the lift: r^(x)p at degree p, 0 elsewhere."""
        r = torch.cat([self.C @ self.A, (self.C @ self.B + self.D)[None]])
        whole, rows = self.lift(r), torch.zeros(self.degree + 1, self.size, dtype=torch.float64)
        lo = 0
        for p, size in enumerate(self.sizes):
            rows[p, lo : lo + size] = whole[lo : lo + size]
            lo += size
        return rows

    def run(self, u: Float64[Tensor, " time"]) -> Float64[Tensor, "time degrees"]:
        """y_t^p for p = 0 .. P, by the matrices alone: M(u_t) ... M(u_2) applied to the lift of (0, u_1)."""
        read, at_rest = self.powers(), torch.zeros(len(self.B) + 1, dtype=torch.float64)
        lifted, found = self.lift(at_rest), []
        for value in u.tolist():
            lifted = self.step(value) @ lifted
            found.append(read @ lifted)
        return torch.stack(found)


def lift_of_modes(
    weight: Complex128[Tensor, " modes"], log: Complex128[Tensor, " modes"], skip: float, degree: int
) -> CarlemanLift:
    """The lift of one feature with kernel Re sum_n weight_n exp(log_n l), two real state numbers a mode."""
    if weight.ndim != 1 or weight.shape != log.shape:
        raise InputError(f"weight and log must be (modes,), not {tuple(weight.shape)} and {tuple(log.shape)}")
    step = torch.exp(log.to(torch.complex128))
    turns = torch.stack([step.real, -step.imag, step.imag, step.real], -1).reshape(-1, 2, 2)
    drive = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(len(log))
    read = torch.stack([weight.real, -weight.imag], -1).flatten().to(torch.float64)
    return CarlemanLift(torch.block_diag(*turns), drive, read, float(skip), degree)
