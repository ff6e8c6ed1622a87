"""A diagonal state space model as a network of nodes on a ring.

With F the unitary discrete Fourier transform and z = F^H x, the modes x' = Lambda x + b u become

    z' = K z + F^H b u,    y = (F c)^T z,    K = F^H Lambda F,

and K is circulant: every node is coupled to the others by a rule that depends on their distance around the ring alone.
Its first column is the inverse DFT of the eigenvalues. b = (1, ..., 1) enters at node 0 only, since F^H 1 = sqrt(N)
e_0. A sampled step exp(dt Lambda) is circulant by the same argument, and all circulants commute, so that steps that
change with the token (Mamba) are one ring with another clock. What is no circulant, the rank-one part of S4 and of the
delta rules, stands beside it as a scatterer: it listens to all nodes by one pattern and answers in another. Source: the
ring of arXiv 2604.20595, derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Complex, Float, Inexact, Int
from torch import Tensor

from mixerlens.errors import InputError, UnsupportedError
from mixerlens.evolution import Diagonal
from mixerlens.shapes import at, wide

__all__ = ["RingNetwork", "RingRun", "circulant", "to_modes", "to_nodes"]


def to_nodes(modes: Inexact[Tensor, "*batch nodes"]) -> Complex[Tensor, "*batch nodes"]:
    """z = F^H x along the last axis: mode n is the plane wave exp(2 pi i n j / N) / sqrt(N) over the nodes j."""
    return torch.fft.ifft(modes, norm="ortho")


def to_modes(nodes: Inexact[Tensor, "*batch nodes"]) -> Complex[Tensor, "*batch nodes"]:
    """x = F z along the last axis. F is symmetric, so this also turns what reads modes into what reads nodes."""
    return torch.fft.fft(nodes, norm="ortho")


def circulant(eigenvalues: Inexact[Tensor, "*batch nodes"]) -> Complex[Tensor, "*batch nodes nodes"]:
    """K = F^H Diag(eigenvalues) F: K[j, k] = column[(j - k) mod N], column the inverse DFT of the eigenvalues."""
    column, n = torch.fft.ifft(eigenvalues), torch.arange(eigenvalues.shape[-1], device=eigenvalues.device)
    return column[..., (n[:, None] - n) % len(n)]


@dataclass(frozen=True, eq=False)
class RingRun:
    """y (batch, time, rings, outputs | channels), real where the layer's is. states: the nodes after every token,
    complex128 (batch, time, rings, nodes, channels), where they were asked for."""

    y: Inexact[Tensor, "batch time rings channels"]
    states: Complex[Tensor, "batch time rings nodes channels"] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class RingNetwork:
    """z_t = K_t z_{t-1} + [left_t (right_t^T z_{t-1})] + inject_t u_t, y_t = scale Re(read_t z_t).

    All parameters are kept in the modes' basis, where they are smallest; `inject`, `read`, `coupling`, `step_coupling`
    and `run` are those of the nodes. Axes (batch, time, rings, ...); batch and time of size 1 are constant.

    diagonal: the modes' evolution, every parameter with its own number for each ring and node.
    b: what enters each mode, (..., nodes, inputs). c: what reads it, (..., outputs, nodes), plainly transposed.
    left, right: the scatterer, (..., nodes), or None.
    late: what the input of a token adds to each mode just before the next token, (..., nodes), or None: Mamba-3's
        trapezoidal rule lets every input enter twice. scale: y is scale times the real part; None keeps y complex.
    order: mode n of ring r is mode order[r, n] of the layer; None: as they were given.
    error: largest difference to the layer at construction, relative to each ring's largest output; NaN where there was
        no layer to compare with.
    """

    diagonal: Diagonal
    b: Complex[Tensor, "#batch #time rings nodes inputs"]
    c: Complex[Tensor, "#batch #time rings outputs nodes"]
    left: Complex[Tensor, "#batch #time rings nodes"] | None = None
    right: Complex[Tensor, "#batch #time rings nodes"] | None = None
    late: Complex[Tensor, "#batch #time rings nodes"] | None = None
    scale: float | None = 1.0
    order: Int[Tensor, "rings nodes"] | None = None
    error: float = float("nan")

    @staticmethod
    def from_ssm(layer: Any, **options: Any) -> RingNetwork:
        """The ring of a layer, checked against it; see `mixerlens.ring.from_ssm`, which takes the same arguments."""
        from mixerlens.ring.convert import from_ssm

        return from_ssm(layer, **options)

    def __repr__(self) -> str:
        """One line: what couples how many nodes, and how far it was found from its layer."""
        tokens = "" if self.length is None else f", {self.length} tokens"
        rings = f"{self.rings} ring{'s' if self.rings > 1 else ''} of {self.nodes} nodes{tokens}"
        return f"RingNetwork({self.kind}: {rings}, error {self.error:.1e})"

    @property
    def rings(self) -> int:
        return self.b.shape[2]

    @property
    def nodes(self) -> int:
        return self.b.shape[3]

    @property
    def inputs(self) -> int:
        return self.b.shape[4]

    @property
    def parameters(self) -> list[Tensor]:
        """Every tensor with axes (batch, time, ...)."""
        own = [x for x in (self.b, self.c, self.left, self.right, self.late) if x is not None]
        return own + list(self.diagonal.tensors().values())

    @property
    def constant(self) -> bool:
        """Whether the network is the same at every token."""
        return all(x.shape[0] == x.shape[1] == 1 for x in self.parameters)

    @property
    def length(self) -> int | None:
        """The tokens a network that changes with them is made for; None: any number."""
        return max((x.shape[1] for x in self.parameters if x.shape[1] > 1), default=None)

    @property
    def generator(self) -> Complex[Tensor, "rings nodes"]:
        """Lambda: eigenvalues of the coupling K, a unit of the layer's own time, or a token where it has no other.

        Raises UnsupportedError where the evolution is given by decays that change with the token: there is then no one
        K whose exponentials they are.
        """
        d = self.diagonal
        found = d.rate if d.rate is not None else d.log_decay if d.log_decay is not None else d.decay
        assert found is not None
        if found.shape[0] != 1 or found.shape[1] != 1:
            raise UnsupportedError(
                "decays that change freely with the token have no single coupling: ask step_coupling"
            )
        rate = wide(found)[0, 0].to(torch.complex128)
        return torch.log(rate) if d.decay is not None else rate

    @property
    def mean_log(self) -> Complex[Tensor, "rings nodes"]:
        """Minus the decay and the frequency of every mode, in radians a token: means over the first sequence's tokens.

        Where the evolution is given by decays and not by their logarithms, a frequency is the circular mean of their
        phases, known modulo 2 pi. A mode that is always erased has no frequency: NaN, beside a real part of -inf.
        """
        d = self.diagonal
        if d.rate is not None:
            return self.generator * self.clock[0].mean(0)[:, None]
        if d.log_decay is not None:
            log = wide(d.log_decay)[0].to(torch.complex128)
            kept = log.real > -torch.inf
            turned = torch.where(kept, log.imag, 0).sum(0) / kept.sum(0)
            return torch.complex(log.real.mean(0), turned)
        assert d.decay is not None
        decay = wide(d.decay)[0].to(torch.complex128)
        phasor = torch.where(decay == 0, 0, decay / decay.abs()).sum(0)
        turned = torch.where((decay == 0).all(0), torch.nan, phasor.angle())
        return torch.complex(decay.abs().log().mean(0), turned)

    @property
    def kind(self) -> str:
        """What couples the nodes, in words."""
        log = self.mean_log
        alone = bool((log == log[..., :1]).all())
        changing = "" if self.diagonal.step_size is None or self.clock.shape[1] == 1 else ", warped clock"
        scatterer = "" if self.left is None else " + scatterer"
        return ("no coupling" if alone else "circulant") + changing + scatterer

    @property
    def clock(self) -> Float[Tensor, "#batch #time rings"]:
        """The time that passes at each token, in units of the generator's: dt, or 1 where the layer has no other."""
        step = self.diagonal.step_size
        one = torch.ones(1, 1, 1, dtype=torch.float64, device=self.b.device)
        return (one if step is None else wide(step)).expand(-1, -1, self.rings)

    @property
    def coupling(self) -> Complex[Tensor, "rings nodes nodes"]:
        """K in z' = K z: circulant, node j hears node k with the weight K[j, k].

        Raises UnsupportedError as `generator`, and where a decay is 0: no coupling in continuous time erases a mode.
        """
        if not bool(self.generator.real.isfinite().all()):
            raise UnsupportedError(
                "a mode is erased at once, which no coupling in continuous time does: ask step_coupling"
            )
        return circulant(self.generator)

    def multiplier(self, t: int = 0) -> Complex[Tensor, "#batch rings nodes"]:
        """What token t multiplies every mode with: the eigenvalues of the step's circulant."""
        return self.diagonal.factor(t, t + 1)[:, :, 0].to(torch.complex128)

    def step_coupling(self, t: int = 0) -> Complex[Tensor, "#batch rings nodes nodes"]:
        """K_t: what token t does to the nodes, without the scatterer."""
        return circulant(self.multiplier(t))

    def inject(self, t: int = 0) -> Complex[Tensor, "#batch rings nodes inputs"]:
        """Where the input enters: a column an input."""
        return to_nodes(at(self.b, t).mT).mT

    def read(self, t: int = 0) -> Complex[Tensor, "#batch rings outputs nodes"]:
        """What each output reads of the nodes."""
        return to_modes(at(self.c, t))

    def step(self, z: Tensor, t: int) -> Complex[Tensor, "batch rings nodes channels"]:
        """The nodes at token t before its input enters, z (batch, rings, nodes, channels) after the token before."""
        found = to_nodes(to_modes(z.mT) * self.multiplier(t).unsqueeze(-2)).mT
        if self.left is None or self.right is None:
            return found
        heard = to_modes(at(self.right, t)).unsqueeze(-2) @ z
        return found + to_nodes(at(self.left, t)).unsqueeze(-1) @ heard

    def run(
        self,
        u: Inexact[Tensor, "batch time rings channels"],
        state: Complex[Tensor, "batch rings nodes channels"] | None = None,
        *,
        keep_states: bool = False,
    ) -> RingRun:
        """The network itself, token by token, in its nodes and in float64: the definition, not the fast way.

        u: (batch, time, rings, channels). With one input a ring, channels are values that pass through equal copies of
        it; with several inputs they are its inputs, and the result's are its outputs.

        Raises InputError for another shape, or for another number of tokens than the network is made for.
        """
        u = self._checked(u)
        mixed = self.inputs > 1 or self.c.shape[-2] > 1
        z, rows, states = state, [], []
        for t in range(u.shape[1]):
            enters = u[:, t, :, :, None] if mixed else u[:, t, :, None, :]
            driven = self.inject(t) @ enters.to(torch.complex128)
            z = driven if z is None else self.step(z, t) + driven
            y = self.read(t) @ z
            rows.append(y[..., 0] if mixed else y[..., 0, :])
            states.append(z) if keep_states else None
            if self.late is not None:
                z = z + to_nodes(at(self.late, t))[..., None] @ enters.to(torch.complex128)
        y = torch.stack(rows, 1)
        y = y if self.scale is None else self.scale * y.real
        return RingRun(y, torch.stack(states, 1) if keep_states else None)

    def impulse_response(
        self, tokens: int | Int[Tensor, "moments rings"], input: int = 0
    ) -> Complex[Tensor, "moments rings nodes"]:
        """The nodes after one unit entered ``input`` at token 0, in the first sequence.

        tokens: that many, 0, 1, 2, ...; or the tokens wanted, each ring its own, (moments, rings). Without a scatterer
        it is the closed form, products of the multipliers in the modes, and costs moments x rings x nodes.

        Raises InputError for tokens the network is not made for.
        """
        if isinstance(tokens, int):
            if tokens < 1:
                raise InputError(f"{tokens} tokens asked for: at least 1")
            tokens = torch.arange(tokens)[:, None].expand(-1, self.rings)
        last = int(tokens.max()) if tokens.numel() else 0
        if self.length is not None and last >= self.length:
            raise InputError(f"token {last} asked for, the network is made for {self.length} tokens")
        start = self.b[0, 0, :, :, input]
        if self.left is None:
            once = self._products(tokens) * start
            twice = (
                0
                if self.late is None
                else torch.where(tokens[..., None] > 0, self._products(tokens), 0) * self.late[0, 0]
            )
            return to_nodes(once + twice)
        if self.late is not None:
            raise UnsupportedError("the response of a ring with a scatterer whose inputs enter twice: use run")
        return self._followed(to_nodes(start)[None, ..., None], tokens)

    def pulse(self, tokens: Int[Tensor, "moments rings"]) -> Complex[Tensor, "moments rings nodes"]:
        """The nodes at these tokens, each ring's own, after node 0 alone was set to one at token 0.

        It shows what the network does, whatever the layer feeds it; where one constant input drives all modes it is
        also the impulse response of the layer once (b, c) is rescaled to (1, b c). Raises InputError as
        `impulse_response`.
        """
        if self.length is not None and int(tokens.max()) >= self.length:
            raise InputError(f"token {int(tokens.max())} asked for, the network is made for {self.length} tokens")
        if self.left is None:
            return to_nodes(self._products(tokens)) / math.sqrt(self.nodes)
        start = torch.eye(self.nodes, 1, dtype=torch.complex128).expand(1, self.rings, -1, -1)
        return self._followed(start, tokens)

    def _followed(self, z: Tensor, tokens: Tensor) -> Complex[Tensor, "moments rings nodes"]:
        """Node states (1, rings, nodes, 1) from token 0 on, at these tokens, without input."""
        if self.constant and tokens.shape[0] > 1 and bool((tokens.diff(dim=0) >= 0).all()):
            return torch.stack([self._leaped(z[0, r, :, 0], tokens[:, r].tolist(), r) for r in range(self.rings)], 1)
        states = [z]
        for t in range(1, int(tokens.max()) + 1):
            states.append(self.step(states[-1], t)[:1])
        return torch.stack(states)[:, 0, ..., 0].gather(0, tokens[..., None].expand(-1, -1, self.nodes))

    def _leaped(self, z: Tensor, tokens: list[int], ring: int) -> Complex[Tensor, "moments nodes"]:
        """The same for one ring of a constant network, by powers of its step from moment to moment."""
        assert self.left is not None and self.right is not None
        left, right = self.left[0, 0, ring], self.right[0, 0, ring]
        matrix = torch.diag(self.multiplier()[0, ring]) + torch.outer(left, right)
        powers: dict[int, Tensor] = {}
        x, here, states = to_modes(z), 0, []
        for token in tokens:
            leap = token - here
            if leap not in powers:
                powers[leap] = torch.linalg.matrix_power(matrix, leap)
            x, here = powers[leap] @ x, token
            states.append(x)
        return to_nodes(torch.stack(states))

    def reordered(self, order: Int[Tensor, "rings nodes"]) -> RingNetwork:
        """The same layer with its modes in another order around the ring: another, equally exact network.

        order[r, n]: which mode of this network becomes mode n. Raises InputError unless every row is a permutation.
        """
        if tuple(order.shape) != (self.rings, self.nodes) or not bool(
            (order.sort(-1).values == torch.arange(self.nodes, device=order.device)).all()
        ):
            raise InputError(f"order must hold a permutation of 0 .. {self.nodes - 1} for each of {self.rings} rings")

        def moved(x: Tensor, axis: int = -1) -> Tensor:
            x = x.transpose(axis, -1)
            index = order if x.dim() == 4 else order.unsqueeze(-2)
            return x.gather(-1, index.expand(x.shape)).transpose(axis, -1)

        own = {name: x if name == "step_size" else moved(x) for name, x in self.diagonal.tensors().items()}
        before = torch.arange(self.nodes).expand(order.shape) if self.order is None else self.order
        return replace(
            self,
            diagonal=Diagonal(**own),
            b=moved(self.b, -2),
            c=moved(self.c),
            left=None if self.left is None else moved(self.left),
            right=None if self.right is None else moved(self.right),
            late=None if self.late is None else moved(self.late),
            order=before.gather(-1, order),
        )

    def sorted(self) -> RingNetwork:
        """The modes by frequency, neighbours on the ring beside one another in frequency: the order that shows waves.
        Modes of one frequency, as all of Mamba's, are in the order of their decay."""
        rate = self.mean_log
        by_decay = torch.sort(rate.real, stable=True, dim=-1, descending=True).indices
        by_frequency = torch.sort(rate.imag.gather(-1, by_decay), stable=True, dim=-1).indices
        return self.reordered(by_decay.gather(-1, by_frequency))

    def shuffled(self, seed: int) -> RingNetwork:
        """The modes in a random order, the same for every ring: the null beside which a wave is shown."""
        order = torch.randperm(self.nodes, generator=torch.Generator().manual_seed(seed))
        return self.reordered(order.expand(self.rings, -1))

    def at_one_node(self) -> RingNetwork:
        """(b, c) to (1, b c): the same map from u to y, with every input entering at node 0 alone.

        Raises UnsupportedError where b has several inputs (only one of them can enter at a single node), a zero (that
        mode is not driven at all), or changes with the token beside a step that is no scalar.
        """
        if self.inputs > 1:
            raise UnsupportedError(f"{self.inputs} inputs: only one of them can enter at a single node")
        if self.b.shape[0] != 1 or self.b.shape[1] != 1 or self.left is not None or self.late is not None:
            raise UnsupportedError(
                "what enters changes with the token, enters twice, or is scattered: it has no one rescaling"
            )
        if not bool(self.b.abs().min() > 0):
            raise UnsupportedError("b has a zero: that mode is not driven, and no rescaling makes it so")
        return replace(self, b=torch.ones_like(self.b), c=self.c * self.b.mT)

    def _products(self, tokens: Int[Tensor, "moments rings"]) -> Complex[Tensor, "moments rings nodes"]:
        """What every mode was multiplied with from token 1 to these, in the first sequence."""
        d = self.diagonal
        free = d.decay is not None or (d.log_decay is not None and d.log_decay.shape[1] > 1)
        if free or not bool(self.generator.real.isfinite().all()):
            steps = range(1, int(tokens.max()) + 1)
            factors = torch.stack([torch.ones_like(self.multiplier()[0]), *(self.multiplier(t)[0] for t in steps)])
            return factors.cumprod(0).gather(0, tokens[..., None].expand(-1, -1, self.nodes))
        if self.clock.shape[1] > 1:
            passed = torch.cat([torch.zeros_like(self.clock[0, :1]), self.clock[0, 1:].cumsum(0)]).gather(0, tokens)
        else:
            passed = tokens * self.clock[0]
        return torch.exp(self.generator * passed[..., None])

    def _checked(self, u: Tensor) -> Tensor:
        one = self.inputs == 1 and self.c.shape[-2] == 1
        if u.dim() != 4 or u.shape[1] == 0 or u.shape[2] != self.rings or (not one and u.shape[3] != self.inputs):
            channels = "channels" if one else str(self.inputs)
            raise InputError(f"u must be (batch, time >= 1, {self.rings}, {channels}), got {tuple(u.shape)}")
        if self.length is not None and u.shape[1] > self.length:
            raise InputError(f"u has {u.shape[1]} tokens, the network is made for {self.length}")
        return wide(u)
