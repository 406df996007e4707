"""What was said before an episode begins: the agent's greeting, or the earlier messages of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.errors import DataCorrupt
from simkit.tools.tau2.start import parts_of

Json = Mapping[str, Any]


MARKERS: Final = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
"""What the release's users write to end a conversation."""


def opening_of(data: Json, greeting: str) -> tuple[Entry, ...]:
    """The entries of a task's earlier messages; the greeting if it has none.

    Raises:
        DataCorrupt: they end with words of the user that end the conversation, so that nothing is left to play.
    """
    history = parts_of(data, "initial_state", "message_history")
    entries = tuple(map(_entry, history)) or (Entry.agent(greeting, 0),)
    last = entries[-1]
    if last.author == "user" and any(marker in (last.heard or "") for marker in MARKERS):
        raise DataCorrupt("a task begins after the user has ended the conversation; leave it out")
    return entries


def _entry(message: Json) -> Entry:
    role, text, calls = message["role"], message.get("content"), parts_of(message, "tool_calls")
    if role == "tool":
        result = ToolMessage.of(message["id"], text or "")
        return Entry(result, "user_tool" if message.get("requestor") == "user" else "tool", turn=0)
    if not calls:
        return Entry.user(text or "", 0) if role == "user" else Entry.agent(text or "", 0)
    made = tuple(ToolCall.of(call["id"], call["name"], dict(call["arguments"])) for call in calls)
    if role == "user":
        return Entry(AssistantMessage.of(text, made), "user_tool", turn=0)
    return Entry(AssistantMessage.of(text, made), "agent", turn=0)
