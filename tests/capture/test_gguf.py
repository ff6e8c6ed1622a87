"""Reading a .gguf file quickly: the same numbers, one reading, and both libraries as they were afterwards."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

import mixerlens as ml
from mixerlens.capture.gguf import quick_reading
from mixerlens.errors import ModelError

gguf = pytest.importorskip("gguf")
HIDDEN, FEED, HEADS, WORDS = 32, 64, 4, 40


@pytest.fixture
def file(tmp_path):
    """A llama of one layer with random weights and a vocabulary of WORDS tokens."""
    draw = np.random.default_rng(0)
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(WORDS)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([chr(97 + k % 26) * (1 + k // 26) for k in range(WORDS)])
    writer.add_token_scores([-float(k) for k in range(WORDS)])
    writer.add_token_types([1] * WORDS)
    writer.add_token_merges([])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    sizes = {
        "token_embd": (WORDS, HIDDEN),
        "output": (WORDS, HIDDEN),
        **{f"blk.0.attn_{k}": (HIDDEN, HIDDEN) for k in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (FEED, HIDDEN),
        "blk.0.ffn_up": (FEED, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, FEED),
    }
    for name, shape in sizes.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape, dtype=np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "tiny.gguf"


def test_a_model_is_read_once_and_as_the_library_reads_it(file, monkeypatch):
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name)
    readings = []
    original = gguf.GGUFReader.__init__
    monkeypatch.setattr(
        gguf.GGUFReader, "__init__", lambda self, *a, **k: readings.append(1) or original(self, *a, **k)
    )
    lens = ml.open(file)
    assert len(readings) == 1
    mine = lens.model.state_dict()
    assert mine.keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, mine[name]), name
    ids = torch.arange(2, 12)[None]
    assert torch.equal(lens.trace(ids).logits, plain.eval()(ids).logits)
    assert lens.tokenizer is not None and len(lens.tokenizer) >= WORDS


def test_the_libraries_are_left_as_they_were(file):
    from transformers import modeling_gguf_pytorch_utils as reading

    before = gguf.GGUFReader, gguf.get_tensor_name_map, reading.tqdm
    file.with_name("broken.gguf").write_bytes(file.read_bytes()[:100])
    for name in ("broken.gguf", file.name):
        with quick_reading():
            assert gguf.GGUFReader is not before[0]
        with contextlib.suppress(ModelError):
            ml.open(file.with_name(name))
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, reading.tqdm) == before
