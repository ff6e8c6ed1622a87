"""Signals nobody trains: functions of the head (constants) and of the token's number (positions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixerlens.design.values import Option, number
from mixerlens.errors import InputError
from mixerlens.families.hippo import legs_power
from mixerlens.families.s4 import legs_normal_plus_low_rank

LARGEST_LEGS = 512
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Function:
    """``make(heads, shape, options, tokens)`` -> (1, time | 1, heads | 1, *shape) float64; tokens int64, (time,)."""

    make: Callable[[int, Shape, dict[str, float], Tensor], Tensor]
    options: dict[str, Option]
    positional: bool = False


def _one(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    return torch.full((1, 1, 1, *shape), o["value"], dtype=torch.float64, device=tokens.device)


def _unit(index: int) -> Callable[[int, Shape, dict[str, float], Tensor], Tensor]:
    def make(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
        x = torch.zeros(1, 1, 1, *shape, dtype=torch.float64, device=tokens.device)
        x[..., index] = 1
        return x

    return make


def _angles(shape: Shape, o: dict[str, float], device: torch.device) -> Tensor:
    pairs = shape[-1]
    return o["base"] ** (-torch.arange(pairs, dtype=torch.float64, device=device) / pairs)


def _rope(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    """-theta_p = -base^(-p / pairs): A = R(-theta) is RoPE (arXiv 2104.09864)."""
    return -_angles(shape, o, tokens.device)[None, None, None]


def _rope_phase(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    """t theta_p, the angle by which query and key of token t are turned."""
    return tokens.to(torch.float64)[None, :, None, None] * _angles(shape, o, tokens.device)


def _slopes(heads: int, device: torch.device) -> Tensor:
    return 2.0 ** (-8 * torch.arange(1, heads + 1, dtype=torch.float64, device=device) / heads)


def _alibi(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    """-2^(-8 h / heads), h = 1 ... heads (arXiv 2108.12409); also the log decays of lightning attention."""
    return -_slopes(heads, tokens.device)[None, None]


def _retnet(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    """1 - 2^(-5 - h), h = 0 ... heads - 1 (arXiv 2307.08621)."""
    return 1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64, device=tokens.device))[None, None]


def _clock(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    return tokens.to(torch.float64)[None, :, None]


def _check_legs(state: int) -> None:
    if state > LARGEST_LEGS:
        raise InputError(f"HiPPO-LegS with {state} numbers: at most {LARGEST_LEGS}, its matrices are dense")


def _legs(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    """(t / (t + 1))^(power A) of HiPPO-LegS, lower triangular (arXiv 2008.07669)."""
    _check_legs(shape[-1])
    t = tokens.to(torch.float64)
    return legs_power((t / (t + 1)) ** o["power"], shape[-1])[None, :, None]


def _legs_entry(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
    """(I - A_t) e_1 for the A_t above: what a signal held over token t adds."""
    first = torch.eye(1, shape[-1], dtype=torch.float64, device=tokens.device)[0]
    return first - _legs(heads, (*shape, shape[-1]), o, tokens)[..., 0]


def _legs_modes(index: int, imaginary: bool) -> Callable[[int, Shape, dict[str, float], Tensor], Tensor]:
    """Of HiPPO-LegS as diag(A) - P P^* with input B, one of each pair of modes: A, P or B (arXiv 2111.00396)."""

    def make(heads: int, shape: Shape, o: dict[str, float], tokens: Tensor) -> Tensor:
        _check_legs(2 * shape[-1])
        x = legs_normal_plus_low_rank(2 * shape[-1])[index]
        return (x.imag if imaginary else x.real).to(tokens.device)[None, None, None]

    return make


_BASE = {"base": Option(number(1), 10000.0)}
_POWER = {"power": Option(number(1e-3, 1e3), 1.0)}
FUNCTIONS: dict[str, Function] = {
    "one": Function(_one, {"value": Option(number(), 1.0)}),
    "first": Function(_unit(0), {}),
    "last": Function(_unit(-1), {}),
    "rope": Function(_rope, _BASE),
    "alibi": Function(_alibi, {}),
    "retnet": Function(_retnet, {}),
    "clock": Function(_clock, {}, positional=True),
    "rope_phase": Function(_rope_phase, _BASE, positional=True),
    "legs": Function(_legs, _POWER, positional=True),
    "legs_rate": Function(_legs_modes(0, False), {}),
    "legs_frequency": Function(_legs_modes(0, True), {}),
    "legs_low_rank": Function(_legs_modes(1, False), {}),
    "legs_low_rank_imag": Function(_legs_modes(1, True), {}),
    "legs_input": Function(_legs_modes(2, False), {}),
    "legs_input_imag": Function(_legs_modes(2, True), {}),
    "legs_entry": Function(_legs_entry, _POWER, positional=True),
}

VECTORS = frozenset(FUNCTIONS) - {"one", "alibi", "retnet", "clock"}  # of the last axis of a signal's shape
