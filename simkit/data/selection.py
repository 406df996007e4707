"""Selection of training examples from a store: by episodes, messages, and bounds.

    chosen = Selection(runs=("last",), where="world = 'toolwoz' and turns < 10", max_per_task=2)
    examples = select(store, "sft", chosen)

`golden` takes the harvest of JOSH runs: golden conversations (SFT), golden messages and the failed alternatives to them
(KTO), or pairs of both (DPO). `episodes` takes the final conversation of any scored episode, so that filtered rollouts
are one call (`where="reward >= 1"`), and the same amount of unfiltered data another (`limit=n`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, TypeAlias, get_args

import duckdb

from simkit.core.messages import Message
from simkit.data.conversations import AgentMessage, ConversationReader, RecordedConversation
from simkit.data.examples import DpoExample, ExampleSet, Kind, KtoExample, SftExample, example_digest, prompt_digest
from simkit.data.origins import TaskContent
from simkit.data.reasoning import Reasoning, with_reasoning_as
from simkit.errors import UsageError
from simkit.store import Reader, ReadState, Store

Source: TypeAlias = Literal["golden", "episodes"]


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
    errors: Literal["drop", "keep"] | None = None
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
    removed = Counter[str]()
    conversations = reader.conversations(runs, selection.source, _condition(selection.where), removed)
    if selection.drops_errors:
        removed["error_markers"] = sum(each.erroneous for each in conversations)
        conversations = [each for each in conversations if not each.erroneous]
    if kind == "sft":
        found = ExampleSet("sft", tuple(_demonstrations(conversations, removed)), removed).distinct()
    else:
        failed = reader.failed_messages(each.episode_id for each in conversations)
        found = ExampleSet("kto", tuple(_judged(conversations, failed, removed)), removed).distinct()
    if kind == "dpo":
        found = ExampleSet("dpo", tuple(_pairs(found.judged)), found.removed).distinct()
    kept = limited(with_reasoning_as(found, selection.reasoning), selection)
    return replace(kept, removed={reason: count for reason, count in sorted(kept.removed.items()) if count})


def run_ids(reader: Reader, names: Sequence[str]) -> tuple[str, ...]:
    """Ids of the runs that a selection takes, each once; a run without episodes stands for its stages."""
    found: list[str] = []
    for name in names:
        run = reader.resolve(name)
        parts = [each.run_id for each in reader.runs() if each.part_of == run.run_id and each.episodes]
        found += [run.run_id] if run.episodes or not parts else parts
    return tuple(dict.fromkeys(found))


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


def _demonstrations(conversations: Iterable[RecordedConversation], removed: Counter[str]) -> Iterator[SftExample]:
    for conversation in conversations:
        if conversation.broken_calls:
            removed["broken_calls"] += 1
        elif any(step.partial for step in conversation.steps):
            removed["unread_calls"] += 1
        elif not conversation.steps:
            removed["empty"] += 1
        else:
            origin = conversation.origin(conversation.steps[-1])
            yield SftExample(messages=conversation.seen, tools=conversation.tools, origin=origin)


def _judged(
    conversations: Sequence[RecordedConversation], failed: dict[str, list[AgentMessage]], removed: Counter[str]
) -> Iterator[KtoExample]:
    """Golden answers, and failed answers to the same prompts; each episode's by their place in it."""
    prompts: dict[str, tuple[Message, ...]] = {}
    chosen: set[tuple[str, bytes]] = set()
    for conversation in conversations:
        for step in conversation.steps:
            point = conversation.point(step.prompt)
            prompts.setdefault(point, conversation.before(step))
            chosen.add((point, step.message.digest()))
    for conversation in conversations:
        found: list[KtoExample] = []
        for label, steps in ((True, conversation.steps), (False, failed.pop(conversation.episode_id, ()))):
            for step in steps:
                point = conversation.point(step.prompt)
                if point not in prompts:
                    continue
                if step.partial:
                    removed["unread_calls"] += 1
                elif not label and (point, step.message.digest()) in chosen:
                    removed["contradictions"] += 1
                else:
                    found.append(
                        KtoExample(
                            prompt=prompts[point],
                            completion=(step.message,),
                            label=label,
                            tools=conversation.tools,
                            origin=conversation.origin(step),
                        )
                    )
        # the sort is stable: failed messages with one prompt stay in the order of their paths
        yield from sorted(found, key=lambda each: (each.origin.seq, not each.label))


def _pairs(judged: Sequence[KtoExample]) -> Iterator[DpoExample]:
    """Pair every desirable answer with every undesirable answer to the same prompt."""
    beside: dict[bytes, dict[bytes, KtoExample]] = {}
    for bad in judged:
        if not bad.label:
            answers = beside.setdefault(prompt_digest(bad.prompt, bad.tools), {})
            answers.setdefault(bad.completion[0].digest(), bad)
    for good in judged:
        for bad in beside.get(prompt_digest(good.prompt, good.tools), {}).values() if good.label else ():
            yield DpoExample(
                prompt=good.prompt,
                chosen=good.completion,
                rejected=bad.completion,
                tools=good.tools,
                origin=good.origin,
            )


def limited(found: ExampleSet, selection: Selection) -> ExampleSet:
    """Apply the limits per task and in all: a random choice, kept in the original order.

    The random key of an example depends only on the seed and the example. Tasks are told apart by their contents, by
    world and id if those are unknown.
    """
    seed = b"%d" % selection.seed
    keys = [blake2b(seed + example_digest(example), digest_size=8).digest() for example in found]
    taken: list[int] = []
    tasks = Counter[TaskContent | tuple[str, str]]()
    for place in sorted(range(len(found)), key=keys.__getitem__):
        origin = found[place].origin
        task = origin.content or (origin.world, origin.task_id)
        tasks[task] += 1
        if selection.max_per_task is None or tasks[task] <= selection.max_per_task:
            taken.append(place)
    fewer = found.keeping([found[place] for place in sorted(taken)], "over_max_per_task")
    return fewer.keeping([found[place] for place in sorted(taken[: selection.limit])], "over_limit")
