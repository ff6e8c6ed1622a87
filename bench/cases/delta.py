"""Delta rules: all exact coefficients, and the gated scan forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench import views
from bench.case import OURS, Bar, Case, Contender, Inputs, Outputs, Size
from bench.gradients import double, exact_gradients, forward_backward, leaves
from bench.peers import plain, transformers

SIZE = {"batch": 1, "time": 2048, "heads": 8, "dim": 64}
QUICK = {"batch": 1, "time": 70, "heads": 2, "dim": 8}
GRADIENTS = ("query", "key", "value", "log_decay", "beta")
COEFFICIENTS = ("query", "key", "log_decay", "beta")


SLICED, UNBOUND = "naive loop, x[:, t] slices (transformers)", "naive loop, unbound views"


def make(size: Size) -> Inputs:
    """Unit keys, beta in (0, 1), log decays of mean -0.05."""
    b, t, heads, dim = (size[k] for k in ("batch", "time", "heads", "dim"))
    return {
        "query": torch.randn(b, t, heads, dim) / dim**0.5,
        "key": normalize(torch.randn(b, t, heads, dim), dim=-1),
        "value": torch.randn(b, t, heads, dim),
        "log_decay": -0.1 * torch.rand(b, t, heads),
        "beta": torch.rand(b, t, heads),
        "grad": torch.randn(b, t, heads, dim),
    }


def coefficients(given: Inputs) -> Tensor:
    from mixerlens import families

    named = {name: given[name] for name in ("query", "key", "beta")}
    return families.delta_net(**named).operator().to_dense()


def exact_coefficients(given: Inputs) -> Outputs:
    named = {name: given[name] for name in ("query", "key", "beta")}
    return (views.alpha("delta_net", named, *given["beta"].shape[1:]),)


def ours(given: Inputs) -> Tensor:
    from mixerlens.scans import gated_delta_scan

    return gated_delta_scan(*(given[name] for name in GRADIENTS))[0]


def recurrence(given: Inputs) -> Tensor:
    from mixerlens import references

    return references.REGISTRY["gated_delta_net"](**{name: double(given)[name] for name in GRADIENTS})


def with_leaves(given: Inputs) -> Inputs:
    return leaves(given, GRADIENTS)


def _scaled(out: Outputs) -> Outputs:
    query, *rest = out
    return query * query.shape[-1] ** 0.5, *rest  # the gradient in our query, theirs is sqrt(dim) times ours


def _both(name: str, forward) -> Contender:
    prepare = lambda given: with_leaves(transformers.scaled_back(given))  # noqa: E731
    return Contender(name, forward_backward(forward, GRADIENTS), prepare, _scaled, transformers.DELTA, peer=True)


CASES = (
    Case(
        name="delta-coefficients",
        title="DeltaNet, exact coefficients of 8 heads, d = 64, L = 2048",
        make=make,
        size=SIZE,
        quick=QUICK,
        gate=SIZE | {"time": 500},
        contenders=(
            Contender("mixerlens", coefficients, tolerance=OURS),
            Contender("full triangular solve", plain.delta_solve, peer=True),
        ),
        reference=exact_coefficients,
        bars=(Bar("speed", "mixerlens", 14, "full triangular solve"),),
        note="the solve is the closed form of the whole sequence in float32, one L x L system a head",
    ),
    Case(
        name="delta-backward",
        title="Gated delta scan, forward + backward, 8 heads, d = 64, L = 2048",
        make=make,
        size=SIZE,
        quick=QUICK,
        gate=SIZE | {"time": 300},
        contenders=(
            Contender("mixerlens", forward_backward(ours, GRADIENTS), with_leaves, tolerance=OURS),
            _both(SLICED, transformers.recurrent_gated_delta),
            Contender(UNBOUND, forward_backward(plain.delta_recurrence, GRADIENTS), with_leaves, peer=True),
            _both("transformers chunked", transformers.gated_delta),
        ),
        reference=exact_gradients(recurrence, GRADIENTS),
        bars=(
            Bar("speed", "mixerlens", 15, SLICED),
            Bar("speed", "mixerlens", None, UNBOUND),
            Bar("speed", "mixerlens", None, "transformers chunked"),
        ),
        note="the bar is about the naive loop as transformers has it (torch_recurrent_gated_delta_rule): it slices "
        "x[:, t] token by token, which makes its backward quadratic in L; beside it the same loop over unbound views, "
        "whose backward is linear",
    ),
)
