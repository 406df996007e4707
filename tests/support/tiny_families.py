"""Models of known families with random weights: their architecture, chat template and special tokens, but 2 layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simkit.plugins.extras import require
from support.byte_tokenizer import byte_tokenizer
from support.chat_templates import SPECIAL, template
from support.tiny_llama import tiny_config


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models: transformers' name of its architecture, and the tokens that its tokenizer has.

    Attributes:
        kind: `model_type` of its configuration.
        end: the tokenizer's end of sequence.
        ends: further tokens that end a reply, from its generation config.
        begin: the token that begins a conversation.
        tools: whether its chat template renders tools; without them the agent is `react`.
    """

    kind: str
    end: str
    ends: tuple[str, ...] = ()
    begin: str | None = None
    tools: bool = True


FAMILIES = {
    "qwen3": Family("qwen3", "<|im_end|>", ends=("<|endoftext|>",)),
    "llama3_1": Family("llama", "<|eot_id|>", ends=("<|end_of_text|>", "<|eom_id|>"), begin="<|begin_of_text|>"),
    "gemma3": Family("gemma3_text", "<eos>", ends=("<end_of_turn>",), begin="<bos>", tools=False),
}
"""By the names of TRL's templates. Mistral is missing: no package that simkit installs has its template."""


def write_family(folder: Path, name: str, *, seed: int = 0) -> Path:
    """Write a model of a family to a folder, with 2 layers of width 32; returns the folder."""
    torch, transformers = require("torch", "train"), require("transformers", "train")
    family, text = FAMILIES[name], template(name)
    marks = dict.fromkeys([*family.ends, *SPECIAL.findall(text)])
    tokenizer = byte_tokenizer(text, tuple(marks), family.end, family.begin)
    config = tiny_config(tokenizer, family.kind, head_dim=8, max_position_embeddings=8192)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids([family.end, *family.ends])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
