"""A model's step with its cache: against the whole forward of every prefix, and against a model written by hand."""

from __future__ import annotations

import pytest
import torch

from design import by_hand
from mixerlens.design import Mixer, MixerSpec, Vector, part, preset
from mixerlens.design.model import ModelConfig, SequenceModel
from mixerlens.errors import InputError, UnsupportedError

SIZES = {"heads": 2, "dim": 4, "width": 3}
BAR = 1e-11
ROPE = MixerSpec(
    "turned", **SIZES, positions="rope", scaling="inverse_sqrt_dim", readout=part("exp"), normalizer=part("row_sum")
)
CUBIC = MixerSpec("cubic", **SIZES, readout=part("polynomial", coefficients=[0.5, 1.0, 0.0, 0.3]), evolution="scalar")
FILTER = part("causal", width=3)


def named(*names: str) -> tuple[MixerSpec, ...]:
    return tuple(preset(name, **SIZES) for name in names)


def moved(layers, **changes) -> SequenceModel:
    """Every parameter away from its initial value, so that none of them does nothing; float64."""
    given = {"layers": layers, "features": 12, "vocabulary": 11} | changes
    model = SequenceModel(ModelConfig(**given), seed=0).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return model


def ids(batch: int = 2, time: int = 14, seed: int = 5) -> torch.Tensor:
    return torch.randint(0, 11, (batch, time), generator=torch.Generator().manual_seed(seed))


def prefix_error(model: SequenceModel, tokens: torch.Tensor) -> float:
    """Largest difference of step t from the whole forward of the first t tokens, relative to the largest logit."""
    state, error, size = model.initial_state(len(tokens)), 0.0, 0.0
    with torch.no_grad():
        for t in range(tokens.shape[1]):
            row, state = model.step(tokens[:, t], state)
            whole = model(tokens[:, : t + 1])
            whole = whole[:, -1] if model.config.pool == "none" else whole
            error, size = max(error, float((row - whole).abs().max())), max(size, float(whole.abs().max()))
    return error / size


@pytest.mark.parametrize(
    ("layers", "changes"),
    [
        (named("gated_delta_net", "mamba2"), {}),
        (named("based"), {}),
        ((CUBIC, CUBIC), {}),
        (named("gated_delta_net", "softmax_attention"), {}),
        ((ROPE, preset("retnet", **SIZES)), {}),
        (named("rope_attention", "sliding_window_attention"), {}),
        (named("forgetting_transformer", "path_attention"), {}),
        (named("softcap_attention", "sink_attention"), {}),
        (named("differential_attention"), {}),
        (named("gated_slot_attention", "mesa_net", "rwkv6"), {}),
        (named("mlstm", "rwkv4"), {}),
        ((preset("softmax_attention", **SIZES, short_convolution=FILTER),), {}),
        (named("mamba2", "softmax_attention"), {"positions": "learned", "max_length": 14}),
        (named("mamba2", "softmax_attention"), {"pool": "last", "classes": 3}),
        (named("mamba2", "softmax_attention"), {"pool": "mean", "classes": 3}),
    ],
    ids=lambda x: "+".join(spec.name for spec in x) if isinstance(x, tuple) else ",".join(map(str, x.values())),
)
def test_step_by_step_is_the_whole_forward_of_every_prefix(layers, changes):
    assert prefix_error(moved(layers, **changes), ids()) < BAR


@pytest.mark.parametrize("readout", ["exp", "sigmoid", "relu", part("polynomial", coefficients=[1.0, 1.0, 0.5])])
@pytest.mark.parametrize("normalizer", ["none", "row_sum"])
def test_an_exponential_scaling_under_every_readout_reads_no_later_token(readout, normalizer):
    """Its unit may be taken out of alpha only where phi and eta let it."""
    spec = MixerSpec("gated", **SIZES, scaling="exp", readout=readout, normalizer=normalizer)
    assert prefix_error(moved((spec,)), ids()) < BAR


def test_channels_go_step_by_step_too():
    model = moved(named("gated_delta_net", "softmax_attention"), vocabulary=None, channels=3, classes=2)
    x = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert prefix_error(model, x) < BAR


@pytest.mark.parametrize("pool", ["none", "last", "mean"])
def test_in_pieces_it_is_the_whole(pool):
    model, tokens = moved(named("gated_delta_net", "softmax_attention"), pool=pool), ids(2, 13)
    found, state = [], None
    with torch.no_grad():
        whole = model(tokens)
        for lo, hi in ((0, 5), (5, 6), (6, 13)):
            out = model(tokens[:, lo:hi], state=state, use_cache=True)
            found, state = [*found, out.logits], out.state
    assert state is not None and state.position == 13 and state.growing == (1,)
    assert state.layers[1].tensors[0].shape == (2, 2, 4, 13)  # an impulse for every token
    last = torch.cat(found, 1) if pool == "none" else found[-1]
    torch.testing.assert_close(last, whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("layers", "equations", "positions"),
    [
        (named("gated_delta_net"), [by_hand.gated_delta_net], "none"),
        (named("mamba2"), [by_hand.mamba2], "learned"),
        (named("based"), [by_hand.based], "none"),
        ((*named("gated_delta_net"), ROPE), [by_hand.gated_delta_net, by_hand.rotary_softmax], "none"),
        ((*named("mamba2", "based"), ROPE), [by_hand.mamba2, by_hand.based, by_hand.rotary_softmax], "learned"),
    ],
    ids=lambda x: "+".join(s.name for s in x) if isinstance(x, tuple) else x if isinstance(x, str) else "",
)
def test_it_is_the_model_written_by_hand(layers, equations, positions):
    model, tokens = moved(layers, positions=positions, max_length=14), ids(1)
    weights = {name: x.numpy() for name, x in model.state_dict().items()}
    wanted = torch.from_numpy(by_hand.logits(weights, equations, SIZES["heads"], tokens[0].tolist()))
    state, rows = model.initial_state(1), []
    with torch.no_grad():
        for t in range(tokens.shape[1]):
            row, state = model.step(tokens[:, t], state)
            rows.append(row[0])
    assert float((torch.stack(rows) - wanted).abs().max() / wanted.abs().max()) < 1e-13


def test_where_later_tokens_change_earlier_answers_there_is_no_cache():
    for name, why in (("encoder_attention", "reads later tokens"), ("sigmoid_attention", "bias log_length")):
        model = moved(named("mamba2", name))
        out = model(ids(), use_cache=True)
        assert out.state is None and out.no_cache.startswith("layer 1: ") and why in out.no_cache
        with pytest.raises(UnsupportedError, match=why):
            model.initial_state(1)
    window = preset("sigmoid_attention", **SIZES, support=part("window", width=3))
    mixer = moved((window,)).blocks[0].mixer
    assert not mixer.recurrent
    with pytest.raises(UnsupportedError, match=r"give readout\.bias a number"):
        mixer.initial_state(1)
    assert prefix_error(moved((preset("sigmoid_attention", **SIZES, readout=part("sigmoid", bias=2.0)),)), ids()) < BAR


def test_a_mixer_alone_keeps_everything_only_where_that_is_asked_for():
    mixer = moved(named("softmax_attention")).blocks[0].mixer
    with pytest.raises(UnsupportedError, match="state-rank criterion"):
        mixer.initial_state(2)
    assert mixer.initial_state(2, growing=True).growing
    assert not moved(named("based")).blocks[0].mixer.initial_state(2, growing=True).growing


@pytest.mark.parametrize("readout", ["identity", "relu"])
@pytest.mark.parametrize("peak", [50.0, 1500.0])
def test_steps_refuse_what_the_whole_forward_refuses(readout, peak):
    """The token whose log input is the peak leaves the window: what is left would underflow in its unit."""
    softmax = Vector(features="softmax")
    mixer = Mixer(
        MixerSpec("x", heads=1, dim=2, width=2, readout=readout, normalizer="row_sum", scaling="exp",
                  support=part("window", width=2), query=softmax, key=softmax), 3, seed=0,
    ).double()  # fmt: skip
    with torch.no_grad():
        mixer.projections.get_submodule("log_input").weight.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        mixer.projections.get_submodule("log_input").bias.zero_()
        x = torch.randn(1, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x[:, :, 0] = 0
        x[0, 0, 0] = peak

        def steps():
            state, rows = mixer.initial_state(1), []
            for t in range(6):
                y, state = mixer.step(x[:, t], state)
                rows.append(y)
            return torch.stack(rows, 1)

        if peak > 354:
            for form in (steps, lambda: mixer(x)):
                with pytest.raises(InputError, match=r"log inputs.* span e\^1500"):
                    form()
        else:
            assert float((steps() - mixer(x)).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"support": part("window", width=3)}, "support window: slots hold all tokens"),
        ({"query": Vector(imaginary=True), "key": Vector(imaginary=True)}, "query and key must be real"),
    ],
)
def test_slots_refuse_what_their_softmax_or_their_state_cannot_do(changes, told):
    with pytest.raises(InputError, match=told):
        MixerSpec("x", **SIZES, evolution="diagonal", system=part("slots", slots=2), **changes)
