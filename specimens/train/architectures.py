"""The language-model specimens: two hybrids of about the same size over one byte vocabulary.

Both have four layers of width 128, the third of them softmax attention (4 heads, 2 key/value heads of 32), dense MLPs,
and tied embeddings; they differ in the other three layers: Mamba-1 (jamba) or the gated delta rule (qwen3_next).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BYTE_OFFSET = 3  # ByT5's ids: 0 padding, 1 end of text, 2 unknown, then the 256 bytes
END = 1
VOCABULARY = 256 + BYTE_OFFSET
CONTEXT = 4096
WIDTH = 128
LAYERS = 4
ATTENTION_LAYER = 2
SPECIAL = {"pad_token_id": 0, "eos_token_id": END, "bos_token_id": None}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with ByT5's ids: byte + 3, an end-of-text id appended to every text.

    Built as a tokenizer.json, a vocabulary of 256 bytes and no merges: transformers' automatic choice looks for that
    file with these model types, and passes ByT5's own class over.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    special = ["<pad>", "</s>", "<unk>"]
    visible = bytes_to_unicode()  # the character that stands for each byte in a byte-level vocabulary
    vocabulary = {token: i for i, token in enumerate(special)}
    vocabulary |= {visible[byte]: byte + BYTE_OFFSET for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def jamba(seed: int) -> PreTrainedModel:
    """Jamba with one expert a layer, that is a plain gated MLP. Float32, parameters a function of the seed."""
    from transformers import JambaConfig, JambaForCausalLM

    config = JambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_layer_period=LAYERS,
        attn_layer_offset=ATTENTION_LAYER,
        num_experts=1,
        num_experts_per_tok=1,
        mamba_d_state=16,
        mamba_d_conv=4,
        mamba_expand=2,
        mamba_dt_rank=8,
        max_position_embeddings=CONTEXT,
        initializer_range=0.04,
        tie_word_embeddings=True,
        **SPECIAL,
    )
    torch.manual_seed(seed)
    model = JambaForCausalLM(config)
    for layer in model.model.layers:
        if hasattr(layer, "mamba"):
            draw_steps(layer.mamba.dt_proj.bias)
    return model


def qwen3_next(seed: int) -> PreTrainedModel:
    """Qwen3-Next with dense MLPs in every layer. Float32, parameters a function of the seed."""
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    kinds = ["full_attention" if i == ATTENTION_LAYER else "linear_attention" for i in range(LAYERS)]
    config = Qwen3NextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=304,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4,
        layer_types=kinds,
        mlp_only_layers=list(range(LAYERS)),
        num_experts=0,
        max_position_embeddings=CONTEXT,
        initializer_range=0.04,
        tie_word_embeddings=True,
        **SPECIAL,
    )
    torch.manual_seed(seed)
    model = Qwen3NextForCausalLM(config)
    for layer in model.model.layers:
        if hasattr(layer, "linear_attn"):
            draw_steps(layer.linear_attn.dt_bias)
    return model


@torch.no_grad()
def draw_steps(bias: torch.Tensor) -> None:
    """Initial steps log-uniform in [1e-3, 1e-1], stored through the inverse of softplus, as both papers prescribe.

    transformers leaves this to the checkpoint; with its own values a layer starts with almost no memory (gated
    DeltaNet) or with one time scale (Mamba).
    """
    step = torch.exp(torch.empty_like(bias).uniform_(math.log(1e-3), math.log(1e-1)))
    bias.copy_(step + torch.log(-torch.expm1(-step)))


LANGUAGE_MODELS = {"jamba-bytes": jamba, "qwen3-next-bytes": qwen3_next}
