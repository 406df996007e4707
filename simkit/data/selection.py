"""Selection of training examples from a store: by episodes, messages, and bounds.

    chosen = Selection(runs=("last",), where="world = 'toolwoz' and turns < 10", max_per_task=2)
    examples = select(store, "sft", chosen)

`golden` takes the harvest of JOSH runs: golden conversations (SFT), golden messages and the failed alternatives to them
(KTO), or pairs of both (DPO). `episodes` takes the final conversation of any scored episode, so that filtered rollouts
are one call (`where="reward >= 1"`), and the same amount of unfiltered data another (`limit=n`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias, TypeVar, get_args

import duckdb

from simkit.data.conversations import AgentMessage, ConversationReader, FailedMessage, RecordedConversation
from simkit.data.examples import (
    DpoExample,
    Example,
    ExampleSet,
    Kind,
    KtoExample,
    SftExample,
    example_digest,
    prompt_digest,
)
from simkit.data.origins import ExampleOrigin, TaskContent
from simkit.data.reasoning import Reasoning, with_reasoning_as
from simkit.errors import UsageError
from simkit.store import Reader, ReadState, Store

Source: TypeAlias = Literal["golden", "episodes"]
E = TypeVar("E", SftExample, KtoExample, DpoExample, Example)
Errors: TypeAlias = Literal["drop", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Options for choosing examples.

    Attributes:
        runs: ids, names or prefixes of them, or `last`; a run without episodes stands for its stages that have
            episodes.
        source: `golden` for the harvest of trees (episodes with reward 1), `episodes` for final conversations.
        where: a condition in SQL over the view `episode_facts` (`run_id, name, stage, task_id, trial, world, split,
            agent, model, reward, success, outcome, turns, faults, ...`).
        max_per_task: maximum number of examples per task; tasks with the same content are the same task.
        limit: maximum number of examples.
        seed: seed of the random choice when there are more.
        errors: `drop` or `keep` conversations with an error marker that the agent caused (`ERROR:`, `Error:` or
            `FAILURE` in its messages or its tools' results); by default golden ones are dropped and episodes are kept.
        reasoning: `keep` the reasoning of answers as the field `reasoning_content`, write it `inline` in tags before
            their text, or `drop` it.

    Raises:
        UsageError: no runs, an unknown source, an unknown form of reasoning, or a number below 1.
    """

    runs: tuple[str, ...] = ("last",)
    source: Source = "golden"
    where: str | None = None
    max_per_task: int | None = None
    limit: int | None = None
    seed: int = 0
    errors: Errors | None = None
    reasoning: Reasoning = "keep"

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("a selection needs a run; name one, or `last`")
        if self.source not in get_args(Source):
            raise UsageError(f"{self.source!r} is not a source of examples; use one of {', '.join(get_args(Source))}")
        if self.reasoning not in get_args(Reasoning):
            raise UsageError(f"reasoning is {self.reasoning!r}; use one of {', '.join(get_args(Reasoning))}")
        for name, number in (("max_per_task", self.max_per_task), ("limit", self.limit)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}; it must be at least 1, or None for no limit")

    @property
    def drops_errors(self) -> bool:
        """Whether conversations with error markers are dropped."""
        return self.source == "golden" if self.errors is None else self.errors == "drop"


def select(
    store: Store | Reader, kind: Kind, selection: Selection | None = None, *, allow_incomplete: bool = False
) -> ExampleSet:
    """Select examples of a kind, without duplicates, in the order of runs, tasks and trials.

    Messages have the form that was sent to the agent's model: consecutive user messages are merged, empty answers are
    omitted, and tools are those of the requests (none for agents whose tools are described in text). `removed` of the
    set counts, by reason: `unscored` episodes (faults, no goals), `error_markers`, `broken_calls` (conversations for
    SFT in which the model saw a call in another form than it wrote), `unread_calls` (answers that hold only some of the
    calls that the model wrote, because others could not be read; for SFT, conversations with such an answer), `empty`,
    `duplicates`, `contradictions` (undesirable, but desirable elsewhere after the same prompt), `over_max_per_task`,
    `over_limit`.

    An unfinished run contributes what it has recorded so far; `select_with_state` reports how far that is.

    Args:
        allow_incomplete: use the readable data although lines of the runs are missing or damaged.

    Raises:
        UsageError: the run does not exist, the condition is invalid, or the source has no examples of this kind.
        StoreIncomplete: journals of the runs contain unreadable lines.
        StoreError: the store cannot be read.
    """
    return select_with_state(store, kind, selection, allow_incomplete=allow_incomplete)[0]


def select_with_state(
    store: Store | Reader,
    kind: Kind,
    selection: Selection | None = None,
    *,
    allow_incomplete: bool = False,
    finished: bool = False,
) -> tuple[ExampleSet, ReadState]:
    """Do what `select` does; also return the state of the runs when they were read.

    Args:
        finished: require finished runs, because the result will be kept (a training).
    """
    selection = selection or Selection()
    if kind not in get_args(Kind):
        raise UsageError(f"{kind!r} is not a kind of training data; use one of {', '.join(get_args(Kind))}")
    if selection.source == "episodes" and kind != "sft":
        raise UsageError(
            f"single conversations contain no {kind} examples, because they have no alternative answers; "
            "use the source `golden` of a `josh` run, or the kind sft"
        )
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        runs = run_ids(reader, selection.runs)
        state = reader.require_complete(runs, f"a selection of {kind} examples", finished=finished)
        with reader.scoped(runs) as own:
            return _selected(ConversationReader(own, whole=reader), kind, selection, runs), state


def _selected(reader: ConversationReader, kind: Kind, selection: Selection, runs: Sequence[str]) -> ExampleSet:
    removed: Counter[str] = Counter()
    conversations = _conversations(reader, selection, runs, removed)
    match kind:
        case "sft":
            examples = _demonstrations(conversations, removed)
        case "kto":
            examples = _judged(conversations, _failed(reader, conversations), removed)
        case "dpo":
            judged = _judged(conversations, _failed(reader, conversations), removed)
            examples = _pairs(_unique(judged, removed))
    found = ExampleSet(kind, tuple(_unique(list[Example](examples), removed)))
    formed = with_reasoning_as(found, selection.reasoning)
    removed.update(formed.removed)
    kept = limited(formed.examples, selection, removed)
    return ExampleSet(kind, kept, {reason: count for reason, count in sorted(removed.items()) if count})


def run_ids(reader: Reader, names: Sequence[str]) -> tuple[str, ...]:
    """Ids of the runs that a selection takes, each once; a run without episodes stands for its stages."""
    found: list[str] = []
    for name in names:
        run = reader.resolve(name)
        parts = [each.run_id for each in reader.runs() if each.part_of == run.run_id and each.episodes]
        found += [run.run_id] if run.episodes or not parts else parts
    return tuple(dict.fromkeys(found))


def _conversations(
    reader: ConversationReader, selection: Selection, runs: Sequence[str], removed: Counter[str]
) -> list[RecordedConversation]:
    found = reader.conversations(runs, selection.source, _condition(selection.where), removed)
    if not selection.drops_errors:
        return found
    kept = [conversation for conversation in found if not conversation.erroneous]
    removed["error_markers"] += len(found) - len(kept)
    return kept


def _condition(where: str | None) -> str:
    """The condition, checked; `true` if there is none.

    Raises:
        UsageError: it is not a single condition in SQL.
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
        raise UsageError(f"the condition {where!r} contains several statements; write one condition")
    return where


def _failed(reader: ConversationReader, conversations: Sequence[RecordedConversation]) -> list[FailedMessage]:
    return reader.failed_messages(list(dict.fromkeys(conversation.episode_id for conversation in conversations)))


def _demonstrations(conversations: Iterable[RecordedConversation], removed: Counter[str]) -> list[SftExample]:
    examples: list[SftExample] = []
    for conversation in conversations:
        if conversation.broken_calls:
            removed["broken_calls"] += 1
        elif any(step.partial for step in conversation.steps):
            removed["unread_calls"] += 1
        elif not conversation.steps:
            removed["empty"] += 1
        else:
            last = conversation.steps[-1]
            origin = conversation.origin(last.branch_id, last.seq)
            examples.append(SftExample(messages=conversation.seen, tools=conversation.tools, origin=origin))
    return examples


@dataclass(frozen=True, slots=True)
class _Point:
    """A prompt with golden answers: the conversation and step where it first occurs, and digests of the answers."""

    shown: RecordedConversation
    step: AgentMessage
    chosen: frozenset[bytes]


def _points(conversations: Iterable[RecordedConversation]) -> dict[str, _Point]:
    """Prompts of golden steps by key, over the conversations of all runs."""
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


def _judged(
    conversations: Sequence[RecordedConversation], failed: Iterable[FailedMessage], removed: Counter[str]
) -> list[KtoExample]:
    examples: list[KtoExample] = []
    points = _points(conversations)
    beside = _by_episode(failed)
    for conversation in conversations:
        whole = [step for step in conversation.steps if not step.partial]
        removed["unread_calls"] += len(conversation.steps) - len(whole)
        desirable = [_desirable(conversation, step) for step in whole]
        undesirable = _undesirable(conversation, beside.pop(conversation.episode_id, ()), points, removed)
        both = sorted([*desirable, *undesirable], key=lambda each: (each.origin.seq, not each.label))
        examples += both  # the sort is stable: failed messages with one prompt stay in the order of their paths
    return examples


def _by_episode(failed: Iterable[FailedMessage]) -> dict[str, list[FailedMessage]]:
    found: dict[str, list[FailedMessage]] = {}
    for each in failed:
        found.setdefault(each.episode_id, []).append(each)
    return found


def _desirable(conversation: RecordedConversation, step: AgentMessage) -> KtoExample:
    origin = conversation.origin(step.branch_id, step.seq)
    prompt = conversation.before(step)
    return KtoExample(prompt=prompt, completion=(step.message,), label=True, tools=conversation.tools, origin=origin)


def _undesirable(
    conversation: RecordedConversation,
    failed: Iterable[FailedMessage],
    points: dict[str, _Point],
    removed: Counter[str],
) -> Iterable[KtoExample]:
    for each in failed:
        point = points.get(conversation.point(each.prompt))
        if point is None:
            continue
        if each.partial:
            removed["unread_calls"] += 1
            continue
        if each.message.digest() in point.chosen:
            removed["contradictions"] += 1
            continue
        yield KtoExample(
            prompt=point.shown.before(point.step),
            completion=(each.message,),
            label=False,
            tools=conversation.tools,
            origin=conversation.origin(each.branch_id, each.seq),
        )


def _pairs(judged: Sequence[KtoExample]) -> list[DpoExample]:
    """Pair every desirable answer with every undesirable answer to the same prompt."""
    seen: dict[bytes, dict[bytes, KtoExample]] = {}
    for example in judged:
        if not example.label:
            key = prompt_digest(example.prompt, example.tools)
            seen.setdefault(key, {}).setdefault(example.completion[0].digest(), example)
    found: list[DpoExample] = []
    for good in judged:
        if good.label:
            for bad in seen.get(prompt_digest(good.prompt, good.tools), {}).values():
                pair = DpoExample(
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


def limited(examples: Sequence[Example], selection: Selection, removed: Counter[str]) -> tuple[Example, ...]:
    """Apply the limits per task and in all: a random choice, kept in the original order."""
    shuffled = sorted(range(len(examples)), key=lambda place: _random_key(selection.seed, examples[place]))
    taken: list[int] = []
    tasks: Counter[TaskContent | tuple[str, str]] = Counter()
    for place in shuffled:
        task = _task(examples[place].origin)
        if selection.max_per_task is not None and tasks[task] >= selection.max_per_task:
            removed["over_max_per_task"] += 1
            continue
        tasks[task] += 1
        taken.append(place)
    bound = len(taken) if selection.limit is None else selection.limit
    removed["over_limit"] += max(0, len(taken) - bound)
    return tuple(examples[place] for place in sorted(taken[:bound]))


def _task(origin: ExampleOrigin) -> TaskContent | tuple[str, str]:
    """Content of the task; its world and id if the content is unknown."""
    return origin.content or (origin.world, origin.task_id)


def _random_key(seed: int, example: Example) -> bytes:
    """Random sort key of an example: it depends only on the seed and the example, not on the rest of the set."""
    return blake2b(b"%d" % seed + example_digest(example), digest_size=8).digest()
