"""Result files as tau-bench writes them: a list with the conversation and the reward of each episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simkit.components.results import RecordedEpisode, RecordedRun
from simkit.core.messages import JsonObject
from simkit.core.tasks import Task
from simkit.errors import UsageError

_SAID = "said:"


def tau_bench_results(run: RecordedRun, tasks: Mapping[str, Sequence[Task]]) -> list[JsonObject]:
    """The episodes of a run as tau-bench's results; the tasks by split.

    Episodes without a reward (faults) are written as the errors that tau-bench counts with the reward 0. The hash of
    the state is left empty: it is defined by tau-bench's own code.

    Raises:
        UsageError: a task is not one of this release.
    """
    known = {(task.split, task.id): task for played in tasks.values() for task in played}
    return [_result(episode, _task_of(episode, known)) for episode in run.episodes]


def _task_of(episode: RecordedEpisode, known: Mapping[tuple[str, str], Task]) -> Task:
    task = known.get((episode.split, episode.task_id))
    if task is None or task.instructions != episode.instructions:
        raise UsageError(
            f"the task {episode.task_id} of the run is not that of this release of tau-bench; results can be written "
            "only for runs of the release that the world opens (`release=`)"
        )
    return task


def _result(episode: RecordedEpisode, task: Task) -> dict[str, Any]:
    index = int(task.id.rpartition("-")[2])
    if episode.reward is None:
        info = {"error": episode.error or episode.outcome, "traceback": "", "task": _task(task)}
        return {"task_id": index, "reward": 0.0, "info": info, "traj": [], "trial": episode.trial}
    return {
        "task_id": index,
        "reward": episode.reward,
        "info": {"task": _task(task), "source": "user", "user_cost": None, "reward_info": _reward(episode, task)},
        "traj": [message.message for message in episode.messages if message.author not in ("runtime", "user_tool")],
        "trial": episode.trial,
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "user_id": task.data["user_id"],
        "actions": _actions(task),
        "instruction": task.instructions,
        "outputs": list(task.data["outputs"]),
    }


def _actions(task: Task) -> list[dict[str, Any]]:
    return [{"name": goal.detail["tool"], "kwargs": goal.detail["arguments"]} for goal in task.goals]


def _reward(episode: RecordedEpisode, task: Task) -> dict[str, Any]:
    """The reward with what tau-bench reports: the due texts if there are any, else the state."""
    said = {part.name.removeprefix(_SAID): bool(part.value) for part in episode.parts if part.name.startswith(_SAID)}
    state = any(part.value for part in episode.parts if part.name == "state")
    info: dict[str, Any] = {"r_actions": float(state), "gt_data_hash": ""}
    if said:
        info = {"r_outputs": float(all(said.values())), "outputs": said}
    return {"reward": episode.reward, "info": info, "actions": _actions(task)}
