"""Taylor arithmetic: x(s) = sum_p x_p s^p through the operations of a network, every order exactly and at once.

A linear map acts on each x_p. A product is a Cauchy sum, (xy)_n = sum_k x_k y_{n-k}. A function with y' = d(x) x'
gives n y_n = sum_k k x_k d_{n-k}, where d is known from y: tanh' = 1 - tanh^2, exp' = exp, and x^r by n x_0 y_n =
sum_k (k r - n + k) x_k y_{n-k}. Cost O(P^2) multiplications for P orders. Nested forward differentiation costs 2^P, and
torch 2.13 has no second forward derivative of GLU and a wrong one, without a warning, of its native LayerNorm.

A `Jet` goes through torch functions and modules in place of a tensor; an operation without a rule is refused by name.
So is what writes into a tensor: other names of the same numbers would not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedError

__all__ = ["Jet"]


class Jet:
    """parts: x_0 .. x_P, tensors of one shape. Methods and operators are those of a tensor as far as rules go."""

    def __init__(self, parts: list[Tensor]) -> None:
        self.parts = parts

    @property
    def shape(self) -> torch.Size:
        return self.parts[0].shape

    @property
    def ndim(self) -> int:
        return self.parts[0].ndim

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0].dtype

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(func.__name__, *args, **(kwargs or {}))

    @property
    def mT(self) -> Jet:
        return Jet([x.mT for x in self.parts])

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        _known(name)
        return lambda *args, **kwargs: _apply(name, self, *args, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        return _apply("__getitem__", self, index)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.parts[0])

    def __neg__(self) -> Any:
        return self * -1

    def __add__(self, other: Any) -> Any:
        return _apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _apply("add", self, other)

    def __sub__(self, other: Any) -> Any:
        return _apply("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _apply("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _apply("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _apply("mul", self, other)

    def __matmul__(self, other: Any) -> Any:
        return _apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _apply("matmul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _apply("div", other, self)

    def __pow__(self, exponent: float) -> Any:
        return _apply("pow", self, exponent)

    def __rpow__(self, base: Any) -> Any:
        return _apply("pow", base, self)

    def _in_place(self, _: Any) -> Any:
        raise _writes("in-place arithmetic, as in x += y,")

    # without these Python would make x += y a new x, which its other names would not be
    __iadd__ = __isub__ = __imul__ = __itruediv__ = __imatmul__ = __ipow__ = _in_place


def _apply(name: str, *args: Any, **kwargs: Any) -> Any:
    name = (name.strip("_") if name.startswith("__") else name).removeprefix("fft_")
    _known(name)
    try:
        return _RULES[name](*args, **kwargs) if name in _RULES else _each(name, *args, **kwargs)
    except TypeError as error:
        raise UnsupportedError(f"the rule for torch's {name} does not take these arguments: {error}") from error


def _each(name: str, jet: Jet, *rest: Any, **kwargs: Any) -> Jet:
    """A linear map of every order."""
    given = any(isinstance(x, Tensor | Jet) for x in (*rest, *kwargs.values()))
    if not isinstance(jet, Jet) or (given and name not in _INDEXED):  # diff(x, prepend=...) is affine
        raise UnsupportedError(
            f"torch's {name} is carried as a linear map of its first argument and of no other tensor"
        )
    owner = torch.fft if name in _SPECTRA else torch.Tensor
    action = getattr(owner, "__getitem__" if name == "getitem" else name)
    return Jet([action(x, *rest, **kwargs) for x in jet.parts])


def _known(name: str) -> None:
    if name in _RULES or name in _LINEAR:
        return
    if name.endswith("_") or name == "setitem":
        raise _writes(name)
    known = ", ".join(sorted(_RULES))
    raise UnsupportedError(f"no rule carries a series through torch's {name}; there are linear maps and {known}")


def _writes(name: str) -> UnsupportedError:
    return UnsupportedError(f"torch's {name} writes into a tensor, which no series can follow: make a new tensor there")


_SPECTRA = frozenset(("fft", "ifft", "rfft", "irfft"))
_INDEXED = frozenset(("getitem", "repeat_interleave", "to"))  # their tensors are no numbers to add
# fmt: off
_LINEAR = _SPECTRA | frozenset((
    "contiguous", "cumsum", "diff", "expand", "flatten", "flip", "getitem", "mean", "movedim", "permute",
    "repeat_interleave", "reshape", "roll", "squeeze", "sum", "to", "transpose", "unflatten", "unsqueeze", "view"
))
# fmt: on


def _add(x: Any, y: Any, *, alpha: float = 1) -> Jet:
    y = y if alpha == 1 else y * alpha
    if not isinstance(x, Jet):
        x, y = y, x
    if isinstance(y, Jet):
        return Jet([a + b for a, b in zip(x.parts, y.parts, strict=True)])
    first = x.parts[0] + y
    return Jet([first, *(a.expand(first.shape) for a in x.parts[1:])])


def _product(action: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Jet]:
    """A bilinear operation: the Cauchy sum, or one factor that does not depend on s."""

    def rule(x: Any, y: Any) -> Jet:
        if not isinstance(y, Jet):
            return Jet([action(a, y) for a in x.parts])
        if not isinstance(x, Jet):
            return Jet([action(x, b) for b in y.parts])
        orders = range(len(x.parts))
        return Jet([_sum(action(x.parts[k], y.parts[n - k]) for k in range(n + 1)) for n in orders])

    return rule


_mul = _product(lambda a, b: a * b)


def _linear(x: Jet, weight: Tensor, bias: Tensor | None = None) -> Jet:
    mapped = Jet([a @ weight.mT for a in x.parts])
    return mapped if bias is None else _add(mapped, bias)


def _exp(x: Jet) -> Jet:
    made = [torch.exp(x.parts[0])]
    for n in range(1, len(x.parts)):
        made.append(_step(x, made, n))
    return Jet(made)


def _tanh(x: Jet) -> Jet:
    made = [torch.tanh(x.parts[0])]
    slope = [1 - made[0] ** 2]
    for n in range(1, len(x.parts)):
        made.append(_step(x, slope, n))
        slope.append(-_sum(made[k] * made[n - k] for k in range(n + 1)))
    return Jet(made)


def _power(x: Jet, exponent: float) -> Jet:
    p = x.parts
    made = [p[0] ** exponent]
    for n in range(1, len(p)):
        total = sum((k * exponent - n + k) * p[k] * made[n - k] for k in range(1, n + 1))
        made.append(total / (n * p[0]))
    return Jet(made)


def _whole_power(x: Jet, exponent: float) -> Jet:
    """Whole exponents by products: the recurrence divides by x_0, which may be 0."""
    if not isinstance(x, Jet) or not isinstance(exponent, int | float):
        raise UnsupportedError("no rule carries a series through a power unless its exponent is a plain number")
    if not float(exponent).is_integer() or exponent < 0:
        return _power(x, exponent)
    if exponent == 0:
        return Jet([torch.ones_like(x.parts[0]), *(torch.zeros_like(a) for a in x.parts[1:])])
    made = x
    for _ in range(int(exponent) - 1):
        made = _mul(made, x)
    return made


def _integral(x: Jet, start: Tensor, slope: Jet) -> Jet:
    """y(x_0) = start, y' = slope x'."""
    return Jet([start, *(_step(x, slope.parts, n) for n in range(1, len(x.parts)))])


def _step(x: Jet, slope: list[Tensor], n: int) -> Tensor:
    return _sum(k * x.parts[k] * slope[n - k] for k in range(1, n + 1)) / n


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """Of one term or more."""
    return reduce(torch.add, terms)


def _erf(x: Jet) -> Jet:
    return _integral(x, torch.erf(x.parts[0]), _exp(-_mul(x, x)) * (2 / math.sqrt(math.pi)))


def _sigmoid(x: Jet) -> Jet:
    return _tanh(x * 0.5) * 0.5 + 0.5


def _silu(x: Jet, inplace: bool = False) -> Jet:
    if inplace:
        raise _writes("silu with inplace=True")
    return _mul(x, _sigmoid(x))


def _softplus(x: Jet, beta: float = 1, threshold: float = 20) -> Jet:
    """Without the threshold, beyond which torch takes x itself: they differ by 2e-9 at most."""
    x = x * beta
    return _integral(x, torch.logaddexp(x.parts[0], torch.zeros_like(x.parts[0])), _sigmoid(x)) * (1 / beta)


def _gelu(x: Jet, approximate: str = "none") -> Jet:
    if approximate == "tanh":
        return x * (_tanh((x + _mul(x, _mul(x, x)) * 0.044715) * math.sqrt(2 / math.pi)) + 1) * 0.5
    return x * (_erf(x * math.sqrt(0.5)) + 1) * 0.5


def _softmax(x: Jet, dim: int = -1, *_: Any, **__: Any) -> Jet:
    grown = _exp(x - x.parts[0].amax(dim, keepdim=True))
    return _mul(grown, _power(grown.sum(dim, keepdim=True), -1))


def _chunk(x: Jet, chunks: int, dim: int = 0) -> list[Jet]:
    return [Jet(list(parts)) for parts in zip(*(a.chunk(chunks, dim) for a in x.parts), strict=True)]


def _glu(x: Jet, dim: int = -1) -> Jet:
    value, gate = _chunk(x, 2, dim)
    return _mul(value, _sigmoid(gate))


def _layer_norm(
    x: Jet, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Jet:
    axes = tuple(range(-len(shape), 0))
    normed = _rms_norm(x - x.mean(axes, keepdim=True), shape, weight, eps)
    return normed if bias is None else normed + bias


def _rms_norm(x: Jet, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Jet:
    axes = tuple(range(-len(shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    normed = _mul(x, _power(_mul(x, x).mean(axes, keepdim=True) + eps, -0.5))
    return normed if weight is None else normed * weight


_RULES: dict[str, Callable[..., Any]] = {
    "add": _add,
    "chunk": _chunk,
    "div": lambda x, y: _mul(x, _power(y, -1)) if isinstance(y, Jet) else _mul(x, 1 / y),
    "erf": _erf,
    "exp": _exp,
    "gelu": _gelu,
    "glu": _glu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _product(lambda a, b: a @ b),
    "mul": _mul,
    "pow": _whole_power,
    "rms_norm": _rms_norm,
    "rsqrt": lambda x: _power(x, -0.5),
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softmax": _softmax,
    "softplus": _softplus,
    "sqrt": lambda x: _power(x, 0.5),
    "sub": lambda x, y, *, alpha=1: _add(x, y, alpha=-alpha),
    "tanh": _tanh,
}
_RULES |= {"true_divide": _RULES["div"], "divide": _RULES["div"], "multiply": _mul, "subtract": _RULES["sub"]}
