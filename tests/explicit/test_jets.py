"""Orders of whole stacks against Cauchy sums over complex forwards, nested derivatives, and known radii."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import nn
from torch.func import jvp

from explicit.dense import tiny
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.explicit.jet_rules import Jet
from mixerlens.explicit.jets import radius_found, stack_orders
from mixerlens.models.s4d import load_s4d

F = nn.functional


def complex_forward(model, z: np.ndarray) -> np.ndarray:
    """The classifier on complex inputs (time, channels), continued analytically, with dense Toeplitz matrices."""
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    x = z @ w["encoder.weight"].T + w["encoder.bias"]
    lag = np.arange(len(z))[:, None] - np.arange(len(z))
    for n, layer in enumerate(model.layers):
        u = x
        if model.config.norm == "layer":
            centred = x - x.mean(1, keepdims=True)
            u = centred / np.sqrt((centred**2).mean(1, keepdims=True) + layer.norm.eps)  # no conjugate: analytic
            u = u * w[f"layers.{n}.norm.weight"] + w[f"layers.{n}.norm.bias"]
        k = layer.s4d.kernel(len(z)).detach().numpy()
        y = np.einsum("htj,jh->th", np.where(lag >= 0, k[:, lag], 0), u) + w[f"layers.{n}.s4d.D"] * u
        g = y * (1 + erf(y / math.sqrt(2))) / 2
        o = g @ w[f"layers.{n}.output.weight"].T + w[f"layers.{n}.output.bias"]
        value, gate = np.split(o, 2, axis=1)
        x = x + value / (1 + np.exp(-gate))
    return x.mean(0) @ w["head.weight"].T + w["head.bias"]


@pytest.mark.parametrize(("norm", "about"), [("none", 0), ("none", 1), ("layer", 0), ("layer", 1)])
def test_a_classifier_against_cauchy_sums(norm, about):
    model = tiny(layers=2, norm=norm)
    direction = torch.randn(1, 10, 2, dtype=torch.float64)
    reference = torch.randn(1, 10, 2, dtype=torch.float64) if about else None
    found = stack_orders(model, direction, 12, reference)
    circle, count = 0.4 * found.radius, 48
    start = np.zeros((10, 2)) if reference is None else reference[0].numpy()
    turns = np.exp(2j * np.pi * np.arange(count) / count)
    values = np.stack([complex_forward(model, start + circle * turn * direction[0].numpy()) for turn in turns])
    for p in range(13):
        want = (values * turns[:, None] ** -p).mean(0)
        assert np.abs(want.imag).max() < 1e-14  # f_p circle^p is real
        np.testing.assert_allclose(found.orders[p, 0] * circle**p, want.real, rtol=0, atol=1e-14)
    inside = 0.2 * found.radius
    want = model(direction * inside + (0 if reference is None else reference))
    np.testing.assert_allclose(found.at(inside), want.detach(), rtol=0, atol=1e-8)


class ByHand(nn.Module):
    """LayerNorm in plain operations: nested forward derivatives of torch's own are wrong from order 2 on."""

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)


@pytest.mark.parametrize(("output", "odd"), [("linear", False), ("glu", True)])
def test_a_glu_brings_odd_orders_back(output, odd):
    """GELU alone has no odd order above 1; no bias here."""
    model = tiny(output=output)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.zero_()
    sizes = stack_orders(model, torch.randn(1, 10, 2, dtype=torch.float64), 8).sizes
    assert (sizes[[1, 2, 4, 6, 8]] > 1e-9).all()
    assert bool((sizes[[3, 5, 7]] > 1e-9).all()) is odd and bool((sizes[[3, 5, 7]] < 1e-18).all()) is not odd


STACKS = {
    "mlp": nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 4), ByHand(), nn.SiLU(), nn.Linear(4, 2)),
    "tanh gelu": nn.Sequential(nn.Linear(3, 5), nn.GELU(approximate="tanh"), nn.Linear(5, 2), nn.Tanh()),
    "gates": nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.RMSNorm(5), nn.Softplus(), nn.Linear(5, 2)),
    "softmax": nn.Sequential(nn.Linear(3, 5), nn.Softmax(-1), nn.Linear(5, 2)),
}


@pytest.mark.parametrize("name", sorted(STACKS))
def test_stacks_against_nested_derivatives(name):
    torch.manual_seed(0)
    stack = STACKS[name].double()
    for parameter in stack.parameters():
        nn.init.normal_(parameter)
    reference, direction = torch.randn(2, 4, 3, dtype=torch.float64)
    found = stack_orders(stack, direction, 3, reference)
    along = lambda s: stack(reference + s * direction)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for p in range(4):
        np.testing.assert_allclose(found.orders[p], along(zero).detach() / math.factorial(p), rtol=1e-10, atol=1e-11)
        if p < 3:
            along = lambda s, f=along: jvp(f, (s,), (one,))[1]


def test_the_native_layer_norm_against_its_plain_form_and_differences():
    torch.manual_seed(0)
    reference, direction = torch.randn(2, 4, 3, dtype=torch.float64)
    norm, step = nn.LayerNorm(3).double(), 1e-4
    found, plain = (stack_orders(module, direction, 8, reference).orders for module in (norm, ByHand()))
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    around = [norm(reference + s * direction).detach() for s in (-step, 0, step)]
    second = (around[0] - 2 * around[1] + around[2]) / (2 * step**2)
    np.testing.assert_allclose(found[2], second, rtol=1e-5, atol=1e-5)


def test_attention_convolution_and_plain_arithmetic():
    torch.manual_seed(0)
    kernel, u = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)

    def model(x):
        convolved = torch.fft.irfft(torch.fft.rfft(x, n=16) * torch.fft.rfft(kernel, n=16), n=16)[:8]
        scores = convolved.unsqueeze(1) @ convolved.unsqueeze(0)
        read = torch.softmax(scores, -1) @ convolved[:, None]
        return (
            (2 - kernel * x) / (3 + x**2)
            - kernel / (1 + torch.exp(-x))
            + (kernel - x)
            + read[:, 0] * torch.rsqrt(4 + x)
        )

    found = stack_orders(model, u, 30)
    np.testing.assert_allclose(found.at(0.1), model(0.1 * u), rtol=1e-12)


KNOWN = {
    "silu": (F.silu, math.pi),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), 2.826868),
    "pole": (lambda x: 1 / (1.5 + x) + 1 / (2 + x), 1.5),
    "pair": (lambda x: torch.sigmoid(3 * x + 2), math.hypot(math.pi, 2) / 3),
    "branch": (lambda x: torch.rsqrt(1 + x * x), 1.0),
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_radius_found_is_the_nearest_singularity(name):
    function, want = KNOWN[name]
    found = stack_orders(function, torch.ones(1, dtype=torch.float64), 24)
    assert found.radius == pytest.approx(want, rel=0.02 if name == "branch" else 1e-3)


GAPS = {
    "six poles": (lambda x: 1 / (1 - x**6), 24, 1.0),
    "six poles and a far one": (lambda x: 1 / (1 - x**6) + 1e-3 / (3 - x), 24, 1.0),
    "seven poles, large": (lambda x: 1e6 / (2 - x**7), 40, 2 ** (1 / 7)),
    "ten poles, one order": (lambda x: 1 / (1 + x**10), 16, 1.0),
    "silu of a cube": (lambda x: F.silu(x**3), 24, math.pi ** (1 / 3)),
    "sigmoid of a fifth power": (lambda x: torch.sigmoid(x**5), 40, math.pi ** (1 / 5)),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_series_with_gaps_has_a_radius(name):
    """More singularities at one distance than the recurrence has terms."""
    function, order, want = GAPS[name]
    found = stack_orders(function, torch.ones(1, dtype=torch.float64), order)
    assert found.radius == pytest.approx(want, rel=2e-3)
    with pytest.raises(UnsupportedError, match="no sum at 2"):
        found.at(2.0)


def test_what_is_left_out_is_said():
    """A geometric series, whose rest is known; order 12, and the estimate reads the 4 orders computed beyond too."""
    found = stack_orders(lambda x: 1 / (1.05 - x), torch.ones(1, dtype=torch.float64), 12)
    for s in (0.0, 0.5, -0.9, 1.0):
        rest = abs(1 / (1.05 - abs(s)) - sum(1.05 ** -(p + 1) * abs(s) ** p for p in range(13)))
        assert found.left_out(s) == pytest.approx(rest, rel=1e-9, abs=1e-15)
    assert float(found.at(1.0)) + found.left_out(1.0) == pytest.approx(20)
    assert found.radius == pytest.approx(1.05, rel=1e-12) and found.left_out(found.radius) == math.inf
    assert found.to_json()["left_out"] == pytest.approx(20 - float(found.at(1.0)))
    cubic = stack_orders(lambda x: x**3 + 2 * x, torch.ones(1, dtype=torch.float64), 2)
    assert float(cubic.at(2.0)) == 4 and cubic.left_out(2.0) == pytest.approx(8)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_about_zero_a_norm_leaves_a_hundredth_of_the_input(norm):
    torch.manual_seed(0)
    block = norm(6, eps=1e-5).double()
    stack = nn.Sequential(block, nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 3)).double()
    u = 0.3 * torch.randn(1, 6, dtype=torch.float64)
    found = stack_orders(stack, u, 24)
    spread = u.var(correction=0) if norm is nn.LayerNorm else (u**2).mean()
    want = float((1e-5 / spread).sqrt())  # where the variance of s u is -eps
    assert stack_orders(block, u, 24).radius == pytest.approx(want, rel=0.02)
    assert found.radius == pytest.approx(want, rel=0.15)  # GELU of a branch point is an essential singularity
    assert 3e-3 < found.radius < 3e-2
    with pytest.raises(UnsupportedError, match=r"series about 0 has radius 0\.0.* expand about a reference input"):
        found.at(1.0)
    about = stack_orders(stack, 0.1 * torch.randn(1, 6, dtype=torch.float64), 24, u)
    assert about.radius > 1


def test_the_orders_of_a_trained_classifier_do_not_reach_its_input(digits_s4d, digits):
    """No norm, but GLUs: their poles are nearer than the input, whatever the expansion point."""
    model, (first, second) = load_s4d(digits_s4d, torch.float64), digits[:2].double().split(1)
    for direction, reference, want in ((first, None, 0.15), (second - first, first, 0.42)):
        found = stack_orders(model, direction, 24, reference)
        assert found.radius == pytest.approx(want, rel=0.05)
        s = found.radius / 4
        inside = model(s * direction + (0 if reference is None else reference)).detach()
        np.testing.assert_allclose(found.at(s), inside, rtol=0, atol=1e-9)
        sizes = found.sizes
        assert float(sizes[24]) > 1e3 * float(sizes[1])  # at s = 1 the terms grow
        with pytest.raises(UnsupportedError, match="no sum at 1"):
            found.at(1.0)


def test_an_entire_stack_has_no_singularity_and_a_polynomial_no_tail():
    u = torch.ones(1, dtype=torch.float64)
    found = [stack_orders(F.gelu, u, order).radius for order in (16, 40, 80)]
    assert found[0] < found[1] < found[2] and found[2] > 7
    assert stack_orders(lambda x: x**3 + 2 * x, u, 12).radius == math.inf


def test_a_model_within_a_function():
    model, u = tiny(layers=1), torch.randn(1, 5, 2, dtype=torch.float64)
    found, plain = (stack_orders(f, u, 5).orders for f in (lambda x: 3 * model(x), model))
    torch.testing.assert_close(found, 3 * plain, rtol=1e-14, atol=0)
    single = tiny(layers=1).float()
    with pytest.raises(UnsupportedError, match=r"in float64, as model\.double"):
        stack_orders(lambda x: single(x), u)
    assert model(u).shape == (1, 4)  # and the hooks are gone


def test_powers_and_scaled_sums():
    u = torch.tensor([2.0], dtype=torch.float64)
    model = lambda x: torch.add(x, x**0, alpha=3) - torch.sub(1.0, x**3 + x**-1.0, alpha=0.5)
    at = torch.tensor([1.5], dtype=torch.float64)
    found = stack_orders(model, u, 60, at)
    np.testing.assert_allclose(found.at(0.2), model(at + 0.2 * u), rtol=1e-12)


def in_place(x):
    y = x * 1.0
    torch.sigmoid_(y)
    return y


def assigned(x):
    y = x
    y += 1.0
    return x * y


def written(x):
    buffer = torch.zeros(2, dtype=torch.float64)
    buffer[:] = x
    return x + buffer


UNFOLLOWED = {
    "sigmoid_ writes into a tensor": in_place,
    r"in-place arithmetic, as in x \+= y, writes": assigned,
    "setitem writes into a tensor": written,
    "silu with inplace=True writes": nn.SiLU(inplace=True),
    "diff is carried as a linear map of its first argument": lambda x: torch.diff(x, prepend=x.parts[0][:1] + 1),
    "power unless its exponent is a plain number": lambda x: x**x,
    "power unless its exponent": lambda x: 2.0**x,
    "the rule for torch's div does not take these arguments: .*rounding_mode": lambda x: torch.div(
        x, 2, rounding_mode="floor"
    ),
}


@pytest.mark.parametrize("said", UNFOLLOWED)
def test_what_a_series_cannot_follow(said):
    with pytest.raises(UnsupportedError, match=said):
        stack_orders(UNFOLLOWED[said], torch.ones(2, dtype=torch.float64))


def test_json_and_refusals():
    u = torch.ones(2, dtype=torch.float64)
    record = stack_orders(F.silu, u, 9).to_json()
    assert len(record["orders"]) == 10 and record["about"] == "0" and "not proved" in record["labels"]["radius"]
    with pytest.raises(UnsupportedError, match="no rule carries a series through torch's relu; there are linear maps"):
        stack_orders(F.relu, u)
    with pytest.raises(UnsupportedError, match="torch's requires_grad"):
        stack_orders(lambda x: x * x.requires_grad, u)
    with pytest.raises(UnsupportedError, match=r"in float64, as model\.double"):
        stack_orders(nn.Linear(2, 2), u)
    with pytest.raises(UnsupportedError, match="the model returns Tensor, no series"):
        stack_orders(lambda x: u, u)
    with pytest.raises(UnsupportedError, match="a singularity at the reference"):
        stack_orders(torch.rsqrt, u)
    with pytest.raises(InputError, match="must have one shape"):
        stack_orders(F.silu, u, 4, torch.zeros(3))
    with pytest.raises(InputError, match="a radius needs orders up to 8"):
        radius_found(torch.ones(5, 1, dtype=torch.float64))
    assert Jet([u]).shape == (2,)
