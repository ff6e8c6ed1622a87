"""What `mixerlens.explicit` is compared with: an S4D classifier in numpy with one dense Toeplitz matrix a feature.

Its gates, once realised, can be held: then every function of the input here is affine, and a wave's share of it is the
difference of two runs. Nothing of the library is used but the model's weights.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from scipy.special import expit
from scipy.stats import norm as gaussian

from mixerlens.models.s4d import S4DClassifier, S4DConfig

GATES = {
    "gelu": gaussian.cdf,
    "gelu_tanh": lambda y: expit(2 * np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)),
    "silu": expit,
    "identity": np.ones_like,
}


def tiny(*, features=3, channels=2, layers=1, seed=0, **options) -> S4DClassifier:
    """A random model in float64 whose norms and biases are no identities."""
    torch.manual_seed(seed)
    config = S4DConfig(channels=channels, classes=4, features=features, modes=3, layers=layers, **options)
    model = S4DClassifier(config).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.4 * torch.randn_like(parameter))
    return model


class Dense:
    """The model on one input (time, channels); ``hold`` replays inputs (runs, time, channels) with the gates held."""

    def __init__(self, model: S4DClassifier, inputs: np.ndarray) -> None:
        self.config = model.config
        self.weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
        self.linear = 1.0 if model.config.activation == "identity" else 0.5
        self.toeplitz = [self._toeplitz(layer.s4d, len(inputs)) for layer in model.layers]
        self.gates: list[dict[str, np.ndarray]] = [{} for _ in model.layers]
        self.y, self.x_in, self.x = self.hold(inputs[None], realise=True)
        self.logits = self.x[0].mean(0) @ self.weights["head.weight"].T + self.weights["head.bias"]

    @staticmethod
    def _toeplitz(system, length: int) -> np.ndarray:
        family = {name: value.detach().numpy() for name, value in system.parameters_for_family().items()}
        z = family["A"] * family["dt"][:, None]
        weight = family["C"] * (np.exp(z) - 1) / family["A"] * family["B"]
        matrix = np.zeros((len(z), length, length))
        for lag in range(length):
            k = 2 * (weight * np.exp(z * lag)).sum(1).real
            for j in range(length - lag):
                matrix[:, j + lag, j] = k
        return matrix + system.D.detach().numpy()[:, None, None] * np.eye(length)

    def hold(self, inputs: np.ndarray, realise: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y of the last block, what enters that block and what leaves it, each (runs, time, features)."""
        w = self.weights
        y = entered = x = inputs @ w["encoder.weight"].T + w["encoder.bias"]
        for number, (matrix, held) in enumerate(zip(self.toeplitz, self.gates, strict=True)):
            at = f"layers.{number}."
            entered = u = x
            if self.config.norm == "layer":
                if realise:
                    held["scale"] = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
                u = (x - x.mean(-1, keepdims=True)) * held["scale"] * w[at + "norm.weight"] + w[at + "norm.bias"]
            y = np.einsum("hij,rjh->rih", matrix, u)
            if realise:
                held["gate"] = GATES[self.config.activation](y)
            o = held["gate"] * y
            if self.config.output != "none":
                o = o @ w[at + "output.weight"].T + w[at + "output.bias"]
            if self.config.output == "glu":
                o, opening = np.split(o, 2, -1)
                if realise:
                    held["gain"] = expit(opening)
                o = o * held["gain"]
            x = x + o
        return y, entered, x

    def affine(self, target: int) -> tuple[np.ndarray, float]:
        """Coefficients (time, channels) and constant of the logit with all gates held, by one run an input number."""
        time, channels = len(self.x[0]), self.config.channels
        units = np.eye(time * channels).reshape(-1, time, channels)
        row = self.weights["head.weight"][target]
        nothing = self.hold(np.zeros((1, time, channels)))[2].mean(1) @ row
        slopes = self.hold(units)[2].mean(1) @ row - nothing
        return slopes.reshape(time, channels), float(nothing[0] + self.weights["head.bias"][target])

    def pairs(self, waves: np.ndarray, target: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Constant, linear part and interactions of input waves (waves, time, channels) and, last, of the biases."""
        nothing = self.hold(np.zeros_like(waves[:1]))
        y, entered = (
            np.concatenate([run - rest, rest])
            for run, rest in zip(self.hold(waves)[:2], nothing[:2], strict=True)
        )  # fmt: skip
        row = self.weights["head.weight"][target] / y.shape[1]
        omega, constant = np.broadcast_to(row, y.shape[1:]), float(self.weights["head.bias"][target])
        if self.config.output != "none":
            at = f"layers.{self.config.layers - 1}.output."
            width = self.config.features
            omega = omega * self.gates[-1].get("gain", np.ones((1, *omega.shape)))[0]
            constant += float((omega @ self.weights[at + "bias"][:width]).sum())
            omega = omega @ self.weights[at + "weight"][:width]
        total = self.y[0]
        with np.errstate(invalid="ignore"):
            curvature = (GATES[self.config.activation](total) - self.linear) / total
        linear = np.einsum("h,wth->w", row, entered) + self.linear * np.einsum("th,wth->w", omega, y)
        pairs = np.zeros((len(y), len(y)))
        for g, one in enumerate(y):
            for k, other in enumerate(y):
                pairs[g, k] = (omega * curvature * one * other).sum()
        return constant, linear, pairs


def cut(inputs: np.ndarray, borders) -> np.ndarray:
    """The input's segments, each zero elsewhere: (segments, time, channels)."""
    waves = np.zeros((len(borders) - 1, *inputs.shape))
    for g, (a, b) in enumerate(pairwise(borders)):
        waves[g, a:b] = inputs[a:b]
    return waves
