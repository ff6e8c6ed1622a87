"""Signals: transforms with their ranges and inverses, where values start, and the functions nobody trains."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mixerlens.design import PRESETS, MixerSpec, Vector, part, preset, signals
from mixerlens.design.transforms import FEATURES, NORMS, TRANSFORMS
from mixerlens.errors import InputError

RAW = torch.linspace(-6, 6, 121, dtype=torch.float64)
DEFINITIONS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "log_sigmoid": lambda x: -math.log1p(math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "neg_softplus": lambda x: -math.log1p(math.exp(x)),
    "exp": math.exp,
    "neg_exp": lambda x: -math.exp(x),
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "square": lambda x: x * x,
    "elu_plus_one": lambda x: x + 1 if x > 0 else math.exp(x),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_its_definition(name):
    transform = TRANSFORMS[name]
    got = transform.apply(RAW)
    want = torch.tensor([DEFINITIONS[name](float(x)) for x in RAW], dtype=torch.float64)
    assert torch.allclose(got, want, rtol=1e-12, atol=1e-14)
    assert float(got.min()) >= transform.low and float(got.max()) <= transform.high
    if transform.inverse is not None:
        inside = RAW if name not in ("relu", "square") else RAW[RAW > 0]
        assert torch.allclose(transform.inverse(transform.apply(inside)), inside, rtol=1e-9, atol=1e-12)


def test_feature_maps_with_more_dimensions():
    q, k = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name, product in {
        "taylor": lambda z: 1 + z + z**2 / 2,
        "exp_both_signs": None,
        "relu_both_signs": None,
    }.items():
        features = FEATURES[name]
        one, other = features.apply(q), features.apply(k)
        assert one.shape[-1] == features.size(5)
        if product is not None:
            assert torch.allclose((one * other).sum(-1), product((q * k).sum(-1)), rtol=1e-12, atol=1e-12)
        else:
            assert bool((one >= 0).all())
    assert torch.allclose(FEATURES["softmax"].apply(q).sum(-1), torch.ones(7, dtype=torch.float64))


def test_norms():
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(NORMS["l2"](x).square().sum(-1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(NORMS["rms"](x).square().mean(-1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(NORMS["sum"](x.exp()).sum(-1), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("name", PRESETS)
def test_values_stay_between_their_bounds_and_start_somewhere(name):
    generator = torch.Generator().manual_seed(0)
    for signal in signals(preset(name)).values():
        low, high = signal.bounds
        assert signal.low <= low <= high <= signal.high
        if not signal.trained:
            assert signal.at(0, 3).shape[3:] == signal.shape
            continue
        start = signal.initial(generator)
        if start is not None:
            assert start.shape == (signal.heads, *signal.shape)
            assert bool(torch.isfinite(start).all())
        value = signal(torch.randn(2, 5, signal.heads, *signal.shape, dtype=torch.float64, generator=generator))
        assert value.shape[3:] == signal.value_shape
        assert float(value.min()) >= low - 1e-12 and float(value.max()) <= high + 1e-12


def _start(name: str, signal: str) -> torch.Tensor:
    found = signals(preset(name))[signal]
    raw = found.initial(torch.Generator().manual_seed(0))
    assert raw is not None
    return found(raw)


def test_values_start_as_the_literature_draws_them():
    assert torch.allclose(_start("mamba", "rate"), -torch.arange(1, 17, dtype=torch.float64).expand(64, 16))
    for name in ("mamba", "mamba2", "gated_delta_net", "s4d"):
        step = _start(name, "step")
        assert float(step.min()) >= 1e-3 and float(step.max()) <= 1e-1
    assert torch.allclose(_start("s4d", "frequency"), math.pi * torch.arange(16, dtype=torch.float64).expand(64, 16))
    assert torch.allclose(_start("s4d", "rate"), torch.full((64, 16), -0.5, dtype=torch.float64))
    radius = torch.exp(_start("lru", "log_decay"))
    assert float(radius.min()) >= 0.9 and float(radius.max()) <= 0.999
    decay = torch.exp(_start("rg_lru", "rate") * _start("rg_lru", "step")[..., :1])
    assert float(decay.min()) >= 0.87 and float(decay.max()) <= 0.9995
    assert torch.equal(_start("mamba2", "step"), _start("mamba2", "step"))


def test_an_s4_layer_starts_at_legs():
    """diag(rate + i frequency) - P P^* and its conjugates have the eigenvalues of -LegS, -1 ... -N."""
    found = signals(preset("s4", dim=4))
    A, P = (
        torch.complex(found[a].at(0, 1)[0, 0, 0], found[b].at(0, 1)[0, 0, 0])
        for a, b in (("rate", "frequency"), ("low_rank", "low_rank_imag"))
    )
    both = torch.cat([A, A.conj()]), torch.cat([P, P.conj()])
    matrix = torch.diag(both[0]) - both[1][:, None] * both[1].conj()
    eigenvalues = torch.linalg.eigvals(matrix).real.sort().values
    assert torch.allclose(eigenvalues, -torch.arange(8, 0, -1, dtype=torch.float64), atol=1e-6)


def test_functions_of_heads_and_tokens():
    angle = signals(preset("rope_attention", dim=8))["angle"].at(0, 5)
    assert torch.allclose(angle[0, 0, 0], -torch.tensor([10000.0 ** (-i / 4) for i in range(4)], dtype=torch.float64))
    slopes = signals(preset("alibi_attention", heads=8))["offset"].at(0, 5)
    assert torch.allclose(slopes[0, 0], -torch.tensor([2.0**-i for i in range(1, 9)], dtype=torch.float64))
    decay = signals(preset("retnet", heads=4))["decay"].at(0, 5)
    assert decay[0, 0].tolist() == [1 - 1 / 32, 1 - 1 / 64, 1 - 1 / 128, 1 - 1 / 256]
    turned = MixerSpec(name="x", positions=part("rope", base=100.0))
    phase = signals(turned)["phase"]
    assert phase.at(3, 5).shape == (1, 2, 1, 8)
    assert torch.allclose(phase.at(0, 5)[:, 3:], phase.at(3, 5))
    assert torch.allclose(phase.at(3, 4)[0, 0, 0], 3 * torch.tensor([100.0 ** (-i / 8) for i in range(8)]).double())
    matrix = signals(preset("hippo_legs", dim=3))["matrix"]
    assert torch.equal(matrix.at(2, 4), matrix.at(0, 4)[:, 2:])


def test_a_constant_can_be_learned_and_a_signal_made_otherwise():
    rope = preset("rope_attention", signals={"angle": {"source": "parameter"}})
    start = signals(rope)["angle"].initial()
    assert start is not None and torch.allclose(start, signals(preset("rope_attention"))["angle"].at(0, 1)[0, 0])
    reflecting = preset("delta_net", signals={"beta": {"scale": 2.0}})
    assert signals(reflecting)["beta"].bounds == (0.0, 2.0)
    fixed = preset("lightning_attention", signals={"log_decay": {"function": "alibi"}})
    assert signals(fixed)["log_decay"].source == "constant" and not signals(fixed)["log_decay"].trained


def test_the_base_of_a_rotation_is_changed():
    spec = preset("rope_attention", dim=8, signals={"angle": {"arguments": {"base": 100.0}}})
    want = -torch.tensor([100.0 ** (-i / 4) for i in range(4)], dtype=torch.float64)
    assert torch.allclose(signals(spec)["angle"].at(0, 5)[0, 0, 0], want)


def test_shares_lie_between_0_and_1_and_only_of_what_is_positive():
    positive, signed = (
        signals(MixerSpec(name="x", key=Vector(features=features, norm="sum")))["key"].bounds
        for features in ("exp", "silu")
    )
    assert positive == (0.0, 1.0) and signed == (-math.inf, math.inf)


def test_two_parts_keep_the_narrower_range():
    spec = MixerSpec(name="x", evolution=part("delta"), scaling=part("implicit"))
    assert signals(spec)["beta"].low == 0  # of implicit; a delta rule alone allows all
    with pytest.raises(InputError, match="signal beta: values from 0"):
        replace(spec, signals={"beta": {"transform": "tanh"}})


def test_a_function_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"function alibi has shape \(4,\) a token, the signal \(4, 16\)"):
        preset("gated_linear_attention", signals={"log_decay": {"function": "alibi"}})
    with pytest.raises(InputError, match="rope is a vector, the signal one number a head"):
        preset("lightning_attention", signals={"log_decay": {"function": "rope"}})


def test_a_parameter_says_where_it_starts():
    spec = MixerSpec(name="x", query=Vector(source="parameter", deviation=0.5), evolution=part("scalar"))
    raw = signals(spec)["query"].initial(torch.Generator().manual_seed(0))
    assert raw is not None and raw.shape == (4, 16) and 0.3 < float(raw.std()) < 0.7
    with pytest.raises(InputError, match="a parameter needs an init"):
        replace(signals(spec)["query"], init=None).initial()
    with pytest.raises(InputError, match="no function gives it"):
        signals(spec)["query"].at(0, 1)
