"""Goals and splits built from the data equal the recording."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from recordings import ReadLines, Recording

from simkit.core.tasks import Task
from simkit.rule_based.normalise import NO_WISH
from simkit.tools.toolwoz import ToolwozWorld


@pytest.fixture(scope="module")
def splits(golden: Path) -> dict[str, Any]:
    path = golden / "splits.json"
    if not path.is_file():
        pytest.skip(f"no splits.json in {golden}")
    return json.loads(path.read_text())


def ids(world: ToolwozWorld, split: str) -> list[str]:
    return [task.id for task in world.tasks(split)]


@pytest.mark.parametrize("split", ["test", "full_test", "val"])
def test_the_listed_splits_are_the_recorded_ones(split: str, toolwoz: ToolwozWorld, splits: dict[str, Any]) -> None:
    if split not in splits:
        pytest.skip(f"splits.json has no split `{split}`")
    assert ids(toolwoz, split) == splits[split]


def test_the_train_split_is_the_recorded_one(toolwoz: ToolwozWorld, splits: dict[str, Any]) -> None:
    if not splits.keys() & {"train_size", "train_sha256"}:
        pytest.skip("splits.json says nothing of the split `train`")
    train = ids(toolwoz, "train")
    told = {"train_size": len(train), "train_sha256": sha256("\n".join(train).encode()).hexdigest()}
    for name in told.keys() & splits.keys():
        assert told[name] == splits[name], name


def wanted(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that say something; one that is a list says something too."""
    return {key: value for key, value in parameters.items() if not (isinstance(value, str) and value in NO_WISH)}


def as_json(value: object) -> Any:
    """A value as a recording writes it: the sequences of ours are tuples."""
    return json.loads(json.dumps(value))


def as_recorded(task: Task) -> list[tuple[str, dict[str, Any]]]:
    return [(goal.key, as_json(goal.detail["parameters"])) for goal in task.goals]


def recorded_goals(goals: Recording) -> list[tuple[str, dict[str, Any]]]:
    return [(api, wanted(goal["parameters"])) for domain in goals.values() for api, goal in domain["success"].items()]


@pytest.fixture(scope="module")
def every_task(toolwoz: ToolwozWorld) -> dict[str, Task]:
    return {task.id: task for split in ("train", "val", "full_test") for task in toolwoz.tasks(split)}


def test_goals_are_the_recorded_ones_in_order(every_task: dict[str, Task], read_lines: ReadLines) -> None:
    for line in read_lines("goals.jsonl.gz"):
        assert as_recorded(every_task[line["conversation"]]) == recorded_goals(line["goals"]), line["conversation"]


def test_bookings_are_the_recorded_ones(every_task: dict[str, Task], read_lines: ReadLines) -> None:
    booked = 0
    for line in read_lines("goals.jsonl.gz"):
        task = every_task[line["conversation"]]
        for name, domain in line["goals"].items():
            goal = domain["success"].get(f"book_{name}")
            ours = task.data[name].get("booked")
            assert (None if goal is None else goal["returns"]) == as_json(ours), line["conversation"]
            if goal is not None:
                booked += 1
                entities = [as_json(g.detail["entity"]) for g in task.goals if g.key.endswith(f"_{name}")]
                assert entities == [goal["unique_id"]] * len(entities), line["conversation"]
                assert entities, line["conversation"]
    if not booked:
        pytest.skip("no conversation of these recordings has a booking; none of ours has one either")


def test_what_is_to_fail_and_what_is_asked_for_is_as_recorded(
    every_task: dict[str, Task], read_lines: ReadLines
) -> None:
    for line in read_lines("goals.jsonl.gz"):
        task = every_task[line["conversation"]]
        assert set(task.data) == set(line["goals"]), line["conversation"]
        for name, domain in line["goals"].items():
            ours = task.data[name]
            assert list(ours["requests"]) == domain["requests"], line["conversation"]
            for action in ("search", "book"):
                failing = domain["failure"].get(f"{action}_{name}")
                expected = None if failing is None else wanted(failing["parameters"])
                assert as_json(ours.get(f"fail_{action}")) == expected, line["conversation"]
