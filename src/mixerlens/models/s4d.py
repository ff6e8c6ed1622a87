"""A sequence classifier of S4D blocks, and the folder it is kept in.

    encoder -> blocks of [norm] -> S4D -> activation -> [output map] -> + residual -> mean over time -> head

The folder holds config.json (model_type "mixerlens_s4d") and model.safetensors: plain data, nothing to execute.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..explicit.activations import ACTIVATIONS, activation
from . import folder as folders
from .s4d_layer import S4D

__all__ = ["S4D", "S4DBlock", "S4DClassifier", "S4DConfig", "load_s4d"]

MODEL_TYPE = "mixerlens_s4d"
OUTPUTS = ("glu", "linear", "none")
NORMS = ("layer", "none")


@dataclass(frozen=True)
class S4DConfig:
    """What decides the shapes and the equations of a classifier.

    channels: input numbers a time step. classes: outputs. features: width. modes: a feature. layers: depth.
    activation: "gelu" (its erf form), "gelu_tanh", "silu", or "identity" for a decoder without interactions.
    output: map after it, "glu" (W1 g + b1) * sigmoid(W2 g + b2), "linear" W1 g + b1, or "none".
    norm: "layer" for a LayerNorm before each S4D, or "none". explicit_b: B a parameter, or 1.
    step_range: initial dt, log-uniform. length: the number of time steps it was trained on, for information only.

    Raises InputError for a size that is no positive integer or an unknown option.
    """

    channels: int
    classes: int
    features: int = 64
    modes: int = 32
    layers: int = 2
    activation: str = "gelu"
    output: str = "glu"
    norm: str = "none"
    explicit_b: bool = False
    step_range: tuple[float, float] = (1e-3, 1e-1)
    length: int | None = None

    def __post_init__(self) -> None:
        for name in ("channels", "classes", "features", "modes", "layers", "length"):
            size = getattr(self, name)
            if name == "length" and size is None:
                continue
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InputError(f"{name} must be a positive integer, not {size!r}")
        options = (
            ("activation", tuple(ACTIVATIONS)),
            ("output", OUTPUTS),
            ("norm", NORMS),
            ("explicit_b", (True, False)),
        )
        for name, allowed in options:
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        bounds = self.step_range
        numbers = isinstance(bounds, tuple | list) and all(isinstance(bound, int | float) for bound in bounds)
        if not numbers or len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
            raise InputError(f"step_range must be two numbers with 0 < low <= high, not {bounds!r}")
        object.__setattr__(self, "step_range", tuple(bounds))


class S4DBlock(nn.Module):
    """x + output(activation(S4D(norm(x))))."""

    def __init__(self, config: S4DConfig) -> None:
        super().__init__()
        width = config.features
        self.norm = nn.LayerNorm(width) if config.norm == "layer" else nn.Identity()
        self.activation = activation(config.activation)
        self.s4d = S4D(width, config.modes, explicit_b=config.explicit_b, step_range=config.step_range)
        wide = {"glu": 2 * width, "linear": width}
        self.output = nn.Linear(width, wide[config.output]) if config.output in wide else nn.Identity()
        self.gated = config.output == "glu"

    def forward(self, x: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
        mixed = self.output(self.activation(self.s4d(self.norm(x))))
        return x + (F.glu(mixed, dim=-1) if self.gated else mixed)


class S4DClassifier(nn.Module):
    """Maps sequences (batch, time, channels) to logits (batch, classes). Mixers are `layers.N.s4d`."""

    def __init__(self, config: S4DConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.Linear(config.channels, config.features)
        self.layers = nn.ModuleList(S4DBlock(config) for _ in range(config.layers))
        self.head = nn.Linear(config.features, config.classes)

    def forward(self, inputs: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch classes"]:
        """Logits. Raises InputError unless the inputs are (batch, time, channels) with at least one time step."""
        if inputs.ndim != 3 or inputs.shape[1] == 0 or inputs.shape[2] != self.config.channels:
            shape = tuple(inputs.shape)
            raise InputError(f"inputs must be (batch, time >= 1, {self.config.channels} channels), not {shape}")
        x = self.encoder(inputs.to(self.encoder.weight.dtype))
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json and model.safetensors; each file appears whole or not at all."""
        folders.save(self, folder, MODEL_TYPE, asdict(self.config))


def load_s4d(folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> S4DClassifier:
    """Opens a folder that `S4DClassifier.save` wrote, in eval mode, in the dtype asked for or the weights' own.

    Raises ModelError, in one line, if a file is missing or unreadable, the configuration is not this model's, or a
    weight is missing, unexpected, of another shape or dtype, or not finite.
    """
    return folders.load(
        folder, MODEL_TYPE, lambda values: _read(Path(folder) / "config.json", values), S4DClassifier, dtype
    )


def _read(path: Path, values: dict[str, Any]) -> S4DConfig:
    folders.refuse_unknown(path, values, {field.name for field in fields(S4DConfig)})
    return S4DConfig(**values)
