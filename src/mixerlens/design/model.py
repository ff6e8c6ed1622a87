"""A sequence model of designed mixers: what a specification is trained in.

    x = embed(tokens) [+ positions]     blocks: x + mixer(norm(x)), then x + mlp(norm(x))     logits = head(norm(x))

Each layer has a specification of its own, so a hybrid is a list of different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mixerlens.design.mixer import Mixer, State
from mixerlens.design.spec import MixerSpec
from mixerlens.errors import InputError

__all__ = ["Block", "ModelConfig", "ModelOutput", "ModelState", "SequenceModel"]

MODEL_TYPE = "mixerlens_designed"
POSITIONS = ("none", "learned")
POOLS = ("none", "last", "mean")


@dataclass(frozen=True)
class ModelConfig:
    """What decides the shapes and the equations of a model.

    layers: one `MixerSpec` each. features: width. vocabulary: number of token ids, or channels: input numbers a time
    step; exactly one of them. classes: outputs where it is no language model, None: the vocabulary. mlp_ratio: hidden
    width of the MLP over features, 0 for none. positions: "none" or "learned", a vector for each of max_length places
    added to the input. pool: "none" for logits at every token, "last" or "mean" for one answer a sequence.

    Raises InputError, in one line, for a size that is no positive integer or an option that does not exist.
    """

    layers: tuple[MixerSpec, ...]
    features: int
    vocabulary: int | None = None
    channels: int | None = None
    classes: int | None = None
    mlp_ratio: float = 2.0
    positions: str = "none"
    max_length: int | None = None
    pool: str = "none"

    def __post_init__(self) -> None:
        layers = (self.layers,) if isinstance(self.layers, MixerSpec) else tuple(self.layers)
        if not layers or not all(isinstance(spec, MixerSpec) for spec in layers):
            raise InputError("layers must hold one MixerSpec a layer, at least one")
        object.__setattr__(self, "layers", layers)
        for name in ("features", "vocabulary", "channels", "classes", "max_length"):
            size = getattr(self, name)
            if size is None and name != "features":
                continue
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InputError(f"{name} must be a positive integer, not {size!r}")
        if (self.vocabulary is None) == (self.channels is None):
            raise InputError("give exactly one of vocabulary (token ids) and channels (numbers a time step)")
        if self.channels is not None and self.classes is None:
            raise InputError("a model that reads channels needs classes, the number of its outputs")
        for name, allowed in (("positions", POSITIONS), ("pool", POOLS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        if self.positions == "learned" and self.max_length is None:
            raise InputError("learned positions need max_length, the number of places")
        ratio = self.mlp_ratio
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio <= 64:
            raise InputError(f"mlp_ratio must be a number from 0 (no MLP) to 64, not {ratio!r}")

    @property
    def outputs(self) -> int:
        """Numbers a logit vector has."""
        found = self.vocabulary if self.classes is None else self.classes
        assert found is not None
        return found

    @property
    def model_type(self) -> str:
        return MODEL_TYPE

    @property
    def max_position_embeddings(self) -> int | None:
        """The longest sequence, where the positions limit it."""
        return self.max_length if self.positions == "learned" else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return named | {"layers": [spec.to_dict() for spec in self.layers]}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> ModelConfig:
        """The configuration that ``to_dict`` wrote. Raises InputError, in one line, for anything else."""
        if not isinstance(given, dict):
            raise InputError(f"a model's configuration is a mapping, not {type(given).__name__}")
        known = {f.name for f in fields(cls)}
        unknown = sorted(map(str, given.keys() - known))
        if unknown:
            raise InputError(f"unknown entries {', '.join(unknown[:4])}: there are {', '.join(sorted(known))}")
        layers = given.get("layers")
        if not isinstance(layers, Sequence) or isinstance(layers, str):
            raise InputError("layers must be a list of specifications")
        if "features" not in given:
            raise InputError("features is missing")
        values: dict[str, Any] = {**given, "layers": tuple(MixerSpec.from_dict(layer) for layer in layers)}
        return cls(**values)


@dataclass(frozen=True, eq=False)
class ModelState:
    """What a model carries from one token to the next.

    position: tokens so far. layers: each layer's state. total: sum over the tokens of what the head reads, (batch,
    features) in float64, of a model that averages over time.
    """

    position: int
    layers: tuple[State, ...]
    total: Tensor | None = None

    @property
    def growing(self) -> tuple[int, ...]:
        """The layers that have no finite recurrence and hold every token."""
        return tuple(k for k, state in enumerate(self.layers) if state.growing)


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """logits, and the state after the last token; None where later tokens change earlier answers, and why."""

    logits: Tensor
    state: ModelState | None
    no_cache: str | None = None


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, spec: MixerSpec, features: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.mixer = Mixer(spec, features)
        hidden = round(mlp_ratio * features)
        self.mlp_norm = nn.LayerNorm(features) if hidden else None
        self.mlp = (
            nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features)) if hidden else None
        )

    def forward(self, x: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch time features"]:
        return self._rest(x + self.mixer(self.norm(x)))

    def step(self, x: Float[Tensor, "batch features"], state: State) -> tuple[Float[Tensor, "batch features"], State]:
        mixed, state = self.mixer.step(self.norm(x), state)
        return self._rest(x + mixed), state

    def _rest(self, x: Tensor) -> Tensor:
        return x if self.mlp is None or self.mlp_norm is None else x + self.mlp(self.mlp_norm(x))


class SequenceModel(nn.Module):
    """Token ids (batch, time) or numbers (batch, time, channels) -> logits. Mixers are ``layers.N.mixer``."""

    main_input_name = "input_ids"

    def __init__(self, config: ModelConfig, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            width = config.features
            self.embedding = nn.Embedding(config.vocabulary, width) if config.vocabulary else None
            self.encoder = nn.Linear(config.channels, width) if config.channels else None
            learned = config.positions == "learned" and config.max_length
            self.places = nn.Parameter(0.02 * torch.randn(learned, width)) if learned else None
            self.layers = nn.ModuleList(Block(spec, width, config.mlp_ratio) for spec in config.layers)
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, config.outputs, bias=config.classes is not None)
            if self.embedding is not None:
                nn.init.normal_(self.embedding.weight, std=0.02)

    def get_input_embeddings(self) -> nn.Embedding | None:
        """The table of the token ids; None for a model that reads channels."""
        return self.embedding

    @property
    def blocks(self) -> list[Block]:
        """The layers, from the first on."""
        return [block for block in self.layers if isinstance(block, Block)]

    @property
    def recurrent(self) -> bool:
        """Every layer has a finite recurrence."""
        return all(block.mixer.recurrent for block in self.blocks)

    @property
    def no_cache(self) -> str | None:
        """Why there is no cache: the first layer in which later tokens change what earlier ones gave; None for none."""
        found = ((k, block.mixer.no_cache) for k, block in enumerate(self.blocks))
        return next((f"layer {k}: {why}" for k, why in found if why is not None), None)

    def forward(
        self,
        input_ids: Int[Tensor, "batch time"] | Float[Tensor, "batch time channels"],
        state: ModelState | None = None,
        use_cache: bool = False,
    ) -> Tensor | ModelOutput:
        """Logits (batch, time, outputs), pooled (batch, outputs); with use_cache or a state, a `ModelOutput`.

        state: what the call for the tokens before these returned; the tokens then go through ``step``, one after the
        other. use_cache: return the state after the last token too; also these tokens are then taken one by one. Pooled
        logits are those of all tokens so far. Raises InputError for other shapes, ids outside the vocabulary, or
        sequences longer than the learned positions.
        """
        why = self.no_cache if use_cache and state is None else None
        if state is not None or (use_cache and why is None):
            return self._stepwise(input_ids, state)
        x = self._embed(input_ids, 0)
        for block in self.blocks:
            x = block(x)
        logits = self._read(x)
        return ModelOutput(logits, None, why) if use_cache else logits

    def initial_state(self, batch: int) -> ModelState:
        """The state before the first token, of a fixed size but for its ``growing`` layers.

        Raises UnsupportedError where later tokens change what a layer gave for earlier ones.
        """
        layers = tuple(block.mixer.initial_state(batch, growing=True) for block in self.blocks)
        mean = self.config.pool == "mean"
        zero = torch.zeros(batch, self.config.features, dtype=torch.float64, device=self.head.weight.device)
        return ModelState(0, layers, zero if mean else None)

    def step(
        self, token: Int[Tensor, " batch"] | Float[Tensor, "batch channels"], state: ModelState
    ) -> tuple[Float[Tensor, "batch outputs"], ModelState]:
        """Logits after one more token, as ``forward`` gives them for all tokens so far, and the state then."""
        x, layers = self._embed(token[:, None], state.position)[:, 0], []
        for block, held in zip(self.blocks, state.layers, strict=True):
            x, held = block.step(x, held)
            layers.append(held)
        x, count, total = self.norm(x), state.position + 1, state.total
        if total is not None:
            total = total + x
            x = (total / count).to(x.dtype)
        return self.head(x), ModelState(count, tuple(layers), total)

    def _stepwise(self, inputs: Tensor, state: ModelState | None) -> ModelOutput:
        state = self.initial_state(inputs.shape[0]) if state is None else state
        rows = []
        for t in range(inputs.shape[1]):
            row, state = self.step(inputs[:, t], state)
            rows.append(row)
        return ModelOutput(torch.stack(rows, 1) if self.config.pool == "none" else rows[-1], state)

    def _embed(self, inputs: Tensor, first: int) -> Tensor:
        config = self.config
        if self.embedding is not None:
            if inputs.dim() != 2 or inputs.is_floating_point() or 0 in inputs.shape:
                raise InputError(
                    f"inputs must be token ids (batch, time >= 1), not {inputs.dtype} {tuple(inputs.shape)}"
                )
            x = self.embedding(inputs)
        else:
            assert self.encoder is not None
            if inputs.dim() != 3 or inputs.shape[-1] != config.channels or 0 in inputs.shape:
                raise InputError(
                    f"inputs must be (batch, time >= 1, {config.channels} channels), not {tuple(inputs.shape)}"
                )
            x = self.encoder(inputs.to(self.encoder.weight.dtype))
        if self.places is None:
            return x
        last = first + inputs.shape[1]
        if last > self.places.shape[0]:
            raise InputError(f"{last} tokens, but there are learned positions for {self.places.shape[0]}: shorten them")
        return x + self.places[first:last]

    def _read(self, x: Tensor) -> Tensor:
        if self.config.pool == "last":
            x = x[:, -1]
        x = self.norm(x)
        return self.head(x.mean(1) if self.config.pool == "mean" else x)
