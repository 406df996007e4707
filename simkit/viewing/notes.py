"""Notes in the viewer: those that were written, and the checks of a new one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from simkit.errors import ViewRefused
from simkit.store import Reader
from simkit.store.notes import Note, new_id
from simkit.viewing.transcripts import digest
from simkit.viewing.values import moment

LARGEST = 64 << 10
"""Bytes of a request that writes a note."""

LONGEST_LABEL = 100

FIELDS = ("run_id", "task_id", "trial", "path", "turn", "seq", "label", "text", "digest")


def notes(reader: Reader, run_id: str | None = None) -> dict[str, Any]:
    """The notes of a run, or of the whole store, in the order written; `stale` if the message is another one now."""
    rows = reader.rows(_NOTES, {"run": run_id})
    return {"notes": [_shown(row) for row in rows]}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    now = "" if row["message"] is None else digest(row)
    return {
        "id": row["note_id"],
        **{name: row[name] for name in FIELDS},
        "author": row["author"],
        "at": moment(row["noted_at"]),
        "stale": row["digest"] != now,
    }


def read_note(body: bytes) -> Mapping[str, Any]:
    """The fields of a note that a page sends.

    Raises:
        ViewRefused: it is not a note.
    """
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ViewRefused(f"the note is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ViewRefused("the note is not a JSON object")
    given = cast("dict[str, Any]", value)
    if unknown := [name for name in given if name not in FIELDS]:
        raise ViewRefused(f"a note has no field {unknown[0]!r:.80}", hint=f"its fields: {', '.join(FIELDS)}")
    for names, kind, noun in (
        (("run_id", "task_id", "path", "label", "text", "digest"), str, "a text"),
        (("trial", "turn"), int, "a whole number"),
    ):
        for name in names:
            if type(given.get(name, "" if kind is str else None)) is not kind:
                raise ViewRefused(f"{name} of a note must be {noun}")
    if given.get("seq") is not None and type(given["seq"]) is not int:
        raise ViewRefused("seq of a note must be a whole number, or null for the conversation")
    if not str(given.get("label", "")).strip() and not str(given.get("text", "")).strip():
        raise ViewRefused("the note is empty", hint="give a label or a text")
    if len(str(given.get("label", ""))) > LONGEST_LABEL:
        raise ViewRefused(f"the label is longer than {LONGEST_LABEL} characters", hint="write it as the text")
    return given


def new_note(reader: Reader, given: Mapping[str, Any], author: str) -> Note:
    """A note about a message, or about a conversation, that is there.

    Raises:
        ViewRefused: there is no such run, conversation or message, or it is another one than the page has shown.
    """
    run, place = given.get("run_id", ""), f"{given.get('task_id', '')}/{given['trial']}"
    branch = f"{run}/{place}/{given.get('path', '')}.{given['turn']}"
    row = _message(reader, branch, given.get("seq"))
    found = "" if row is None else digest(row)
    if given.get("digest") and given["digest"] != found and given.get("seq") is not None:
        raise ViewRefused("the message has changed since it was shown", hint="load the page again")
    return Note(
        id=new_id(),
        run_id=run,
        task_id=given.get("task_id", ""),
        trial=given["trial"],
        path=given.get("path", ""),
        turn=given["turn"],
        seq=given.get("seq"),
        label=given.get("label", "").strip(),
        text=given.get("text", ""),
        author=author,
        digest=found,
        at=time.time(),
    )


def _message(reader: Reader, branch: str, seq: int | None) -> Mapping[str, Any] | None:
    """The message of a branch, or its last one; None if a conversation ends without one of its own (a fault)."""
    if not reader.rows("SELECT 1 AS there FROM branches WHERE branch_id = ?", [branch]):
        raise ViewRefused(f"there is no branch {branch!r:.200}", status=404, hint="load the page again")
    episode = branch.rpartition("/")[0]
    rows: Sequence[Mapping[str, Any]] = reader.rows(_MESSAGE, {"episode": episode, "branch": branch, "seq": seq})
    if not rows and seq is not None:
        raise ViewRefused(f"the branch {branch!r:.200} added no message {seq}", status=404, hint="load the page again")
    return rows[0] if rows else None


_NOTES = """
WITH chosen AS (FROM notes WHERE $run IS NULL OR run_id = $run),
found AS (
    SELECT m.episode_id, m.branch_id, m.seq, CAST(m.message AS VARCHAR) AS message
    FROM messages m
    WHERE m.episode_id IN (SELECT episode_id FROM chosen) AND m.branch_id IN (SELECT branch_id FROM chosen)
),
ends AS (SELECT branch_id, arg_max(message, seq) AS message FROM found GROUP BY branch_id)
SELECT n.*, CASE WHEN n.seq IS NULL THEN e.message ELSE f.message END AS message
FROM chosen n
LEFT JOIN found f ON f.branch_id = n.branch_id AND f.seq = n.seq
LEFT JOIN ends e ON e.branch_id = n.branch_id
ORDER BY n.noted_at, n.note_id
"""

_MESSAGE = """
SELECT seq, CAST(message AS VARCHAR) AS message FROM messages
WHERE episode_id = $episode AND branch_id = $branch AND ($seq IS NULL OR seq = $seq) ORDER BY seq DESC LIMIT 1
"""
