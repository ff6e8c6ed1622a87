"""The mixers that the ablations compare: one part changed at a time, all else as in the others of its table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...design import MixerSpec, Vector, part

__all__ = ["evolutions", "normalizers", "readouts", "scalings", "spectra"]

UNIT = Vector(norm="l2")
SIGNED = {"decay": {"transform": "tanh", "init": {"kind": "uniform", "low": 0.9, "high": 0.999}}}
REFLECTING = {"beta": {"scale": 2.0, "init": {"kind": "constant", "value": 1.0}}}
# a turn that the token chooses: pi at most, to either side
TURNING = {"angle": {"source": "projection", "transform": "tanh", "scale": 3.141592653589793, "init": None}}


def readouts(heads: int, dim: int, width: int) -> dict[str, MixerSpec]:
    """phi alone changes: A = I, b = 1 / sqrt n, a short convolution, and an output norm, which makes eta inert.

    "identity, wide": as many numbers of state as the polynomial's recurrence needs.
    """
    shared: dict[str, Any] = {
        "heads": heads,
        "width": width,
        "scaling": part("inverse_sqrt_dim"),
        "short_convolution": part("causal", width=4),
        "norm": part("rms"),
    }
    polynomial = part("polynomial", coefficients=(1.0, 1.0, 0.5))
    wide = (dim + 1) * (dim + 2) // 2
    return {
        "identity": MixerSpec("identity", dim=dim, **shared),
        "identity, wide": MixerSpec("identity, wide", dim=wide, **shared),
        "degree 2": MixerSpec("degree 2", dim=dim, readout=polynomial, **shared),
        "relu": MixerSpec("relu", dim=dim, readout=part("relu"), **shared),
        "exp": MixerSpec("exp", dim=dim, readout=part("exp"), **shared),
    }


def evolutions(heads: int, dim: int, width: int) -> dict[str, MixerSpec]:
    """A_t alone changes, with what enters under a delta rule: unit keys and queries, phi the identity, an output norm.

    "signed": eigenvalues in (-1, 1) instead of (0, 1). beta: in (0, 1), or in (0, 2), where A_t reflects.
    """
    base = MixerSpec("identity", heads=heads, dim=dim, width=width, query=UNIT, key=UNIT, norm=part("rms"))
    delta = {"scaling": part("beta")}
    changes: dict[str, dict[str, Any]] = {
        "identity": {},
        "scalar": {"evolution": part("scalar", decay="decay")},
        "scalar, signed": {"evolution": part("scalar", decay="decay"), "signals": SIGNED},
        "diagonal": {"evolution": part("diagonal", decay="decay")},
        "diagonal, signed": {"evolution": part("diagonal", decay="decay"), "signals": SIGNED},
        "rotation": {"evolution": part("rotation"), "signals": TURNING},
        "delta, beta < 1": delta | {"evolution": part("delta")},
        "delta, beta < 2": delta | {"evolution": part("delta"), "signals": REFLECTING},
        "two deltas, beta < 2": {"evolution": part("delta_product", micro_steps=2), "signals": REFLECTING},
    }
    return {name: replace(base, name=name, **change) for name, change in changes.items()}


def scalings(heads: int, dim: int, width: int) -> dict[str, MixerSpec]:
    """b = 1 beside b = 1 / sqrt n, of softmax attention, for queries and keys of unit variance (the principle's case: z
    has variance n b^2), of unit length and of positive entries. Without a norm the initial weights would decide it."""
    shared: dict[str, Any] = {
        "heads": heads,
        "dim": dim,
        "width": width,
        "readout": part("exp"),
        "normalizer": part("row_sum"),
        "short_convolution": part("causal", width=4),
    }
    keys = {
        "unit variance": Vector(norm="rms"),
        "unit length": UNIT,
        "positive": Vector(features="elu_plus_one"),
    }
    scales = {"1": "one", "n^-0.5": "inverse_sqrt_dim"}
    return {
        name: MixerSpec(name, query=vector, key=vector, scaling=part(kind), **shared)
        for said, vector in keys.items()
        for b, kind in scales.items()
        for name in [f"{said}, b = {b}"]
    }


def normalizers(heads: int, dim: int, width: int) -> dict[str, MixerSpec]:
    """eta alone changes, without a norm of the output: linear attention with signed and with positive features."""
    shared: dict[str, Any] = {
        "heads": heads,
        "dim": dim,
        "width": width,
        "scaling": part("inverse_sqrt_dim"),
        "short_convolution": part("causal", width=4),
    }
    etas = {
        "none": part("none"),
        "row sum": part("row_sum"),
        "floor": part("floor"),
        "exp gate": part("gate", activation="exp"),
    }
    features = {"signed": Vector(), "positive": Vector(features="elu_plus_one")}
    return {
        name: MixerSpec(name, query=vector, key=vector, normalizer=eta, **shared)
        for said, vector in features.items()
        for which, eta in etas.items()
        for name in [f"{said}, {which}"]
    }


def spectra(heads: int, dim: int, width: int) -> dict[str, MixerSpec]:
    """Kinds of A_t whose eigenvalues training can move, each started fast, middling and slow (half-lives in tokens)."""
    starts = {"2": (0.5, 0.8), "16": (0.93, 0.98), "128": (0.993, 0.996)}
    base = MixerSpec("base", heads=heads, dim=dim, width=width, query=UNIT, key=UNIT, norm=part("rms"))
    found = {}
    for said, (low, high) in starts.items():
        start = {"decay": {"init": {"kind": "uniform", "low": low, "high": high}}}
        kinds: dict[str, dict[str, Any]] = {
            "scalar": {"evolution": part("scalar", decay="decay")},
            "diagonal": {"evolution": part("diagonal", decay="decay")},
            "rotation": {"evolution": part("rotation", decay="decay"), "query": Vector(), "key": Vector()},
            "delta": {"evolution": part("delta", decay="decay"), "scaling": part("beta")},
        }
        for kind, change in kinds.items():
            name = f"{kind}, {said}"
            found[name] = replace(base, name=name, **change, signals=start)
    return found
