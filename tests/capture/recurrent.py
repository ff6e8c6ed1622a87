"""Tiny configurations of every recurrent, linear and hybrid family of transformers, each with all its mixer kinds.

name -> (configuration class, model class, what differs from `tiny.SMALL`); None removes an entry.
"""

from __future__ import annotations

from typing import Any

NO_ATTENTION = dict.fromkeys(["num_attention_heads", "num_key_value_heads", "intermediate_size"])
NESTED = NO_ATTENTION | dict.fromkeys(
    ["vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"]
) | dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id"])  # fmt: skip
GATED_DELTA = {
    "num_hidden_layers": 4,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
TWO_EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24}
SHARED_EXPERT = TWO_EXPERTS | {"shared_expert_intermediate_size": 24}
# every fourth layer is attention: two kinds within four layers
EVERY_FOURTH = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
MLA = {"num_key_value_heads": 4, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "v_head_dim": 10}
INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 128,
    "indexer_compress_ratio": 4,
}
SSD = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 2, "mamba_d_state": 8, "mamba_chunk_size": 8}

Row = tuple[str, str, dict[str, Any]]

FAMILIES: dict[str, Row] = {
    "mamba": ("MambaConfig", "MambaForCausalLM", NO_ATTENTION | {"state_size": 4}),
    "falcon_mamba": ("FalconMambaConfig", "FalconMambaForCausalLM", NO_ATTENTION | {"state_size": 4}),
    "mamba2": (
        "Mamba2Config",
        "Mamba2ForCausalLM",
        NO_ATTENTION | {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 8},
    ),
    "jamba": (
        "JambaConfig",
        "JambaForCausalLM",
        {
            "num_hidden_layers": 4,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
            "num_experts": 1,
            "num_experts_per_tok": 1,
        },
    ),
    "bamba": ("BambaConfig", "BambaForCausalLM", SSD | {"num_hidden_layers": 3, "attn_layer_indices": [1]}),
    "zamba": (
        "ZambaConfig",
        "ZambaForCausalLM",
        {
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
            "n_mamba_heads": 2,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        },
    ),
    "zamba2": (
        "Zamba2Config",
        "Zamba2ForCausalLM",
        {
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
            "n_mamba_heads": 4,
            "mamba_d_state": 8,
            "mamba_ngroups": 2,
            "chunk_size": 8,
            "use_mem_rope": True,
            "num_mem_blocks": 1,
            "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        },
    ),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        "RecurrentGemmaForCausalLM",
        {"num_hidden_layers": 3, "lru_width": 32, "head_dim": 8, "attention_window_size": 6, "conv1d_width": 4},
    ),
    "rwkv": (
        "RwkvConfig",
        "RwkvForCausalLM",
        {"num_attention_heads": None, "num_hidden_layers": 3, "rescale_every": 2, "context_length": 128},
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        "Qwen3NextForCausalLM",
        GATED_DELTA
        | {
            "full_attention_interval": 4,
            "mlp_only_layers": [0, 1, 2, 3],
            "num_experts": 2,
            "num_experts_per_tok": 1,
        },
    ),
    "qwen3_5": ("Qwen3_5TextConfig", "Qwen3_5ForCausalLM", GATED_DELTA),
    "qwen3_5_moe": ("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM", GATED_DELTA | SHARED_EXPERT),
    "qwen4_exp": (
        "Qwen4ExpTextConfig",
        "Qwen4ExpForCausalLM",
        GATED_DELTA
        | SHARED_EXPERT
        | INDEXER
        | {
            "hc_count": 2,
            "hc_lowrank": 8,
            "ple_layer_ids": [2],
            "ple_embed_dim": 16,
            "heads_per_ngram": 2,
            "ngram_vocab_size_base": 101,
            "make_ngram_vocab_size_divisible_by": 8,
            "split_ngram_parts": 1,
        },
    ),
    "olmo_hybrid": (
        "OlmoHybridConfig",
        "OlmoHybridForCausalLM",
        GATED_DELTA | {"linear_num_key_heads": 4, "linear_value_head_dim": 16, "layer_types": EVERY_FOURTH},
    ),
    "kimi_linear": (
        "KimiLinearConfig",
        "KimiLinearForCausalLM",
        MLA
        | {
            "num_hidden_layers": 4,
            "qk_rope_head_dim": 4,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "layer_types": EVERY_FOURTH,
            "moe_intermediate_size": 24,
            "num_local_experts": 2,
            "num_experts_per_token": 1,
        },
    ),
    "bailing_hybrid": (
        "BailingHybridConfig",
        "BailingHybridForCausalLM",
        MLA
        | {
            "num_hidden_layers": 4,
            "qk_rope_head_dim": 4,
            "head_dim": 8,
            "layer_group_size": 4,
            "moe_intermediate_size": 24,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "num_mtp_layers": 0,
        },
    ),
    "glm5_next": (
        "Glm5NextConfig",
        "Glm5NextForConditionalGeneration",
        {
            "text_config": MLA
            | {
                "vocab_size": 97,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "max_position_embeddings": 128,
                "pad_token_id": 0,
                "q_lora_rank": 16,
                "moe_intermediate_size": 24,
                "n_routed_experts": 2,
                "num_experts_per_tok": 1,
                "linear_head_dim": 8,
                "linear_num_heads": 4,
                "index_topk": 128,
                "index_kpool": 4,
                "index_head_dim": 8,
                "index_n_heads": 2,
                "hc_mult": 2,
                "initializer_range": 0.3,  # a nested configuration is out of reach of `tiny.stirred`
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 32,
                "num_heads": 4,
                "intermediate_size": 48,
                "out_hidden_size": 32,
                "projection_intermediate_size": 48,
                "image_size": 28,
            },
            "image_token_id": 90,
            "video_token_id": 91,
            "image_start_token_id": 92,
            "image_end_token_id": 93,
            "video_start_token_id": 94,
            "video_end_token_id": 95,
        }
        | NESTED,
    ),
    "minimax": (
        "MiniMaxConfig",
        "MiniMaxForCausalLM",
        {"num_local_experts": 2, "num_experts_per_tok": 1, "block_size": 8, "num_hidden_layers": 3},
    ),
    "falcon_h1": ("FalconH1Config", "FalconH1ForCausalLM", SSD | {"mamba_d_ssm": 64, "mamba_rms_norm": True}),
    "granitemoehybrid": (
        "GraniteMoeHybridConfig",
        "GraniteMoeHybridForCausalLM",
        SSD
        | {
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "shared_intermediate_size": 24,
            "attention_multiplier": 0.5,
        },
    ),
    "nemotron_h": (
        "NemotronHConfig",
        "NemotronHForCausalLM",
        {
            "num_hidden_layers": None,
            "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention"],
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 8,
            "head_dim": 8,
            "n_routed_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 24,
            "moe_shared_expert_intermediate_size": 24,
        },
    ),
    "lfm2": (
        "Lfm2Config",
        "Lfm2ForCausalLM",
        {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]},
    ),
    "lfm2_moe": (
        "Lfm2MoeConfig",
        "Lfm2MoeForCausalLM",
        TWO_EXPERTS
        | {"num_hidden_layers": 3, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]},
    ),
    "lfm3": (
        "Lfm3Config",
        "Lfm3ForCausalLM",
        {
            "num_hidden_layers": 4,
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": ["conv", "full_attention", "conv", "sliding_attention"],
        },
    ),
    "xlstm": (
        "xLSTMConfig",
        "xLSTMForCausalLM",
        NO_ATTENTION | {"num_heads": 4, "chunk_size": 8, "max_position_embeddings": None},
    ),
    "zaya": (
        "ZayaConfig",
        "ZayaForCausalLM",
        TWO_EXPERTS
        | {
            "head_dim": 8,
            "router_hidden_size": 8,
            "sliding_window": 6,
            "layer_types": ["hybrid", "hybrid_sliding"],
            "intermediate_size": None,
        },
    ),
}
