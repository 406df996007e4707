"""Tasks for components that are tested without a world of their own."""

from __future__ import annotations

from collections.abc import Sequence

from simkit.components.world import load_world
from simkit.core.tasks import Task

MOST = 3
"""Number of tasks."""


def sample_tasks(tasks: Sequence[Task]) -> Sequence[Task]:
    """The given tasks; without any, the first of the built-in world."""
    return tasks or load_world("builtin").tasks("test")[:MOST]
