"""Training examples: prompts, and the answers that a model should or should not give.

There is one class for each kind of training. Messages are values of `simkit.core.messages`, in the form that is sent to
an agent's model (`simkit.components.model_view`); `row()` gives the columns that TRL's trainers expect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, overload

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolSpec
from simkit.data.origins import NOWHERE, ExampleOrigin
from simkit.errors import UsageError

Kind: TypeAlias = Literal["sft", "kto", "dpo"]
Removed: TypeAlias = Mapping[str, int]


UNREAD = "unread_column"
"""Notice about a column of a file that is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    """Base class of all examples.

    `place` is the location in the file that it was read from (`line 3`), and `noticed` what reading found there, as
    names of findings with details. `recorded` is the example with the reasoning as it was recorded, if that was
    changed. None of them is part of the value.
    """

    tools: tuple[ToolSpec, ...] = ()
    origin: ExampleOrigin = NOWHERE
    place: str = field(default="", compare=False)
    noticed: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    recorded: _Example | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        messages = sum(map(len, self.parts()))
        task = f" of {self.task_id}" if self.task_id else ""
        return f"<{type(self).__name__}{task}: {messages} messages, {len(self.tools)} tools>"

    def parts(self) -> tuple[tuple[Message, ...], ...]:
        """The conversations of this example, each from its first message to its last."""
        return ()

    @property
    def run_id(self) -> str:
        """Id of its run."""
        return self.origin.run_id

    @property
    def task_id(self) -> str:
        """Id of its task."""
        return self.origin.task_id

    @property
    def trial(self) -> int:
        """Number of its trial."""
        return self.origin.trial

    def tool_rows(self) -> list[dict[str, Any]] | None:
        """The tools in the OpenAI form; None instead of an empty list, as chat templates expect."""
        return [tool.to_openai() for tool in self.tools] or None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SftExample(_Example):
    """A conversation to imitate (SFT).

    A trainer learns every assistant message from index `context` on; earlier messages are only context.
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
        """The conversations of this example, each from its first message to its last."""
        return (self.messages,)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KtoExample(_Example):
    """An answer to a prompt that is desirable (`label`) or not (KTO)."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool

    def row(self) -> dict[str, Any]:
        """The columns `prompt`, `completion`, `label` and `tools`."""
        prompt, completion = _wire(self.prompt), _wire(self.completion)
        return {"prompt": prompt, "completion": completion, "label": self.label, "tools": self.tool_rows()}

    def parts(self) -> tuple[tuple[Message, ...], ...]:
        """The conversations of this example, each from its first message to its last."""
        return ((*self.prompt, *self.completion),)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DpoExample(_Example):
    """A preferred and a rejected answer to one prompt (DPO)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]

    def row(self) -> dict[str, Any]:
        """The columns `prompt`, `chosen`, `rejected` and `tools`."""
        answers = {"chosen": _wire(self.chosen), "rejected": _wire(self.rejected)}
        return {"prompt": _wire(self.prompt), **answers, "tools": self.tool_rows()}

    def parts(self) -> tuple[tuple[Message, ...], ...]:
        """The conversations of this example, each from its first message to its last."""
        return ((*self.prompt, *self.chosen), (*self.prompt, *self.rejected))


Example: TypeAlias = SftExample | KtoExample | DpoExample


def kind_of(example: Example) -> Kind:
    """The kind of training an example is for."""
    match example:
        case SftExample():
            return "sft"
        case KtoExample():
            return "kto"
        case DpoExample():
            return "dpo"


@dataclass(frozen=True)
class ExampleSet(Sequence[Example]):
    """Examples of one kind in a fixed order (trainers shuffle), with the numbers of removed examples by reason.

    Raises:
        UsageError: an example is of another kind.
    """

    kind: Kind
    examples: tuple[Example, ...]
    removed: Removed = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for place, example in enumerate(self.examples):
            if kind_of(example) != self.kind:
                raise UsageError(
                    f"example {place} of a {self.kind} set is for {kind_of(example)}; make one set for each kind"
                )

    def __repr__(self) -> str:
        removed = f", {sum(self.removed.values())} removed" if self.removed else ""
        return f"<ExampleSet of {len(self.examples)} {self.kind} examples{removed}>"

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
    def demonstrations(self) -> tuple[SftExample, ...]:
        """The examples of an SFT set."""
        return tuple(example for example in self.examples if isinstance(example, SftExample))

    @property
    def judged(self) -> tuple[KtoExample, ...]:
        """The examples of a KTO set."""
        return tuple(example for example in self.examples if isinstance(example, KtoExample))

    @property
    def pairs(self) -> tuple[DpoExample, ...]:
        """The examples of a DPO set."""
        return tuple(example for example in self.examples if isinstance(example, DpoExample))

    @cached_property
    def task_ids(self) -> frozenset[str]:
        """Ids of the tasks of the examples, as far as known."""
        return frozenset(example.task_id for example in self.examples if example.task_id)

    def keeping(self, examples: Sequence[Example], reason: str) -> ExampleSet:
        """The set reduced to these examples; the others are counted as removed for this reason."""
        gone = len(self.examples) - len(examples)
        removed = {**self.removed, reason: self.removed.get(reason, 0) + gone} if gone else self.removed
        return replace(self, examples=tuple(examples), removed=removed)

    def to_dataset(self) -> Any:
        """The set as a `datasets.Dataset` for TRL's trainers; see `simkit.data.export`."""
        from simkit.data.export import dataset_of

        return dataset_of(self)


def with_system(examples: ExampleSet, prompt: str) -> ExampleSet:
    """The set with a system prompt added to every conversation that lacks one."""
    return replace(examples, examples=tuple(_with_system(example, SystemMessage.of(prompt)) for example in examples))


def _with_system(example: Example, prompt: SystemMessage) -> Example:
    if isinstance(next(iter(example.parts()[0]), None), SystemMessage):
        return example
    match example:
        case SftExample():
            context = example.context + 1 if example.context else 0
            return replace(example, messages=(prompt, *example.messages), context=context)
        case KtoExample() | DpoExample():
            return replace(example, prompt=(prompt, *example.prompt))


def _wire(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_openai() for message in messages]


def answers_of(messages: Sequence[Message]) -> tuple[AssistantMessage, ...]:
    """The assistant's messages."""
    return tuple(message for message in messages if isinstance(message, AssistantMessage))


def prompt_digest(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bytes:
    """Digest of a prompt (16 bytes): equal for equal messages and tools."""
    state = blake2b(digest_size=16)
    for part in (*tools, None, *messages):
        state.update(b"\0" if part is None else part.digest())
    return state.digest()


def example_digest(example: Example) -> bytes:
    """Digest of an example (16 bytes): equal for equal training data, whatever its origin."""
    parts = b"".join(prompt_digest(part, example.tools) for part in example.parts())
    match example:
        case SftExample():
            extra = b"%d" % example.context
        case KtoExample():
            extra = b"%d %d" % (len(example.prompt), example.label)
        case DpoExample():
            extra = b"%d" % len(example.prompt)
    return blake2b(parts + extra, digest_size=16).digest()
