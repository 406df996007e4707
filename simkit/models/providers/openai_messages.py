"""Messages in answers of OpenAI-compatible servers, in the many shapes that servers give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from simkit.core.messages import AssistantMessage, arguments_text
from simkit.core.reasoning import FIELD, split_reasoning
from simkit.core.values import within_depth

_BLOCK_FIELDS = ("thinking_blocks", "reasoning_details")
"""Reasoning in blocks with signatures, which some providers want back: kept under their own names, too."""

_REASONING_FIELDS = (FIELD, "reasoning", "reasoning_text", "thinking", "thought", *_BLOCK_FIELDS)
"""Fields of a message that hold its reasoning, the preferred one first."""

_READ = frozenset({"role", "content", "tool_calls", "function_call", "refusal", *_REASONING_FIELDS}) - {*_BLOCK_FIELDS}
_ARGUMENTS = ("arguments", "parameters", "input")
_READ_OF_CALL = frozenset({"id", "type", "function", "index", "custom", "name", *_ARGUMENTS})
_THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "summary_text", "redacted_thinking", "thought"})
_TEXTS = frozenset({"text", "output_text", "input_text"})
_CALLS = frozenset({"tool_use", "tool_call", "function_call"})
_WORDS_OF = ("text", "thinking", "reasoning", "thought", "content", "summary")


def read_message(choice: dict[str, Any]) -> tuple[AssistantMessage, bool]:
    """The message of a choice, in any shape: `message`, `delta` or `text`.

    Returns it with False if it holds numbers that the parser of the answer may have rounded.

    Raises:
        LookupError, TypeError, ValueError: it is no message.
    """
    written = choice.get("message") or choice.get("delta") or _without_message(choice)
    content, refusal, calls = written.get("content"), written.get("refusal"), written.get("tool_calls")
    exact, thought, more = True, None, None
    if type(content) is str:
        thought, content = split_reasoning(content)
    elif content is not None:
        parts = _Parts.of(content)
        thought, content, refusal = parts.thought, parts.content, refusal or parts.refusal
        calls, more, exact = calls or parts.calls, parts.blocks, False
    kept: dict[str, Any] = {"role": "assistant", "content": content}
    if calls or written.get("function_call"):
        made, exact_calls = _calls(calls or [written["function_call"]])
        exact = exact and exact_calls
        if made:
            kept["tool_calls"] = made
    if refusal:
        kept["refusal"] = refusal
    for name in written:
        if name not in _USUAL and written[name]:
            break
    else:
        if thought is None and not more:
            return _VALIDATE(kept), exact
    if thought is not None and not content:
        kept["content"] = None
    exact = _add_fields(kept, written, thought, more or []) and exact
    return _VALIDATE(kept), exact


_USUAL = frozenset({"role", "content", "tool_calls", "refusal"})
_VALIDATE: Callable[[dict[str, Any]], AssistantMessage] = AssistantMessage.__pydantic_validator__.validate_python
"""`model_validate` without its options, which take as long as the validation."""


def _without_message(choice: dict[str, Any]) -> dict[str, Any]:
    """The message of a choice of the older completions, or one that a filter emptied."""
    if isinstance(choice.get("text"), str):
        return {"content": choice["text"]}
    if "content_filter_results" in choice or choice.get("finish_reason") == "content_filter":
        return {"content": None}
    return cast("dict[str, Any]", choice["message"])


def _add_fields(kept: dict[str, Any], written: dict[str, Any], thought: str | None, blocks: list[Any]) -> bool:
    """Add the reasoning and the provider's own fields; returns whether none of them holds numbers."""
    own = {
        name: value
        for name, value in written.items()
        if name not in _READ and within_depth(value) and not _is_empty(value)
    }
    if blocks:
        own.setdefault("thinking_blocks", blocks)
    found = (_words_of(written.get(name)) for name in _REASONING_FIELDS)
    field = next((words for words in found if words), None)
    thoughts = [each for each in dict.fromkeys((field, thought)) if each]
    if thoughts:
        own[FIELD] = "\n\n".join(thoughts)
    kept.update(own)
    return all(isinstance(value, str) for value in own.values())


def _words_of(value: object) -> str:
    """The text in reasoning of any shape: a text, a part, or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n\n".join(filter(None, map(_words_of, cast("list[object]", value))))
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return next(filter(None, (_words_of(fields.get(name)) for name in _WORDS_OF)), "")
    return ""


def _is_empty(value: object) -> bool:
    """Whether a value says nothing: null, empty, or only such values."""
    if isinstance(value, dict):
        return all(map(_is_empty, cast("dict[str, object]", value).values()))
    if isinstance(value, list):
        return all(map(_is_empty, cast("list[object]", value)))
    return value is None or value == ""


# --- calls ------------------------------------------------------------------------------------------------------------


def _calls(written: Any) -> tuple[list[dict[str, Any]], bool]:
    """The calls, and whether all their arguments came as text. Ids that are missing or double are made up."""
    calls: list[dict[str, Any]] = []
    exact = True
    for call in cast("Iterable[Any]", [written] if isinstance(written, dict) else written):
        if call is not None:
            made = _usual_call(call)
            if made is None:
                made, text = _call(call, len(calls))
                exact = exact and text
            calls.append(made)
    if len(calls) > 1:
        ids = set[str]()
        for index, call in enumerate(calls):
            call["id"] = f"call_{index}" if call["id"] in ids else call["id"]
            ids.add(call["id"])
    return calls, exact


def _usual_call(call: dict[str, Any]) -> dict[str, Any] | None:
    """A call in OpenAI's own form without further fields; None if it is in another one."""
    function = call.get("function")
    if type(function) is dict and len(call) == 3 + ("index" in call) and call.get("type") == "function":
        fields = cast("dict[str, Any]", function)
        arguments, call_id = fields.get("arguments"), call.get("id")
        if type(arguments) is str and arguments[:1] == "{" and call_id and type(call_id) is str and len(fields) == 2:
            return {"id": call_id, "type": "function", "function": fields}
    return None


def _call(call: dict[str, Any], index: int) -> tuple[dict[str, Any], bool]:
    """A call in any form, and whether it holds no numbers except in text."""
    function = call.get("function") or call.get("custom") or call  # some servers leave out the wrapper
    if isinstance(function, str):
        function = {**call, "name": function}
    arguments = next((function[name] for name in _ARGUMENTS if function.get(name) is not None), None)
    if arguments is not None and "custom" in call and function is call["custom"]:
        arguments = {"input": arguments}
    inner = function if isinstance(call.get("function"), dict) else {}
    of_call = {name: value for name, value in call.items() if name not in _READ_OF_CALL and not _is_empty(value)}
    of_function = {name: value for name, value in inner.items() if name not in _READ_OF_CALL and not _is_empty(value)}
    made: dict[str, Any] = {
        "id": str(call.get("id") or f"call_{index}"),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments_text(arguments), **of_function},
        **of_call,
    }
    return made, isinstance(arguments, str | None) and not of_call and not of_function


# --- contents in parts ------------------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """A content in parts, taken apart. `blocks` are parts of reasoning that carry a signature."""

    content: Any
    thought: str | None
    refusal: str | None
    calls: list[dict[str, Any]]
    blocks: list[Any]

    @classmethod
    def of(cls, content: Any) -> _Parts:
        thoughts: list[str] = []
        refusals: list[str] = []
        kept: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        blocks: list[Any] = []
        for part in _each_part(content):
            kind = part.get("type")
            if kind in _THOUGHTS:
                thoughts.append(_words_of(part))
                if part.get("signature") or part.get("data"):
                    blocks.append(part)
            elif kind == "refusal":
                refusals.append(str(part.get("refusal") or part.get("text") or ""))
            elif kind in _CALLS:
                calls.append(part)
            elif kind in _TEXTS or (kind is None and "text" in part):
                kept.append({"type": "text", "text": part.get("text") or ""})
            else:
                kept.append(part)
        words: Any = kept or None
        if kept and all(part["type"] == "text" and type(part["text"]) is str for part in kept):
            inline, words = split_reasoning("".join(part["text"] for part in kept))
            thoughts += [inline] if inline else []
        return cls(words, "\n\n".join(filter(None, thoughts)) or None, "\n".join(refusals) or None, calls, blocks)


def _each_part(content: Any) -> Iterable[dict[str, Any]]:
    if not isinstance(content, (dict, list)):
        raise TypeError(f"a content that is a {type(content).__name__}")
    parts = cast("list[Any]", content if isinstance(content, list) else [content])
    for part in parts:
        if part is not None:
            yield {"type": "text", "text": part} if isinstance(part, str) else part
