"""Every preset builds, runs, and agrees in all its forms; what has no recurrence says why."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mixerlens.design import PRESETS, part, preset
from mixerlens.design.forms import Forms, forms, token_by_token
from mixerlens.design.mixer import Mixer
from mixerlens.errors import InputError, UnsupportedError
from mixerlens.families import FAMILIES

SMALL = {"heads": 2, "dim": 4, "width": 3}
SHORT = {"hyena": {"dim": 24}, "long_convolution": {"dim": 24}}  # filters no longer than what they meet here
GROWS = {
    "softmax_attention", "rope_attention", "alibi_attention", "encoder_attention", "softcap_attention",
    "sink_attention", "grouped_query_attention", "sigmoid_attention", "differential_attention",
    "forgetting_transformer", "path_attention",
}  # fmt: skip


def small(name: str):
    """The preset in small sizes, where it lets its sizes be chosen."""
    whole = preset(name)
    changes = {k: v for k, v in SMALL.items() if k not in PRESETS[name]} | SHORT.get(name, {})
    try:
        return preset(name, **changes)
    except InputError:  # groups or planes that do not fit so few
        return whole


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_forms_of_every_preset_agree(name):
    found = forms(Mixer(small(name), 12, seed=3), lengths=(1, 19))
    assert found.agree, found.to_json()
    assert found.worst < 1e-10
    assert (found.recurrent is None) == (name in GROWS)
    if name in GROWS and name != "encoder_attention":
        assert "state-rank criterion" in found.refused and "at 1e-06" in found.refused


def test_every_family_has_a_preset():
    assert set(FAMILIES) <= set(PRESETS)


@pytest.mark.parametrize("name", ["based", "gated_delta_net", "rwkv6", "mamba2", "gated_linear_attention"])
def test_forms_agree_past_a_chunk(name):
    """At their default lengths: one more than a chunk of their evolution, where another algorithm runs."""
    found = forms(small(name))
    assert max(found.lengths) > 64 and found.agree, found.to_json()


def test_a_wrong_step_is_noticed(monkeypatch):
    """The record is of the mixer as it is: a step that forgets too much fails, and check at build time refuses."""
    from mixerlens.design import mixer as module

    kept = module.Mixer.step

    def forgetful(self, x, state):
        y, state = kept(self, x, state)
        held = tuple(dataclasses.replace(h, state=0.999 * h.state) for h in state.held)
        return y, dataclasses.replace(state, held=held)

    monkeypatch.setattr(module.Mixer, "step", forgetful)
    found = forms(small("linear_attention"), lengths=(9,))
    assert not found.agree and found.chunked[0] < 1e-12 < 1e-5 < found.recurrent[0]
    with pytest.raises(UnsupportedError, match=r"linear_attention: its forms differ by more than 1e-10 .*recurrent"):
        Mixer(small("linear_attention"), 8, check=True)


def test_check_at_build_time_passes_and_a_record_is_plain_data():
    mixer = Mixer(small("delta_net"), 8, seed=0, check=True)
    told = forms(mixer, torch.randn(1, 11, 8)).to_json()
    assert told["agree"] and told["lengths"] == [11] and told["refused"] is None
    assert set(told) >= {"measure", "labels", "chunked", "recurrent", "gradient"}


def test_lengths_must_be_there():
    with pytest.raises(InputError, match="between 1 and the 5 tokens"):
        forms(Mixer(small("delta_net"), 8), torch.randn(1, 5, 8), lengths=(6,))


def test_nan_does_not_agree():
    record = Forms("x", (1,), (float("nan"),), (0.0,), None, None)
    assert not record.agree


def test_windows_make_softmax_finite_and_relu_does_not():
    spec = dataclasses.replace(small("softmax_attention"), support=part("window", width=5))
    assert forms(spec, lengths=(17,)).recurrent[0] < 1e-12
    relu = dataclasses.replace(small("linear_attention"), readout=part("relu"))
    with pytest.raises(UnsupportedError, match="only polynomial readouts"):
        Mixer(relu, 8).initial_state(1)


def test_one_dimensional_relu_has_a_step():
    spec = dataclasses.replace(small("linear_attention"), dim=1, query=preset("retnet").query, readout=part("relu"))
    found = forms(spec, lengths=(17,))
    assert found.recurrent[0] < 1e-12


def test_the_recurrent_form_goes_on_from_any_token():
    mixer = Mixer(small("gated_delta_net"), 8, seed=1).double()
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    state = mixer.initial_state(2)
    for t in range(7):
        _, state = mixer.step(x[:, t], state)
    fork = state  # states are not changed by a step
    first, _ = mixer.step(x[:, 7], state)
    again, _ = mixer.step(x[:, 7], fork)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, token_by_token(mixer, x)[:, 7], rtol=0, atol=0)
