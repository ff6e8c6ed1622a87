"""mixerlens's own S4D models: recorded by a hook, exact against the sequential recurrence."""

import pytest
import torch

import mixerlens as ml
from capture.judge import error, mixed_share
from mixerlens.models.s4d import S4DClassifier, S4DConfig


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("explicit_b", [False, True])
def test_a_folder_is_opened_and_its_layers_recorded(tmp_path, dtype, explicit_b):
    torch.manual_seed(0)
    model = S4DClassifier(S4DConfig(channels=3, classes=5, features=6, modes=4, layers=2, explicit_b=explicit_b))
    model.save(tmp_path)
    lens = ml.open(tmp_path, dtype=dtype)
    assert lens.model_type == "mixerlens_s4d"
    assert [(i.index, i.path, i.kind, i.family) for i in lens.layers] == [
        (0, "layers.0.s4d", "convolution", "s4d"), (1, "layers.1.s4d", "convolution", "s4d")
    ]  # fmt: skip
    inputs = torch.randn(2, 33, 3)
    trace = lens.trace(inputs)
    torch.testing.assert_close(trace.logits.float(), model(inputs), atol=1e-5, rtol=1e-5)
    for call in trace.mixers.values():
        assert call.values.shape == call.skip.shape == call.output.shape == (2, 33, 6, 1)
        assert call.arguments["length"] == 33
        assert call.cast_by is None
        assert mixed_share(call) > 1e-2
        assert error(call) < (1e-12 if dtype == "float64" else 1e-5)


def test_the_module_in_memory_is_left_without_hooks():
    model = S4DClassifier(S4DConfig(channels=1, classes=2, features=3, modes=2, layers=1)).train()
    ml.open(model).trace(torch.randn(1, 9, 1))
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
