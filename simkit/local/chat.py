"""Conversion between conversations and tokens: the only place that renders and parses a model's tokens.

Generation, validation of training data and training all use it, so a model is trained on exactly the tokens that it
reads and writes in play.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from simkit.core.messages import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, ToolSpec, text_of
from simkit.core.reasoning import FIELD, opens_reasoning, reasoning_of
from simkit.errors import InvalidArguments, UsageError
from simkit.local.calls import MARKS, read_message
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require

_KEPT = 8192
_COMPARED = 4


class Segments:
    """Tokenizes texts piece by piece, with a cache of pieces.

    The first few texts are also tokenized as a whole. If the results ever differ, texts are no longer split.

    Args:
        tokenizer: a fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = [each for each in tokenizer.added_tokens_decoder.values() if each.special and each.content]
        cutting = {each.content: each for each in special if not (each.lstrip or each.rstrip or each.single_word)}
        cuts = sorted((name for name, each in cutting.items() if not each.normalized), key=len, reverse=True)
        self._cut = re.compile("(?=" + "|".join(map(re.escape, cuts)) + ")") if cuts else None
        self._compared = 0
        self._piece = lru_cache(_KEPT)(self._whole)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without special tokens added."""
        if self._cut is None:
            return list(self._whole(text))
        found: list[int] = []
        for piece in self._cut.split(text):
            found += self._piece(piece)
        if self._compared < _COMPARED:
            self._compared += 1
            whole = list(self._whole(text))
            if whole != found:
                self._cut = None
                return whole
        return found

    def _whole(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])


_SHOWN = 60
_PROBE = "reasoning of a probe"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens.

    Attributes:
        ids: all tokens.
        trained: for each token, whether the assistant wrote it: its text, its calls and the token that ends them.
    """

    ids: list[int]
    trained: list[bool]

    def labels(self) -> list[int]:
        """The ids of trained tokens; -100, which losses ignore, for the others."""
        return [token if trained else -100 for token, trained in zip(self.ids, self.trained, strict=True)]


class ChatFormat:
    """The conversation format of one tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers with a chat template.
        ends: tokens that end a reply, besides the tokenizer's end of sequence; None for no others.

    Raises:
        UsageError: the tokenizer has no chat template, or is not a fast one.
    """

    def __init__(self, tokenizer: Any, ends: Sequence[int] | None = None) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError(
                f"the tokenizer {_name(tokenizer)} has no chat template, so it cannot hold a conversation; use a chat "
                "model (often called `instruct`), or set `chat_template` in its folder"
            )
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                f"the tokenizer {_name(tokenizer)} does not report the positions of its tokens in a text; save it as a "
                "fast tokenizer (with a tokenizer.json)"
            )
        self.tokenizer = tokenizer
        own = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        self.ends: frozenset[int] = frozenset(own if ends is None else ends) | frozenset(own)
        self._segments = Segments(tokenizer)
        special = (each.content for each in tokenizer.added_tokens_decoder.values() if each.special)
        self._marks = tuple(mark for mark in special if mark not in MARKS)

    @classmethod
    def of(cls, path: str | Path) -> ChatFormat:
        """The format of a model in a folder, in a GGUF file or on the Hugging Face hub.

        Raises:
            UsageError: the model does not exist, or its tokenizer cannot be used.
        """
        transformers = require("transformers", "local")
        folder = model_folder(path)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no tokenizer at `{path}`: {_first_line(error)}; give the folder of a model, or its name at Hugging "
                "Face"
            ) from error
        return cls(tokenizer, end_tokens(folder))

    @cached_property
    def renders_reasoning(self) -> bool:
        """Whether the chat template renders the field `reasoning_content` of the last reply."""
        asked = {"role": "user", "content": "?"}
        said = {"role": "assistant", "content": "!", FIELD: _PROBE}
        try:
            return _PROBE in self._text([asked, said], None, False)
        except UsageError:
            return False

    @cached_property
    def opens_reasoning(self) -> bool:
        """Whether the chat template ends a prompt with a mark that opens reasoning."""
        try:
            return opens_reasoning(self._text([{"role": "user", "content": "?"}], None, True))
        except UsageError:
            return False

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """The tokens of a conversation up to the beginning of the assistant's next reply.

        Raises:
            UsageError: the chat template refuses the conversation.
        """
        return self._segments.ids(self._text(template_messages(messages), template_tools(tools), True))

    def conversation(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Rendered:
        """A whole conversation, with the tokens that the assistant wrote marked.

        The assistant's tokens are found by rendering the conversation before each reply and comparing. This works with
        every template that does not rewrite earlier messages.

        Raises:
            UsageError: the template refuses the conversation or rewrites earlier messages; the error shows where.
        """
        dicts, specs = template_messages(messages, reasoning=True), template_tools(tools)
        whole = self._text(dicts, specs, False)
        spans = [
            self._span(dicts, specs, index, whole) for index, one in enumerate(dicts) if one["role"] == "assistant"
        ]
        encoded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = list(encoded["input_ids"])
        starts = [int(start) for start, _ in encoded["offset_mapping"]]
        trained = [False] * len(ids)
        for span in spans:
            first, last = (self._token_at(place, starts, whole) for place in span)
            for index in range(first, self._ended(ids, first, last)):
                trained[index] = True
        return Rendered(ids, trained)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, including special ones."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def said(self, ids: Sequence[int]) -> str:
        """The text of a reply without the token that ends it. Markers of calls stay."""
        kept = list(ids)
        while kept and kept[-1] in self.ends:
            kept.pop()
        return self.text(kept)

    def plain(self, text: str) -> str:
        """A text without special tokens."""
        for mark in self._marks:
            text = text.replace(mark, "") if mark in text else text
        return text

    def parse(self, ids: Sequence[int], *, calls: bool = True) -> AssistantMessage:
        """Parse a reply's tokens into a message. `calls` says whether the model was offered tools.

        Uses the tokenizer's own `response_template` if it has one, else the notations of Hermes and Qwen, Mistral and
        Llama 3. A malformed call stays visible: with its arguments as written, or as text.
        """
        return self.read(self.said(ids), calls=calls)

    def read(self, text: str, *, calls: bool = True) -> AssistantMessage:
        """Parse a reply's text, without the token that ends it, into a message."""
        if not calls:
            plain = self.plain(text)
            return AssistantMessage.of(plain if plain.strip() else None)
        message = self._by_template(text) or read_message(text)
        if isinstance(message.content, str) and (plain := self.plain(message.content)) != message.content:
            return AssistantMessage.of(plain if plain.strip() else None, message.tool_calls or ())
        return message

    def _by_template(self, text: str) -> AssistantMessage | None:
        if getattr(self.tokenizer, "response_template", None) is None:
            return None
        try:
            found: dict[str, Any] = self.tokenizer.parse_response(text, prefix="")
            calls = tuple(
                ToolCall.of(f"call_{index}", one["function"]["name"], one["function"].get("arguments") or {})
                for index, one in enumerate(found.get("tool_calls") or ())
            )
        except (ValueError, KeyError, TypeError):  # malformed JSON: `read_message` keeps the text as written
            return None
        content = found.get("content")
        return AssistantMessage.of(content if isinstance(content, str) and content.strip() else None, calls)

    def _span(self, dicts: list[dict[str, Any]], tools: Any, index: int, whole: str) -> tuple[int, int]:
        """Positions in the whole text where message `index`, a reply, and the message after it begin."""
        before = self._text(dicts[:index], tools, True)
        until = whole if index + 1 == len(dicts) else self._text(dicts[: index + 1], tools, False)
        for part, what in ((before, "what the assistant saw before its reply"), (until, "the conversation up to it")):
            if not whole.startswith(part):
                raise UsageError(_rewritten(part, whole, index, what))
        return len(before), len(until)

    def _token_at(self, place: int, starts: list[int], whole: str) -> int:
        found = bisect_left(starts, place)
        if place != len(whole) and (found == len(starts) or starts[found] != place):
            around = whole[max(0, place - _SHOWN // 2) : place + _SHOWN // 2]
            raise UsageError(
                f"a token reaches over the place where a message begins or ends, in {around!r}; the model could not be "
                "trained on what it sees when it plays. Let the chat template put special tokens around messages"
            )
        return found

    def _ended(self, ids: list[int], first: int, last: int) -> int:
        """Position after the token that ends the reply. The model never generates what the template adds after it."""
        for index in range(last - 1, first - 1, -1):
            if ids[index] in self.ends:
                return index + 1
        return last

    def _text(self, messages: list[dict[str, Any]], tools: Any, generation: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=generation
                )
            )
        except Exception as error:  # templates raise anything, and jinja2's errors may not be importable
            raise UsageError(
                f"the chat template of {_name(self.tokenizer)} refuses a conversation of {len(messages)} messages: "
                f"{type(error).__name__}: {_first_line(error)}"
            ) from error


def end_tokens(path: str | Path) -> tuple[int, ...]:
    """The tokens that end a reply according to a model's generation config; empty if it names none."""
    transformers = require("transformers", "local")
    try:
        found = transformers.GenerationConfig.from_pretrained(str(path)).eos_token_id
    except (OSError, ValueError):
        return ()
    return as_tokens(found)


def as_tokens(value: Any) -> tuple[int, ...]:
    """A number, a list of numbers or nothing, as a tuple."""
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(int(each) for each in value)


def template_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]] | None:
    """Tools in the form that chat templates expect."""
    return [tool.to_openai() for tool in tools] or None


def template_messages(messages: Sequence[Message], *, reasoning: bool = False) -> list[dict[str, Any]]:
    """Messages in the form that chat templates expect: content as text, valid arguments as objects, tool names.

    Replies have their `reasoning` only in conversations to learn from: a prompt is sent without it.
    """
    names: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            names.update((call.id, call.name) for call in message.tool_calls or ())
        written.append(_template_message(message, names, reasoning))
    return written


def _template_message(message: Message, names: Mapping[str, str], reasoning: bool) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    written: dict[str, Any] = {"role": role, "content": text_of(message)}
    if reasoning and (thought := reasoning_of(message)):
        written[FIELD] = thought
    if isinstance(message, AssistantMessage) and message.tool_calls:
        written["tool_calls"] = [_template_call(call) for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        written |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
    return written


def _template_call(call: ToolCall) -> JsonObject:
    try:
        arguments: object = call.parse_arguments()
    except InvalidArguments:
        arguments = call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _rewritten(part: str, whole: str, index: int, what: str) -> str:
    same = sum(accumulate((a == b for a, b in zip(part, whole, strict=False)), lambda x, y: x and y))
    return (
        f"the chat template rewrites earlier messages, so a model cannot be trained on the conversation as played: for "
        f"message {index} {what} differs from the whole at character {same}: {part[same : same + _SHOWN]!r} against "
        f"{whole[same : same + _SHOWN]!r}. Train on one reply at a time, leave "
        "out the reasoning (--reasoning drop), or fix the template"
    )


def _name(tokenizer: Any) -> str:
    return f"`{getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}`"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
