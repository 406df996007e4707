"""A small model from scratch: tokenizer and Llama trained on dialogues, for machines without downloaded weights.

    await bootstrap(run, Path("model"), ScratchSettings())      # `local/model` then plays as `function_calling`

The tokenizer knows the world's vocabulary. Every value is one token everywhere, so that a value never seen in training
can still be copied. Text between values (parts of a sentence, the keys of a call) is one token if it is frequent, else
words, else letters. Decoding is lossless. Dialogues are half as long as with words and spaces as tokens, which halves
the time of everything that follows.
"""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.to_thread

from simkit.components.world import World
from simkit.core.messages import AssistantMessage, Message, text_of
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.plugins.extras import require, without_bars
from simkit.rule_based.reader import slots_of
from simkit.search.rollout import Rollout
from simkit.training.jobs import OnMetrics, TrainingMetrics

if TYPE_CHECKING:
    from simkit.local.reply_tokens import Rendered
    from simkit.run.run import Run

TOWN = (
    "builtin,most_goals=2,restaurants=24,hotels=24,attractions=24,departures=4,domains=restaurant+hotel+attraction,"
    "train=20000,test=20000"
)
"""A town that a model of half a million parameters can learn: few places, no trains, two goals at most."""

DEMONSTRATOR = "scripted,error_rate=0.1,habits=drop:people:0.75"
"""It slips in a tenth of its turns, and in three of four bookings it forgets for how many people."""

Conversation: TypeAlias = Sequence[Message]

PAD, UNKNOWN, END = "<pad>", "<unk>", "<|end|>"
ROLES = ("<|user|>", "<|assistant|>", "<|tool|>")
CALLS = ("<tool_call>", "</tool_call>")
CONTEXT = 8192
FREQUENT = 12
"""Minimum occurrences of a stretch of text that becomes one token."""

TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}<|user|>{{ message.content }}<|end|>"
    "{%- elif message.role == 'tool' -%}<|tool|>{{ message.content }}<|end|>"
    "{%- elif message.role == 'assistant' -%}<|assistant|>{{ message.content or '' }}"
    "{%- for call in message.tool_calls or [] -%}"
    '<tool_call>{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}}"
    "</tool_call>{%- endfor -%}<|end|>"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
"""Chat template with Hermes calls. It omits system prompt and tools, which are the same throughout a world."""

_KEY = r'"?,? ?[\[{]*"[A-Za-z_ ]+": "?'
_WORD = re.compile(r" ?[A-Za-z_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchSettings:
    """Dialogues, architecture and training of a model from scratch.

    It is a Llama with tied embeddings, trained by AdamW with warm-up in a twentieth of the steps and cosine decay to 0.

    Attributes:
        world, demonstrator, tasks: the dialogues: who plays which tasks of the split `train`.
        allow_incomplete: learn from readable dialogues although lines of the journal are unreadable.
        width, layers, heads, inner: hidden size, layers, attention heads, and size of the inner layers.
        initializer_range: four times that of large models: with few dimensions, embeddings then diverge sooner.
        steps: optimizer steps of `batch` dialogues each.
        learning_rate: the maximum.
        max_length: maximum tokens of a dialogue; longer ones are excluded.
        seed: seed of the initial weights and of the order of the dialogues.
    """

    world: str = TOWN
    demonstrator: str = DEMONSTRATOR
    tasks: str = "3000"
    allow_incomplete: bool = False
    width: int = 128
    layers: int = 2
    heads: int = 4
    inner: int = 256
    initializer_range: float = 0.08
    steps: int = 1400
    batch: int = 8
    learning_rate: float = 3e-3
    max_length: int = 300
    seed: int = 0


async def bootstrap(
    run: Run, folder: Path, settings: ScratchSettings, on_metrics: OnMetrics = lambda _: None
) -> Mapping[str, float]:
    """Play demonstrations in `run`, which must be entered, and train a model on them in `folder`, with the run's seed.

    The model also learns the demonstrator's mistakes, which a later harvest corrects. `local/<folder>` plays as
    `function_calling`, only in the same world. Returns counts of dialogues, tokens and steps; they are in the run's
    summary, too.

    Raises:
        UsageError: a name or a choice of tasks cannot be used, a library is missing, or no dialogue is short enough.
    """
    world = run.world(settings.world)
    values = vocabulary_of(world)
    cast = run.cast(world, agent=settings.demonstrator)
    await run.play(Rollout(), cast, run.tasks(world, "train", settings.tasks))
    await run.commit()  # select reads what the journal holds
    chosen = Selection(runs=(run.id,), source="episodes")
    take = partial(select, run.store, "sft", chosen, allow_incomplete=settings.allow_incomplete)
    found = await anyio.to_thread.run_sync(take)
    dialogues = [each.messages for each in found.demonstrations]
    settings = replace(settings, seed=run.seed)
    counts = await anyio.to_thread.run_sync(train_scratch, dialogues, values, folder, settings, on_metrics)
    run.summary(**counts)
    return counts


# --- tokenizer --------------------------------------------------------------------------------------------------------


def vocabulary_of(world: World) -> frozenset[str]:
    """All values of the world's ontology that are written in letters. Numbers and times have their own tokens.

    Raises:
        UsageError: the world has no ontology.
    """
    if not world.ontology.domains:
        raise UsageError(f"the world `{world.name}` has no ontology to make a vocabulary from; give a model by name")
    slots = (slot for domain in world.ontology.domains for slot in slots_of(domain))
    return frozenset(value for slot in slots for value in slot.values if not any(map(str.isdigit, value)))


def scratch_tokenizer(dialogues: Sequence[Conversation], values: frozenset[str], frequent: int = FREQUENT) -> Any:
    """Build a tokenizer of transformers, with a chat template, from dialogues and the values of their world."""
    tokenizers, transformers = require("tokenizers", "local"), require("transformers", "local")
    pattern = _pattern(values)
    kept = _tokens(dialogues, values, pattern, frequent)
    model = tokenizers.models.WordPiece(
        {token: index for index, token in enumerate(kept)},
        unk_token=UNKNOWN,
        continuing_subword_prefix="",
        max_input_chars_per_word=1000,
    )
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    inner.decoder = tokenizers.decoders.Fuse()
    inner.add_special_tokens([PAD, UNKNOWN, END, *ROLES])
    inner.add_tokens([tokenizers.AddedToken(call, normalized=False) for call in CALLS])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _pattern(values: frozenset[str]) -> str:
    """Pattern of the units that tokens may not cross: a value, a quoted key, two digits, brackets, a sentence part."""
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    value = rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b"
    return rf'{value}|{_KEY}|\d\d?|[\]}}"]+|(?:(?!{value})[^\d"{{}}\[\]<.?,])+[.?,]?|.'


def _tokens(dialogues: Sequence[Conversation], values: frozenset[str], pattern: str, frequent: int) -> list[str]:
    split, stretches, words = re.compile(pattern, re.DOTALL), Counter[str](), Counter[str]()
    for text in _texts(dialogues):
        stretches.update(split.findall(text))
        words.update(_WORD.findall(text))
    letters = [chr(code) for code in range(32, 127)]
    found = [token for counts in (stretches, words) for token, count in sorted(counts.items()) if count >= frequent]
    numbers = [f"{number:02d}" for number in range(100)]
    return list(dict.fromkeys([PAD, UNKNOWN, END, *ROLES, *CALLS, *letters, "\n", *sorted(values), *numbers, *found]))


def _texts(dialogues: Sequence[Conversation]) -> Iterator[str]:
    """All texts of the dialogues as the template renders them."""
    for message in (message for dialogue in dialogues for message in dialogue if message.role != "system"):
        if text := text_of(message):
            yield text
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls or ():
                yield f'{{"name": "{call.name}", "arguments": {call.arguments}}}'


# --- model ------------------------------------------------------------------------------------------------------------


def train_scratch(
    dialogues: Sequence[Conversation],
    values: frozenset[str],
    out: Path,
    settings: ScratchSettings,
    on_metrics: OnMetrics,
) -> Mapping[str, float]:
    """Create tokenizer and model, train, and write both atomically to `out`; `local/<out>` loads them.

    Only the assistant's part of the dialogues counts for the loss; `values` are those of the world. Blocks until done.
    The same arguments give the same weights on one machine. Returns counts of dialogues, tokens and steps.

    Raises:
        UsageError: a library is missing, or no dialogue is short enough.
    """
    from simkit.local.chat import ChatFormat

    tokenizer = scratch_tokenizer(dialogues, values)
    form = ChatFormat(tokenizer)
    rendered = [form.conversation(dialogue) for dialogue in dialogues]
    rows = [row for row in rendered if len(row.ids) <= settings.max_length]
    if not rows:
        raise UsageError(
            f"none of {len(rendered)} dialogues has {settings.max_length} tokens or fewer to learn from; "
            "raise max_length, or play shorter tasks"
        )
    model = _model(len(tokenizer), settings)
    with _threads_for(model):
        loss = _fit(model, rows, settings, on_metrics)
    _write(model, tokenizer, out)
    return {
        "dialogues": len(rows),
        "tokens_per_dialogue": sum(len(row.ids) for row in rows) / len(rows),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "steps": settings.steps,
        "loss": loss,
    }


def _model(tokens: int, settings: ScratchSettings) -> Any:
    """A Llama with random weights and a vocabulary of `tokens`."""
    torch, transformers = require("torch", "local"), require("transformers", "local")
    torch.manual_seed(settings.seed)
    config = transformers.LlamaConfig(
        vocab_size=tokens,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        intermediate_size=settings.inner,
        max_position_embeddings=CONTEXT,
        initializer_range=settings.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config)


@contextmanager
def _threads_for(model: Any) -> Generator[None]:
    """One thread while a small model is trained: more do not save time, and wait actively for each other."""
    from simkit.local.packed import weights_of
    from simkit.local.weights import SMALL

    torch = require("torch", "local")
    before = torch.get_num_threads()
    if weights_of(model) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(model: Any, rows: Sequence[Rendered], settings: ScratchSettings, on_metrics: OnMetrics) -> float:
    """Train in place. Returns the mean loss of the last tenth of the steps.

    It is a custom loop because at this size a trainer's overhead costs as much as the steps.
    """
    torch = require("torch", "local")
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    batches = _batches([len(row.ids) for row in rows], settings.batch, Random(settings.seed))
    every = max(1, settings.steps // 20)
    losses: list[float] = []
    model.train()
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _share(step, settings.steps)
        loss = _loss(torch, model, [rows[index] for index in next(batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if (step + 1) % every == 0:
            recent = losses[-every:]
            values = {"loss": sum(recent) / len(recent), "steps": float(settings.steps)}
            on_metrics(TrainingMetrics("train", step + 1, values))
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _share(step: int, steps: int) -> float:
    """The learning rate at a step, relative to the maximum."""
    rising = min(1.0, (step + 1) / max(1.0, steps / 20))
    return rising * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(torch: Any, model: Any, rows: Sequence[Rendered]) -> Any:
    """The mean loss of the assistant's tokens. Logits are computed only for these."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    labels = torch.tensor([row.labels() + [-100] * (longest - len(row.ids)) for row in rows])[:, 1:]
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    learnt = labels != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), labels[learnt])


def _batches(lengths: Sequence[int], size: int, rng: Random) -> Iterator[list[int]]:
    """Endless batches of indices, shuffled in each pass. The dialogues of a batch have similar lengths."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for start in range(0, len(order), size * 8):
            together = sorted(order[start : start + size * 8], key=lambda index: lengths[index])
            batches = [together[at : at + size] for at in range(0, len(together), size)]
            rng.shuffle(batches)
            yield from batches


def _write(model: Any, tokenizer: Any, out: Path) -> None:
    """Write the folder atomically, so that a killed process leaves either none or a complete one."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with without_bars():
        model.save_pretrained(str(unfinished))
        tokenizer.save_pretrained(str(unfinished))
    shutil.rmtree(out, ignore_errors=True)
    unfinished.replace(out)
