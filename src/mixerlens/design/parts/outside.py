"""What stands outside the equation: the pairs summed over, the short convolution, the gate and norm of the output."""

from __future__ import annotations

from mixerlens.design.parts.kind import Kind, Options, table
from mixerlens.design.values import Option, choice, flag, integer, number
from mixerlens.support import Support


def _outside(a: object, o: Options) -> Options:
    return o


_PER = {"per": Option(choice("channel", "head"), "channel")}
_WIDTH = {"width": Option(integer(2, 256), 4)}
_WHICH = {name: Option(flag, True) for name in ("query", "key", "value")}
_EPSILON = {"epsilon": Option(number(0, 1), 1e-5)}

SUPPORTS = table(
    Kind("causal", "j <= i", lambda a, o: Support()),
    Kind("window", "i - width < j <= i", lambda a, o: Support(window=o["width"]), {"width": Option(integer())}),
    Kind("bidirectional", "every j; for A_t = I only", lambda a, o: Support(causal=False)),
)
CONVOLUTIONS = table(
    Kind("none", "no short convolution", _outside),
    Kind(
        "causal",
        "a learned filter of width tokens a channel over projected query, key and value, before their features",
        _outside,
        _WIDTH | _WHICH | {"activation": Option(choice("none", "silu"), "none")},
    ),
)
GATES = table(
    Kind("none", "the output is not gated", _outside),
    *(
        Kind(name, f"y times {name}(W x), a number a channel or a head", _outside, _PER)
        for name in ("sigmoid", "silu", "gelu", "relu", "identity")
    ),
)
OUTPUT_NORMS = table(
    Kind("none", "the output is not normalised", _outside),
    Kind("rms", "root mean square of a head's output is 1, then a learned scale", _outside, _EPSILON),
    Kind("layer", "mean 0 and variance 1 of a head's output, then a learned scale and shift", _outside, _EPSILON),
)
