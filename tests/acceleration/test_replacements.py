"""Every argument of the replaced functions, against the functions themselves and against plain loops."""

from importlib import import_module
from itertools import product

import pytest
import torch
import torch.nn.functional as F

import mixerlens as ml
from acceleration.models import float64_throughout, logits, relative, scope_of
from capture import tiny
from mixerlens.accelerate.dispatch import Dispatcher
from mixerlens.accelerate.replacements import REPLACEMENTS

TIME = 71
FILES = {"mamba_selective_scan": "mamba", "mamba2_chunk_scan": "mamba2", "torch_chunk_gated_delta_rule": "qwen3_next"}


def dispatcher(name):
    kind = FILES[name]
    return Dispatcher(vars(import_module(f"transformers.models.{kind}.modeling_{kind}")), name)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mamba_arguments(D=True, z=True, bias=True, softplus=True, state=True, step=1.0):
    """Two rows, six channels, three states."""
    dt = normal(2, 6, TIME, seed=1) if softplus else normal(2, 6, TIME, seed=1).abs()
    return {
        "hidden_states": normal(2, 6, TIME),
        "dt": dt * step,
        "A": -normal(6, 3, seed=2).exp(),
        "B": normal(2, 3, TIME, seed=3),
        "C": normal(2, 3, TIME, seed=4),
        "D": normal(6, seed=5) if D else None,
        "z": normal(2, 6, TIME, seed=6) if z else None,
        "delta_bias": normal(6, seed=7) if bias else None,
        "delta_softplus": softplus,
        "return_last_state": state,
    }


def mamba2_arguments(D=True, bias=True, softplus=True, limit=(0.0, float("inf")), start=True, state=True, step=1.0):
    """Two rows, four heads of five values in two groups, three states."""
    dt = normal(2, TIME, 4, seed=1) if softplus else normal(2, TIME, 4, seed=1).abs()
    return {
        "hidden_states": normal(2, TIME, 4, 5),
        "dt": dt * step,
        "A": -normal(4, seed=2).exp(),
        "B": normal(2, TIME, 2, 3, seed=3),
        "C": normal(2, TIME, 2, 3, seed=4),
        "chunk_size": 16,
        "D": normal(4, seed=5) if D else None,
        "dt_bias": normal(4, seed=6) if bias else None,
        "initial_states": normal(2, 4, 5, 3, seed=7) if start else None,
        "dt_softplus": softplus,
        "dt_limit": limit,
        "return_final_states": state,
    }


def delta_arguments(heads=4, norm=True, start=True, state=True, decay=1.0):
    """Two rows, two key heads, three keys, five values."""
    size = 1.0 if norm else 0.4
    return {
        "query": normal(2, TIME, 2, 3),
        "key": normal(2, TIME, 2, 3, seed=1) * size,
        "value": normal(2, TIME, heads, 5, seed=2),
        "g": -normal(2, TIME, heads, seed=3).abs() * decay,
        "beta": normal(2, TIME, heads, seed=4).sigmoid(),
        "chunk_size": 16,
        "initial_state": normal(2, heads, 3, 5, seed=5) if start else None,
        "output_final_state": state,
        "use_qk_l2norm_in_kernel": norm,
    }


both = (True, False)
CASES = [
    *(("mamba_selective_scan", mamba_arguments(*flags)) for flags in product(both, repeat=5)),
    *(("mamba_selective_scan", mamba_arguments(step=step)) for step in (0.0, 0.01, 40.0)),
    *(
        ("mamba2_chunk_scan", mamba2_arguments(D, bias, softplus, limit, start, state))
        for D, bias, softplus, start, state in product(both, repeat=5)
        for limit in ((0.0, float("inf")), (0.3, 0.9))
    ),
    *(("mamba2_chunk_scan", mamba2_arguments(step=step)) for step in (0.0, 0.01, 40.0)),
    *(
        ("torch_chunk_gated_delta_rule", delta_arguments(heads, *flags))
        for heads in (2, 4)
        for flags in product(both, repeat=3)
    ),
    *(("torch_chunk_gated_delta_rule", delta_arguments(decay=decay)) for decay in (0.0, 0.01, 60.0)),
]


def parts(returned):
    return [x for x in (returned if isinstance(returned, tuple) else (returned,)) if x is not None]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_outputs_states_and_gradients_are_the_functions(name, arguments):
    leaves = {k: x.requires_grad_() for k, x in arguments.items() if isinstance(x, torch.Tensor)}
    call = dispatcher(name).prepared("", (), arguments)
    with float64_throughout():
        wanted, found = parts(call.original()), parts(call.replacement())
        assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in wanted]
        assert len(found) == 1 + bool(arguments[REPLACEMENTS[name].state])
        gradients = [
            torch.autograd.grad([(x * normal(*x.shape, seed=9)).sum() for x in each], list(leaves.values()))
            for each in (found, wanted)
        ]
    assert all(relative(a, b) < 1e-12 for a, b in zip(found, wanted, strict=True))
    for parameter, a, b in zip(leaves, *gradients, strict=True):
        assert float((a - b).abs().max()) <= 1e-11 * max(float(b.abs().max()), 1e-3), parameter


def by_hand(name, a):
    """The recurrence one token after the other, as the papers write it: outputs (batch, time, ...) and the state."""
    ys = []
    if name == "mamba_selective_scan":
        dt = F.softplus(a["dt"] + a["delta_bias"][:, None])
        state = 0.0
        for t in range(TIME):
            step = dt[:, :, t, None]
            state = (step * a["A"]).exp() * state + step * a["B"][:, None, :, t] * a["hidden_states"][:, :, t, None]
            y = (state * a["C"][:, None, :, t]).sum(-1) + a["D"] * a["hidden_states"][:, :, t]
            ys.append(y * F.silu(a["z"][:, :, t]))
        return torch.stack(ys, 2), state
    if name == "mamba2_chunk_scan":
        dt = F.softplus(a["dt"] + a["dt_bias"]).clamp(*a["dt_limit"])
        state = a["initial_states"]
        B, C = (a[k].repeat_interleave(2, 2) for k in ("B", "C"))
        for t in range(TIME):
            step, x = dt[:, t, :, None, None], a["hidden_states"][:, t]
            state = (step * a["A"][:, None, None]).exp() * state + step * x[..., None] * B[:, t, :, None]
            ys.append((state * C[:, t, :, None]).sum(-1) + a["D"][:, None] * x)
        return torch.stack(ys, 1), state
    query, key = (a[k] / (a[k].square().sum(-1, keepdim=True) + 1e-6).sqrt() for k in ("query", "key"))
    query, key = query.repeat_interleave(2, 2), key.repeat_interleave(2, 2)
    state = a["initial_state"]
    for t in range(TIME):
        k, v, beta = key[:, t, :, :, None], a["value"][:, t, :, None], a["beta"][:, t, :, None, None]
        state = a["g"][:, t, :, None, None].exp() * state
        state = state + beta * k * (v - (k * state).sum(-2, keepdim=True))
        ys.append((query[:, t, :, :, None] * 3**-0.5 * state).sum(-2))
    return torch.stack(ys, 1), state


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mamba_selective_scan", mamba_arguments()),
        ("mamba2_chunk_scan", mamba2_arguments(limit=(0.3, 0.9))),
        ("torch_chunk_gated_delta_rule", delta_arguments()),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_against_plain_loops(name, arguments, dtype):
    given = {k: x.detach().to(dtype) if isinstance(x, torch.Tensor) else x for k, x in arguments.items()}
    wide = {k: x.double() if isinstance(x, torch.Tensor) else x for k, x in given.items()}
    bar = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 4 * torch.finfo(torch.bfloat16).eps}[dtype]
    call = dispatcher(name).prepared("", (), given)
    if dtype == torch.float64:
        with float64_throughout():
            found = call.replacement()
    else:
        found = call.replacement()
        plain = call.original()
        assert [x.dtype for x in found] == [x.dtype for x in plain]
    for a, b in zip(found, by_hand(name, wide), strict=True):
        assert relative(a, b) < bar


def kept_by(model, run):
    """What `run` gives plain and accelerated, and the one reason for which all calls were the library's."""
    plain = run()
    with ml.accelerate(model) as fast:
        found = run()
    assert not fast.replaced
    reasons = {why for each in fast.kept.values() for why in each}
    assert len(reasons) == 1
    return plain, found, reasons.pop()


def test_under_autocast_the_library_runs():
    model, ids = tiny.stirred("mamba2"), tiny.ids()

    def run():
        with torch.autocast("cpu", torch.bfloat16):
            return logits(model, ids)

    plain, found, why = kept_by(model, run)
    assert torch.equal(plain, found) and "autocast is on" in why


def test_under_forward_mode_the_library_runs():
    model = tiny.stirred("mamba")
    x, v = (normal(1, 9, 32, seed=k).float() for k in (0, 1))

    def run():
        return torch.func.jvp(lambda e: model(inputs_embeds=e, use_cache=False)[0], (x,), (v,))[1]

    plain, found, why = kept_by(model, run)
    assert torch.equal(plain, found) and plain.detach().abs().max() > 0 and "reverse mode only" in why


class Mixer(torch.nn.Module):
    """Looks the function up among the globals of this file, where `mixer` puts it."""

    def forward(self, *args, **kwargs):
        return mamba2_chunk_scan(*args, **kwargs)


@pytest.fixture
def mixer(monkeypatch):
    function = scope_of(tiny.build("mamba2"))["mamba2_chunk_scan"]
    monkeypatch.setitem(globals(), "mamba2_chunk_scan", function)
    return Mixer()


@pytest.fixture
def given():
    return {k: x.float() if isinstance(x, torch.Tensor) else x for k, x in mamba2_arguments().items()}


def test_a_class_of_ones_own_that_calls_the_function(mixer, given):
    plain = mixer(**given)
    with ml.accelerate(mixer) as fast:
        assert relative(mixer(**given)[0], plain[0]) < 1e-6
        # arguments that the function swallows are no obstacle
        assert relative(mixer(**given, position_ids=torch.arange(TIME))[0], plain[0]) < 1e-6
    assert fast.replaced == {"": 2} and not fast.kept


def test_arguments_that_are_not_covered_reach_the_function(mixer, given):
    plain = mixer(**given)
    with ml.accelerate(mixer) as fast:
        assert torch.equal(mixer(**given, z=torch.randn(2))[0], plain[0])  # which swallows it
        assert fast.kept == {"": {"z was given": 1}}
        for _ in range(2):
            with pytest.raises(ValueError, match="can't keep packed sequences apart"):
                mixer(**given, seq_idx=torch.zeros(2, TIME, dtype=torch.int32))
        assert fast.kept[""]["seq_idx was given"] == 2
        timed = [k for k, x in given.items() if torch.is_tensor(x) and x.shape[1:2] == (TIME,)]
        assert mixer(**given | {k: given[k][:, :0] for k in timed})[0].shape == (2, 0, 4, 5)
        assert "hidden_states is empty, (2, 0, 4, 5)" in fast.kept[""]
        three_groups = dict.fromkeys("BC", torch.randn(2, TIME, 3, 3))
        with pytest.raises(RuntimeError):
            mixer(**given | three_groups)
        assert any("must divide the 4 heads" in why for why in fast.kept[""])
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'chunk_size'"):
            mixer(**{k: x for k, x in given.items() if k != "chunk_size"})
    assert not fast.replaced


def test_a_compiled_model_is_the_plain_one():
    model, ids = tiny.stirred("mamba2", num_hidden_layers=1), tiny.ids(1, 5)
    plain = logits(model, ids)
    with ml.accelerate(model) as fast:
        compiled = torch.compile(model, backend="eager")
        assert relative(logits(compiled, ids), plain) < 1e-6
    assert not fast.replaced
