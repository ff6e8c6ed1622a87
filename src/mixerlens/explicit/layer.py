"""One forward pass of an S4D classifier with every gate it realised: once they are held, each block is affine.

    u = scale (x - mean x) w + b     LayerNorm, if there is one; held: scale = 1 / sqrt(var x + eps)
    y = k * u + D u                  the S4D system, linear by itself
    g = gate(y) y                    the activation; held: gate
    o = gain (W1 g + b1)             held: gain = sigmoid(W2 g + b2) of a GLU, 1 without one
    x <- x + o                       and after the last block  logit = head . mean_t x_t + bias

Everything is float64 and about one sequence: tensors are (time, features).
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, UnsupportedError
from ..operator.memory import TEMPORARY, require
from ..operator.toeplitz import correlate

if TYPE_CHECKING:
    from ..models.s4d import S4DBlock, S4DClassifier

__all__ = ["Block", "Forward", "check_model", "record"]


@dataclass(frozen=True, eq=False)
class Block:
    """What one block did in this pass.

    layer: the module. scale: of its LayerNorm, (time, 1), None without one. kernel: (features, time). y: what the
    activation took, gate: activation(y) / y, both (time, features). gain: of its GLU (time, features), None without.
    """

    layer: S4DBlock
    scale: Tensor | None
    kernel: Tensor
    y: Tensor
    gate: Tensor
    gain: Tensor | None

    @property
    def mixing(self) -> tuple[Tensor, Tensor] | None:
        """W1 (features, features) and b1 (features) of the output map; None where there is none."""
        output: Any = self.layer.output
        width = self.y.shape[1]
        return (output.weight[:width], output.bias[:width]) if hasattr(output, "weight") else None

    def reading(self, cotangent: Float[Tensor, "time features"]) -> tuple[Tensor, Tensor]:
        """A linear functional of o as one of g = gate(y) y: weights (time, features), and what b1 adds to it."""
        weights = cotangent if self.gain is None else cotangent * self.gain
        if self.mixing is None:
            return weights, weights.new_zeros(())
        return weights @ self.mixing[0], (weights @ self.mixing[1]).sum()

    def pull_back(
        self, cotangent: Float[Tensor, "time features"], gate: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor]:
        """A linear functional of what leaves the block as one of what enters it, and the constant its biases add.

        gate: another gate than the realised one.
        """
        weights, constant = self.reading(cotangent)
        weights = weights * (self.gate if gate is None else gate)
        system = self.layer.s4d
        back = correlate(self.kernel[None], weights.T[None, ..., None])[0, ..., 0].T + system.D * weights
        if self.scale is not None:
            norm: Any = self.layer.norm
            constant = constant + (back @ norm.bias).sum()
            back = back * norm.weight * self.scale
            back = back - back.mean(1, keepdim=True)  # centring is symmetric: it is its own adjoint
        return cotangent + back, constant


@dataclass(frozen=True, eq=False)
class Forward:
    """A pass over one input: (time, channels), and what it is asked about, logit = weight . mean_t x_t + bias.

    weight, bias: the head's row of class ``target``, less that of ``against`` where there is one. x: what leaves
    the last block, (time, features). logits: of all classes.
    """

    model: S4DClassifier
    inputs: Tensor
    blocks: tuple[Block, ...]
    x: Tensor
    logits: Tensor
    target: int
    against: int | None

    @property
    def weight(self) -> Tensor:
        return self.of_classes(self.model.head.weight.detach())

    @property
    def bias(self) -> Tensor:
        return self.of_classes(self.model.head.bias.detach())

    @property
    def logit(self) -> float:
        return float(self.of_classes(self.logits))

    @property
    def question(self) -> str:
        less = "" if self.against is None else f" less that of class {self.against}"
        return f"the logit of class {self.target}{less}"

    @property
    def cotangent(self) -> Tensor:
        """The logit as a linear functional of x, (time, features): the mean over time spreads the head's row."""
        return (self.weight / len(self.x)).expand_as(self.x)

    def held(self, *, pairs: bool = False) -> tuple[str, ...]:
        """What an account takes from this pass as a constant, one phrase each.

        pairs: the account of `pairs`, whose last activation is no gate; only the curvature, its pairs' gain, is held.
        """
        said = []
        for number, block in enumerate(self.blocks):
            name = block.layer.activation.name
            if block.scale is not None:
                said.append(f"block {number}: the scale 1 / sqrt(var + eps) of its LayerNorm at each time step")
            if name != "identity" and pairs and block is self.blocks[-1]:
                said.append(f"block {number}: the curvature of {name} at each y, the gain of its pairs")
            elif name != "identity":
                said.append(f"block {number}: its activation's gate, {name}(y) / y")
            if block.gain is not None:
                said.append(f"block {number}: the gain sigmoid(W2 g + b2) of its GLU")
        return tuple(said)

    @property
    def at_once(self) -> int:
        """How many inputs like this one the model takes together with 32 MiB a tensor."""
        return max(1, TEMPORARY // (8 * self.x.numel()))

    @torch.no_grad()
    def logits_of(self, inputs: Float[Tensor, "runs time channels"]) -> Float[Tensor, " runs"]:
        """The same question of other inputs, by the model itself."""
        return torch.cat([self.of_classes(self.model(some).T) for some in inputs.split(self.at_once)])

    def of_classes(self, classes: Tensor) -> Tensor:
        """The entry of class ``target`` along the first axis, less that of ``against``."""
        return classes[self.target] - (0 if self.against is None else classes[self.against])


def record(
    model: S4DClassifier,
    inputs: Float[Tensor, "time channels"] | Float[Tensor, "1 time channels"],
    target: int | None = None,
    against: int | None = None,
) -> Forward:
    """Run the model in float64 (a copy, where it is not) on one input and keep the gates.

    target: a class; None for the one with the largest logit. against: a class whose logit is subtracted.

    Raises UnsupportedError for a model that is no S4DClassifier; InputError for an input of another shape or with
    numbers that are not finite, and for classes that are not there; MemoryBudgetError for an input that is too long.
    """
    check_model(model)
    sequence = _one_sequence(inputs, model.config.channels)
    target, against = (_class(*asked, model.config.classes) for asked in (("target", target), ("against", against)))
    if against is not None and against == target:
        raise InputError(f"target and against are both class {target}: their difference is zero, name two classes")
    if model.head.weight.dtype != torch.float64:
        model = copy.deepcopy(model).double()
    config = model.config
    shape = (config.layers, len(sequence), config.features)
    require("a pass with its gates", *shape, dtype=torch.float64, copies=6, instead="explain a shorter input")
    with torch.no_grad():
        x = model.encoder(sequence.to(model.head.weight))
        blocks = []
        for layer in model.layers:
            block, x = _run(cast("S4DBlock", layer), x)
            blocks.append(block)
        logits = model.head(x.mean(0))
    target = int(logits.argmax()) if target is None else target
    if target == against:
        raise InputError(f"class {target} is the predicted one: name another class to set against it")
    return Forward(model, sequence.to(x), tuple(blocks), x, logits, target, against)


def check_model(model: object) -> None:
    """Raises UnsupportedError unless the model is an S4DClassifier."""
    from ..models.s4d import S4DClassifier

    if not isinstance(model, S4DClassifier):
        raise UnsupportedError(
            f"the explicit operator is known for S4D classifiers (mixerlens.models.s4d), not for {type(model).__name__}"
        )


def _class(name: str, given: Any, classes: int) -> int | None:
    if given is None:
        return None
    try:
        found = -1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        found = -1
    if not 0 <= found < classes:
        raise InputError(f"{name} {given}: the model has classes 0 .. {classes - 1}")
    return found


def _one_sequence(inputs: Tensor, channels: int) -> Tensor:
    kind = f"{str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape)}"
    sequence = inputs[0] if inputs.ndim == 3 and len(inputs) == 1 else inputs
    if not sequence.is_floating_point() or sequence.ndim != 2 or len(sequence) == 0 or sequence.shape[1] != channels:
        raise InputError(f"one input is floats (time >= 1, {channels} channels), not {kind}")
    if not bool(torch.isfinite(sequence).all()):
        raise InputError("the input holds NaN or infinite numbers")
    return sequence.detach()


def _run(layer: S4DBlock, x: Tensor) -> tuple[Block, Tensor]:
    """The block's own arithmetic, with what it realised."""
    from ..models.s4d_layer import causal_convolution

    norm, scale = layer.norm, None
    if isinstance(norm, torch.nn.LayerNorm):
        scale = (x.var(1, correction=0, keepdim=True) + norm.eps).rsqrt()
    u = norm(x)
    kernel = layer.s4d.kernel(len(x))
    y = causal_convolution(kernel, u[None])[0] + layer.s4d.D * u
    gate = layer.activation.gate(y)
    mixed = layer.output(gate * y)
    gain = None
    if layer.gated:
        mixed, opening = mixed.chunk(2, -1)
        gain = torch.sigmoid(opening)
        mixed = mixed * gain
    return Block(layer, scale, kernel, y, gate, gain), x + mixed
