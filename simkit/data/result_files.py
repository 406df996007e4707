"""Result files in the format of the benchmark that a world comes from (`simkit export results`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from simkit.components.results import RecordedEpisode, RecordedMessage, RecordedRun
from simkit.components.reward import RewardPart
from simkit.components.world import World, load_world
from simkit.core.messages import ToolResult
from simkit.core.out_files import check_out_file
from simkit.data.export import replacing, write_lines
from simkit.data.origins import ExampleOrigin, origin_file
from simkit.data.row_files import as_object
from simkit.errors import UsageError
from simkit.plugins.component_paths import BaseFolders
from simkit.store.reader import Reader
from simkit.store.tree_view import RunRow

Row = Mapping[str, Any]


def write_results(reader: Reader, run: str, out: Path, *, origin: bool = True) -> int:
    """Write a run in the format of its world's benchmark, and return the number of its episodes.

    The run may be one that was imported. With `origin`, a file beside it (`results.origin.jsonl`) says for each episode
    where it comes from, as those formats have no place for it.

    Raises:
        UsageError: the world has no such format or is not installed, the run has no finished episode, or the file has
            another extension than .json.
        StoreIncomplete: the journals of the run have lines that cannot be read.
        StoreError: the file cannot be written.
    """
    check_out_file(out, (".json",))
    known = reader.resolve(run)
    reader.require_complete([known.run_id], "results of another program's format")
    recorded = recorded_run(reader, known)
    if not recorded.episodes:
        raise UsageError(f"the run {run} has no finished episode; there is nothing to write")
    world = _world_of(reader, recorded)
    content = orjson.dumps(world.results(recorded), option=orjson.OPT_INDENT_2)
    with replacing(out) as unfinished:
        unfinished.write_bytes(content + b"\n")
    if origin:
        write_lines(_origins(recorded, world.name), origin_file(out))
    return len(recorded.episodes)


def _origins(run: RecordedRun, world: str) -> Iterator[dict[str, Any]]:
    """The origin of each episode."""
    ran = ExampleOrigin(run_id=run.run_id, agent=run.agent, model=run.model or "", simkit=run.version, world=world)
    for each in run.episodes:
        played = replace(ran, episode_id=each.episode_id, task_id=each.task_id, trial=each.trial)
        yield replace(played, reward=each.reward, split=each.split).to_json()


def _world_of(reader: Reader, run: RecordedRun) -> World:
    """The world of a run, with its options.

    Raises:
        UsageError: its tasks are of several worlds.
        ComponentNotFound: the world is not installed.
    """
    names = [row["world"] for row in reader.rows("SELECT DISTINCT world FROM tasks WHERE run_id = ?", [run.run_id])]
    if len(names) != 1:
        raise UsageError(
            f"the run {run.name} has tasks of {len(names)} worlds; write the results of a run of one world"
        )
    chosen = str(run.config.get("world") or names[0])
    options = {"variant": run.config["variant"]} if run.config.get("variant") else {}
    return load_world(chosen, BaseFolders.recorded(run.config).of(chosen), **options)


def recorded_run(reader: Reader, run: RunRow) -> RecordedRun:
    """A run with its finished episodes, by task and trial; those that a search left without a final branch are omitted.

    Raises:
        StoreError: the store cannot be read.
    """
    (about,) = reader.rows(_RUN, [run.run_id])
    config = orjson.loads(about["config"] or "{}")
    models = {row["role"]: row["model"] for row in reader.rows(_MODELS, [run.run_id])}
    messages: dict[str, list[RecordedMessage]] = defaultdict(list)
    for row in reader.rows(_MESSAGES, [run.run_id]):
        messages[row["episode_id"]].append(_message(row))
    return RecordedRun(
        run_id=run.run_id,
        name=about["name"],
        seed=int(about["seed"]),
        config=config,
        version=about["version"] or "",
        started=about["started"],
        agent=str(config.get("agent") or ""),
        user=str(config.get("user") or ""),
        model=models.get("agent") or config.get("model"),
        user_model=models.get("user") or as_object(config, "imported").get("user_model"),
        episodes=tuple(_episode(row, messages[row["episode_id"]]) for row in reader.rows(_EPISODES, [run.run_id])),
    )


def _message(row: Row) -> RecordedMessage:
    call = None
    if row["name"] is not None:
        text = ToolResult(value=orjson.loads(row["result"] or "null")).text
        call = {"id": row["call_id"], "name": row["name"], "arguments": row["arguments"], "text": text}
    message = orjson.loads(row["message"])
    return RecordedMessage(
        author=row["author"], message=message, heard=row["heard"], call=call, error=bool(row["error"])
    )


def _episode(row: Row, messages: Sequence[RecordedMessage]) -> RecordedEpisode:
    parts = tuple(
        RewardPart(part["name"], part["value"], part.get("weight", 1.0), part.get("evidence", ""))
        for part in orjson.loads(row["parts"] or "[]")
    )
    return RecordedEpisode(**dict[str, Any](row, parts=parts, messages=tuple(messages)))


_RUN = "SELECT name, seed, version, config, coalesce(epoch(started_at), 0) AS started FROM runs WHERE run_id = ?"

_MODELS = """
SELECT role, any_value(model ORDER BY model) AS model FROM model_calls SEMI JOIN (
    FROM episodes WHERE run_id = ?
) USING (episode_id) GROUP BY role
"""

_EPISODES = """
SELECT
    e.episode_id, e.task_id, coalesce(t.split, '') AS split, e.trial, coalesce(e.outcome, '') AS outcome,
    coalesce(t.instructions, '') AS instructions, e.reward, e.parts, e.error,
    coalesce(epoch(e.started_at), 0) AS started, epoch(e.finished_at) AS finished
FROM episodes e LEFT JOIN (
    SELECT task_id, any_value(split) AS split, any_value(instructions) AS instructions FROM tasks WHERE run_id = $1
    GROUP BY ALL
) t USING (task_id)
WHERE e.run_id = $1 AND e.finished_at IS NOT NULL AND e.final_branch_id IS NOT NULL
ORDER BY e.task_id, e.trial
"""

_MESSAGES = """
WITH RECURSIVE wanted AS (
    SELECT episode_id, final_branch_id FROM episodes WHERE run_id = ? AND finished_at IS NOT NULL
),
walk AS (
    SELECT b.episode_id, b.branch_id, b.parent_id FROM branches b JOIN wanted w ON b.branch_id = w.final_branch_id
    UNION ALL
    SELECT w.episode_id, b.branch_id, b.parent_id FROM walk w JOIN branches b ON b.branch_id = w.parent_id
)
SELECT w.episode_id, m.author, m.message, m.heard, c.call_id, c.name, c.arguments, c.result, c.error
FROM walk w JOIN messages m USING (branch_id)
LEFT JOIN tool_calls c ON c.branch_id = m.branch_id AND c.seq = m.seq
ORDER BY w.episode_id, m.seq
"""
