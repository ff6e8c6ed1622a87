"""Models of designed mixers: what comes out, token by token, training, and the folder they are kept in."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import mixerlens
from mixerlens.design import MixerSpec, part, preset
from mixerlens.design.mixer import Mixer
from mixerlens.design.model import ModelConfig, SequenceModel
from mixerlens.design.saved import load, save
from mixerlens.errors import InputError, ModelError, UnsupportedError

SIZES = {"heads": 2, "dim": 4, "width": 4}
HYBRID = (preset("gated_delta_net", **SIZES), preset("mlstm", **SIZES))


def model(layers=HYBRID, **changes) -> SequenceModel:
    return SequenceModel(ModelConfig(**{"layers": layers, "features": 16, "vocabulary": 11} | changes), seed=0)


def ids(batch: int = 2, time: int = 14) -> torch.Tensor:
    return torch.randint(0, 11, (batch, time), generator=torch.Generator().manual_seed(5))


def test_shapes_of_every_kind_of_answer():
    assert model()(ids()).shape == (2, 14, 11)
    assert model(classes=3, pool="mean")(ids()).shape == (2, 3)
    floats = model(vocabulary=None, channels=5, classes=4, pool="last")
    assert floats(torch.randn(2, 9, 5)).shape == (2, 4)
    assert model(vocabulary=None, channels=5, classes=4)(torch.randn(2, 9, 5)).shape == (2, 9, 4)


def test_no_later_token_reaches_an_earlier_answer():
    m, x = model(), ids()
    y = x.clone()
    y[:, 9:] = (y[:, 9:] + 1) % 11
    torch.testing.assert_close(m(x)[:, :9], m(y)[:, :9])
    assert float((m(x)[:, 9:] - m(y)[:, 9:]).detach().abs().max()) > 1e-3


def test_last_pool_is_the_last_of_all_answers():
    plain, pooled = model(classes=3), model(classes=3, pool="last")
    pooled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(pooled(ids()), plain(ids())[:, -1])


@pytest.mark.parametrize("positions", ["none", "learned"])
def test_token_by_token_is_the_whole(positions):
    m = model(positions=positions, max_length=20).double()
    x = ids()
    with torch.no_grad():
        whole, out = m(x), m(x[:, :6], use_cache=True)
        torch.testing.assert_close(out.logits, whole[:, :6], rtol=1e-9, atol=1e-11)
        rest = m(x[:, 6:], state=out.state)
    torch.testing.assert_close(rest.logits, whole[:, 6:], rtol=1e-9, atol=1e-11)
    assert rest.state.position == 14


def test_a_growing_layer_is_no_recurrence_and_its_mixer_says_why():
    m = model((HYBRID[0], preset("softmax_attention", **SIZES)))
    assert not m.recurrent and m.initial_state(1).growing == (1,)
    with pytest.raises(UnsupportedError, match=r"softmax_attention has no recurrent form: .*state-rank criterion"):
        m.blocks[1].mixer.initial_state(1)


def test_two_seeds_two_models_and_one_seed_one_model_that_leaves_torchs_own_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again = model(), model()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    other = SequenceModel(first.config, seed=1)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", ["softmax_attention", "gated_delta_net"])
def test_it_learns_to_repeat_what_it_read_one_token_ago(name):
    """A delay of one token needs the mixer: without it the best is a guess."""
    torch.manual_seed(0)
    m = model((preset(name, **SIZES), preset(name, **SIZES)), positions="learned", max_length=12)
    optimizer = torch.optim.AdamW(m.parameters(), 1e-2)
    losses = []
    for _ in range(130):
        x = torch.randint(0, 11, (16, 12))
        loss = nn.functional.cross_entropy(m(x)[:, 1:].flatten(0, 1), x[:, :-1].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 2.2 and losses[-1] < 1.0


def test_every_parameter_is_reached_by_the_gradient():
    m = model()
    m(ids()).square().sum().backward()
    assert [name for name, p in m.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_raw_parameters_start_where_the_specification_says():
    spec = preset("mamba2", **SIZES)
    mixer = Mixer(spec, 16, seed=0)
    signals = mixer.signals(torch.zeros(1, 3, 16))
    assert -16 <= float(signals["rate"].min().detach()) <= float(signals["rate"].max().detach()) <= -1
    assert 1e-3 <= float(signals["step"].min().detach()) <= float(signals["step"].max().detach()) <= 1e-1


# the folder


def test_saved_and_opened_it_is_the_same_model(tmp_path):
    m = model(positions="learned", max_length=20)
    save(m, tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.config == m.config and not again.training
    assert torch.equal(again(ids()), m.eval()(ids()))
    assert load(tmp_path / "m", torch.float64).head.weight.dtype == torch.float64


def test_an_opened_model_is_certified(tmp_path):
    save(model(), tmp_path / "m")
    lens = mixerlens.open(tmp_path / "m")
    assert [layer.path for layer in lens.layers] == ["layers.0.mixer", "layers.1.mixer"]
    assert lens.model_type == "mixerlens_designed" and not lens.not_captured
    trace = lens.trace(ids(1, 20))
    certificate = trace.verify()
    assert certificate.passed
    status = {(c.check, c.variant): c.status for c in certificate.checks}
    assert status["step", "plain"] == status["chunk", "plain"] == status["operator", "model"] == "pass"
    call = trace.mixers["layers.0.mixer"]
    mixed = call.operator() @ call.values
    torch.testing.assert_close(mixed, call.output, rtol=1e-4, atol=1e-5)


def test_a_step_that_goes_wrong_fails_the_certificate(tmp_path, monkeypatch):
    save(model(), tmp_path / "m")
    kept = Mixer.step
    monkeypatch.setattr(Mixer, "step", lambda self, x, state: kept(self, 1.01 * x, state))
    trace = mixerlens.open(tmp_path / "m").trace(ids(1, 20))
    assert not trace.verify(["step"]).passed


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 10**9}, "it does not fit|asks for"),
        ({"features": -1}, "features must be a positive integer"),
        ({"layers": []}, "at least one"),
        ({"layers": "x"}, "list of specifications"),
        ({"layers": [{"name": "x", "evolution": "spiral"}]}, "unknown"),
        ({"extra": 1}, "unknown entries extra"),
        ({"pool": "max"}, "pool must be one of"),
        ({"model_type": "llama"}, "model_type"),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path, change, message):
    save(model(), tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config_of(tmp_path / "m") | change))
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_bad_weights_are_one_line(tmp_path):
    save(model(), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = load_file(path)
    for change, message in (
        ({"head.weight": torch.full_like(weights["head.weight"], float("nan"))}, "not finite"),
        ({"other": torch.zeros(1)}, "unexpected other"),
        ({"head.weight": weights["head.weight"][:, :3].contiguous()}, "asks for"),
    ):
        save_file(weights | change, path)
        with pytest.raises(ModelError, match=message):
            load(tmp_path / "m")
    path.write_bytes(b"\x00" * 20)
    with pytest.raises(ModelError, match="no safetensors file"):
        load(tmp_path / "m")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ()}, "at least one"),
        ({"features": 0}, "features must be"),
        ({"channels": 3}, "exactly one of vocabulary"),
        ({"vocabulary": None, "channels": 3}, "needs classes"),
        ({"positions": "learned"}, "max_length"),
        ({"mlp_ratio": "x"}, "mlp_ratio"),
        ({"pool": "best"}, "pool must be one of"),
    ],
)
def test_bad_configurations_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        ModelConfig(**{"layers": HYBRID, "features": 16, "vocabulary": 11} | given)


def test_bad_inputs_are_refused():
    m = model(positions="learned", max_length=8)
    with pytest.raises(InputError, match="token ids"):
        m(torch.randn(1, 4))
    with pytest.raises(InputError, match="9 tokens, but there are learned positions for 8"):
        m(ids(1, 9))
    with pytest.raises(InputError, match="5 channels"):
        model(vocabulary=None, channels=5, classes=2)(torch.randn(1, 3, 4))
    with pytest.raises(InputError, match="16 features"):
        m.blocks[0].mixer(torch.randn(1, 3, 4))
    with pytest.raises(InputError, match="features must be a positive integer"):
        Mixer(MixerSpec("x"), 0)


def test_the_specification_survives_the_folder(tmp_path):
    spec = preset("retnet", **SIZES, evolution=part("rotation", decay="log_decay"), signals={})
    save(model((spec,)), tmp_path / "m")
    assert load(tmp_path / "m").config.layers == (spec,)
