"""typeseg's trained labeller rebuilt in torch on mixerlens operators, and the package's own forward to compare it with.

The package (typeseg 0.2.7, Apache-2.0) names the content type of every byte of a text, one of 35. Its model has six
layers. Each mixes bytes by one Mamba-1 scan, run from left to right and again from right to left. Layout of the weights
and equations are those of the package's source, `typeseg/_mamba_kernel.py`.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

import mixerlens as ml
from mixerlens import families

STEP_FLOOR = 1e-4  # the package adds it to every step
ASCII, OTHER_BYTE = 128, 128  # bytes from 128 on share one symbol
BLOCK = "CheckpointMambaBlock1D_"
OUTSIDE = {"Embed_0": "embedding", "LayerNorm_0": "norm", "Dense_0": "head"}
INSIDE = {"LayerNorm_0": "norm", "Dense_0": "input", "Conv_0": "conv", "Dense_1": "mixer.project",
          "Dense_2": "mixer.step", "Dense_3": "output"}  # fmt: skip
WEIGHTS = ("kernel", "scale", "embedding")


def mamba_selective_scan(
    hidden_states: Float[Tensor, "batch channels time"],
    dt: Float[Tensor, "batch channels time"],
    A: Float[Tensor, "channels state"],
    B: Float[Tensor, "batch state time"],
    C: Float[Tensor, "batch state time"],
    D: Float[Tensor, " channels"],
    z: None = None,
    delta_bias: None = None,
    delta_softplus: bool = False,
) -> Float[Tensor, "batch channels time"]:
    """One causal scan, alpha u + D u, with alpha the operator of the Mamba family; dt is the positive step itself.

    The name and the parameters are those by which mixerlens knows a Mamba-1 scan (the last three stay at their
    defaults): `mixerlens.open` finds a module whose code calls it, and records every call.
    """
    alpha = families.mamba(A=A, B=B.mT, C=C.mT, dt=dt.mT).operator()
    return (alpha @ hidden_states.mT[..., None])[..., 0].mT + D[:, None] * hidden_states


class TwoWayScan(nn.Module):
    """scan(u) + the same scan of the reversed sequence, reversed back: one set of weights for both directions."""

    def __init__(self, channels: int, state: int, rank: int) -> None:
        super().__init__()
        self.parts = (rank, state, state)
        self.project = nn.Linear(channels, rank + 2 * state)
        self.step = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.zeros(channels, state))
        self.D = nn.Parameter(torch.zeros(channels))

    def forward(self, u: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        low, B, C = (x.mT for x in self.project(u.mT).split(self.parts, -1))
        raw = self.step(low.mT).mT
        dt = torch.logaddexp(raw, torch.zeros_like(raw)) + STEP_FLOOR  # softplus
        A = -torch.exp(self.A_log)
        forward = mamba_selective_scan(u, dt, A, B, C, self.D)
        backward = mamba_selective_scan(u.flip(-1), dt.flip(-1), A, B.flip(-1), C.flip(-1), self.D)
        return forward + backward.flip(-1)


class Layer(nn.Module):
    """x + output(mixer(silu(conv(u))) * silu(gate)), u and gate from norm(x); with four taps conv reads i-1 .. i+2."""

    def __init__(self, width: int, channels: int, state: int, rank: int, taps: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.input = nn.Linear(width, 2 * channels)
        self.conv = nn.Conv1d(channels, channels, taps, groups=channels)
        self.mixer = TwoWayScan(channels, state, rank)
        self.output = nn.Linear(channels, width)
        self.around = ((taps - 1) // 2, taps // 2)

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        u, gate = self.input(self.norm(x)).chunk(2, -1)
        u = F.silu(self.conv(F.pad(u.mT, self.around)))
        return x + self.output(self.mixer(u).mT * F.silu(gate))


class Labeller(nn.Module):
    """Symbols (batch, time) -> logits (batch, time, labels)."""

    def __init__(self, labels: int, symbols: int, width: int, layers: int, **sizes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.layers = nn.ModuleList(Layer(width, **sizes) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, labels)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time labels"]:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Package(NamedTuple):
    """What the installed package carries: arrays by the package's own names, and the names of the labels."""

    weights: dict[str, np.ndarray]
    labels: list[str]


def read_package(folder: Path | None = None) -> Package:
    """Weights and labels read as plain data: nothing is unpickled, and none of the package's code runs.

    folder: the package's data folder, by default that of the installed typeseg.
    """
    if folder is None:
        spec = find_spec("typeseg")
        if spec is None or not spec.submodule_search_locations:
            sys.exit("typeseg is not installed; run `make demo-typeseg`")
        folder = Path(spec.submodule_search_locations[0]) / "data"
    with np.load(folder / "mamba_al.npz", allow_pickle=False) as arrays:
        weights = {name.replace("__", "/"): arrays[name] for name in arrays.files}
    return Package(weights, json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["labels"])


def build(package: Package) -> Labeller:
    """The labeller with the package's weights, float32: every array finds its place, every parameter its array."""
    tensors = {_ours(name): torch.from_numpy(_turned(name, x)) for name, x in package.weights.items()}
    symbols, width = tensors["embedding.weight"].shape
    channels, _, taps = tensors["layers.0.conv.weight"].shape
    model = Labeller(
        labels=len(package.labels),
        symbols=symbols,
        width=width,
        layers=sum(name.endswith("A_log") for name in tensors),
        channels=channels,
        taps=taps,
        state=tensors["layers.0.mixer.A_log"].shape[1],
        rank=tensors["layers.0.mixer.step.weight"].shape[1],
    )
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _ours(theirs: str) -> str:
    """The package's name of an array -> the name of the parameter here."""
    *path, last = theirs.split("/")
    last = "weight" if last in WEIGHTS else last
    if not path[0].startswith(BLOCK):
        return f"{OUTSIDE[path[0]]}.{last}"
    inside = INSIDE[path[1]] if len(path) > 1 else "mixer"
    return f"layers.{path[0].removeprefix(BLOCK)}.{inside}.{last}"


def _turned(name: str, x: np.ndarray) -> np.ndarray:
    """Kernels are (in, out) and (taps, 1, channels) there, (out, in) and (channels, 1, taps) in torch."""
    return np.ascontiguousarray(x.T) if name.endswith("kernel") else x


def symbols_of(text: str) -> Int[Tensor, "1 time"]:
    """The text's bytes as the package cleans them, ASCII as it is and every other byte as one symbol."""
    from typeseg._tokenize import text_to_bytes

    raw = torch.from_numpy(text_to_bytes(text)).long()
    return torch.where(raw < ASCII, raw, OTHER_BYTE)[None]


class Forward(NamedTuple):
    """One forward pass. scans: (time, channels) each, in the order of the calls, a backward scan in reversed time;
    layers: (time, width) each; logits: (time, labels)."""

    scans: list[np.ndarray]
    layers: list[np.ndarray]
    logits: np.ndarray


class _Wide:
    """numpy with float64 in the place of float32: the package's source takes its array module as an argument."""

    float32 = np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def package_forward(package: Package, text: str, dtype: type[np.floating]) -> Forward:
    """The package's own forward: in float32 as it ships, or its source in float64 on the same weights."""
    from typeseg import _mamba_kernel as kernel
    from typeseg._tokenize import text_to_bytes

    xp: Any = np if dtype is np.float32 else _Wide()
    weights = {name: x.astype(dtype) for name, x in package.weights.items()}
    symbols, scans, layers = text_to_bytes(text), [], []

    def scan(*arguments: Any) -> np.ndarray:
        scans.append(kernel._selective_scan_seq(*arguments))
        return scans[-1]

    logits = kernel.mamba_forward(xp, weights, symbols, scan=scan)
    x = kernel._embed(xp, weights, symbols)
    for k in range(len(scans) // 2):
        x = kernel._mamba_block(xp, weights, k, x, 16, 16, 4, kernel._selective_scan_seq)
        layers.append(x)
    return Forward(scans, layers, logits)


def package_steps(package: Package, text: str) -> list[Float[np.ndarray, "time channels"]]:
    """The steps dt of every layer as the package computes them, float32: cheap, so that a long text will do."""
    from typeseg import _mamba_kernel as kernel
    from typeseg._tokenize import text_to_bytes

    steps: list[np.ndarray] = []

    def scan(xp: Any, u: np.ndarray, dt: np.ndarray, *rest: Any) -> np.ndarray:
        steps.append(dt)
        return kernel._selective_scan_seq(xp, u, dt, *rest)

    kernel.mamba_forward(np, package.weights, text_to_bytes(text), scan=scan)
    return steps[::2]  # every second one is the same in reversed time


def our_forward(model: Labeller, text: str) -> tuple[Forward, ml.Trace]:
    """The same of the rebuilt labeller, in its own dtype, and the trace in which mixerlens recorded the scans."""
    layers: list[np.ndarray] = []
    hooks = [layer.register_forward_hook(lambda *a: layers.append(a[-1][0].numpy())) for layer in model.layers]
    try:
        trace = ml.open(model).trace(symbols_of(text))
    finally:
        for hook in hooks:
            hook.remove()
    scans = [call.output[0, :, :, 0].numpy() for call in trace.mixers.values()]
    return Forward(scans, layers, trace.logits[0].numpy()), trace


def pairs(trace: ml.Trace) -> list[tuple[ml.MixerCall, ml.MixerCall]]:
    """(forward, backward) call of each layer; time is reversed in the backward one, values and output included."""
    layers = range(len(trace.mixers) // 2)
    return [(trace.mixers[f"layers.{k}.mixer#0"], trace.mixers[f"layers.{k}.mixer#1"]) for k in layers]


def noncausal(ahead: ml.MixerCall, back: ml.MixerCall) -> Float[np.ndarray, "channels time time"]:
    """Both scans as one mixer: forward + backward turned back in rows and columns. The diagonal is in both."""
    return (ahead.operator().to_dense() + back.operator().to_dense().flip(-1, -2))[0].numpy()


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def public_probabilities(text: str) -> Float[np.ndarray, "time labels"]:
    """What the package's public function says of an ASCII text, by its numpy code."""
    os.environ["TYPESEG_BACKEND"] = "numpy"
    from typeseg import precise

    probabilities = precise(text).char_probs
    assert probabilities is not None
    return probabilities
