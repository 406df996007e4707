"""One model call as the viewer shows it: its answer, and the request that was sent."""

from __future__ import annotations

from typing import Any

from simkit.errors import UsageError
from simkit.store import Reader
from simkit.viewing.transcripts import call_name
from simkit.viewing.values import parsed


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
    recorded = parsed(row["request"])
    request, state, reason = None, "unavailable", "this call was recorded without its request"
    if recorded is not None and "digest" not in recorded:
        request, state, reason = recorded, "recorded", "stored whole by --record-requests"
    settings = recorded["digest"].get("settings") if recorded is not None and "digest" in recorded else None
    params = settings if request is None else {k: v for k, v in request.items() if k not in _BODY}
    return {
        "request": request,
        "state": state,
        "reason": reason,
        "response": parsed(row["response"]),
        "error": row["error"],
        "model": row["model"],
        "role": row["role"],
        "params": params or {},
        "hash": row["request_hash"],
    }


_BODY = ("model", "messages", "tools")

_CALL = """
SELECT
    branch_id, role, step, attempt, model, request_hash, CAST(request AS VARCHAR) AS request,
    CAST(response AS VARCHAR) AS response, error,
    row_number() OVER (PARTITION BY branch_id, role, step, attempt ORDER BY called_at) - 1 AS copy
FROM model_calls WHERE episode_id = $episode AND branch_id = $branch
"""
