"""Conversion between conversations and tokens: the only place that renders and parses a model's tokens.

Generation, validation of training data and training all use it, so a model is trained on exactly the tokens that it
reads and writes in play.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simkit.core.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolSpec,
    UserMessage,
)
from simkit.core.reasoning import opens_reasoning, split_reasoning, with_reasoning
from simkit.core.text_calls import UNPARSED, find_calls, marked_calls
from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.local.incremental import Segments
from simkit.local.reply_tokens import Rendered, ReplyTokens, common_length, reply_tokens, whole_conversation
from simkit.local.template_messages import (
    THOUGHT_FIELDS,
    check_names,
    name_of,
    reads,
    template_messages,
    template_tools,
    with_text_arguments,
)
from simkit.plugins.extras import require

_ASKED = UserMessage.of("?")
_PROBE = "words of a probe"
_PROBE_TOOL = ToolSpec.of("probe_of_calls", "A probe.", {"probed": {"type": "string"}})
_PROBE_CALL = AssistantMessage.of(None, (ToolCall.of("call_0", _PROBE_TOOL.name, {"probed": "value"}),))


@dataclass(frozen=True, slots=True)
class ReadReply:
    """A reply as read from its text.

    Attributes:
        message: its text, reasoning and calls. A call that cannot be read stands in the text as the model wrote it.
        doubts: `unparsed_call: NOTATION` about a reply with such a call; see `ChatResponse.doubts`.
    """

    message: AssistantMessage
    doubts: tuple[str, ...] = ()


class ChatFormat:
    """The conversation format of one tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers with a chat template.
        ends: tokens that end a reply, besides the tokenizer's end of sequence; None for no others.
        template_kwargs: values for names that the chat template reads (`chat_template_kwargs` elsewhere), such as
            `enable_thinking`.

    Raises:
        UsageError: the tokenizer has no chat template, is not a fast one, or its template does not read a name.
    """

    def __init__(
        self, tokenizer: Any, ends: Sequence[int] | None = None, template_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError(
                f"the tokenizer {name_of(tokenizer)} has no chat template, so it cannot hold a conversation; use a "
                "chat model (often called `instruct`), or set `chat_template` in its folder"
            )
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                f"the tokenizer {name_of(tokenizer)} does not report the positions of its tokens in a text; save it as "
                "a fast tokenizer (with a tokenizer.json)"
            )
        self.tokenizer = tokenizer
        own = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        self.ends: frozenset[int] = frozenset(own if ends is None else ends) | frozenset(own)
        self.template_kwargs = dict(template_kwargs or {})
        check_names(tokenizer, self.template_kwargs)
        self._segments = Segments(tokenizer)
        self._marks = tuple(each.content for each in tokenizer.added_tokens_decoder.values() if each.special)

    @classmethod
    def of(cls, path: str | Path, template_kwargs: Mapping[str, Any] | None = None) -> ChatFormat:
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
        return cls(tokenizer, end_tokens(folder), template_kwargs)

    def with_template(self, template: str) -> ChatFormat:
        """The same format with another chat template. The tokenizer of this one stays as it is."""
        tokenizer = copy(self.tokenizer)
        tokenizer.chat_template = template
        read = {name: value for name, value in self.template_kwargs.items() if reads(template, name)}
        return ChatFormat(tokenizer, sorted(self.ends), read)

    def training_template(self) -> str | None:
        """TRL's chat template for training models of this family; None if TRL has or needs none, or is missing."""
        if find_spec("trl") is None:
            return None
        utilities = require("trl.chat_template_utils", "train")
        try:
            found = utilities.get_training_chat_template(self.tokenizer)
        except Exception:  # ValueError for an unknown family; its probes make templates raise anything
            return None
        return None if found is None else str(found)

    @cached_property
    def renders_text(self) -> bool:
        """Whether the chat template renders the text of messages; those of models that see expect contents in parts."""
        try:
            return _PROBE in self.rendered((UserMessage.of(_PROBE), AssistantMessage.of("!")))
        except UsageError:
            return False

    @cached_property
    def renders_reasoning(self) -> bool:
        """Whether the chat template renders the reasoning of the last reply."""
        said = with_reasoning(AssistantMessage.of("!"), _PROBE)
        try:
            return _PROBE in self.rendered((_ASKED, said))
        except UsageError:
            return False

    @cached_property
    def opens_reasoning(self) -> bool:
        """Whether the chat template ends a prompt with a mark that opens reasoning."""
        return opens_reasoning(self._opening)

    @cached_property
    def calls_tools(self) -> bool:
        """Whether a model can call tools with this format; see `lacks_for_tools`."""
        return self.lacks_for_tools is None

    @cached_property
    def lacks_for_tools(self) -> str | None:
        """The reason why a model cannot call tools with this format; None if it can.

        A format with calls, but without tools and system prompts, is that of a model that knows its tools by heart.
        """
        try:
            if _PROBE_TOOL.name not in self.rendered((_ASKED,), (_PROBE_TOOL,)):
                if self.own_notation and not self._renders_instructions:
                    return None
                return "its chat template does not render tools"
            if _PROBE_TOOL.name not in self._rendered_call():
                return "its chat template does not render tool calls"
        except UsageError:
            return "its chat template refuses tool calls"
        if self.own_notation or self._has_response_template:
            return None
        return "its chat template renders tool calls in a notation that simkit cannot read"

    @property
    def _renders_instructions(self) -> bool:
        """Whether the chat template renders system prompts."""
        try:
            return _PROBE in self.rendered((SystemMessage.of(_PROBE), _ASKED))
        except UsageError:
            return False

    @cached_property
    def own_notation(self) -> str | None:
        """The notation in which the chat template renders calls; None if there is none, or simkit cannot read it."""
        try:
            found = find_calls(self._rendered_call(), (_PROBE_TOOL,))
        except UsageError:
            return None
        calls = found.calls if found else ()
        read = [ToolCall.of("", call.name, call.arguments).parse_arguments() for call in calls]
        return found.notation if found and not found.unread and read == [{"probed": "value"}] else None

    def _rendered_call(self) -> str:
        """A call as the chat template renders it, with what begins and ends a reply."""
        whole = self.rendered((_ASKED, _PROBE_CALL), (_PROBE_TOOL,))
        return whole[common_length(self.rendered((_ASKED,), (_PROBE_TOOL,)), whole) :]

    @property
    def _has_response_template(self) -> bool:
        return getattr(self.tokenizer, "response_template", None) is not None

    @cached_property
    def _opening(self) -> str:
        """A prompt, which ends with what the chat template writes at the beginning of a reply."""
        try:
            return self._text(template_messages((_ASKED,)), None, True)
        except UsageError:
            return ""

    @cached_property
    def _header(self) -> str:
        """What the chat template writes before a reply; some templates leave it out of the prompt after a result."""
        try:
            return self._opening.removeprefix(self.rendered((_ASKED,)))
        except UsageError:
            return ""

    @cached_property
    def _arguments_as_text(self) -> bool:
        """Whether the chat template expects the arguments of calls as text, and refuses objects."""
        try:
            self._apply(template_messages((_ASKED, _PROBE_CALL)), None, False)
        except Exception:  # templates raise anything
            return True
        return False

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """The tokens of a conversation up to the beginning of the assistant's next reply.

        Raises:
            UsageError: the chat template refuses the conversation.
        """
        return self.ids(self.prompt_text(messages, tools))

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The text of a prompt; see `prompt`."""
        return self._text(template_messages(messages), template_tools(tools), True)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, which may have special tokens in it."""
        return self._segments.ids(text)

    def rendered(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The text of a whole conversation, with the reasoning of its last reply.

        Raises:
            UsageError: the chat template refuses the conversation.
        """
        return self._text(template_messages(messages, last_reasoning=True), template_tools(tools), False)

    def reply(self, before: Sequence[Message], answer: AssistantMessage, tools: Sequence[ToolSpec] = ()) -> ReplyTokens:
        """The tokens of a reply after its prompt, as the model reads and writes them in play.

        Args:
            before: the conversation up to the reply; the prompt has no reasoning of earlier replies.
            answer: the reply, with its reasoning.
            tools: the tools that the model is offered.

        Raises:
            UsageError: the template refuses the conversation, renders another prompt once there is a reply, or no token
                that ends it; or a token reaches from the prompt into the reply.
        """
        return reply_tokens(self, before, answer, tools)

    def conversation(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Rendered:
        """A conversation up to its last reply as one sequence, with the tokens that the assistant wrote marked.

        Raises:
            UsageError: there is no reply, the template shows an earlier reply otherwise than it was written, or a reply
                cannot be rendered (see `reply`).
        """
        return whole_conversation(self, messages, tools)

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

    def parse(self, ids: Sequence[int], tools: Sequence[ToolSpec] = ()) -> AssistantMessage:
        """The message that a reply's tokens stand for; see `read`."""
        return self.read(self.said(ids), tools).message

    def read(self, text: str, tools: Sequence[ToolSpec] = ()) -> ReadReply:
        """Read a reply's text, without the token that ends it.

        Calls are read strictly, each by itself (`simkit.core.text_calls`). The tokenizer's own `response_template`
        reads the reply where the chat template has a notation that simkit does not know; it reads all calls or none.

        Args:
            text: the text.
            tools: the tools that the model was offered; without any, a call in a notation with a mark is unreadable.
        """
        if tools and self._has_response_template and not self.own_notation:
            return self._by_template(text, tools)
        thought, words = split_reasoning(text.removeprefix(self._header))
        json = self.own_notation == "json"  # then an object in the form of a call is one, whatever it names
        found = find_calls(words, tools, any_tool=json) if tools else marked_calls(words)
        if found is None:
            return ReadReply(self._message(words, thought))
        if not found.calls or not tools:
            return ReadReply(self._message(words, thought, plain=False), (f"{UNPARSED}: {found.notation}",))
        calls = (ToolCall.of(f"call_{place}", each.name, each.arguments) for place, each in enumerate(found.calls))
        doubts = (f"{UNPARSED}: {found.notation}",) if found.unread else ()
        return ReadReply(self._message(found.rest, thought, tuple(calls), plain=not doubts), doubts)

    def _message(
        self, words: str, thought: str | None, calls: tuple[ToolCall, ...] = (), *, plain: bool = True
    ) -> AssistantMessage:
        words = self.plain(words) if plain else words
        message = AssistantMessage.of(words if words.strip() else None, calls)
        return with_reasoning(message, thought) if thought else message

    def _by_template(self, text: str, tools: Sequence[ToolSpec]) -> ReadReply:
        """The reply as the tokenizer's `response_template` reads it; its parser raises for a malformed call."""
        ended = text + (self.tokenizer.eos_token or "")
        try:
            found: dict[str, Any] = self.tokenizer.parse_response(
                ended, prefix=self._opening, tools=template_tools(tools)
            )
            calls = tuple(
                ToolCall.of(f"call_{index}", str(one["function"]["name"]), dict(one["function"]["arguments"]))
                for index, one in enumerate(found.get("tool_calls") or ())
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ReadReply(AssistantMessage.of(text), (f"{UNPARSED}: response_template",))
        thought = next((found[field] for field in THOUGHT_FIELDS if isinstance(found.get(field), str)), None)
        content = found.get("content")
        return ReadReply(self._message(content if isinstance(content, str) else "", thought, calls))

    def _text(self, messages: list[dict[str, Any]], tools: Any, generation: bool) -> str:
        if any("tool_calls" in message for message in messages) and self._arguments_as_text:
            messages = [with_text_arguments(message) for message in messages]
        try:
            return self._apply(messages, tools, generation)
        except Exception as error:  # templates raise anything, and jinja2's errors may not be importable
            raise UsageError(
                f"the chat template of {name_of(self.tokenizer)} refuses a conversation of {len(messages)} messages: "
                f"{type(error).__name__}: {_first_line(error)}"
            ) from error

    def _apply(self, messages: list[dict[str, Any]], tools: Any, generation: bool) -> str:
        apply = self.tokenizer.apply_chat_template
        return str(
            apply(messages, tools=tools, tokenize=False, add_generation_prompt=generation, **self.template_kwargs)
        )


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
