"""What a mixer costs: parameters, operations a token in the parallel and the recurrent form, and the state it carries.

Operations are counted, not estimated: the form runs once and every tensor operation adds what it does. A product of
matrices (n, k) (k, m) counts 2 n k m, as torch's own counter has it; an elementwise operation counts one for each
number it makes, a sum one for each number it reads, a triangular solve of n rows and m columns n^2 m, an LU solve
2 n^3 / 3 + 2 n^2 m, an FFT of length n 5 n log2 n. Moving and comparing numbers is free, and so are checks of inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mixerlens.design.mixer import Mixer
from mixerlens.design.spec import MixerSpec
from mixerlens.errors import InputError
from mixerlens.measures.record import Record

__all__ = ["Cost", "Operations", "cost", "grows_bytes"]

LENGTH = 256
BYTES = 8  # of a key or value that is kept: float64, as a finite state is carried
SETTLE = 2  # tokens before the step that is counted: what is carried then has its full size, but for windows

NAMES = (
    "add sub rsub mul div neg reciprocal pow square sqrt rsqrt exp exp2 expm1 log log1p log2 sin cos tan tanh sigmoid "
    "log_sigmoid_forward silu gelu relu softplus logaddexp logaddexp2 abs maximum minimum clamp clamp_min clamp_max "
    "erf elu atan2 polar cumsum cumprod logcumsumexp sign"
)
ELEMENTWISE = frozenset(NAMES.split(" "))
TWICE = {"addcmul", "addcdiv", "lerp"}
SUMS = {"sum", "mean", "amax", "amin", "prod", "max", "min", "linalg_vector_norm", "norm", "_softmax", "_log_softmax"}
TRANSFORMS = {"_fft_r2c", "_fft_c2r", "_fft_c2c"}


@dataclass(frozen=True, eq=False)
class Cost(Record):
    """What one mixer costs.

    features, length: of the parallel form that was counted. parameters: trained numbers. parallel, step: operations a
    token, products those of them in products of matrices, rest the others; step is None where there is no recurrence.
    state: numbers that are carried from token to token for one sequence, state_bytes: their bytes; None where it grows.
    grows_bytes: what each token adds there, the key and value of every head. A number of the equation counts 8 bytes
    in both: it is carried in float64, so that no rounding adds up. The last inputs of a short convolution, part of the
    state, have the dtype of the weights.
    """

    name: str
    features: int
    length: int
    parameters: int
    parallel: Operations
    step: Operations | None
    state: int | None
    state_bytes: int | None
    grows_bytes: int | None

    labels: ClassVar[dict[str, str]] = {
        "parameters": "Trained numbers of the mixer, projections included.",
        "parallel": "Operations a token of the parallel form, forward, at this length.",
        "step": "Operations a token of the recurrent form; null where there is none.",
        "state": "Numbers carried from token to token for one sequence; null where they grow.",
        "state_bytes": "Their bytes: 8 a number, in a short convolution's last inputs those of the weights' dtype.",
        "grows_bytes": "Bytes that each token adds where the past must be kept whole, 8 a number.",
    }
    units: ClassVar[dict[str, str]] = {
        "parallel": "operations a token", "step": "operations a token", "state": "numbers", "state_bytes": "bytes",
        "grows_bytes": "bytes a token", "length": "tokens",
    }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        names = ("name", "features", "length", "parameters", "state", "state_bytes", "grows_bytes")
        told = {name: getattr(self, name) for name in names}
        for name in ("parallel", "step"):
            found: Operations | None = getattr(self, name)
            told[name] = None if found is None else {"products": found.products, "rest": found.rest}
        return self._described(told)


@dataclass(frozen=True)
class Operations:
    """Operations: products of matrices, and the rest."""

    products: float
    rest: float

    @property
    def total(self) -> float:
        return self.products + self.rest


def cost(mixer: Mixer | MixerSpec, features: int | None = None, length: int = LENGTH) -> Cost:
    """What a mixer, or one of ``features`` features built from a specification, costs at this length.

    Raises InputError for a length below 1 or beyond what the specification has room for, or a specification without
    features.
    """
    if isinstance(mixer, MixerSpec):
        if features is None:
            raise InputError("features: give the width of the tokens that the specification's mixer reads")
        mixer = Mixer(mixer, features, seed=0)
    longest = mixer.longest
    if isinstance(length, bool) or not isinstance(length, int) or length < 1 or (longest and length > longest):
        room = f" to {longest}, the room of its levels" if longest else ""
        raise InputError(f"length: {length!r} must be a whole number from 1{room}")
    x = torch.randn(1, length, mixer.features, generator=torch.Generator().manual_seed(0))
    x = x.to(mixer.out.weight.device, mixer.out.weight.dtype)
    with torch.no_grad():
        whole = counted(lambda: mixer(x))
        parallel = Operations(whole.products / length, whole.rest / length)
        step, state, size, grows = None, None, None, None
        if mixer.recurrent:
            window = mixer.spec.support.options.get("width", 0) if mixer.spec.support.kind == "window" else 0
            carried = mixer.initial_state(1)
            for t in range(max(SETTLE, window)):
                _, carried = mixer.step(x[:, t % length], carried)
            step = counted(lambda: mixer.step(x[:, 0], carried))
            state = sum(_reals(t) for t in carried.tensors)
            size = sum(t.numel() * t.element_size() for t in carried.tensors)
        else:
            dynamics, values = mixer.dynamics(x[:, :1])
            grows = BYTES * (sum(_reals(d.key) for d, _ in dynamics.terms) + _reals(values))
    return Cost(
        name=mixer.spec.name,
        features=mixer.features,
        length=length,
        parameters=sum(p.numel() for p in mixer.parameters()),
        parallel=parallel,
        step=step,
        state=state,
        state_bytes=size,
        grows_bytes=grows,
    )


def grows_bytes(layers: Sequence[MixerSpec], features: int) -> int:
    """What every token adds to the bytes that these layers keep, `Cost.grows_bytes` of all; 0 where no layer grows."""
    return sum(cost(spec, features, length=1).grows_bytes or 0 for spec in layers)


def _reals(x: Tensor) -> int:
    return x.numel() * (2 if x.is_complex() else 1)


def counted(run: Callable[[], Any]) -> Operations:
    """The operations that ``run`` does."""
    with _Counter() as counter:
        run()
    return Operations(counter.products, counter.rest)


class _Counter(TorchDispatchMode):
    """Adds up what every operation does."""

    def __init__(self) -> None:
        super().__init__()
        self.products, self.rest = 0.0, 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        packet = function._overloadpacket
        if packet in flop_registry:
            weight = 4 if isinstance(result, Tensor) and result.is_complex() else 1
            self.products += weight * flop_registry[packet](*args, **(kwargs or {}), out_val=result)
        else:
            self.rest += _rest(packet.__name__.rstrip("_"), args, result)
        return result


def _rest(name: str, args: tuple, result: Any) -> float:
    """Operations beside products of matrices."""
    out = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(out, Tensor) or not (out.is_floating_point() or out.is_complex()):
        return 0
    first = args[0] if args and isinstance(args[0], Tensor) else out
    if name in ELEMENTWISE:
        return out.numel()
    if name in TWICE:
        return 2 * out.numel()
    if name in SUMS:
        return first.numel() if out.dim() else 0  # to a single number: the library asks whether all are finite
    if name in ("linalg_solve_triangular", "triangular_solve"):
        return out.numel() * args[0].shape[-1]
    if name in ("_linalg_solve_ex", "linalg_solve_ex"):
        n = first.shape[-1]
        return first.numel() / n**2 * (2 / 3 * n**3) + 2 * n * out.numel()
    if name in TRANSFORMS:
        n = max(first.shape[-1], out.shape[-1])
        return 5 * n * math.log2(max(n, 2)) * max(first.numel() / first.shape[-1], 1)
    return 0
