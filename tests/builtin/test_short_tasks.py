from __future__ import annotations

import pytest

from simkit.errors import UsageError
from simkit.tools.builtin import BuiltinWorld


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("most", [2, 3])
def test_a_bound_on_goals_is_kept_in_every_split(split: str, most: int) -> None:
    goals = [len(task.goals) for task in BuiltinWorld(most_goals=most).tasks(split)[:60]]
    assert max(goals) == most
    assert min(goals) == 2


def test_without_a_bound_tasks_are_as_they_were() -> None:
    usual, bounded = BuiltinWorld().tasks("test")[:40], BuiltinWorld(most_goals=6).tasks("test")[:40]
    assert [*usual] == [*bounded]
    assert max(len(task.goals) for task in usual) > 3


@pytest.mark.parametrize("most", [1, 7])
def test_a_bound_that_no_task_keeps_is_refused(most: int) -> None:
    with pytest.raises(UsageError, match="most_goals"):
        BuiltinWorld(most_goals=most)
