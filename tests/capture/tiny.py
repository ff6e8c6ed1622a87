"""Tiny random models, built from transformers' own configuration classes: real code paths, random weights."""

from __future__ import annotations

from typing import Any

import torch

from capture import recurrent

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# name -> (configuration class, model class, what differs from SMALL; None removes an entry)
CATALOGUE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"sliding_window": 5}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 8}),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {"head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    ),
    "gpt_oss": (
        "GptOssConfig",
        "GptOssForCausalLM",
        {"head_dim": 8, "sliding_window": 4, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {"num_key_value_heads": None}),
    "phi": ("PhiConfig", "PhiForCausalLM", {"num_key_value_heads": None}),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {"num_key_value_heads": None, "ffn_dim": 48, "intermediate_size": None, "word_embed_proj_dim": 32},
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        dict.fromkeys(SMALL)
        | {"vocab_size": 97, "n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "llama4": (
        "Llama4TextConfig",
        "Llama4ForCausalLM",
        {
            "head_dim": 8,
            "attention_chunk_size": 6,
            "num_local_experts": 2,
            "intermediate_size_mlp": 48,
            "num_hidden_layers": 4,
        },
    ),
    "bert": ("BertConfig", "BertForMaskedLM", {"num_key_value_heads": None}),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertModel",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128}
        | dict.fromkeys(
            ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
        ),
    ),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        {
            "num_key_value_heads": None,
            "local_attention": 8,
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
    "vit": (
        "ViTConfig",
        "ViTModel",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 12,
            "patch_size": 4,
        }
        | dict.fromkeys(
            [
                "vocab_size",
                "num_key_value_heads",
                "max_position_embeddings",
                "pad_token_id",
                "bos_token_id",
                "eos_token_id",
            ]
        ),
    ),
} | recurrent.FAMILIES


def config(name: str, **changes: Any) -> Any:
    """The configuration of a tiny `name` model, with changes."""
    import transformers

    kind, _, differs = CATALOGUE[name]
    settings = {k: v for k, v in (SMALL | differs | changes).items() if v is not None}
    return getattr(transformers, kind)(**settings)


def build(name: str, seed: int = 0, attention: str | None = None, dtype: torch.dtype = torch.float32, **changes: Any):
    """A tiny random model in evaluation mode; `attention` is the implementation ("sdpa", "eager")."""
    import transformers

    settings = config(name, **changes)
    if attention is not None:
        settings._attn_implementation = attention
    torch.manual_seed(seed)
    model = getattr(transformers, CATALOGUE[name][1])(settings)
    return model.to(dtype).eval()


def stirred(name: str, seed: int = 0, **changes: Any):
    """A tiny model whose mixers all matter: larger weights, and random ones where a class starts from a constant."""
    model = build(name, seed, initializer_range=0.3, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if weight.numel() > 1 and "norm" not in path and (weight == weight.flatten()[0]).all():
                inputs = weight[0].numel() if weight.dim() > 1 else 1
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype) / (2 * inputs**0.5))
    return model


def ids(batch: int = 1, time: int = 21, seed: int = 0, vocabulary: int = 97) -> torch.Tensor:
    """Random token ids (batch, time); the padding id 0 is left out."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, vocabulary, (batch, time), generator=generator)
