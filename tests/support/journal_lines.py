"""Lines of journals, to compare runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import orjson

TIMES = {"at", "seconds", "n", "c"}


def episodes(store: Path, run_id: str) -> dict[str, list[str]]:
    """The lines of each episode in their order, without times, numbers and the run's id; others under an empty name."""
    found: dict[str, list[str]] = {}
    for line in (store / "journals" / run_id / "main.jsonl").read_bytes().splitlines():
        event = cast("dict[str, Any]", orjson.loads(line))
        if event["e"] in ("RunStarted", "RunFinished", "ToolsetSeen", "LoopBlocked"):
            continue
        name = str(event.get("episode_id") or event.get("branch_id") or "").replace(run_id, "RUN")
        episode = "/".join(name.split("/")[:3])
        text = orjson.dumps(_timeless(event), option=orjson.OPT_SORT_KEYS).decode().replace(run_id, "RUN")
        found.setdefault(episode, []).append(text)
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in cast("dict[str, Any]", value).items() if key not in TIMES}
    if isinstance(value, list):
        return [_timeless(each) for each in cast("list[Any]", value)]
    return value
