"""A user that follows the human conversation its task was made from.

The guide of Lattimer et al., "Sparse Rewards Can Self-Train Dialogue Agents" (Findings of ACL 2025, appendix): in one
call the model advises itself, with the human's conversation in its context, and speaks.
"""

from __future__ import annotations

from typing import ClassVar

from simkit.components.user import Speak
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.users.goal import GoalUser


class GuideUser(GoalUser):
    """A goal user that stays close to `task.reference`; its advice to itself is not spoken.

    The advice stays in the model's context for later turns. An answer without advice is spoken as a whole and flagged
    `no_advice`.
    """

    name: ClassVar[str] = "guide"
    prompt_file: ClassVar[str] = "guide-1.txt"
    advised: ClassVar[bool] = True

    def check_task(self, task: Task) -> None:
        """Require a recorded conversation.

        Raises:
            UsageError: the task has no recorded conversation.
        """
        _dialogue(task)

    def places(self, request: Speak) -> dict[str, str]:
        """The goal list and the human's conversation.

        Raises:
            UsageError: the task has no recorded conversation.
        """
        return {**super().places(request), "dialogue": _dialogue(request.task)}


def _dialogue(task: Task) -> str:
    if not task.reference:
        raise UsageError(
            f"task {task.id} of {task.world} was not made from a recorded conversation; choose the user `goal`, or a"
            " world whose tasks were (toolwoz)"
        )
    names = {"user": "Customer", "agent": "Agent"}
    return "\n".join(f"{names[word.speaker]}: {word.text}" for word in task.reference)
