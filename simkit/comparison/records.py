"""Runs, tasks, episodes and suite items as a comparison reads them from the store: immutable values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from simkit.core.events import MEASURES, succeeded
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.store import Reader, ReadState, Store


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison: runs of the same configuration, e.g. one per training seed.

    `runs` are ids, names or prefixes of either, as `simkit show` takes them; `last` is the latest run.

    Raises:
        UsageError: the name or the runs are missing.
    """

    name: str
    runs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.runs or not all(self.runs):
            raise UsageError(f"an arm needs a name and runs, e.g. --arm after=RUN,RUN; got {self.name!r}: {self.runs}")


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as one run recorded it; `content` is a digest of its instructions and goals, None if it has neither."""

    world: str
    split: str
    content: str | None
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """One episode.

    Attributes:
        reward: None if it is left out of averages; an episode with `full_reward` is a success.
        goals, achieved: keys of the task's goals, and of those that were reached; multisets.
        reached: agent turn and goal key of each credited goal.
        weights: weight by goal key.
        measures: what the reward measured beside its value, by name (`simkit.core.events.MEASURES`).
    """

    task_id: str
    trial: int
    reward: float | None
    full_reward: float
    outcome: str | None
    goals: tuple[str, ...]
    achieved: tuple[str, ...]
    turns: int
    calls: int
    errors: int
    reached: tuple[tuple[int, str], ...]
    weights: Mapping[str, float]
    supervisor: str = ""
    measures: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def success(self) -> float | None:
        """1 for the full reward, 0 for less, None if the episode is not scored."""
        return None if self.reward is None else float(succeeded(self.reward, self.full_reward))

    @property
    def faulted(self) -> bool:
        """Whether a component's fault ended it."""
        return (self.outcome or "").endswith("_fault")


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """The score of one question of a suite; `primary` if the suite says that this metric is its main one."""

    suite: str
    metric: str
    item: str
    trial: int
    value: float | None
    lower_is_better: bool = False
    primary: bool = False


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run with everything that is compared."""

    run_id: str
    name: str
    recipe: str
    status: str
    seed: int
    config: Mapping[str, Any]
    tasks: Mapping[str, TaskRecord]
    episodes: tuple[EpisodeRecord, ...]
    items: tuple[ItemRecord, ...]

    @property
    def label(self) -> str:
        """Its name, or its id."""
        return self.name or self.run_id

    @cached_property
    def supervisors(self) -> frozenset[str]:
        """Supervisors that played its episodes: `rollout`, `josh`, ..."""
        return frozenset(episode.supervisor for episode in self.episodes)

    @cached_property
    def by_task(self) -> Mapping[str, Mapping[int, EpisodeRecord]]:
        """The episodes by task and trial."""
        found: dict[str, dict[int, EpisodeRecord]] = {}
        for episode in self.episodes:
            found.setdefault(episode.task_id, {})[episode.trial] = episode
        return found


@dataclass(frozen=True, slots=True)
class ArmRecords:
    """An arm with the records of its runs."""

    name: str
    runs: tuple[RunRecord, ...]


def read_arms(
    store: Store | Reader, arms: Sequence[Arm], repeats: Sequence[str] = (), *, allow_incomplete: bool = False
) -> tuple[tuple[ArmRecords, ...], tuple[RunRecord, ...], ReadState]:
    """Read the runs of all arms and the repeated runs from one state of the store, and return that state with them.

    Raises:
        UsageError: a run does not exist, two arms have the same name, or a run is named twice.
        StoreIncomplete: a run is not finished, or its journals hold lines that could not be read.
    """
    names = [arm.name for arm in arms]
    if len({*names}) < len(names):
        raise UsageError(f"two arms have the same name ({', '.join(names)}); give each its own: --arm NAME=RUN")
    with store.reading(allow_incomplete=allow_incomplete) as reader:
        ids = [reader.resolve(name).run_id for arm in arms for name in arm.runs]
        if twice := sorted({run for run in ids if ids.count(run) > 1}):
            raise UsageError(f"the comparison names {', '.join(twice)} twice; name each run once")
        others = [reader.resolve(name).run_id for name in repeats]
        state = reader.require_complete([*ids, *others], "a comparison", finished=True)
        with reader.scoped([*ids, *others], copy=False) as own:
            runs = _read(own, [*ids, *others])
    order = iter(ids)
    return (
        tuple(ArmRecords(arm.name, tuple(runs[next(order)] for _ in arm.runs)) for arm in arms),
        tuple(runs[run] for run in others),
        state,
    )


def _read(reader: Reader, ids: Sequence[str]) -> dict[str, RunRecord]:
    """Runs by their ids."""
    wanted = {"runs": sorted({*ids})}
    runs, *parts = (reader.rows(sql, wanted) for sql in (_RUNS, _TASKS, _EPISODES, _ITEMS))
    tasks, episodes, items = map(_by_run, parts)
    found: dict[str, RunRecord] = {}
    for row in runs:
        run = row["run_id"]
        facts = {each["task_id"]: _task(each) for each in tasks.get(run, ())}
        row["config"] = orjson.loads(row["config"] or "{}")
        found[run] = RunRecord(
            **row,
            tasks=facts,
            episodes=tuple(_episode(each, facts) for each in episodes.get(run, ())),
            items=tuple(ItemRecord(**each) for each in items.get(run, ())),
        )
    return found


def _by_run(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.pop("run_id"), []).append(row)
    return found


def _task(row: Mapping[str, Any]) -> TaskRecord:
    weights = {goal["key"]: float(goal.get("weight", 1.0)) for goal in orjson.loads(row["goals"] or "[]")}
    return TaskRecord(row["world"], row["split"] or "", row["content"], weights)


def _episode(row: Mapping[str, Any], tasks: Mapping[str, TaskRecord]) -> EpisodeRecord:
    task = tasks.get(row["task_id"])
    return EpisodeRecord(
        task_id=row["task_id"],
        trial=row["trial"],
        reward=row["reward"],
        full_reward=row["full_reward"] or 1.0,
        outcome=row["outcome"],
        goals=tuple(row["goals"] or ()),
        achieved=tuple(row["achieved"] or ()),
        turns=row["turns"] or 0,
        calls=row["calls"],
        errors=row["errors"],
        reached=tuple((step["turn"], step["goal"]) for step in row["reached"] or ()),
        weights=task.weights if task else {},
        supervisor=row["supervisor"] or "",
        measures={name: row[name] for name in MEASURES if row[name] is not None},
    )


_RUNS = """
SELECT run_id, name, recipe, status, seed, config FROM runs WHERE list_contains($runs, run_id)
"""

_TASKS = """
SELECT
    run_id, task_id, world, split, goals,
    CASE WHEN instructions <> '' OR json_array_length(goals) > 0
        THEN md5(concat_ws(chr(31), instructions, CAST(goals AS VARCHAR))) END AS content
FROM tasks WHERE list_contains($runs, run_id)
ORDER BY run_id, task_id
"""

_EPISODES = """
WITH wanted AS (FROM episodes WHERE list_contains($runs, run_id)),
called AS (
    SELECT episode_id, count(*) AS calls, count(*) FILTER (error) AS errors
    FROM tool_calls SEMI JOIN wanted USING (episode_id) GROUP BY episode_id
),
earned AS (
    SELECT r.episode_id, list({'turn': b.turn, 'goal': r.goal} ORDER BY b.turn, r.goal) AS reached
    FROM rewards r SEMI JOIN wanted USING (episode_id) JOIN branches b USING (branch_id)
    WHERE r.credited GROUP BY r.episode_id
)
SELECT
    e.run_id, e.task_id, e.trial, e.supervisor, e.reward, e.full_reward, e.outcome, e.goals, e.achieved, e.turns,
    coalesce(c.calls, 0) AS calls, coalesce(c.errors, 0) AS errors, r.reached, m.floor, m.reads_made, m.writes_made
FROM wanted e
LEFT JOIN end_measures m USING (episode_id)
LEFT JOIN called c USING (episode_id)
LEFT JOIN earned r USING (episode_id)
ORDER BY e.run_id, e.task_id, e.trial
"""

_ITEMS = """
SELECT run_id, suite, metric, item, trial, value,
    coalesce(json_extract_string(detail, '$.better."' || metric || '"') = 'lower', false) AS lower_is_better,
    coalesce(detail ->> '$.primary' = metric, false) AS primary
FROM item_scores
WHERE list_contains($runs, run_id)
ORDER BY run_id, suite, metric, item, trial
"""
