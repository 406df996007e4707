"""A GGUF file of a tiny Llama with random weights and a tokenizer of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simkit.plugins.extras import require
from support.tiny_llama import HERMES

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot|>")
END, TURN_END = 2, 3


def byte_tokens() -> list[str]:
    """The special tokens, and one for each byte as byte-level tokenizers write it."""
    alphabet = require("tokenizers", "local").pre_tokenizers.ByteLevel.alphabet()
    return [*SPECIAL, *sorted(alphabet), "th", "he"]


def llama_of(tokens: int) -> Any:
    """The model whose weights the file holds."""
    torch, transformers = require("torch", "local"), require("transformers", "local")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
    )
    return transformers.LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path, *, architecture: str = "llama", tokenizer: bool = True, template: str | None = HERMES
) -> Any:
    """Write the file; returns the model in it."""
    gguf = require("gguf", "local")
    tokens = byte_tokens()
    model = llama_of(len(tokens))
    writer = gguf.GGUFWriter(str(path), architecture)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
        writer.add_token_merges(["t h", "h e"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(END)
        writer.add_eot_token_id(TURN_END)
    if template is not None:
        writer.add_chat_template(template)
    for name, weight in tensors(model).items():
        writer.add_tensor(name, weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def tensors(model: Any) -> dict[str, Any]:
    """The weights under the names of llama.cpp, with the rows of queries and keys in its order."""
    found = {"token_embd.weight": model.model.embed_tokens.weight, "output_norm.weight": model.model.norm.weight}
    config = model.config
    for number, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        heads = {"q": (attention.q_proj, config.num_attention_heads), "k": (attention.k_proj, 2)}
        for name, (linear, count) in heads.items():
            weight = linear.weight
            turned = weight.view(count, 2, weight.shape[0] // count // 2, weight.shape[1]).transpose(1, 2)
            found[f"blk.{number}.attn_{name}.weight"] = turned.reshape(weight.shape).contiguous()
        others = {
            "attn_v": attention.v_proj,
            "attn_output": attention.o_proj,
            "ffn_gate": mlp.gate_proj,
            "ffn_up": mlp.up_proj,
            "ffn_down": mlp.down_proj,
            "attn_norm": layer.input_layernorm,
            "ffn_norm": layer.post_attention_layernorm,
        }
        found |= {f"blk.{number}.{name}.weight": part.weight for name, part in others.items()}
    return found
