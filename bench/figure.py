"""The figure: times and memory of every way, and how ours grow with the length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure import working
from mixerlens.files import write_whole

# Okabe and Ito's colours, told apart by colour-blind readers; every use has a mark of its own as well
OURS = "#0072B2"
PEERS = ("#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKS = "sD^v<>"
STYLES = ("-", "--", "-.", ":")
DOTS = 160


def draw(document: dict[str, Any], path: Path) -> Path:
    """Three panels as PNG: seconds, bytes beyond the result, seconds against L."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.axisbelow": True})
    rows = [row for row in document["rows"].values() if row["status"] == "green"]
    grown = [
        row
        for row in rows
        if any("by_length" in way and "measured_at" not in way for way in row["contenders"].values())
    ]
    flat = [row for row in rows if row not in grown]
    figure, axes = plt.subplots(
        1, 3, figsize=(13.5, max(3.5, 0.34 * len(flat) + 1.8)), layout="constrained", width_ratios=(5, 4, 5)
    )
    kinds = _kinds(flat)
    _dots(axes[0], flat, kinds, lambda way: way.get("extrapolated", way["seconds"]["median"]), "seconds a call")
    _dots(axes[1], flat, kinds, lambda way: working(way) / 2**20 or None if "bytes" in way else None,
          "MiB at the peak, beyond the result")  # fmt: skip
    axes[1].set_yticklabels([])
    _growth(axes[2], grown)
    for letter, ax, title in zip("abc", axes, ("time", "memory", "growth with the length"), strict=True):
        ax.set_title(f"{letter}  {title}")
        ax.grid(color="0.9", linewidth=0.6)
    handles = [plt.Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, (c, m) in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=7)
    saved = write_whole(path, lambda place: figure.savefig(place, dpi=DOTS, format="png", facecolor="white"))
    plt.close(figure)
    return saved


def _kinds(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """A colour and a mark for every name."""
    names = list(dict.fromkeys(name for row in rows for name in row["contenders"]))
    others = [name for name in names if not name.startswith("mixerlens")]
    kinds = {name: (OURS, "o*PX"[n % 4]) for n, name in enumerate(n for n in names if n.startswith("mixerlens"))}
    return kinds | {name: (PEERS[n % 6], MARKS[n // 6 % 6] if n >= 6 else MARKS[n]) for n, name in enumerate(others)}


def _dots(ax: Any, rows: list[dict[str, Any]], kinds: dict[str, tuple[str, str]], value: Any, label: str) -> None:
    for n, row in enumerate(rows):
        for name, way in row["contenders"].items():
            if "seconds" not in way or (x := value(way)) is None:
                continue
            colour, mark = kinds[name]
            hollow = {"markerfacecolor": "white"} if "extrapolated" in way else {}
            ax.plot(x, -n, mark, color=colour, markersize=5, **hollow)
    ax.set_yticks([-n for n in range(len(rows))], [row["title"] for row in rows], fontsize=6.5)
    ax.set_xscale("log")
    ax.set_xlabel(f"{label} (hollow: extrapolated)" if "call" in label else label)


def _growth(ax: Any, rows: list[dict[str, Any]]) -> None:
    for n, row in enumerate(rows):
        for k, (name, way) in enumerate(row["contenders"].items()):
            if "by_length" not in way:
                continue
            lengths = [int(length) for length in way["by_length"]]
            medians = [s["median"] for s in way["by_length"].values()]
            label = f"{row['title'].split(':')[0]}, {name}: {way['exponent']:.2f}"
            ax.plot(lengths, medians, "osD^v<>"[k % 7], linestyle=STYLES[n % 4], linewidth=0.8, markersize=3,
                    color=(OURS, *PEERS)[n % 7], label=label)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel="seconds a call")
    if rows:
        ax.legend(fontsize=5.5, title="fitted exponent", title_fontsize=6)
