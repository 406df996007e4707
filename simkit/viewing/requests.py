"""One model call as the viewer shows it: its answer, and the request that was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simkit.errors import NotRebuilt, UsageError
from simkit.store import Reader
from simkit.viewing.rebuilding import rebuild
from simkit.viewing.transcripts import call_name
from simkit.viewing.values import parsed, parsed_object


def model_call(reader: Reader, episode: str, name: str) -> dict[str, Any]:
    """A model call by its name in the transcript: the request with its state, and the response.

    `state` is `recorded` (with --record-requests), `rebuilt` (made again, with the recorded hash), `differs` (made
    again, with another hash) or `unavailable`; `reason` says why.

    Raises:
        UsageError: there is no such call.
    """
    branch = f"{episode}/{name.partition('~')[0]}"
    rows = reader.rows(_CALL, {"episode": episode, "branch": branch})
    row = next((row for row in rows if call_name(row, episode) == name), None)
    if row is None:
        raise UsageError(f"there is no model call {name!r} in {episode!r}")
    recorded = parsed_object(row["request"])
    request, state, reason = _request(reader, episode, row, recorded)
    settings: Mapping[str, Any] = recorded["digest"].get("settings") or {} if "digest" in recorded else recorded
    return {
        "request": request,
        "state": state,
        "reason": reason,
        "response": parsed(row["response"]),
        "error": row["error"],
        "model": row["model"],
        "role": row["role"],
        "params": {name: value for name, value in settings.items() if name not in _BODY},
        "hash": row["request_hash"],
    }


def _request(
    reader: Reader, episode: str, row: Mapping[str, Any], recorded: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, str, str]:
    """The request, its state, and the reason for the state."""
    if recorded and "digest" not in recorded:
        return recorded, "recorded", "stored whole by --record-requests"
    try:
        found = rebuild(reader, episode, row)
    except NotRebuilt as error:
        return None, "unavailable", str(error)
    if found.difference:
        reason = f"{found.difference}: the component, its options or its prompt have changed since"
        return found.request, "differs", reason
    return found.request, "rebuilt", "built again by the component that built it, with the recorded hash"


_BODY = ("model", "messages", "tools")

_CALL = """
SELECT
    branch_id, role, step, attempt, model, request_hash, CAST(request AS VARCHAR) AS request,
    CAST(response AS VARCHAR) AS response, error,
    row_number() OVER (PARTITION BY branch_id, role, step, attempt ORDER BY called_at) - 1 AS copy
FROM model_calls WHERE episode_id = $episode AND branch_id = $branch
"""
