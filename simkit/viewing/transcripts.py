"""Conversations as the viewer shows them: the lines of one branch from the root on, and single messages whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from simkit.errors import UsageError
from simkit.store import Reader
from simkit.viewing.values import LONGEST, parsed_list, size

LONGEST_TALK = 4_000_000
"""Characters of a conversation from which on its messages are cut sooner than at `LONGEST`."""

SHORTEST = 2_000
"""Characters of a message that are never cut."""


def transcript(reader: Reader, branch_id: str) -> dict[str, Any]:
    """The conversation of a branch with its model calls; long texts are cut (`cut` has the bytes of the whole).

    Raises:
        UsageError: there is no such branch.
    """
    episode = branch_id.rpartition("/")[0]
    rows = reader.rows(f"{_LINES} FROM conversation(?) ORDER BY seq", [branch_id])
    if not rows:
        raise UsageError(f"there is no branch {branch_id!r}")
    branches = [*(row["branch_id"] for row in rows), branch_id]  # one that ended with a fault adds no message
    return {"branch_id": branch_id, **_told(reader, episode, rows, branches)}


def own_messages(reader: Reader, episode: str) -> dict[str, dict[str, Any]]:
    """The conversation of each branch of an episode without the part that it shares with its parent, by branch."""
    rows = reader.rows(f"{_LINES} FROM messages WHERE episode_id = $episode ORDER BY seq", {"episode": episode})
    told = _told(reader, episode, rows, [row["branch_id"] for row in rows])
    found: dict[str, dict[str, Any]] = {}
    for name in ("lines", "model_calls"):
        for each in told[name]:
            mine = found.setdefault(each["branch_id"], {"branch_id": each["branch_id"], "lines": [], "model_calls": []})
            mine[name].append(each)
    return found


def _told(reader: Reader, episode: str, rows: Sequence[Mapping[str, Any]], branches: Sequence[str]) -> dict[str, Any]:
    """Messages as the page shows them, with the model calls of branches."""
    wanted = {"episode": episode, "branches": list(dict.fromkeys(branches))}
    tools = {(row["branch_id"], row["call_id"]): row for row in reader.rows(_TOOLS, wanted)}
    sides = {key: row["side"] for key, row in tools.items()}
    calls = reader.rows(_MODEL_CALLS, wanted)
    most = max(SHORTEST, min(LONGEST, LONGEST_TALK // max(1, len(rows))))
    return {
        "lines": [_line(row, tools, sides, most) for row in rows],
        "model_calls": [_model_call(row, episode) for row in calls],
        "cost": sum(row["cost"] or 0.0 for row in calls) if calls else None,
        "seconds": sum(row["seconds"] or 0.0 for row in calls) if calls else None,
    }


def message(reader: Reader, branch_id: str, seq: int) -> dict[str, Any]:
    """One message of a conversation, whole.

    Raises:
        UsageError: there is no such message.
    """
    row = next((row for row in reader.rows(f"{_LINES} FROM conversation(?)", [branch_id]) if row["seq"] == seq), None)
    if row is None:
        raise UsageError(f"the conversation of {branch_id!r} has no message {seq}")
    whole = {name: row[name] for name in ("content", "heard", "reasoning")}
    return {**whole, "tool_calls": _tool_calls(row, {}), "digest": digest(row)}


def digest(row: Mapping[str, Any]) -> str:
    """Digest of a message, by which a note tells whether it still belongs to what it was written about."""
    text = row["message"]
    return blake2b(
        (text if isinstance(text, bytes) else str(text).encode("utf-8", "replace")), digest_size=8
    ).hexdigest()


def call_name(row: Mapping[str, Any], episode: str) -> str:
    """Name of a model call in URLs: `PATH.TURN~ROLE~STEP~ATTEMPT~COPY`."""
    branch = row["branch_id"].removeprefix(f"{episode}/")
    return f"{branch}~{row['role']}~{row['step']}~{row['attempt']}~{row['copy']}"


def _line(
    row: Mapping[str, Any],
    tools: Mapping[tuple[str, str | None], Mapping[str, Any]],
    sides: Mapping[tuple[str, str | None], str],
    most: int,
) -> dict[str, Any]:
    content, heard, reasoning, calls = row["content"], row["heard"], row["reasoning"], _tool_calls(row, sides)
    whole = 0
    if any(len(text or "") > most for text in (content, heard, reasoning, *(call["arguments"] for call in calls))):
        parts = (content, reasoning, *(call["arguments"] for call in calls))
        whole = sum(size(text or "") for text in parts)
        content, heard, reasoning = _cut(content, most), _cut(heard, most), _cut(reasoning, most)
        calls = [{**call, "arguments": _cut(call["arguments"], most)} for call in calls]
    tool = tools.get((row["branch_id"], row["answers"])) if row["answers"] is not None else None
    return {
        "branch_id": row["branch_id"],
        "seq": row["seq"],
        "turn": row["turn"],
        "step": row["step"],
        "author": row["author"],
        "content": content,
        "cut": whole or None,
        "tool_calls": calls,
        "heard": heard,
        "reasoning": reasoning,
        "flags": row["flags"] or [],
        "tool": tool
        and {
            "name": tool["name"],
            "error": tool["error"],
            "seconds": tool["seconds"],
            "writes": _writes(tool["writes"]),
        },
        "digest": digest(row),
    }


def _writes(text: str | None) -> list[Any]:
    """The rows that a call wrote; a note in their place if they are too long to show."""
    if text is not None and len(text) > LONGEST:
        return [{"cut": size(text)}]
    return list(parsed_list(text))


def _tool_calls(row: Mapping[str, Any], sides: Mapping[tuple[str, str | None], str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for call in parsed_list(row["tool_calls"]):
        function: Mapping[str, Any] = call.get("function") or {}
        name, side = call.get("id"), "user" if row["author"] == "user_tool" else "agent"
        found.append(
            {"id": name, "name": function.get("name"), "arguments": _text(function.get("arguments"))}
            | {"by": sides.get((row["branch_id"], name), side)}
        )
    return found


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _cut(text: str | None, most: int = LONGEST) -> str | None:
    return None if text is None else text[:most]


def _model_call(row: Mapping[str, Any], episode: str) -> dict[str, Any]:
    path, _, turn = (row["branch_id"] or "").removeprefix(f"{episode}/").rpartition(".")
    return {
        "call_id": call_name(row, episode),
        "branch_id": row["branch_id"],
        "path": path,
        "turn": int(turn) if turn.isdigit() else None,
        "step": row["step"],
        "role": row["role"],
        "model": row["model"],
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "seconds": row["seconds"],
        "cost": row["cost"],
        "attempts": row["attempts"],
        "error": _cut(row["error"]),
    }


_LINES = """
SELECT
    branch_id, seq, turn, step, author, content, CAST(tool_calls AS VARCHAR) AS tool_calls, heard, flags,
    message ->> 'tool_call_id' AS answers, message ->> 'reasoning_content' AS reasoning,
    CAST(message AS VARCHAR) AS message
"""

_TOOLS = """
SELECT branch_id, call_id, name, error, seconds, CAST(writes AS VARCHAR) AS writes, side
FROM tool_calls WHERE episode_id = $episode AND list_contains($branches, branch_id)
"""

_MODEL_CALLS = """
SELECT * EXCLUDE (called_at) FROM (
    SELECT
        branch_id, role, step, attempt, model, prompt_tokens, completion_tokens, cost, seconds, error, called_at,
        row_number() OVER (PARTITION BY branch_id, role, step, attempt ORDER BY called_at) - 1 AS copy,
        count(*) OVER (PARTITION BY branch_id, role, step) AS attempts
    FROM model_calls WHERE episode_id = $episode AND list_contains($branches, branch_id)
)
ORDER BY called_at, step, attempt, copy
"""
