"""Training examples: prompts, and the answers that a model should or should not give.

There is one class for each kind of training. Messages are values of `simkit.core.messages`, in the form that is sent to
an agent's model (`simkit.components.model_view`); `row()` gives the columns that TRL's trainers expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, Literal, Self, TypeAlias, overload

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolSpec
from simkit.data.origins import NOWHERE, ExampleOrigin
from simkit.errors import UsageError

Kind: TypeAlias = Literal["sft", "kto", "dpo"]
Messages: TypeAlias = tuple[Message, ...]

UNREAD = "unread_column"
"""Notice about a column of a file that is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    """Base class of all examples.

    `place` is the location in the file that it was read from (`line 3`), and `noticed` what reading found there, as
    names of findings with details. `recorded` is the example with the reasoning as it was recorded, if that was
    changed. None of them is part of the value.
    """

    kind: ClassVar[Kind]
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion")

    tools: tuple[ToolSpec, ...] = ()
    origin: ExampleOrigin = NOWHERE
    place: str = field(default="", compare=False)
    noticed: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    recorded: Example | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        messages = sum(map(len, self.parts()))
        task = f" of {self.task_id}" if self.task_id else ""
        return f"<{type(self).__name__}{task}: {messages} messages, {len(self.tools)} tools>"

    def divided(self) -> tuple[Messages, ...]:
        """The messages of the prompt, and those of each answer that a training reinforces or discourages."""
        return tuple(getattr(self, name) for name in self.columns)

    def with_messages(self, *divided: Messages) -> Self:
        """The example with another prompt and other answers, in the order of `divided`."""
        return replace(self, **dict(zip(self.columns, divided, strict=True)))

    def parts(self) -> tuple[Messages, ...]:
        """The conversations of this example, each from its first message to its last."""
        prompt, *answers = self.divided()
        return tuple((*prompt, *answer) for answer in answers)

    def row(self) -> dict[str, Any]:
        """The columns for TRL: messages and tools in the OpenAI form; None instead of no tools, as templates expect."""
        columns = zip(self.columns, self.divided(), strict=True)
        return {**{name: _wire(messages) for name, messages in columns}, **self._label(), "tools": self._tools()}

    def _label(self) -> dict[str, bool]:
        return {}

    def _tools(self) -> list[dict[str, Any]] | None:
        return [tool.to_openai() for tool in self.tools] or None

    @property
    def task_id(self) -> str:
        """Id of its task."""
        return self.origin.task_id


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SftExample(_Example):
    """A conversation to imitate (SFT).

    A trainer learns every assistant message from index `context` on; earlier messages are only context. Without any,
    the columns are `messages` and `tools`.
    """

    kind: ClassVar[Kind] = "sft"
    messages: Messages
    context: int = 0

    def divided(self) -> tuple[Messages, ...]:
        """The context, and the messages with the answers to learn."""
        return self.messages[: self.context], self.messages[self.context :]

    def with_messages(self, *divided: Messages) -> Self:
        """The example with another context and other messages after it; without a context it has none afterwards."""
        prompt, learned = divided
        return replace(self, messages=(*prompt, *learned), context=len(prompt) if self.context else 0)

    def row(self) -> dict[str, Any]:
        """The columns for TRL; see `_Example.row`."""
        return _Example.row(self) if self.context else {"messages": _wire(self.messages), "tools": self._tools()}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KtoExample(_Example):
    """An answer to a prompt that is desirable (`label`) or not (KTO)."""

    kind: ClassVar[Kind] = "kto"
    prompt: Messages
    completion: Messages
    label: bool

    def _label(self) -> dict[str, bool]:
        return {"label": self.label}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DpoExample(_Example):
    """A preferred and a rejected answer to one prompt (DPO)."""

    kind: ClassVar[Kind] = "dpo"
    columns: ClassVar[tuple[str, ...]] = ("prompt", "chosen", "rejected")
    prompt: Messages
    chosen: Messages
    rejected: Messages


Example: TypeAlias = SftExample | KtoExample | DpoExample


@dataclass(frozen=True)
class ExampleSet(Sequence[Example]):
    """Examples of one kind in a fixed order (trainers shuffle), with the numbers of removed examples by reason.

    Raises:
        UsageError: an example is of another kind.
    """

    kind: Kind
    examples: tuple[Example, ...]
    removed: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for place, example in enumerate(self.examples):
            if example.kind != self.kind:
                raise UsageError(
                    f"example {place} of a {self.kind} set is for {example.kind}; make one set for each kind"
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

    def distinct(self) -> ExampleSet:
        """The set without repetitions of the same training data, which are counted as removed for `duplicates`."""
        first = {example_digest(example): example for example in reversed(self.examples)}
        return self.keeping([*first.values()][::-1], "duplicates")

    def to_dataset(self) -> Any:
        """The set as a `datasets.Dataset` for TRL's trainers; see `simkit.data.export`."""
        from simkit.data.export import dataset_of

        return dataset_of(self)


def with_system(examples: ExampleSet, prompt: str) -> ExampleSet:
    """The set with a system prompt added to every conversation that lacks one."""
    message = SystemMessage.of(prompt)
    return replace(examples, examples=tuple(_with_system(example, message) for example in examples))


def _with_system(example: Example, system: SystemMessage) -> Example:
    if isinstance(next(iter(example.parts()[0]), None), SystemMessage):
        return example
    prompt, *answers = example.divided()
    return example.with_messages((system, *prompt), *answers)


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
    label = b" %d" % example.label if isinstance(example, KtoExample) else b""
    return blake2b(parts + b"%d" % len(example.divided()[0]) + label, digest_size=16).digest()
