"""A small model from nothing: tokenizer and Llama made from dialogues, for machines on which no weights can be assumed.

    folder = await bootstrap(run, Path("model"), seed=0)      # `local/model` then plays as `function_calling`

The tokenizer knows the world's vocabulary: every value is one token wherever it stands, so that a value never seen in
training can still be copied, and what stands between values (stretches of a sentence, the keys of a call) is one token
each where it is frequent, else words, else letters. Reading back loses nothing. Dialogues become half as long as with
words and spaces for tokens, and everything that follows twice as fast.
"""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.to_thread

from simkit.components.world import World
from simkit.core.messages import AssistantMessage, Message, text_of
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.rule_based.reader import slots_of
from simkit.search.rollout import Rollout
from simkit.training.jobs import Metrics, OnMetrics, ignore_metrics

if TYPE_CHECKING:
    from simkit.local.chat import Rendered
    from simkit.run.run import Run

Conversation: TypeAlias = Sequence[Message]

PAD, UNKNOWN, END = "<pad>", "<unk>", "<|end|>"
ROLES = ("<|user|>", "<|assistant|>", "<|tool|>")
CALLS = ("<tool_call>", "</tool_call>")
FREQUENT = 12
"""How often a stretch of text must occur to be a token of its own."""

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
"""Hermes calls. System prompt and tools are left out: in one world they never differ, and there is nothing to learn."""

_KEY = r'"?,? ?[\[{]*"[A-Za-z_ ]+": "?'
_WORD = re.compile(r" ?[A-Za-z_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The architecture: a Llama with tied embeddings.

    `initializer_range` is four times what large models take: with so few dimensions embeddings are told apart sooner.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    inner: int = 256
    context: int = 8192
    initializer_range: float = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """How a model is trained from nothing: AdamW with a warm-up of a twentieth and a cosine to zero.

    Attributes:
        steps: optimiser steps of `batch` dialogues each.
        learning_rate: the highest.
        max_length: tokens of a dialogue at most; longer ones are left out.
        seed: of the first weights and of the order of the dialogues.
    """

    steps: int = 1000
    batch: int = 8
    learning_rate: float = 3e-3
    max_length: int = 300
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """The dialogues to learn from: who demonstrates, where, and which tasks."""

    world: str = "builtin,most_goals=2"
    demonstrator: str = "scripted,error_rate=0.1,habits=drop:people:0.75"
    split: str = "train"
    tasks: str = "1500"


async def bootstrap(
    run: Run,
    folder: Path,
    seed: int,
    *,
    lessons: Lessons | None = None,
    shape: Shape | None = None,
    schooling: Schooling | None = None,
    on_metrics: OnMetrics = ignore_metrics,
    allow_incomplete: bool = False,
) -> Path:
    """Play demonstrations in `run`, which has been entered, and make a model of them in `folder`.

    The demonstrator's mistakes are learnt too: they are what a harvest is to repair. `local/<folder>` plays as
    `function_calling` in the same world, and in no other. The counts of `train_scratch` go into the run's summary.

    Raises:
        UsageError: a name or a choice of tasks cannot be used, or a library is missing.
    """
    lessons = lessons or Lessons()
    world = run.world(lessons.world)
    values = vocabulary_of(world)
    cast = run.cast(world, agent=lessons.demonstrator)
    await run.play(Rollout(), cast, run.tasks(world, lessons.split, lessons.tasks))
    await run.commit()  # select reads what the journal holds
    chosen = Selection(runs=(run.id,), source="episodes")
    take = partial(select, run.store, "sft", chosen, allow_incomplete=allow_incomplete)
    found = await anyio.to_thread.run_sync(take)
    job = ScratchJob(
        dialogues=tuple(each.messages for each in found.demonstrations),
        values=values,
        out=folder,
        shape=shape or Shape(),
        schooling=replace(schooling or Schooling(), seed=seed),
    )
    counts = await anyio.to_thread.run_sync(train_scratch, job, on_metrics)
    run.summary(**counts)
    return folder


# --- tokenizer --------------------------------------------------------------------------------------------------------


def vocabulary_of(world: World) -> frozenset[str]:
    """Every value of the world's ontology that is written in letters; numbers and times have tokens of their own.

    Raises:
        UsageError: the world has no ontology.
    """
    if not world.ontology.domains:
        raise UsageError(f"the world `{world.name}` has no ontology to make a vocabulary from; give a model by name")
    slots = (slot for domain in world.ontology.domains for slot in slots_of(domain))
    return frozenset(value for slot in slots for value in slot.values if not any(map(str.isdigit, value)))


def scratch_tokenizer(dialogues: Sequence[Conversation], values: frozenset[str], frequent: int = FREQUENT) -> Any:
    """A tokenizer of transformers, with a chat template, out of dialogues and the values of their world."""
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
    """What tokens may not reach over: a value, a key with its quotes, two digits, brackets, a part of a sentence."""
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
    """Every text of some dialogues as the template writes it."""
    for message in (message for dialogue in dialogues for message in dialogue if message.role != "system"):
        if text := text_of(message):
            yield text
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls or ():
                yield f'{{"name": "{call.name}", "arguments": {call.arguments}}}'


# --- model ------------------------------------------------------------------------------------------------------------


def scratch_model(tokens: int, shape: Shape, seed: int) -> Any:
    """A Llama with random weights for so many tokens."""
    torch, transformers = require("torch", "local"), require("transformers", "local")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=tokens,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=shape.context,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchJob:
    """A model to be made from nothing.

    Attributes:
        dialogues: what it learns to continue: the assistant's part of them.
        values: of the world, see `vocabulary_of`.
        out: the folder it is written to; `local/<out>` loads it.
    """

    dialogues: tuple[tuple[Message, ...], ...]
    values: frozenset[str]
    out: Path
    shape: Shape = field(default_factory=Shape)
    schooling: Schooling = field(default_factory=Schooling)


def train_scratch(job: ScratchJob, on_metrics: OnMetrics) -> Mapping[str, float]:
    """Make tokenizer and model, train, and write both to `job.out`, whole or not at all.

    Blocks; the same job gives the same weights on one machine. What is written counts dialogues, tokens and steps.

    Raises:
        UsageError: a library is missing, or no dialogue is short enough.
    """
    from simkit.local.chat import ChatFormat

    tokenizer = scratch_tokenizer(job.dialogues, job.values)
    form = ChatFormat(tokenizer)
    rendered = [form.conversation(dialogue) for dialogue in job.dialogues]
    rows = [row for row in rendered if len(row.ids) <= job.schooling.max_length]
    if not rows:
        raise UsageError(
            f"none of {len(rendered)} dialogues has {job.schooling.max_length} tokens or fewer to learn from; "
            "raise max_length, or play shorter tasks"
        )
    model = scratch_model(len(tokenizer), job.shape, job.schooling.seed)
    loss = _school(model, rows, job.schooling, on_metrics)
    _write(model, tokenizer, job.out)
    tokens = sum(len(row.ids) for row in rows) / len(rows)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    told = {
        "dialogues": len(rows),
        "tokens_per_dialogue": tokens,
        "parameters": parameters,
        "vocabulary": len(tokenizer),
    }
    return {**told, "steps": job.schooling.steps, "loss": loss}


def _school(model: Any, rows: Sequence[Rendered], schooling: Schooling, on_metrics: OnMetrics) -> float:
    """Train in place; returns the mean loss of the last tenth of the steps.

    A loop of its own because at this size a trainer's work between two steps costs as much as the steps.
    """
    torch = require("torch", "local")
    optimiser = torch.optim.AdamW(model.parameters(), lr=schooling.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    batches = _batches([len(row.ids) for row in rows], schooling.batch, Random(schooling.seed))
    every = max(1, schooling.steps // 20)
    losses: list[float] = []
    model.train()
    for step in range(schooling.steps):
        for group in optimiser.param_groups:
            group["lr"] = schooling.learning_rate * _share(step, schooling.steps)
        loss = _loss(torch, model, [rows[index] for index in next(batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if (step + 1) % every == 0:
            recent = losses[-every:]
            values = {"loss": sum(recent) / len(recent), "steps": float(schooling.steps)}
            on_metrics(Metrics("train", step + 1, values))
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _share(step: int, steps: int) -> float:
    """The learning rate at a step as a share of the highest."""
    rising = min(1.0, (step + 1) / max(1.0, steps / 20))
    return rising * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(torch: Any, model: Any, rows: Sequence[Rendered]) -> Any:
    """The mean loss of the assistant's tokens; logits are made for these alone."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    labels = torch.tensor([row.labels() + [-100] * (longest - len(row.ids)) for row in rows])[:, 1:]
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    learnt = labels != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), labels[learnt])


def _batches(lengths: Sequence[int], size: int, rng: Random) -> Iterator[list[int]]:
    """Batches of indices without end, each pass in another order; dialogues of a batch are about as long."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        for start in range(0, len(order), size * 8):
            together = sorted(order[start : start + size * 8], key=lambda index: lengths[index])
            batches = [together[at : at + size] for at in range(0, len(together), size)]
            rng.shuffle(batches)
            yield from batches


def _write(model: Any, tokenizer: Any, out: Path) -> None:
    """The whole folder at once, so that a killed process leaves none or a good one."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with _without_bars():
        model.save_pretrained(str(unfinished))
        tokenizer.save_pretrained(str(unfinished))
    shutil.rmtree(out, ignore_errors=True)
    unfinished.replace(out)


@contextmanager
def _without_bars() -> Generator[None]:
    """No progress bar of transformers for what takes no time."""
    bars = require("transformers", "local").utils.logging
    drawing = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if drawing:
            bars.enable_progress_bar()
