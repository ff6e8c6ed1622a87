"""Jamba through the library's scan is Jamba: logits, states and gradients, and nothing is left changed."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="module")
def jamba():
    import architectures

    model = architectures.jamba(seed=3)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def ids():
    return torch.randint(3, 259, (2, 40))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_logits_and_states_are_the_same(jamba, ids, dtype, bound):
    """In float64 too transformers writes with B in float32, which leaves its own rounding in the difference."""
    from scan import library_scan

    model = jamba.to(dtype).eval()
    with torch.no_grad():
        theirs = model(ids, use_cache=True)
        with library_scan():
            ours = model(ids, use_cache=True)
            step = model(ids[:, :1], past_key_values=ours.past_key_values).logits
        reference = model(ids[:, :1], past_key_values=theirs.past_key_values).logits
    jamba.float()
    assert float((ours.logits - theirs.logits).abs().max() / theirs.logits.abs().max()) < bound
    assert float((step - reference).abs().max() / reference.abs().max()) < bound


def test_gradients_are_the_same(jamba, ids):
    from scan import library_scan

    ids, gradients = ids[:, :24], []
    for ours in (False, True):
        jamba.zero_grad()
        if ours:
            with library_scan():
                jamba(ids, labels=ids, use_cache=False).loss.backward()
        else:
            jamba(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in jamba.named_parameters()})
    for name, want in gradients[0].items():
        assert float((gradients[1][name] - want).abs().max() / want.abs().max()) < 1e-4, name


def test_the_original_is_put_back_also_after_an_exception():
    from scan import library_scan, mamba_selective_scan
    from transformers.models.jamba import modeling_jamba

    original = modeling_jamba.mamba_selective_scan
    with library_scan():
        assert modeling_jamba.mamba_selective_scan is mamba_selective_scan
    assert modeling_jamba.mamba_selective_scan is original
    with pytest.raises(ZeroDivisionError), library_scan():
        _ = 1 / 0
    assert modeling_jamba.mamba_selective_scan is original
