"""Training examples: what a model is shown, and what it should (or should not) have answered.

Three shapes, one for each family of training. Their messages are values of `simkit.core.messages`, in the form in which
an agent's model is sent them (`simkit.components.model_view`); `row()` gives the columns that TRL's trainers take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolSpec
from simkit.data.contents import UNKNOWN, Content
from simkit.errors import UsageError

Kind: TypeAlias = Literal["sft", "kto", "dpo"]
Removed: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an example comes from; what a file does not tell stays empty.

    `branch_id` and `seq` are the place of its (last) answer in the table `messages`. `content` is what the task is:
    ids and worlds are names only, worlds that were built with other options share them.
    """

    run_id: str = ""
    task_id: str = ""
    trial: int = 0
    world: str = ""
    split: str = ""
    episode_id: str = ""
    branch_id: str = ""
    seq: int = -1
    content: Content = UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """What files keep of it; what the task is as digests of its instructions and goals."""
        kept = {"run_id": self.run_id, "task_id": self.task_id, "trial": self.trial}
        what = {"instructions": self.content.instructions, "goals": self.content.goals} if self.content else {}
        return {**kept, "world": self.world, "split": self.split, **what}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Origin:
        """An origin as a file keeps it."""
        given = {name: known[name] for name in NOWHERE.to_json() if known.get(name) is not None}
        content = Content(str(known.get("instructions") or ""), str(known.get("goals") or ""))
        return cls(**given, content=content)


NOWHERE = Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    tools: tuple[ToolSpec, ...] = ()
    origin: Origin = NOWHERE

    @property
    def run_id(self) -> str:
        """The run it comes from."""
        return self.origin.run_id

    @property
    def task_id(self) -> str:
        """The task that was played."""
        return self.origin.task_id

    @property
    def trial(self) -> int:
        """The number of the trial."""
        return self.origin.trial

    def tool_rows(self) -> list[dict[str, Any]] | None:
        """The tools in the OpenAI form; None when there are none, as chat templates want it."""
        return [tool.to_openai() for tool in self.tools] or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration(_Example):
    """A conversation to be imitated (SFT).

    A trainer learns every assistant message from index `context` on; the messages before are shown only.
    """

    messages: tuple[Message, ...]
    context: int = 0

    def row(self) -> dict[str, Any]:
        """The columns `messages` and `tools`, or `prompt`, `completion` and `tools` when there is a context."""
        wire = _wire(self.messages)
        if self.context:
            return {"prompt": wire[: self.context], "completion": wire[self.context :], "tools": self.tool_rows()}
        return {"messages": wire, "tools": self.tool_rows()}

    def parts(self) -> tuple[tuple[Message, ...], ...]:
        """Every conversation this example holds, from its first message to its last."""
        return (self.messages,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(_Example):
    """An answer to a prompt that is desirable (`label`) or not (KTO)."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool

    def row(self) -> dict[str, Any]:
        """The columns `prompt`, `completion`, `label` and `tools`."""
        prompt, completion = _wire(self.prompt), _wire(self.completion)
        return {"prompt": prompt, "completion": completion, "label": self.label, "tools": self.tool_rows()}

    def parts(self) -> tuple[tuple[Message, ...], ...]:
        """Every conversation this example holds, from its first message to its last."""
        return ((*self.prompt, *self.completion),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(_Example):
    """Two answers to one prompt, the first of them the better one (DPO)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]

    def row(self) -> dict[str, Any]:
        """The columns `prompt`, `chosen`, `rejected` and `tools`."""
        answers = {"chosen": _wire(self.chosen), "rejected": _wire(self.rejected)}
        return {"prompt": _wire(self.prompt), **answers, "tools": self.tool_rows()}

    def parts(self) -> tuple[tuple[Message, ...], ...]:
        """Every conversation this example holds, from its first message to its last."""
        return ((*self.prompt, *self.chosen), (*self.prompt, *self.rejected))


Example: TypeAlias = Demonstration | Judged | Pair


def kind_of(example: Example) -> Kind:
    """The kind of training an example is for."""
    match example:
        case Demonstration():
            return "sft"
        case Judged():
            return "kto"
        case Pair():
            return "dpo"


@dataclass(frozen=True)
class ExampleSet(Sequence[Example]):
    """Examples of one kind, in a fixed order (trainers shuffle), and how many were removed on the way and why.

    Raises:
        UsageError: an example has not the shape of the kind.
    """

    kind: Kind
    examples: tuple[Example, ...]
    removed: Removed = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for place, example in enumerate(self.examples):
            if kind_of(example) != self.kind:
                raise UsageError(
                    f"example {place} of a {self.kind} set is a {type(example).__name__}, which is for "
                    f"{kind_of(example)}; make a set for each kind"
                )

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        return self.examples[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @property
    def demonstrations(self) -> tuple[Demonstration, ...]:
        """The examples of an SFT set."""
        return tuple(example for example in self.examples if isinstance(example, Demonstration))

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The examples of a KTO set."""
        return tuple(example for example in self.examples if isinstance(example, Judged))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The examples of a DPO set."""
        return tuple(example for example in self.examples if isinstance(example, Pair))

    @cached_property
    def task_ids(self) -> frozenset[str]:
        """The tasks the examples come from, as far as they are known."""
        return frozenset(example.task_id for example in self.examples if example.task_id)

    def keeping(self, examples: Sequence[Example], reason: str) -> ExampleSet:
        """The set with these of its examples; the others count as removed for the reason."""
        gone = len(self.examples) - len(examples)
        removed = {**self.removed, reason: self.removed.get(reason, 0) + gone} if gone else self.removed
        return replace(self, examples=tuple(examples), removed=removed)

    def to_jsonl(self, path: Path | str) -> Path:
        """Write one JSON object a line, for TRL; `simkit.data.files.write` knows more."""
        from simkit.data.files import write

        return write(self, path)

    def to_dataset(self) -> Any:
        """The set as a `datasets.Dataset` for TRL's trainers; see `simkit.data.files`."""
        from simkit.data.files import dataset_of

        return dataset_of(self)


def with_system(examples: ExampleSet, prompt: str) -> ExampleSet:
    """The set with a system prompt in front of every conversation that has none."""
    return replace(examples, examples=tuple(_with_system(example, SystemMessage.of(prompt)) for example in examples))


def _with_system(example: Example, prompt: SystemMessage) -> Example:
    if isinstance(example.parts()[0][0], SystemMessage):
        return example
    match example:
        case Demonstration():
            context = example.context + 1 if example.context else 0
            return replace(example, messages=(prompt, *example.messages), context=context)
        case Judged() | Pair():
            return replace(example, prompt=(prompt, *example.prompt))


def _wire(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_openai() for message in messages]


def answers_of(messages: Sequence[Message]) -> tuple[AssistantMessage, ...]:
    """The assistant's messages among these."""
    return tuple(message for message in messages if isinstance(message, AssistantMessage))


def prompt_digest(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bytes:
    """16 bytes that are equal when a model is shown the same."""
    state = blake2b(digest_size=16)
    for part in (*tools, None, *messages):
        state.update(b"\0" if part is None else part.digest())
    return state.digest()


def example_digest(example: Example) -> bytes:
    """16 bytes that are equal when two examples teach the same, wherever they come from."""
    parts = b"".join(prompt_digest(part, example.tools) for part in example.parts())
    match example:
        case Demonstration():
            extra = b"%d" % example.context
        case Judged():
            extra = b"%d %d" % (len(example.prompt), example.label)
        case Pair():
            extra = b"%d" % len(example.prompt)
    return blake2b(parts + extra, digest_size=16).digest()
