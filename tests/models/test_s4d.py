"""The S4D classifier: its equation, its folder, and what it says of a folder that is not right."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mixerlens.errors import InputError, ModelError
from mixerlens.models.s4d import S4DClassifier, S4DConfig, load_s4d

SMALL = {"channels": 2, "classes": 3, "features": 6, "modes": 4, "layers": 2}


def by_hand(model: S4DClassifier, inputs: torch.Tensor) -> torch.Tensor:
    """The forward pass written out, GELU by erf, the system by its recurrence."""
    x = inputs @ model.encoder.weight.T + model.encoder.bias
    for layer in model.layers:
        u = x
        if model.config.norm == "layer":
            centred = x - x.mean(-1, keepdim=True)
            u = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * layer.norm.weight + layer.norm.bias
        family = layer.s4d.parameters_for_family()
        z = family["A"] * family["dt"][:, None]
        state, rows = torch.zeros(len(u), *z.shape, dtype=z.dtype), []
        for u_t in u.unbind(1):
            state = torch.exp(z) * state + (torch.exp(z) - 1) / family["A"] * family["B"] * u_t[..., None]
            rows.append(2 * (family["C"] * state).sum(-1).real + layer.s4d.D * u_t)
        y = torch.stack(rows, 1)
        gates = {"gelu": (1 + torch.erf(y / 2**0.5)) / 2, "silu": 1 / (1 + torch.exp(-y)), "identity": 1}
        g = y * gates[model.config.activation]
        if model.config.output != "none":
            g = g @ layer.output.weight.T + layer.output.bias
        if model.config.output == "glu":
            value, gate = g.chunk(2, -1)
            g = value / (1 + torch.exp(-gate))
        x = x + g
    return x.mean(1) @ model.head.weight.T + model.head.bias


@pytest.mark.parametrize("output", ["glu", "linear", "none"])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_forward_is_the_equation(output, norm):
    model = S4DClassifier(S4DConfig(**SMALL, output=output, norm=norm, explicit_b=norm == "layer")).double()
    inputs = torch.randn(3, 21, 2, dtype=torch.float64)
    want = by_hand(model, inputs).detach()
    assert float((model(inputs) - want).detach().abs().max() / want.abs().max()) < 1e-12
    single = model.float()(inputs)
    assert single.dtype == torch.float32
    assert float((single.double() - want).detach().abs().max() / want.abs().max()) < 1e-5


@pytest.mark.parametrize("activation", ["silu", "identity"])
def test_the_activation_is_the_one_asked_for(activation):
    model = S4DClassifier(S4DConfig(**SMALL, activation=activation)).double()
    inputs = torch.randn(3, 21, 2, dtype=torch.float64)
    want = by_hand(model, inputs).detach()
    assert float((model(inputs) - want).detach().abs().max() / want.abs().max()) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_folder_gives_the_model_back(tmp_path, dtype):
    model = S4DClassifier(S4DConfig(**SMALL, norm="layer", explicit_b=True, length=21)).to(dtype)
    model.save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    back = load_s4d(tmp_path / "m")
    assert back.config == model.config
    assert not back.training
    for saved, read in zip(model.parameters(), back.parameters(), strict=True):
        assert torch.equal(saved, read) and saved.dtype == read.dtype
    model.save(tmp_path / "m")  # over an older folder
    assert load_s4d(tmp_path / "m", dtype=torch.float64).head.weight.dtype == torch.float64
    inputs = torch.randn(2, 9, 2)
    load_s4d(tmp_path / "m")(inputs).sum().backward()  # a loaded model can be trained on


@pytest.fixture
def folder(tmp_path):
    S4DClassifier(S4DConfig(**SMALL)).save(tmp_path)
    return tmp_path


def change_config(folder, **changes):
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value != "remove"}))


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


FAULTS = {
    "no config.json": lambda f: (f / "config.json").unlink(),
    "no model.safetensors": lambda f: (f / "model.safetensors").unlink(),
    "truncated or no safetensors": lambda f: truncate(f / "model.safetensors"),
    "truncated": lambda f: (f / "model.safetensors").write_bytes(b""),
    "cannot be read as JSON": lambda f: truncate(f / "config.json"),
    "model_type 'llama'": lambda f: change_config(f, model_type="llama"),
    "unknown entries dropout": lambda f: change_config(f, dropout=0.1),
    "does not describe a model": lambda f: change_config(f, channels="remove"),
    "features must be a positive integer, not -6": lambda f: change_config(f, features=-6),
    "modes must be a positive integer, not 4.5": lambda f: change_config(f, modes=4.5),
    "output must be one of": lambda f: change_config(f, output="relu"),
    "step_range must be": lambda f: change_config(f, step_range=[0.1, "a"]),
    "lacks head.bias": lambda f: change_weights(f, lambda w: w.pop("head.bias")),
    "unexpected layers.9.x": lambda f: change_weights(f, lambda w: w.update({"layers.9.x": torch.ones(1)})),
    "lacks layers.2": lambda f: change_config(f, layers=3),
    r"\(6, 4\)": lambda f: change_weights(f, lambda w: w.update({"layers.0.s4d.frequency": torch.ones(6, 5)})),
    "torch.int64": lambda f: change_weights(f, lambda w: w.update({"head.bias": torch.ones(3, dtype=torch.int64)})),
    "head.bias has 1 of 3": lambda f: change_weights(f, lambda w: w["head.bias"][1].fill_(float("nan"))),
    "head.bias has 3 of 3": lambda f: change_weights(f, lambda w: w["head.bias"].fill_(float("inf"))),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_faulty_folder_is_named_in_one_line(folder, message):
    FAULTS[message](folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_s4d(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere has no config"):
        load_s4d(tmp_path / "nowhere")


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3), (2, 0, 2)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="2 channels"):
        S4DClassifier(S4DConfig(**SMALL))(torch.zeros(shape))
