"""Examples in tokens: rendered by the `ChatFormat` that plays and trains too, read back, and their lengths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, parse_call, sorted_json, text_of
from simkit.core.reasoning import reasoning_of, separated
from simkit.data.examples import Example, SftExample, answers_of
from simkit.errors import UsageError
from simkit.local.reply_tokens import ReplyTokens, joined_replies

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat


@dataclass(frozen=True, slots=True)
class RenderedConversation:
    """One conversation of an example in tokens: all of them, those to learn, and the problem that prevents its use."""

    tokens: int = 0
    learnt: int = 0
    problem: str = ""


def learned_replies(
    messages: Sequence[Message], start: int, tools: Sequence[ToolSpec], chat: ChatFormat
) -> list[ReplyTokens]:
    """The replies of a conversation from index `start` on, each after the prompt that play asks for it with.

    Earlier replies to learn stand in a prompt without their reasoning, be it a field or text, because a model is not
    shown it again. Messages before `start` stand there as they were sent.

    Raises:
        UsageError: the chat template does not render a reply, or renders it otherwise than its prompt asks for.
    """
    shown = (*messages[:start], *map(_without_reasoning, messages[start:]))
    return [
        chat.reply(shown[:place], message, tools)
        for place, message in enumerate(messages)
        if place >= start and isinstance(message, AssistantMessage)
    ]


def format_to_train(examples: Iterable[Example], chat: ChatFormat) -> ChatFormat:
    """The conversation format to train in: a model's own, or one with TRL's training template of its family.

    The first demonstration without reasoning that has several replies decides: TRL's template is taken if the
    conversation is whole in it and not in the model's own.
    """
    several = (example for example in examples if isinstance(example, SftExample) and _replies_plainly(example))
    example = next(several, None)
    if example is None or _is_whole(example, chat):
        return chat
    template = chat.training_template()
    other = chat if template is None else chat.with_template(template)
    return other if _is_whole(example, other) else chat


def _replies_plainly(example: SftExample) -> bool:
    replies = answers_of(example.divided()[1])
    return len(replies) > 1 and all(_without_reasoning(each) == separated(each) for each in replies)


def _is_whole(example: SftExample, chat: ChatFormat) -> bool:
    try:
        replies = learned_replies(example.messages, example.context, example.tools, chat)
    except UsageError:
        return False
    return len(joined_replies(replies)) == 1


def rendered(example: Example, chat: ChatFormat) -> Iterator[RenderedConversation]:
    """Render the conversations of an example in the sequences that a training has, and parse the answers back."""
    start = len(example.divided()[0])
    for messages in example.parts():
        try:
            replies = learned_replies(messages, start, example.tools, chat)
            for reply, answer in zip(replies, answers_of(messages[start:]), strict=True):
                _check_read_back(reply, answer, example.tools, chat)
        except UsageError as error:
            yield RenderedConversation(problem=str(error))
            continue
        for sequence in joined_replies(replies):
            yield RenderedConversation(len(sequence.ids), sum(sequence.trained))


def _without_reasoning(message: Message) -> Message:
    if not isinstance(message, AssistantMessage):
        return message
    apart = separated(message)
    return apart if reasoning_of(apart) is None else AssistantMessage.of(text_of(apart) or None, apart.tool_calls or ())


def _check_read_back(reply: ReplyTokens, answer: AssistantMessage, tools: Sequence[ToolSpec], chat: ChatFormat) -> None:
    read = chat.read(chat.said(reply.answer_ids), tools)
    if not _same(read.message, answer):
        raise UsageError(_changed(answer, read.message))
    if answer.tool_calls and read.doubts:
        raise UsageError(f"{_shown(answer)} holds another call in its text, which cannot be read ({read.doubts[0]})")


def _same(back: AssistantMessage, answer: AssistantMessage) -> bool:
    """Equal text and calls; ids come from the runtime, and white space around the text from the template.

    Reasoning may come back as the field or in tags.
    """
    back, answer = separated(back), separated(answer)
    read, own = ([(call.name, _arguments(call)) for call in each.tool_calls or ()] for each in (back, answer))
    return read == own and text_of(back).strip() == text_of(answer).strip()


def _arguments(call: ToolCall) -> bytes:
    arguments = parse_call(call)
    return call.arguments.strip().encode() if arguments is None else sorted_json(arguments)


def _changed(answer: AssistantMessage, back: AssistantMessage) -> str:
    """The first difference in the text, or both answers if it is in the calls."""
    own, read = text_of(answer).strip(), text_of(back).strip()
    if own == read:
        return f"{_shown(answer)} is parsed back from its tokens as {_shown(back)}"
    place = next((n for n, (a, b) in enumerate(zip(own, read, strict=False)) if a != b), min(len(own), len(read)))
    around = slice(max(0, place - 20), place + 20)
    return f"{own[around]!r} is parsed back from its tokens as {read[around]!r}"


def _shown(answer: AssistantMessage) -> str:
    words = text_of(answer)
    calls = (f"{call.name}({call.arguments})" for call in answer.tool_calls or ())
    return " ".join([*([repr(words[:80])] if words else ()), *calls])[:160] or "an empty answer"


_NAMED = ((0.0, "shortest"), (0.5, "median"), (0.9, "90%"), (0.99, "99%"), (1.0, "longest"))
_BINS = 12
_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens, sorted."""

    sorted: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Lengths:
        """Make it from lengths in any order."""
        return cls(tuple(sorted(lengths)))

    @property
    def total(self) -> int:
        """Number of tokens in all."""
        return sum(self.sorted)

    def quantile(self, share: float) -> int:
        """The smallest length that this share of the examples (0 to 1) does not exceed; 0 without examples."""
        return self.sorted[max(0, math.ceil(share * len(self.sorted)) - 1)] if self.sorted else 0

    def histogram(self) -> list[str]:
        """Lines for at most twelve bins of equal width: range, count, and a bar."""
        if not self.sorted:
            return []
        low, high = self.sorted[0], self.sorted[-1]
        width = math.ceil((high - low + 1) / _BINS)
        counts = Counter((length - low) // width for length in self.sorted)
        most, digits = max(counts.values()), len(str(high))
        bins = [(start, min(high, start + width - 1)) for start in range(low, high + 1, width)]
        return [
            f"  {start:>{digits}} to {end:>{digits}}  {counts[index]:>{len(str(most))}}  "
            f"{'#' * math.ceil(_WIDTH * counts[index] / most)}".rstrip()
            for index, (start, end) in enumerate(bins)
        ]

    def to_json(self) -> dict[str, int]:
        """The total and the quantiles."""
        return {"total": self.total, **{name: self.quantile(share) for share, name in _NAMED}}

    def __str__(self) -> str:
        if not self.sorted:
            return "none"
        said = ", ".join(f"{name} {self.quantile(share):,}" for share, name in _NAMED)
        return f"{self.total:,} in total; {said}"
