"""The kinds of phi."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mixerlens.design.parts.kind import Kind, Options, table
from mixerlens.design.values import Option, number, numbers
from mixerlens.readout import Exp, Identity, Polynomial, Readout, RealPart, Relu, Sigmoid, Softcap

if TYPE_CHECKING:
    from mixerlens.design.assembly import Assembly


def _sigmoid(a: Assembly, o: Options) -> Readout:
    return Sigmoid(math.log(a.time) if o["bias"] == "log_length" else o["bias"])


READOUTS = table(
    Kind("identity", "phi(z) = z", lambda a, o: Identity()),
    Kind(
        "real_part",
        "phi(z) = scale Re z; 2 where modes stand for conjugate pairs",
        lambda a, o: RealPart(o["scale"]),
        {"scale": Option(number(), 1.0)},
    ),
    Kind("exp", "phi(z) = exp(z)", lambda a, o: Exp()),
    Kind("softcap", "phi(z) = exp(cap tanh(z / cap))", lambda a, o: Softcap(o["cap"]), {"cap": Option(number(1e-3))}),
    Kind("relu", "phi(z) = max(z, 0)", lambda a, o: Relu()),
    Kind(
        "sigmoid",
        "phi(z) = sigmoid(z - bias), bias a number or log_length, the logarithm of the tokens in a call",
        _sigmoid,
        {"bias": Option(number(words=("log_length",)), 0.0)},
    ),
    Kind(
        "polynomial",
        "phi(z) = sum_e coefficients[e] z^e",
        lambda a, o: Polynomial(o["coefficients"]),
        {"coefficients": Option(numbers)},
    ),
)
