"""The two figures of the typeseg example: coefficients of both directions, and how far they reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typeseg_model import STEP_FLOOR

from mixerlens.files import write_whole

# Okabe and Ito's colours, told apart by colour-blind readers; every use has a second mark as well
FORWARD, BACKWARD = "#0072B2", "#D55E00"
LAYERS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKS = "o^v*D"
DIRECTIONS = ((0, "forward scan", FORWARD, "o", -0.14), (1, "backward scan", BACKWARD, "s", 0.14))
DOTS = 160
LONGEST = math.log(2) / STEP_FLOOR  # half-life at the smallest step, A = -1
LINEAR = 1e-2  # of the largest coefficient: the colours are linear below, logarithmic above


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.axisbelow": True})
    return plt


def _save(figure: Any, path: Path) -> Path:
    return write_whole(path, lambda place: figure.savefig(place, dpi=DOTS, format="png", facecolor="white"))


def draw_coefficients(layers: Sequence[np.ndarray], text: str, path: Path) -> Path:
    """The mean over channels of the coefficients of both directions, (time, time) a layer, with the bytes as labels."""
    from matplotlib.colors import SymLogNorm

    plt = _pyplot()
    bytes_ = [byte.replace(" ", "·") for byte in text]
    figure, axes = plt.subplots(3, 2, figsize=(7.4, 11.2), layout="constrained")
    norm = SymLogNorm(LINEAR, vmin=-1, vmax=1, base=10)
    for k, (ax, alpha) in enumerate(zip(axes.flat, layers, strict=True)):
        largest = float(np.abs(alpha).max())
        image = ax.imshow(alpha / largest, cmap="RdBu_r", norm=norm, interpolation="nearest")
        rows, columns = np.nonzero(alpha / largest < -LINEAR / 10)  # their sign survives a print in black
        ax.plot(columns, rows, "_", color="black", markersize=3, markeredgewidth=0.7)
        ax.set_title(f"layer {k}, largest {largest:.0f}")
        ax.set_xticks(range(len(bytes_)), bytes_, fontsize=6.5, family="monospace")
        ax.set_yticks(range(len(bytes_)), bytes_, fontsize=5.6, family="monospace")
        ax.tick_params(length=0, pad=1.5)
        ax.text(0.03, 0.03, "forward scan: j before i", transform=ax.transAxes)
        ax.text(0.97, 0.97, "backward scan: j after i", transform=ax.transAxes, ha="right", va="top")
        ax.set_xlabel("byte that is read, j")
        ax.set_ylabel("byte that reads, i")
    ticks = [-1, -0.1, -LINEAR, 0, LINEAR, 0.1, 1]
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.7, aspect=40, pad=0.02, ticks=ticks)
    bar.ax.set_xticklabels([f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.set_label("coefficient, mean over the channels, as a share of the layer's largest (linear within ±0.01)")
    saved = _save(figure, path)
    plt.close(figure)
    return saved


def draw_memory(
    layers: Sequence[tuple[Any, Any]], steps: dict[str, list[float]], counts: dict[str, int], path: Path
) -> Path:
    """Reach, half-lives, state rank and steps, layer by layer, forward and backward beside each other."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 6.6), layout="constrained")
    _reach(axes[0, 0], layers)
    _half_lives(axes[0, 1], layers)
    _ranks(axes[1, 0], layers)
    _steps(axes[1, 1], steps, counts)
    for letter, ax in zip("abcd", axes.flat, strict=True):
        ax.set_title(f"{letter}  {ax.get_title(loc='left')}")
        ax.grid(color="0.9", linewidth=0.6)
    saved = _save(figure, path)
    plt.close(figure)
    return saved


def _reach(ax: Any, layers: Sequence[tuple[Any, Any]]) -> None:
    for which, name, colour, mark, shift in DIRECTIONS:
        means = [pair[which].horizon.mean.numpy() for pair in layers]
        low, middle, high = (np.array([np.quantile(m, q) for m in means]) for q in (0.1, 0.5, 0.9))
        place = np.arange(len(layers)) + shift
        ax.errorbar(place, middle, [middle - low, high - middle], fmt=mark, color=colour, label=name, markersize=4)
    alike = layers[0][0].horizon.uniform_mean
    ax.axhline(alike, color="0.4", linewidth=0.8, linestyle="--")
    ax.text(0.02, alike * 1.1, "every byte alike", fontsize=7, color="0.3", transform=ax.get_yaxis_transform())
    ax.set_yscale("log")
    ax.set(xlabel="layer", ylabel="mean distance (bytes)")
    ax.set_title("reach: median and middle 80 % of channels")
    ax.legend(loc="lower left", fontsize=7)


def _half_lives(ax: Any, layers: Sequence[tuple[Any, Any]]) -> None:
    for k, pair in enumerate(layers):
        lives = np.sort(math.log(0.5) / np.log(pair[0].spectrum.eigenvalues.abs().numpy().ravel()))
        shown = np.linspace(0, len(lives) - 1, 400).astype(int)
        share = (shown + 1) / len(lives)
        ax.plot(lives[shown], share, color=LAYERS[k], linestyle=STYLES[k], linewidth=1.3, label=f"layer {k}")
    ax.axvline(LONGEST, color="0.4", linewidth=0.8, linestyle="--")
    ax.text(LONGEST * 0.8, 0.03, "floor of dt", rotation=90, ha="right", va="bottom", fontsize=7, color="0.3")
    ax.set_xscale("log")
    ax.set(xlabel="half-life ln ½ / ln λ (bytes)", ylabel="share of eigenvalues λ below")
    ax.set_title("spectrum, the same for both scans")
    ax.legend(loc="upper left", fontsize=7)


def _ranks(ax: Any, layers: Sequence[tuple[Any, Any]]) -> None:
    tolerances = layers[0][0].rank.tolerances
    for which, _, colour, mark, shift in DIRECTIONS:
        for n, (tolerance, style) in enumerate(zip(tolerances, STYLES, strict=False)):
            middle = [float(pair[which].rank.ranks[:, n].double().quantile(0.5)) for pair in layers]
            label = f"tolerance {tolerance:.0e}" if which == 0 else None
            place = np.arange(len(layers)) + shift
            ax.plot(place, middle, mark, linestyle=style, linewidth=0.8, color=colour, markersize=4, label=label)
    ax.set(xlabel="layer", ylabel="numbers carried", ylim=(0, layers[0][0].rank.designed + 1.5))
    ax.set_title("state rank, median channel (marks as in a)")
    ax.legend(loc="lower left", fontsize=7, handlelength=4)


def _steps(ax: Any, steps: dict[str, list[float]], counts: dict[str, int]) -> None:
    for (kind, values), mark, colour in zip(steps.items(), MARKS, LAYERS, strict=False):
        ax.plot(range(len(values)), values, mark, linestyle="-", linewidth=0.6, color=colour, markersize=5,
                label=f"{kind} ({counts[kind]})")  # fmt: skip
    ax.set_yscale("log")
    ax.set(xlabel="layer", ylabel="step dt, median (no unit)")
    ax.set_title("what a byte costs: its step")
    ax.legend(loc="lower right", fontsize=7)
