"""A tiny model of any type that transformers knows: its own default configuration with the sizes made small."""

from __future__ import annotations

from typing import Any

import torch

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
# size -> the names that configurations have for it
SIZES = {
    97: "vocab_size",
    32: "hidden_size d_model n_embd embed_dim dim embedding_size word_embed_proj_dim emb_dim",
    48: "intermediate_size ffn_dim d_ff n_inner ffn_hidden_size hidden_dim decoder_ffn_dim encoder_ffn_dim ffn_size "
    "intermediate_size_mlp dense_intermediate_size",
    24: "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size",
    4: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_attention_heads n_head n_heads "
    "num_heads encoder_attention_heads decoder_attention_heads num_experts n_routed_experts num_local_experts "
    "moe_num_experts rotary_dim",
    8: "head_dim d_kv attention_head_dim kv_channels qk_nope_head_dim index_topk index_head_dim",
    12: "v_head_dim",
    16: "q_lora_rank kv_lora_rank",
    128: "max_position_embeddings n_positions max_seq_len n_ctx seq_length max_sequence_length",
    2: "num_experts_per_tok moe_topk num_experts_per_token moe_k index_n_heads type_vocab_size n_group "
    "num_expert_group",
    1: "topk_group",
    6: "sliding_window",
}
SMALL = IDS | {name: size for size, names in SIZES.items() for name in names.split()} | {"qk_rope_head_dim": 4}
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "multi_query_group_num", "num_attention_groups")
# lists with an entry a layer: the configuration makes them anew for the smaller number of layers
BY_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "block_types", "no_rope_layers", "mlp_only_layers")


def text_types() -> list[str]:
    """The types of all causal and masked language models, sorted."""
    from transformers.models.auto import modeling_auto as auto

    return sorted({*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES})


def build(model_type: str, seed: int = 0) -> Any:
    """A tiny random language model of this type in evaluation mode, or None where these sizes do not make one."""
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(seed)
    try:
        kind = CONFIG_MAPPING[model_type]
        settings = kind(**_small(kind()))
        mappings = (auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_MASKED_LM_MAPPING)
        found = next(mapping[kind] for mapping in mappings if kind in mapping)
        found = found[0] if isinstance(found, tuple) else found
        with torch.device("meta"):
            if sum(p.numel() for p in found(settings).parameters()) > 3e7:
                return None
        return found(settings).eval()
    except Exception:  # of any type: its sizes have to fit each other in ways that only its own documentation says
        return None


def _small(config: Any) -> dict[str, Any]:
    given = {name: value for name, value in config.to_dict().items() if name not in BY_LAYER}
    whole = {name: value for name, value in given.items() if isinstance(value, int) and not isinstance(value, bool)}
    changed = {name: SMALL[name] for name in whole if name in SMALL}
    heads = given.get("num_attention_heads")
    latent = "kv_lora_rank" in given  # then there are as many key heads as query heads
    changed |= {name: 4 if latent or value == heads else 2 for name, value in whole.items() if name in KEY_HEADS}
    if "head_dim" in given or hasattr(config, "head_dim"):
        changed["head_dim"] = SMALL["qk_rope_head_dim" if "kv_lora_rank" in given else "head_dim"]
    for name in getattr(type(config), "sub_configs", None) or {}:
        part = getattr(config, name, None)
        if hasattr(part, "to_dict"):
            changed[name] = _small(part) | {"model_type": part.model_type}
    return changed
