"""Costs against counts by hand and against torch's own counter of matrix products."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixerlens.design import part, preset
from mixerlens.design.cost import cost, counted
from mixerlens.design.mixer import Mixer
from mixerlens.errors import InputError

F, H, N, M = 24, 2, 8, 6
SIZES = {"heads": H, "dim": N, "width": M}
PROJECTED = 2 * F * H * (2 * N + M) + 2 * F * H * M  # query, key, value, and the output's


def test_linear_attention_by_hand():
    spec = dataclasses.replace(preset("norm_attention", **SIZES), normalizer=part("none"))
    found = cost(spec, F, length=16)
    assert found.parameters == F * H * (2 * N + M) + F * H * M
    # a chunk's scores and their product with the values; token by token the read of the state
    assert found.parallel.products == PROJECTED + H * 16 * (2 * N + 2 * M)
    assert found.step.products == PROJECTED + H * 2 * N * M
    # writing k v^T and adding it to the state
    assert found.step.rest == 2 * H * N * M
    assert (found.state, found.state_bytes) == (H * N * M, 8 * H * N * M)


def test_a_delta_rule_by_hand():
    spec = dataclasses.replace(
        preset("delta_net", **SIZES), short_convolution=part("none"), norm=part("none"),
        query=preset("retnet").query, key=preset("norm_attention").key, value=preset("norm_attention").value,
    )  # fmt: skip
    found = cost(spec, F)
    # w^T S and the outer product w (beta w^T S), then the read
    assert found.step.products == PROJECTED + 2 * F * H + H * (2 * N * M + 2 * N * M + 2 * N * M)
    assert found.state == H * N * M


def test_row_sums_carry_one_column_more_and_softmax_grows():
    found = cost(preset("normalized_linear_attention", **SIZES), F)
    assert found.state == H * N * (M + 1)
    soft = cost(preset("softmax_attention", **SIZES), F)
    assert soft.step is None and soft.state is None and soft.grows_bytes == 8 * H * (N + M)


def test_a_state_and_what_grows_count_a_number_alike():
    spec = preset("softmax_attention", **SIZES)
    window = dataclasses.replace(spec, support=part("window", width=5))
    assert cost(window, F).state_bytes == 4 * cost(spec, F).grows_bytes  # four tokens before, each kept whole


def test_a_short_convolution_and_a_polynomial_in_the_state():
    found = cost(preset("based", **SIZES), F)
    assert found.state == H * math.comb(N + 2, 2) * (M + 1)
    gated = cost(preset("gated_delta_net", **SIZES), F)
    assert gated.state == H * N * M + 3 * H * (2 * N + M)  # three tokens before, of all filtered channels
    assert gated.state_bytes == 8 * H * N * M + 4 * 3 * H * (2 * N + M)


def test_a_window_counts_its_tokens():
    spec = dataclasses.replace(preset("softmax_attention", **SIZES), support=part("window", width=5))
    assert cost(spec, F, length=8).state == 4 * H * (N + M)


@pytest.mark.parametrize("name", ["softmax_attention", "gated_delta_net", "mamba2", "based", "rwkv6", "retnet"])
@pytest.mark.parametrize("length", [40, 160])
def test_products_are_those_of_torchs_counter(name, length):
    mixer = Mixer(preset(name, **SIZES), F, seed=0).requires_grad_(False)
    x = torch.randn(1, length, F)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        mixer(x)
    assert cost(mixer, length=length).parallel.products * length == counter.get_total_flops()


def test_a_finite_state_costs_the_same_at_every_length_and_softmax_does_not():
    at = {n: cost(preset("lightning_attention", **SIZES), F, length=n).parallel.total for n in (512, 2048)}
    assert at[2048] < 1.05 * at[512]
    at = {n: cost(preset("softmax_attention", **SIZES), F, length=n).parallel.products for n in (512, 1024)}
    assert at[1024] - PROJECTED == pytest.approx(2 * (at[512] - PROJECTED), rel=0.3)


def test_operations_by_hand():
    a, b = torch.randn(3, 5, 4), torch.randn(3, 4, 2)
    found = counted(lambda: (a @ b).exp() + 1)
    assert (found.products, found.rest) == (2 * 3 * 5 * 4 * 2, 2 * 3 * 5 * 2)
    lower = torch.eye(5).expand(3, 5, 5)
    assert counted(lambda: torch.linalg.solve_triangular(lower, a, upper=False)).rest == 3 * 25 * 4


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="features: give the width"):
        cost(preset("delta_net"))
    with pytest.raises(InputError, match="length: 0"):
        cost(preset("delta_net"), 8, length=0)
    with pytest.raises(InputError, match="the room of its levels"):
        cost(preset("log_linear_attention"), 8, length=10**6)


def test_a_record_is_plain_data():
    told = cost(preset("delta_net", **SIZES), F, length=16).to_json()
    assert told["parallel"]["products"] > 0 and told["state_bytes"] > 0 and told["measure"] == "Cost"
