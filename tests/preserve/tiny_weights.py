"""A tiny random language model over words, written by transformers itself."""

from __future__ import annotations

from pathlib import Path

from simkit.plugins.extras import require

SENTENCE = "the a cat dog sat ran on under mat tree and then . red green blue Answer : ?"
WORDS = ("[UNK]", "<s>", "</s>", *SENTENCE.split(" "))
CONTEXT = 32


def write_tiny_weights(folder: Path, *, even: bool = False) -> Path:
    """Write the model's files into a folder; `even` makes every next word equally likely."""
    torch, transformers, tokenizers = (require(each, "preserve") for each in ("torch", "transformers", "tokenizers"))
    ids = {word: number for number, word in enumerate(WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = transformers.LlamaForCausalLM(config)
    if even:
        torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
