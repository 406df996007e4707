"""Training examples straight from a store: which episodes, which of their messages, and what is left out.

    chosen = Selection(runs=("last",), where="world = 'toolwoz' and turns < 10", max_per_task=2)
    examples = select(store, "sft", chosen)

`golden` takes the harvest of JOSH runs: the golden conversations (SFT), the golden messages and what was tried beside
them (KTO), pairs of the two (DPO). `episodes` takes the final conversation of any scored episode, so that filtered
rollouts are one call (`where="reward >= 1"`), and as much unfiltered data another one (`limit=n`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias, TypeVar, get_args

import duckdb

from simkit.data.contents import Content
from simkit.data.examples import (
    Demonstration,
    Example,
    ExampleSet,
    Judged,
    Kind,
    Origin,
    Pair,
    example_digest,
    prompt_digest,
)
from simkit.data.paths import Conversation, ConversationReader, Lost, Step
from simkit.errors import UsageError
from simkit.store import Reader, ReadState, Store

Source: TypeAlias = Literal["golden", "episodes"]
E = TypeVar("E", Demonstration, Judged, Pair, Example)
Errors: TypeAlias = Literal["drop", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which examples to take.

    Attributes:
        runs: ids, names or beginnings of them, or `last`; a run that is made of parts brings those of its parts that
            have episodes when it has none itself.
        source: `golden` for the harvest of trees (episodes with reward 1), `episodes` for final conversations.
        where: a condition in SQL over the view `episode_facts` (`run_id, name, stage, task_id, trial, world, split,
            agent, model, reward, success, outcome, turns, faults, ...`).
        max_per_task: examples of one task at most; tasks are the same that contain the same, whatever they are called.
        limit: examples at most.
        seed: which are taken when there are more.
        errors: what becomes of a conversation with an error marker of the agent's own making (`ERROR:`, `Error:`,
            `FAILURE` in what it or its tools said): by default golden ones are dropped and episodes are kept.

    Raises:
        UsageError: no runs, an unknown source, or a number below 1.
    """

    runs: tuple[str, ...] = ("last",)
    source: Source = "golden"
    where: str | None = None
    max_per_task: int | None = None
    limit: int | None = None
    seed: int = 0
    errors: Errors | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("a selection needs a run; name one, or `last`")
        if self.source not in get_args(Source):
            raise UsageError(f"{self.source!r} is no source of examples; take one of {', '.join(get_args(Source))}")
        for name, number in (("max_per_task", self.max_per_task), ("limit", self.limit)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}; it must be at least 1, or None for no bound")

    @property
    def drops_errors(self) -> bool:
        """Whether conversations with error markers are dropped."""
        return self.source == "golden" if self.errors is None else self.errors == "drop"


def select(
    store: Store | Reader, kind: Kind, selection: Selection | None = None, *, allow_incomplete: bool = False
) -> ExampleSet:
    """The examples of a kind that a selection names, without duplicates, in the order of runs, tasks and trials.

    Messages are as the agent's model was sent them: user messages in a row are one, empty answers are left out, tools
    are those of the requests (none for agents that are told of them in words). `removed` of the set counts, by reason:
    `unscored` episodes (faults, no goals), `error_markers`, `broken_calls` (conversations for SFT in which the model
    was shown its call otherwise than it wrote it), `empty`, `duplicates`, `contradictions` (undesirable, but desirable
    elsewhere after the same prompt), `over_max_per_task`, `over_limit`.

    A run that is still running gives what it has recorded so far; `selected` says up to where that was.

    Args:
        allow_incomplete: take what could be read although lines of the runs are missing or damaged.

    Raises:
        UsageError: there is no such run, the condition is wrong, or a kind that the source cannot give.
        StoreIncomplete: the journals of the runs hold lines that could not be read.
        StoreError: the store cannot be read.
    """
    return selected(store, kind, selection, allow_incomplete=allow_incomplete)[0]


def selected(
    store: Store | Reader,
    kind: Kind,
    selection: Selection | None = None,
    *,
    allow_incomplete: bool = False,
    finished: bool = False,
) -> tuple[ExampleSet, ReadState]:
    """What `select` gives, and the state of the runs that it was read from.

    Args:
        finished: the runs must have come to their end, because what is made of the examples stays.
    """
    selection = selection or Selection()
    if kind not in get_args(Kind):
        raise UsageError(f"{kind!r} is no kind of training data; take one of {', '.join(get_args(Kind))}")
    if selection.source == "episodes" and kind != "sft":
        raise UsageError(
            f"single conversations hold no {kind} examples: nothing was tried beside what was said; "
            "take them from the golden source of a `josh` run, or take sft"
        )
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        runs = _run_ids(reader, selection.runs)
        state = reader.require_complete(runs, f"a selection of {kind} examples", finished=finished)
        return _selected(ConversationReader(reader), kind, selection, runs), state


def _selected(reader: ConversationReader, kind: Kind, selection: Selection, runs: Sequence[str]) -> ExampleSet:
    removed: Counter[str] = Counter()
    conversations = _conversations(reader, selection, runs, removed)
    match kind:
        case "sft":
            examples = _demonstrations(conversations, removed)
        case "kto":
            examples = _judged(conversations, _lost(reader, conversations), removed)
        case "dpo":
            judged = _judged(conversations, _lost(reader, conversations), removed)
            examples = _pairs(_unique(judged, removed))
    kept = bound(_unique(list[Example](examples), removed), selection, removed)
    return ExampleSet(kind, kept, {reason: count for reason, count in sorted(removed.items()) if count})


def _run_ids(reader: Reader, names: Sequence[str]) -> tuple[str, ...]:
    """The runs by id, each once; a run without episodes stands for its parts."""
    found: list[str] = []
    for name in names:
        run = reader.resolve(name)
        parts = [each.run_id for each in reader.runs() if each.part_of == run.run_id and each.episodes]
        found += [run.run_id] if run.episodes or not parts else parts
    return tuple(dict.fromkeys(found))


def _conversations(
    reader: ConversationReader, selection: Selection, runs: Sequence[str], removed: Counter[str]
) -> list[Conversation]:
    found = reader.conversations(runs, selection.source, _condition(selection.where), removed)
    if not selection.drops_errors:
        return found
    kept = [conversation for conversation in found if not conversation.erroneous]
    removed["error_markers"] += len(found) - len(kept)
    return kept


def _condition(where: str | None) -> str:
    """The condition as a subquery takes it.

    Raises:
        UsageError: it is not one condition in SQL.
    """
    if where is None or not where.strip():
        return "true"
    try:
        statements = duckdb.extract_statements(f"SELECT 1 WHERE (\n{where}\n)")
    except duckdb.Error as error:
        raise UsageError(
            f"the condition {where!r} is not SQL ({str(error).splitlines()[0]}); "
            "write one like: reward >= 1 and world = 'toolwoz'"
        ) from error
    if len(statements) != 1:
        raise UsageError(f"the condition {where!r} holds several statements; write one condition")
    return where


def _lost(reader: ConversationReader, conversations: Sequence[Conversation]) -> list[Lost]:
    return reader.lost([conversation.episode_id for conversation in conversations])


def _demonstrations(conversations: Iterable[Conversation], removed: Counter[str]) -> list[Demonstration]:
    examples: list[Demonstration] = []
    for conversation in conversations:
        if conversation.broken_calls:
            removed["broken_calls"] += 1
        elif not conversation.steps:
            removed["empty"] += 1
        else:
            last = conversation.steps[-1]
            origin = conversation.origin(last.branch_id, last.seq)
            examples.append(Demonstration(messages=conversation.seen, tools=conversation.tools, origin=origin))
    return examples


@dataclass(frozen=True, slots=True)
class _Point:
    """A place where something was said after the same prompt: what the model was shown there, and what was golden."""

    shown: Conversation
    step: Step
    chosen: frozenset[bytes]


def _points(conversations: Iterable[Conversation]) -> dict[str, _Point]:
    """Golden steps by what was before them, over all conversations, whatever run they are from."""
    points: dict[str, _Point] = {}
    for conversation in conversations:
        for step in conversation.steps:
            key = conversation.point(step.prompt)
            first = points.get(key)
            digest = step.message.digest()
            points[key] = (
                _Point(conversation, step, frozenset((digest,)))
                if first is None
                else _Point(first.shown, first.step, first.chosen | {digest})
            )
    return points


def _judged(conversations: Sequence[Conversation], lost: Iterable[Lost], removed: Counter[str]) -> list[Judged]:
    examples: list[Judged] = []
    points = _points(conversations)
    beside = _by_episode(lost)
    for conversation in conversations:
        desirable = [_desirable(conversation, step) for step in conversation.steps]
        undesirable = _undesirable(conversation, beside.get(conversation.episode_id, ()), points, removed)
        both = sorted([*desirable, *undesirable], key=lambda each: (each.origin.seq, not each.label))
        examples += both  # the sort is stable: lost messages of one place stay in the order of their paths
    return examples


def _by_episode(lost: Iterable[Lost]) -> dict[str, list[Lost]]:
    found: dict[str, list[Lost]] = {}
    for each in lost:
        found.setdefault(each.episode_id, []).append(each)
    return found


def _desirable(conversation: Conversation, step: Step) -> Judged:
    origin = conversation.origin(step.branch_id, step.seq)
    prompt = conversation.before(step)
    return Judged(prompt=prompt, completion=(step.message,), label=True, tools=conversation.tools, origin=origin)


def _undesirable(
    conversation: Conversation, lost: Iterable[Lost], points: dict[str, _Point], removed: Counter[str]
) -> Iterable[Judged]:
    for each in lost:
        point = points.get(conversation.point(each.prompt))
        if point is None:
            continue
        if each.message.digest() in point.chosen:
            removed["contradictions"] += 1
            continue
        yield Judged(
            prompt=point.shown.before(point.step),
            completion=(each.message,),
            label=False,
            tools=conversation.tools,
            origin=conversation.origin(each.branch_id, each.seq),
        )


def _pairs(judged: Sequence[Judged]) -> list[Pair]:
    """Every desirable answer with every undesirable one to the same prompt."""
    seen: dict[bytes, dict[bytes, Judged]] = {}
    for example in judged:
        if not example.label:
            key = prompt_digest(example.prompt, example.tools)
            seen.setdefault(key, {}).setdefault(example.completion[0].digest(), example)
    found: list[Pair] = []
    for good in judged:
        if good.label:
            for bad in seen.get(prompt_digest(good.prompt, good.tools), {}).values():
                pair = Pair(
                    prompt=good.prompt,
                    chosen=good.completion,
                    rejected=bad.completion,
                    tools=good.tools,
                    origin=good.origin,
                )
                found.append(pair)
    return found


def _unique(examples: Iterable[E], removed: Counter[str]) -> list[E]:
    kept: dict[bytes, E] = {}
    for example in examples:
        if kept.setdefault(example_digest(example), example) is not example:
            removed["duplicates"] += 1
    return list(kept.values())


def bound(examples: Sequence[Example], selection: Selection, removed: Counter[str]) -> tuple[Example, ...]:
    """At most so many of a task and altogether, chosen by lot, in the order they had."""
    lots = sorted(range(len(examples)), key=lambda place: _lot(selection.seed, examples[place]))
    taken: list[int] = []
    tasks: Counter[Content | tuple[str, str]] = Counter()
    for place in lots:
        task = _task(examples[place].origin)
        if selection.max_per_task is not None and tasks[task] >= selection.max_per_task:
            removed["over_max_per_task"] += 1
            continue
        tasks[task] += 1
        taken.append(place)
    bound = len(taken) if selection.limit is None else selection.limit
    removed["over_limit"] += max(0, len(taken) - bound)
    return tuple(examples[place] for place in sorted(taken[:bound]))


def _task(origin: Origin) -> Content | tuple[str, str]:
    """What the task is; its name where that is not known."""
    return origin.content or (origin.world, origin.task_id)


def _lot(seed: int, example: Example) -> bytes:
    """The lot of an example: the same for the same seed and example, whatever else is in the set."""
    return blake2b(b"%d" % seed + example_digest(example), digest_size=8).digest()
