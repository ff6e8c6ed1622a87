"""From signals to dynamics: every option of a part against the plain matrix it stands for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from mixerlens import CoefficientDynamics, oracle_coefficients
from mixerlens.composition import Mixer
from mixerlens.design import PRESETS, MixerSpec, Vector, assemble, part, preset, signals
from mixerlens.errors import InputError

HEADS, DIM, TIME = 2, 4, 11
SIZES: dict[str, Any] = {"name": "x", "heads": HEADS, "dim": DIM, "width": 3}


def _values(spec: MixerSpec, seed: int = 0, time: int = TIME) -> dict[str, Tensor]:
    """Random values of every trained signal that the dynamics needs."""
    generator = torch.Generator().manual_seed(seed)
    trained = {n: s for n, s in signals(spec).items() if s.trained and s.dynamics}
    return {n: s.example(generator, 2, time) for n, s in trained.items()}


def _alpha(matrices: Tensor, query: Tensor, written: Tensor) -> Tensor:
    """q_i^T A_i ... A_{j+1} w_j by plain products; matrices (batch, time, heads, n, n)."""
    batch, time, heads, _ = torch.broadcast_shapes(matrices.shape[:-1], query.shape, written.shape)
    alpha = torch.zeros(batch, heads, time, time, dtype=query.dtype)
    matrices = matrices.expand(batch, time, heads, -1, -1)
    query, written = query.expand(batch, time, heads, -1), written.expand(batch, time, heads, -1)
    for j in range(time):
        u = written[:, j]
        for i in range(j, time):
            if i > j:
                u = (matrices[:, i] @ u.unsqueeze(-1)).squeeze(-1)
            alpha[:, :, i, j] = (query[:, i] * u).sum(-1)
    return alpha


def _close(found, want: Tensor, bar: float = 1e-12) -> None:
    got = found.operator().to_dense()
    assert float((got - want).abs().max() / want.abs().max()) < bar


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def _spec(evolution, **changes) -> MixerSpec:
    return MixerSpec.from_dict(SIZES | {"evolution": evolution} | changes)


DECAYS = {
    "log_decay": lambda v: torch.exp(v["log_decay"]),
    "decay": lambda v: v["decay"],
    "rate": lambda v: torch.exp(v["rate"] * (v["step"].unsqueeze(-1) if v["rate"].dim() == 4 else v["step"])),
    "update": lambda v: 1 - v["update"],
    "share": lambda v: v["forget_gate"] / (v["forget_gate"] + v["input_gate"]),
}


@pytest.mark.parametrize("form", DECAYS)
@pytest.mark.parametrize("kind", ["scalar", "diagonal"])
def test_every_form_of_a_decay(kind, form):
    spec = _spec(part(kind, decay=form))
    v = _values(spec)
    a = DECAYS[form](v)
    a = a.unsqueeze(-1).expand(-1, -1, -1, DIM) if kind == "scalar" else a
    _close(assemble(spec, v), _alpha(torch.diag_embed(a), v["query"], v["key"]))
    entering = replace(spec, key=Vector(source="evolution"))
    v.pop("key")
    _close(assemble(entering, v), _alpha(torch.diag_embed(a), v["query"], 1 - a))


@pytest.mark.parametrize("form", ["log_decay", "rate"])
def test_a_diagonal_with_frequencies_turns(form):
    spec = _spec(part("diagonal", decay=form, frequency=True), query=Vector(imaginary=True), key=Vector(imaginary=True))
    v = _values(spec)
    if form == "rate":
        log = torch.complex(v["rate"], v["frequency"]) * v["step"].unsqueeze(-1)
    else:
        log = torch.complex(*torch.broadcast_tensors(v["log_decay"], v["frequency"]))
    q, k = (torch.complex(v[n], v[f"{n}_imag"]) for n in ("query", "key"))
    _close(assemble(spec, v), _alpha(torch.diag_embed(torch.exp(log)), q, k))
    if form == "rate":
        rate = torch.complex(v["rate"], v["frequency"])
        held = (torch.exp(log) - 1) / rate
        _close(assemble(replace(spec, scaling=part("hold")), v), _alpha(torch.diag_embed(torch.exp(log)), q, held * k))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("by_step", [False, True])
def test_a_rotation_turns_the_first_planes(layout, by_step):
    options = {"decay": "rate", "layout": layout, "pairs": 1, "by_step": by_step}
    spec = _spec(part("rotation", **options), signals={"angle": {"source": "projection", "heads": HEADS}})
    v = _values(spec)
    angle = v["angle"][..., 0] * (v["step"] if by_step else 1)
    first, second = (0, DIM // 2) if layout == "half" else (0, 1)
    turn = torch.eye(DIM, dtype=torch.float64).expand(2, TIME, HEADS, DIM, DIM).clone()
    turn[..., first, first] = turn[..., second, second] = torch.cos(angle)
    turn[..., second, first], turn[..., first, second] = torch.sin(angle), -torch.sin(angle)
    decay = torch.exp(v["rate"] * v["step"])[..., None, None]
    _close(assemble(spec, v), _alpha(decay * turn, v["query"], v["key"]))


@pytest.mark.parametrize("direction", ["key", "own"])
@pytest.mark.parametrize("form", ["none", "rate"])
def test_a_delta_rule(direction, form):
    spec = _spec(part("delta", direction=direction, decay=form), scaling=part("inverse_sqrt_dim"))
    v = _values(spec)
    w = v["key"] if direction == "key" else v["direction"]
    A = torch.eye(DIM, dtype=torch.float64) - v["beta"][..., None, None] * _outer(w, w)
    A = A if form == "none" else torch.exp(v["rate"] * v["step"])[..., None, None] * A
    _close(assemble(spec, v), _alpha(A, v["query"], v["key"] / DIM**0.5))


OBLIQUE = list(
    product(
        ["key", "own"],
        ["same", "own", "scaled"],
        ["number", "read", "written"],
        [False, True],
        ["decay_first", "together"],
    )
)


@pytest.mark.parametrize(("direction", "erase", "strength", "per_dimension", "order"), OBLIQUE)
def test_every_oblique_correction(direction, erase, strength, per_dimension, order):
    options = {"direction": direction, "erase": erase, "strength": strength}
    spec = _spec(part("oblique", **options, per_dimension=per_dimension, order=order))
    v = _values(spec)
    w = v["key"] if direction == "key" else v["direction"]
    p = {"same": w, "own": v.get("feedback"), "scaled": w * v.get("feedback_scale", w[..., 0])[..., None]}[erase]
    if strength == "number":
        p = v["beta"][..., None] * p
    elif strength == "read":
        p = v["rates"] * p
    else:
        w = v["rates"] * w
    D = torch.exp(v["log_decay"])
    D = torch.diag_embed(D if per_dimension else D.unsqueeze(-1).expand(-1, -1, -1, DIM))
    exchange = _outer(w, p)
    A = D - exchange @ D if order == "decay_first" else D - exchange
    _close(assemble(spec, v), _alpha(A, v["query"], v["key"]))


@pytest.mark.parametrize("inner", ["identity", "scalar", "diagonal", {"kind": "delta", "decay": "rate"}])
def test_an_impulse_that_waits(inner):
    spec = _spec({"kind": "read_before_write", "inner": inner})
    v = _values(spec)
    plain = _spec(inner)
    E = _matrices(assemble(plain, {n: x for n, x in v.items() if n in signals(plain)}))
    alpha = torch.zeros(2, HEADS, TIME, TIME, dtype=torch.float64)
    for j in range(TIME):
        alpha[:, :, j, j] = (v["query"][:, j] * v["bonus"][:, 0] * v["key"][:, j]).sum(-1)
        u = v["key"][:, j]
        for i in range(j + 1, TIME):
            alpha[:, :, i, j] = (v["query"][:, i] * u).sum(-1)
            u = (E[:, i] @ u.unsqueeze(-1)).squeeze(-1)
    _close(assemble(spec, v), alpha)


def _matrices(d: Mixer) -> Tensor:
    """A_t by letting it act on the unit vectors: (batch, time, heads, n, n)."""
    assert isinstance(d, CoefficientDynamics)
    unit = torch.eye(d.dim, dtype=torch.float64).expand(2, HEADS, d.dim, d.dim)
    return torch.stack([d.evolution.step(unit, t).expand(2, HEADS, -1, -1) for t in range(d.time)], 1)


@pytest.mark.parametrize("inner", ["scalar", "diagonal", "rotation"])
def test_a_trapezoid_enters_at_two_tokens(inner):
    spec = _spec({"kind": "trapezoid", "inner": {"kind": inner, "decay": "rate"}})
    v = _values(spec)
    plain = _spec({"kind": inner, "decay": "rate"})
    E = _matrices(assemble(plain, {n: x for n, x in v.items() if n in signals(plain)}))
    w, step = v["trapezoid"], v["step"]
    now = _alpha(E, v["query"], (w * step).unsqueeze(-1) * v["key"])
    later = _alpha(E, v["query"], v["key"])
    # entered one token later: E_i ... E_{j+1} gain_{j+1} k_j, 0 at its own token
    gain = ((1 - w) * step).roll(-1, 1).transpose(1, 2)[:, :, None, :]
    _close(assemble(spec, v), now + (gain * later).tril(-1))


@pytest.mark.parametrize("inner", ["diagonal", {"kind": "delta", "direction": "own", "decay": "rate"}])
def test_several_writes_that_take_nothing_off(inner):
    spec = _spec({"kind": "writes", "micro_steps": 3, "inner": inner})
    v = _values(spec)
    plain = _spec(inner)
    single = {n: x for n, x in v.items() if n in signals(plain)} | {"key": v["key"][..., 0, :]}
    E = _matrices(assemble(plain, single))
    dense = assemble(spec, v).operator().to_dense().unflatten(1, (HEADS, 3))
    for m in range(3):
        want = _alpha(E, v["query"], v["gain"][..., m, None] * v["key"][..., m, :])
        assert float((dense[:, :, m] - want).abs().max() / want.abs().max()) < 1e-12


@pytest.mark.parametrize("scaling", ["beta", "implicit", "step", "input_gate"])
def test_a_diagonal_delta_forgets_what_it_writes(scaling):
    spec = _spec("diagonal_delta", scaling=scaling)
    v = _values(spec)
    b = v[scaling] if scaling != "implicit" else v["beta"] / (1 + v["beta"] * v["key"].square().sum(-1))
    A = torch.diag_embed(1 - b.unsqueeze(-1) * v["key"].square())
    _close(assemble(spec, v), _alpha(A, v["query"], b.unsqueeze(-1) * v["key"]))


def test_one_token_of_one_head():
    for evolution, scaling in (("diagonal_delta", "implicit"), ("bias", "beta"), ("delta", "beta")):
        spec = MixerSpec(name="x", heads=1, dim=DIM, evolution=part(evolution), scaling=part(scaling))
        v = {n: x[:1, :1] for n, x in _values(spec).items()}
        b = v["beta"] / (1 + v["beta"] * v["key"].square().sum(-1)) if scaling == "implicit" else v["beta"]
        _close(assemble(spec, v), (v["query"] * b.unsqueeze(-1) * v["key"]).sum(-1)[..., None])


def test_momentum_without_decay():
    spec = _spec(part("momentum", decay="none"), scaling=part("beta"))
    v = _values(spec)
    memory = moving = torch.zeros(2, HEADS, DIM, TIME, dtype=torch.float64)
    rows = []
    for t in range(TIME):
        k, beta = v["key"][:, t], v["beta"][:, t, :, None, None]
        value = torch.eye(TIME, dtype=torch.float64)[t].expand(2, HEADS, TIME)
        error = (k.unsqueeze(-2) @ memory).squeeze(-2) - value
        moving = v["momentum"][:, t, :, None, None] * moving - beta * _outer(k, error)
        memory = memory + moving
        rows.append((v["query"][:, t].unsqueeze(-2) @ memory).squeeze(-2))
    _close(assemble(spec, v), torch.stack(rows, 2))


def test_the_variance_of_the_state_stays():
    spec = _spec("diagonal", scaling=part("rest"))
    v = _values(spec)
    a = torch.exp(v["log_decay"])
    b = torch.sqrt(1 - a**2) * v["input_gate"].unsqueeze(-1)
    _close(assemble(spec, v), _alpha(torch.diag_embed(a), v["query"], b * v["key"]))


def test_the_bias_is_not_scaled_with_the_key():
    spec = _spec("bias", scaling=part("beta"), signals={"offset": {"source": "parameter"}})
    v = _values(spec)
    between = torch.tril(torch.arange(TIME)[:, None] - torch.arange(TIME)).double()
    scores = torch.einsum("bihn,bjhn->bhij", v["query"], v["beta"].unsqueeze(-1) * v["key"])
    _close(assemble(spec, v), (scores + v["offset"][0, 0][:, None, None] * between).tril())


def test_positions_outside_are_the_rotation_inside():
    inside = preset("rope_attention", heads=HEADS, dim=DIM)
    outside = preset("softmax_attention", heads=HEADS, dim=DIM, positions=part("rope"))
    v = _values(inside)
    _close(assemble(outside, v), assemble(inside, v).operator().to_dense())
    continued = assemble(outside, v, start=5)  # relative positions do not know where the sequence starts
    _close(continued, assemble(inside, v).operator().to_dense())


def test_taylor_features_are_based_without_its_readout():
    based = preset("based", heads=HEADS, dim=DIM, scaling=part("one"))
    lifted = MixerSpec.from_dict(
        SIZES | {"query": Vector(features="taylor"), "key": Vector(features="taylor"), "normalizer": part("row_sum")}
    )
    raw = {n: torch.randn(2, TIME, HEADS, DIM, dtype=torch.float64) / 2 for n in ("query", "key")}
    want = assemble(based, raw).operator().to_dense()
    assert lifted.state_dim == 1 + DIM + DIM * (DIM + 1) // 2
    _close(assemble(lifted, {n: signals(lifted)[n](x) for n, x in raw.items()}), want)


def test_constants_are_filled_in_and_may_be_given():
    spec = preset("rope_attention", heads=HEADS, dim=DIM)
    v = _values(spec)
    angle = signals(spec)["angle"].at(0, TIME)
    _close(assemble(spec, v | {"angle": angle}), assemble(spec, v).operator().to_dense(), 1e-15)
    unturned = assemble(spec, v | {"angle": torch.zeros(DIM // 2, dtype=torch.float64)})
    _close(unturned, assemble(preset("softmax_attention", heads=HEADS, dim=DIM), v).operator().to_dense())


def test_what_acts_outside_is_not_looked_at():
    spec = preset("gated_delta_net", heads=HEADS, dim=DIM)
    v = _values(spec)
    outside = {"value": torch.randn(2, TIME, HEADS, 16), "output_gate": torch.randn(2, TIME, HEADS, 16)}
    _close(assemble(spec, v | outside), assemble(spec, v).operator().to_dense(), 1e-15)


def test_leading_axes_may_be_left_out_and_a_length_be_told():
    spec = preset("s4d", heads=HEADS, dim=DIM)
    v = {n: x[0, 0] for n, x in _values(spec).items()}
    found = assemble(spec, v, length=7)
    assert (found.batch, found.time, found.heads) == (1, 7, HEADS)
    with pytest.raises(InputError, match="times 7, 11 do not fit"):
        assemble(preset("mamba2"), _values(preset("mamba2")), length=7)


def test_signals_are_checked():
    spec = preset("gated_delta_net", heads=HEADS, dim=DIM)
    v = _values(spec)
    bad: list[tuple[dict, str]] = [
        ({n: x for n, x in v.items() if n != "beta"}, "beta missing"),
        (v | {"betta": v["beta"]}, "'betta' is unknown; did you mean beta"),
        (v | {"beta": v["beta"][..., None]}, r"signal beta: shape \(2, 11, 2, 1\) must be \(batch, time, heads\)"),
        (v | {"key": v["key"][..., :3]}, r"signal key: shape .* \(batch, time, heads, 4\)"),
        (v | {"beta": v["beta"].repeat(1, 1, 3)}, "signal beta: 6 heads, the specification has 2"),
        (v | {"step": -v["step"]}, "signal step: .* is below 0"),
        (v | {"rate": -v["rate"]}, "signal rate: .* is above 0"),
        (v | {"beta": 0.5}, "signal beta: 0.5 must be a tensor"),
    ]
    for given, told in bad:
        with pytest.raises(InputError, match=told):
            assemble(spec, given)
    sink = preset("sink_attention", heads=HEADS, dim=DIM)
    given = _values(sink) | {"sink": torch.zeros(2, TIME, HEADS)}
    with pytest.raises(InputError, match=r"signal sink: shape .* one score for all tokens"):
        assemble(sink, given)


@pytest.mark.parametrize("name", ["retnet", "rwkv5", "rwkv6", "log_linear_attention", "hippo_legs", "mamba3", "mlstm"])
def test_a_sequence_is_continued_from_its_state(name):
    spec = preset(name, heads=HEADS, dim=DIM, width=3)
    v, cut = _values(spec), 4
    value = torch.randn(2, TIME, HEADS, 3, dtype=torch.float64)

    def part_of(lo: int, hi: int) -> dict:
        return {n: x if x.shape[1] == 1 else x[:, lo:hi] for n, x in v.items()}

    unit = torch.zeros(1, 1, HEADS, dtype=torch.float64)
    whole = assemble(spec, v, length=TIME, log_unit=unit)
    first = assemble(spec, part_of(0, cut), length=cut, log_unit=unit)
    second = assemble(
        spec, part_of(cut, TIME), length=TIME - cut, start=cut, before=part_of(cut - 1, cut), log_unit=unit
    )
    want = whole.operator() @ value
    if name == "mlstm":  # its eta has a state of its own: the numerators are compared
        none = replace(spec, normalizer=part("none"))
        whole, first = assemble(none, v, log_unit=unit), assemble(none, part_of(0, cut), log_unit=unit)
        second = assemble(none, part_of(cut, TIME), start=cut, log_unit=unit)
        want = whole.operator() @ value
    assert isinstance(first, CoefficientDynamics) and isinstance(second, CoefficientDynamics)
    _, state = first.operator().apply(value[:, :cut], return_state=True)
    got = second.operator().apply(value[:, cut:], initial_state=state)
    got = got[0] if isinstance(got, tuple) else got
    assert float((got - want[:, cut:]).abs().max() / want.abs().max()) < 1e-12


def test_a_data_dependent_wait_needs_the_token_before():
    spec = preset("rwkv6", heads=HEADS, dim=DIM)
    with pytest.raises(InputError, match="give ``before``"):
        assemble(spec, _values(spec), start=3)
    tree = preset("log_linear_attention", heads=HEADS, dim=DIM, evolution=part("fenwick", length=8))
    with pytest.raises(InputError, match=r"evolution.length: levels for 8 tokens, there are 11"):
        assemble(tree, _values(tree))


def test_an_exponential_input_gate_does_not_overflow():
    spec = preset("mlstm", heads=HEADS, dim=DIM)
    v = _values(spec)
    shifted = v | {"log_input": v["log_input"] + 300.0}
    alpha = assemble(spec, shifted).operator().to_dense()
    assert bool(torch.isfinite(alpha).all())
    want = oracle_coefficients(assemble(replace(spec, normalizer=part("floor", floor=0.0)), v))
    assert torch.allclose(alpha, want, rtol=1e-9, atol=1e-12)  # far above the floor it is the floor that goes
    with pytest.raises(InputError, match="log inputs span"):
        assemble(spec, v | {"log_input": v["log_input"] + 600.0})


@pytest.mark.parametrize("name", PRESETS)
def test_single_precision_stays(name):
    changes = {"dim": 16} if name in ("hyena", "long_convolution") else {}
    spec = preset(name, heads=1, **changes)
    v = {n: x.float() for n, x in _values(spec).items()}
    double = assemble(spec, {n: x.double() for n, x in v.items()}, length=TIME).operator().to_dense()
    single = assemble(spec, v, length=TIME).operator().to_dense()
    assert single.dtype in (torch.float32, torch.complex64)
    assert float((single - double).abs().max() / double.abs().max()) < 1e-6


def test_gradients_reach_every_signal():
    for name in ("gated_delta_net", "mamba", "s4", "rwkv6", "mamba3", "gated_slot_attention", "mesa_net", "mlstm"):
        spec = preset(name, heads=HEADS, dim=DIM, width=3)
        v = {n: x.clone().requires_grad_() for n, x in _values(spec).items()}
        value = torch.randn(2, TIME, HEADS, 3, dtype=torch.float64)
        (assemble(spec, v, length=TIME).operator() @ value).square().sum().backward()
        assert all(x.grad is not None and bool(torch.isfinite(x.grad).all()) for x in v.values()), name
        assert all(bool((x.grad != 0).any()) for x in v.values() if x.grad is not None), name
