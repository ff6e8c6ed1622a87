"""The figure: times and memory of every way, how ours grow with the length, and what the bars allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import working
from mixerlens.files import write_whole

# Okabe and Ito's colours, told apart by colour-blind readers; every use has a mark of its own as well
OURS = "#0072B2"
OTHERS = ("#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKS = "osD^v<>pX*Ph8d"
STYLES = ("-", "--", ":", "-.")
DOTS = 160
GROWTH = 1.1  # the exponent that the bars allow

Row = dict[str, Any]


def draw(document: dict[str, Any], path: Path) -> Path:
    """Four panels as PNG: seconds, bytes beyond the result, seconds against L, fitted exponents."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.axisbelow": True})
    rows = [row for row in document["rows"].values() if row["status"] == "green" and _timed(row)]
    grown = [row for row in rows if all("by_length" in way for way in _timed(row))]
    flat = [row for row in rows if row not in grown and row["case"] != "import"]
    heights = [0.27 * len(flat) + 1.2, 3.6]
    figure = plt.figure(figsize=(12, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    upper, lower = parts
    (time, memory), (curves, exponents) = upper.subplots(1, 2), lower.subplots(1, 2)
    kinds = _kinds(flat)
    _dots(time, flat, kinds, _seconds, _allowed_seconds)
    _dots(memory, flat, kinds, _mib, _allowed_mib)
    time.set_xlabel("seconds a call; hollow: extrapolated; |: what the bars allow")
    memory.set_xlabel("MiB at the peak, beyond the result")
    memory.tick_params(labelleft=False)
    _curves(curves, grown)
    _exponents(exponents, grown)
    titles = ("time", "memory", "time against the length", "fitted exponent of the length")
    for letter, ax, title in zip("abcd", (time, memory, curves, exponents), titles, strict=True):
        ax.set_title(f"{letter}  {title}")
        ax.grid(color="0.9", linewidth=0.6)
    handles = [plt.Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, (c, m) in kinds.items()]
    upper.legend(handles=handles, loc="outside upper center", ncols=7, fontsize=7)
    saved = write_whole(path, lambda place: figure.savefig(place, dpi=DOTS, format="png", facecolor="white"))
    plt.close(figure)
    return saved


def _timed(row: Row) -> list[Row]:
    return [way for way in row["contenders"].values() if "seconds" in way]


def _kinds(rows: list[Row]) -> dict[str, tuple[str, str]]:
    """A colour and a mark for every name: ours in one colour, each peer in another."""
    peers = {name: way["peer"] for row in rows for name, way in row["contenders"].items()}
    ours, others = ([name for name, peer in peers.items() if peer is wanted] for wanted in (False, True))
    kinds = {name: (OURS, MARKS[n % len(MARKS)]) for n, name in enumerate(ours)}
    return kinds | {name: (OTHERS[n % len(OTHERS)], MARKS[n % len(MARKS)]) for n, name in enumerate(others)}


Value = Callable[[Row], float | None]


def _seconds(way: Row) -> float | None:
    return way.get("extrapolated", way["seconds"]["median"]) if "seconds" in way else None


def _mib(way: Row) -> float | None:
    return max(working(way) / 2**20, 0.1) if "bytes" in way else None


def _allowed_seconds(bar: Row, against: float | None) -> float | None:
    if bar["bound"] is None:
        return None
    if bar["measure"] in ("speed", "units") and against is not None:
        return against / bar["bound"] if bar["measure"] == "speed" else against * bar["bound"]
    return bar["bound"] if bar["measure"] == "seconds" else None


def _allowed_mib(bar: Row, against: float | None) -> float | None:
    if bar["bound"] is None:
        return None
    if bar["measure"] == "memory" and against is not None:
        return against / bar["bound"]
    return bar["bound"] if bar["measure"] == "MiB" else None


def _dots(ax: Any, rows: list[Row], kinds: dict[str, tuple[str, str]], value: Value, allowed: Callable) -> None:
    for n, row in enumerate(rows):
        ways = row["contenders"]
        for bar in row["bars"]:
            limit = allowed(bar, value(ways.get(bar["against"], {})))
            if limit is not None:
                ax.plot(limit, -n, "|", color="0.35", markersize=12, markeredgewidth=1.2)
        for name, way in ways.items():
            x = value(way)
            if x is not None:
                colour, mark = kinds[name]
                face = "white" if "extrapolated" in way else colour
                ax.plot(x, -n, mark, color=colour, markersize=4.5, markerfacecolor=face)
    ax.set_yticks([-n for n in range(len(rows))], [row["title"] for row in rows], fontsize=7)
    ax.set(xscale="log", ylim=(0.6 - len(rows), 0.6))


def _curves(ax: Any, rows: list[Row]) -> None:
    """The first three ways of each case that has bars: the scan, with its backward, and one view."""
    for n, row in enumerate(row for row in rows if row["bars"]):
        for k, (name, way) in enumerate(list(row["contenders"].items())[:3]):
            if "by_length" not in way:
                continue
            lengths = [int(length) for length in way["by_length"]]
            medians = [s["median"] for s in way["by_length"].values()]
            label = f"{row['title'].partition(',')[0]}: {name}"
            ax.plot(lengths, medians, MARKS[n], linestyle=STYLES[k], color=(OURS, *OTHERS)[n], linewidth=0.9,
                    markersize=3.5, label=label)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel="seconds a call")
    if rows:
        ax.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _exponents(ax: Any, rows: list[Row]) -> None:
    barred, names = [row for row in rows if row["bars"]], []
    for row in rows:
        names += [name for name in row["contenders"] if name not in names]
    for n, row in enumerate(barred):
        shown = {names.index(name): way["exponent"] for name, way in row["contenders"].items() if "exponent" in way}
        label = row["title"].partition(",")[0]
        ax.plot(
            list(shown.values()), [-y for y in shown], MARKS[n], color=(OURS, *OTHERS)[n], label=label, markersize=4
        )
    for row in rows:
        if row not in barred:
            shown = {names.index(name): way["exponent"] for name, way in row["contenders"].items() if "exponent" in way}
            label = row["title"].partition(",")[0]
            ax.plot(list(shown.values()), [-y for y in shown], "x", color="0.3", label=label, markersize=4)
    ax.axvline(GROWTH, color="0.35", linewidth=1)
    ax.set_yticks([-n for n in range(len(names))], names, fontsize=6)
    ax.set_xlabel(f"slope of log time on log tokens; the bars allow {GROWTH}")
    if rows:
        ax.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4)
