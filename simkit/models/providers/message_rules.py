"""Rules about the order and form of messages that some endpoints and chat templates enforce, and how to follow them.

Messages are dicts in the OpenAI chat format. The rules change what is sent, never the recorded conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias, cast

from simkit.core.reasoning import FIELD

Messages: TypeAlias = list[dict[str, Any]]

NO_ANSWER = "(The agent did not answer.)"
"""Stands for an answer between a tool's result and the user's next words."""

BEGINNING = "(The conversation begins.)"
GO_ON = "(Go on.)"
NOTHING = "(nothing)"
"""Stands for a text that is empty."""

REASONING_FIELDS = ("reasoning", FIELD)


def send_messages(
    messages: Sequence[dict[str, Any]], rules: Sequence[str], fields: frozenset[str], *, reasoning: bool
) -> Messages:
    """The messages as an endpoint accepts them.

    Args:
        messages: the conversation in the OpenAI format.
        rules: names of rules to follow, in the order of `RULES`.
        fields: fields that are left out.
        reasoning: whether the reasoning of earlier messages is sent.
    """
    found = [_without(message, fields, reasoning=reasoning) for message in messages]
    for rule in rules:
        found = RULES[rule](found)
    return found


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message's content."""
    content: object = message.get("content")
    if isinstance(content, list):
        parts = cast("list[object]", content)
        texts = [cast("dict[str, Any]", part).get("text") for part in parts if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _without(message: dict[str, Any], fields: frozenset[str], *, reasoning: bool) -> dict[str, Any]:
    left_out = fields if reasoning else fields.union(REASONING_FIELDS)
    kept = {name: value for name, value in message.items() if name not in left_out}
    if reasoning and kept["role"] == "assistant" and FIELD not in kept and FIELD not in fields:
        kept[FIELD] = ""
    return kept


def _no_system(messages: Messages) -> Messages:
    """Put instructions in front of the first words of the user."""
    text = "\n\n".join(text_of(each) for each in messages if _is_system(each))
    rest = [each for each in messages if not _is_system(each)]
    if not text:
        return rest
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": f"{text}\n\n{text_of(rest[0])}"}, *rest[1:]]
    return [{"role": "user", "content": text}, *rest]


def _one_system(messages: Messages) -> Messages:
    """Join all instructions to one message at the beginning."""
    systems = [each for each in messages if _is_system(each)]
    if not systems:
        return messages
    joined = {**systems[0], "content": "\n\n".join(map(text_of, systems))}
    return [joined, *(each for each in messages if not _is_system(each))]


def _system_role(messages: Messages) -> Messages:
    """Send instructions of a developer under the role `system`."""
    return [{**each, "role": "system"} if each["role"] == "developer" else each for each in messages]


def _texts(messages: Messages) -> Messages:
    """Send content as a text, not as a list of parts."""
    return [{**each, "content": text_of(each)} if isinstance(each.get("content"), list) else each for each in messages]


def _no_nulls(messages: Messages) -> Messages:
    """Send an empty text instead of no content."""
    return [{**each, "content": ""} if each.get("content") is None else each for each in messages]


def _filled(messages: Messages) -> Messages:
    """Send a placeholder instead of empty content."""
    return [{**each, "content": NOTHING} if not text_of(each).strip() else each for each in messages]


def _answered(messages: Messages) -> Messages:
    """Put an answer between a tool's result and the user's next words."""
    found: Messages = []
    for each in messages:
        if found and found[-1]["role"] == "tool" and each["role"] == "user":
            found.append({"role": "assistant", "content": NO_ANSWER})
        found.append(each)
    return found


def _alternating(messages: Messages) -> Messages:
    """Join consecutive messages of the user, and consecutive messages of the assistant."""
    found: Messages = []
    for each in messages:
        last = found[-1] if found else None
        joinable = last is not None and last["role"] == each["role"] and each["role"] in ("user", "assistant")
        if last is not None and joinable and not last.get("tool_calls"):
            text = "\n".join(filter(None, (text_of(last), text_of(each))))
            found[-1] = {**last, **each, "content": text or each.get("content")}
        else:
            found.append(each)
    return found


def _user_first(messages: Messages) -> Messages:
    """Let the user speak first."""
    start = next((place for place, each in enumerate(messages) if not _is_system(each)), len(messages))
    if start < len(messages) and messages[start]["role"] == "user":
        return messages
    return [*messages[:start], {"role": "user", "content": BEGINNING}, *messages[start:]]


def _user_last(messages: Messages) -> Messages:
    """Let the user or a tool speak last."""
    if messages and messages[-1]["role"] == "assistant":
        return [*messages, {"role": "user", "content": GO_ON}]
    return messages


def _short_ids(messages: Messages) -> Messages:
    """Name calls with nine letters and digits."""
    found: Messages = []
    for each in messages:
        changed = dict(each)
        if isinstance(changed.get("tool_call_id"), str):
            changed["tool_call_id"] = _short(changed["tool_call_id"])
        if changed.get("tool_calls"):
            changed["tool_calls"] = [{**call, "id": _short(str(call.get("id")))} for call in changed["tool_calls"]]
        found.append(changed)
    return found


def _parts(messages: Messages) -> Messages:
    """Send content as a list of parts."""
    return [
        {**each, "content": [{"type": "text", "text": each["content"]}]}
        if isinstance(each.get("content"), str)
        else each
        for each in messages
    ]


def _short(name: str) -> str:
    return name if len(name) == 9 and name.isalnum() and name.isascii() else blake2b(name.encode()).hexdigest()[:9]


def _is_system(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer")


RULES: Mapping[str, Callable[[Messages], Messages]] = {
    "system-role": _system_role,
    "no-system": _no_system,
    "one-system": _one_system,
    "texts": _texts,
    "no-nulls": _no_nulls,
    "filled": _filled,
    "answered": _answered,
    "alternating": _alternating,
    "user-first": _user_first,
    "user-last": _user_last,
    "short-ids": _short_ids,
    "parts": _parts,
}
"""Rules by name, in the order in which they are applied."""
