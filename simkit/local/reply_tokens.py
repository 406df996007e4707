"""Tokens to learn from: replies after their prompts, and whole conversations made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from simkit.core.messages import AssistantMessage, Message, ToolMessage, ToolSpec, UserMessage, text_of
from simkit.core.reasoning import opens_reasoning, reasoning_of
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat

IGNORED = -100
"""The label of a token that does not count for the loss."""

_SHOWN = 60
"""Characters of a text that a message shows."""


@dataclass(frozen=True, slots=True)
class ReplyTokens:
    """A reply as a model writes it in play, after the prompt that it is asked with.

    Attributes:
        prompt: the prompt's text.
        answer: the reply's text: reasoning, words, calls, and the token that ends it.
        prompt_ids: the prompt's tokens.
        answer_ids: the reply's tokens.
    """

    prompt: str
    answer: str
    prompt_ids: list[int]
    answer_ids: list[int]

    @property
    def ids(self) -> list[int]:
        """The tokens of both."""
        return [*self.prompt_ids, *self.answer_ids]

    @property
    def rendered(self) -> Rendered:
        """Both as one sequence, in which the reply is learned."""
        return Rendered(self.ids, [False] * len(self.prompt_ids) + [True] * len(self.answer_ids))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens.

    Attributes:
        ids: all tokens.
        trained: for each token, whether it is one of a reply to learn.
    """

    ids: list[int]
    trained: list[bool]

    def labels(self) -> list[int]:
        """The ids of trained tokens; -100, which losses ignore, for the others."""
        return [token if trained else IGNORED for token, trained in zip(self.ids, self.trained, strict=True)]


def changed_reply(replies: Sequence[ReplyTokens]) -> int | None:
    """Position of the first reply that stands otherwise in the prompt of the last one; None if there is none."""
    ids = replies[-1].ids
    return next((place for place, each in enumerate(replies) if ids[: len(each.ids)] != each.ids), None)


def joined_replies(replies: Sequence[ReplyTokens]) -> tuple[Rendered, ...]:
    """The replies of one conversation in as few sequences as possible: one, or one for each reply.

    They are one sequence if each reply stands in the prompt of the last one as it was written, and after the prompt
    that it was asked with. Learning from one sequence is then the same as learning from each reply after its prompt.
    """
    if not replies or changed_reply(replies) is not None:
        return tuple(each.rendered for each in replies)
    ids = replies[-1].ids
    trained = [False] * len(ids)
    for each in replies:
        trained[len(each.prompt_ids) : len(each.ids)] = [True] * len(each.answer_ids)
    return (Rendered(ids, trained),)


def reply_tokens(
    chat: ChatFormat, before: Sequence[Message], answer: AssistantMessage, tools: Sequence[ToolSpec]
) -> ReplyTokens:
    """The tokens of a reply after its prompt; see `ChatFormat.reply`.

    Raises:
        UsageError: the chat template does not render a reply that follows its prompt and ends.
    """
    prompt, whole = chat.prompt_text(before, tools), chat.rendered((*before, answer), tools)
    if not whole.startswith(prompt):
        raise UsageError(_other_prompt(prompt, whole, answer))
    written = _up_to_end(chat, whole[len(prompt) :])
    if written is None:
        written = whole[len(prompt) :] + _next_mark(chat, before, answer, tools)
    asked, ids = chat.ids(prompt), chat.ids(prompt + written)
    if ids[: len(asked)] != asked:  # a token reaches from the prompt into the reply
        raise UsageError(_other_prompt(prompt, whole, answer))
    return ReplyTokens(prompt, written, asked, ids[len(asked) :])


def whole_conversation(chat: ChatFormat, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Rendered:
    """A conversation as one sequence; see `ChatFormat.conversation`.

    Raises:
        UsageError: it has no reply, or cannot be one sequence.
    """
    replies = [
        chat.reply(messages[:place], each, tools)
        for place, each in enumerate(messages)
        if isinstance(each, AssistantMessage)
    ]
    if not replies:
        raise UsageError("a conversation holds nothing to learn: the assistant says nothing in it; leave it out")
    if (place := changed_reply(replies)) is not None:
        raise UsageError(_rewritten(replies[place], replies[-1], place))
    return joined_replies(replies)[0]


def common_length(one: str, other: str) -> int:
    """Number of characters at the beginning of both texts that are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _up_to_end(chat: ChatFormat, text: str) -> str | None:
    """A reply up to the token that ends it: the model never writes what a template adds. None without one."""
    marks = [chat.text([end]) for end in sorted(chat.ends)]
    ends = [place + len(mark) for mark in marks if (place := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else None


def _next_mark(chat: ChatFormat, before: Sequence[Message], answer: AssistantMessage, tools: Sequence[ToolSpec]) -> str:
    """The mark of the next message, with which models end their replies whose template writes no other token."""
    calls = answer.tool_calls or ()
    plain = AssistantMessage.of(text_of(answer) or None, calls)
    following = [ToolMessage.of(call.id, "?") for call in calls] or [UserMessage.of("?")]
    shorter, longer = chat.rendered((*before, plain), tools), chat.rendered((*before, plain, *following), tools)
    mark = _up_to_end(chat, longer[len(shorter) :]) if longer.startswith(shorter) else None
    if mark is None:
        raise UsageError(
            "the chat template writes no token that ends a reply, so a model could not learn to stop; name the token "
            "that ends a reply as `eos_token_id` in the model's generation_config.json"
        )
    return mark


def _other_prompt(prompt: str, whole: str, answer: AssistantMessage) -> str:
    same = max(0, common_length(prompt, whole) - _SHOWN // 2)
    if opens_reasoning(prompt) and not reasoning_of(answer):
        advice = (
            "The prompt opens reasoning, and the reply has none: play and train with `enable_thinking=false` if the "
            "template reads it, else keep the reasoning, with a template that renders it"
        )
    elif reasoning_of(answer):
        advice = (
            "The reply has reasoning, and the prompt leaves no place for it: play and train with "
            "`enable_thinking=true` if the template reads it, else without the reasoning (--reasoning drop)"
        )
    else:
        advice = "Let the chat template put special tokens around messages, and render prompts alike before replies"
    return (
        "the chat template renders the prompt of a reply otherwise once the reply is there, or in other tokens, so a "
        f"model cannot be trained on what it reads in play: {prompt[same : same + _SHOWN]!r} against "
        f"{whole[same : same + _SHOWN]!r}. {advice}"
    )


def _rewritten(reply: ReplyTokens, last: ReplyTokens, place: int) -> str:
    written = reply.prompt + reply.answer
    same = common_length(written, last.prompt)
    return (
        f"the chat template rewrites earlier messages: reply {place + 1} of a conversation stands otherwise in later "
        f"prompts, at character {same}: {written[same : same + _SHOWN]!r} against "
        f"{last.prompt[same : same + _SHOWN]!r}. Train on one reply at a time, leave out the reasoning "
        "(--reasoning drop), or use a template that keeps replies"
    )
