"""|alpha| statistics of one head at 131,072 tokens, with and without certified skipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import silu, softplus

from bench import views
from bench.case import OURS, Bar, Case, Contender, Inputs, Outputs, Size
from bench.cases import delta, growth

TIME = 131072
# tokens of the gates: the last of them walk back over two and three whole blocks, and some of those are left out
GATES = {"mamba": 8300, "delta": 6300}
SKIP = 1e-9  # of the mass that a row has nearer by: tiles none of whose entries exceeds it are left out
NEEDS = ("transformers.models.mamba.modeling_mamba",)
CHANNELS = {"median step": 0.5, "smallest step": 0.0}  # quantiles of the channels' mean steps


def mamba_channels(size: Size) -> Inputs:
    """Steps, B and C that a Mamba layer of transformers computes from normal inputs, as it is initialised."""
    from transformers.models.mamba import modeling_mamba
    from transformers.models.mamba.configuration_mamba import MambaConfig

    config = MambaConfig(hidden_size=size["hidden"], num_hidden_layers=1, vocab_size=8)
    layer: Any = modeling_mamba.MambaModel(config).layers[0].mixer
    rank, n = config.time_step_rank, config.state_size
    with torch.no_grad():
        inner = layer.in_proj(torch.randn(1, size["time"], size["hidden"])).chunk(2, -1)[0]
        inner = silu(layer.conv1d(inner.mT)[..., : size["time"]].mT)
        low, B, C = layer.x_proj(inner).split([int(rank), n, n], -1)
        dt = softplus(layer.dt_proj(low))
        order = dt.mean((0, 1)).argsort()
        picked = order[[int(q * (len(order) - 1)) for q in CHANNELS.values()]]
        return {"A": -torch.exp(layer.A_log)[picked], "B": B, "C": C, "dt": dt[:, :, picked].contiguous()}


def channel(given: Inputs, which: str) -> Inputs:
    k = list(CHANNELS).index(which)
    return given | {"A": given["A"][k : k + 1], "dt": given["dt"][:, :, k : k + 1].contiguous()}


def mamba_exact(which: str) -> Callable[[Inputs], Outputs]:
    return lambda given: views.exact_statistics("mamba", channel(given, which), given["dt"].shape[1])


EXACT = {which: mamba_exact(which) for which in CHANNELS}


def delta_exact(given: Inputs) -> Outputs:
    """Of the heads one after the other."""
    named, heads = {name: given[name] for name in delta.COEFFICIENTS}, given["beta"].shape[2]
    each = [{k: x[:, :, h : h + 1] for k, x in named.items()} for h in range(heads)]
    found = [views.exact_statistics("gated_delta_net", one, given["beta"].shape[1]) for one in each]
    return tuple(torch.cat(parts, 2) for parts in zip(*found, strict=True))


def skipping(dynamics: Any) -> list[Any]:
    """The statistics as (value, upper bound of what is missing) each."""
    return list(views.statistics(dynamics.operator(), skip=SKIP))


def values(out: list[Any]) -> Outputs:
    return tuple(summary.value for summary in out)


def skipped(out: list[Any]) -> str:
    mass = out[0]
    return f"left out at most {float((mass.missing / mass.value).max()):.0e} of a row's mass"


def mamba_dynamics(given: Inputs) -> Any:
    from mixerlens import families

    return families.mamba(**given)


def _mamba(which: str) -> Contender:
    return Contender(
        f"skipping, {which}",
        lambda given: skipping(mamba_dynamics(given)),
        lambda given: channel(given, which),
        values,
        NEEDS,
        OURS,
        EXACT[which],
        remark=skipped,
    )


CASES = (
    Case(
        name="long-mamba1",
        title="One Mamba-1 channel, |alpha| statistics, L = 131,072",
        make=mamba_channels,
        size={"time": TIME, "hidden": 128},
        quick={"time": 100, "hidden": 16},
        gate={"time": GATES["mamba"], "hidden": 128},
        contenders=(
            *(_mamba(which) for which in CHANNELS),
            Contender(
                "without skipping, median step",
                lambda given: views.statistics(mamba_dynamics(given).operator()),
                lambda given: channel(given, "median step"),
                needs=NEEDS,
                tolerance=OURS,
                once=True,
            ),
        ),
        reference=EXACT["median step"],
        bars=(
            *(Bar("seconds", f"skipping, {which}", 1.5) for which in CHANNELS),
            *(Bar("MiB", f"skipping, {which}", 1024) for which in CHANNELS),
            Bar("seconds", "without skipping, median step", None),
        ),
        note="channels of a layer of transformers as it is initialised (hidden size 128), by the mean of their steps",
    ),
    Case(
        name="long-delta",
        title="One gated delta head, d = 64, |alpha| statistics, L = 131,072",
        make=delta.make,
        size={"batch": 1, "time": TIME, "heads": 1, "dim": 64},
        quick=delta.QUICK,
        gate={"batch": 1, "time": GATES["delta"], "heads": 1, "dim": 64},
        contenders=(
            Contender(
                "skipping", lambda given: skipping(growth.delta_dynamics(given)), unpack=values, tolerance=OURS,
                remark=skipped,
            ),
            Contender(
                "without skipping", lambda given: views.statistics(growth.delta_dynamics(given).operator()),
                tolerance=OURS,
                once=True,
            ),
        ),
        reference=delta_exact,
        bars=(Bar("seconds", "skipping", 15), Bar("MiB", "skipping", 1024), Bar("seconds", "without skipping", None)),
        note="log decays of mean -0.05",
    ),
)  # fmt: skip
