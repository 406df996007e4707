"""An agent that plays the solutions of a world's tasks, to show that the world works; without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from simkit.agents.error_model import check_rate
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.world import World
from simkit.core.conversation import Conversation
from simkit.core.messages import JsonObject, ToolCall, ToolMessage, text_of
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.rule_based.unsaid import unsaid

_PROMPT: Final = "You help the user with your tools."


@dataclass(frozen=True, slots=True)
class Steps:
    """Progress of the agent: calls of the solution that were made or forgotten, and results that were not yet told."""

    done: int = 0
    untold: tuple[str, ...] = ()


class SolutionAgent(Agent[Steps]):
    """Makes the calls of a task's solution as soon as the user has said what they need, and reads out the results.

    It knows the tasks of the world, and recognises one by what the user of its `agenda` says. It shows that a world can
    be played, and searches have something to find. Its scores say nothing about any agent.

    Args:
        world: its tasks have a solution (worlds from files).
        error_rate: probability that it forgets a call, and says that it was made.

    Raises:
        UsageError: the rate is not one, or no task of the world has a solution.
    """

    name: ClassVar[str] = "solution"

    def __init__(self, world: World, error_rate: float = 0.25) -> None:
        self._world = world
        self._rate = check_rate(error_rate)

    @cached_property
    def _tasks(self) -> tuple[Task, ...]:
        found = tuple(task for split in self._world.splits for task in self._world.tasks(split))
        if not any("solution" in task.data for task in found):
            raise UsageError(
                f"the tasks of the world `{self._world.name}` have no solution, which the agent `solution` plays; "
                "choose another agent: --agent scripted, or --model openai/NAME"
            )
        return found

    def start(self, request: StartAgent) -> AgentStart[Steps]:
        """The system prompt followed by the world's rules.

        Raises:
            UsageError: no task of the world has a solution.
        """
        _ = self._tasks
        return AgentStart(f"{_PROMPT}\n\n{request.policy}" if request.policy else _PROMPT, Steps())

    async def act(self, request: Act[Steps]) -> Decision[Steps]:
        """The next call of the solution that is due, or a reply."""
        state = request.state or Steps()
        if request.step and (told := _last_result(request.conversation)):
            state = Steps(state.done, (*state.untold, told))
        heard = [word.text for word in request.conversation.heard() if word.speaker == "user"]
        task = self._recognised(heard)
        if task is None:
            return Decision.speak("I am sorry, I cannot help you with that.", state=state)
        calls: Sequence[JsonObject] = task.data["solution"]
        if state.done >= len(calls):
            return _tell(state, "Is there anything else?")
        due = calls[state.done]
        known = [*heard, *_results(request.conversation)]
        if unsaid(due["arguments"], known, task.data.get("implied", ()), _property(request, due["tool"])):
            return _tell(state, "Tell me more, please.")
        if request.key.rng("solution", request.step).random() < self._rate:
            return Decision.speak("That is done.", state=Steps(state.done + 1, state.untold))
        made = ToolCall.of(f"call_{len(request.conversation)}", due["tool"], due["arguments"])
        return Decision.call(made, state=Steps(state.done + 1, state.untold))

    def _recognised(self, heard: Sequence[str]) -> Task | None:
        """The first task whose user says what was heard."""
        for task in self._tasks:
            lines = [turn.text for turn in task.reference if turn.speaker == "user"]
            said = heard[: len(lines)]
            if said and lines[: len(said)] == said:
                return task
        return None


def _property(request: Act[Steps], tool: str) -> Mapping[str, Any]:
    found = (spec.properties for spec in request.tools if spec.name == tool)
    return next(found, dict[str, Any]())


def _results(conversation: Conversation) -> list[str]:
    return [text_of(entry.message) for entry in conversation if isinstance(entry.message, ToolMessage)]


def _last_result(conversation: Conversation) -> str:
    found = _results(conversation)
    return found[-1] if found else ""


def _tell(state: Steps, rest: str) -> Decision[Steps]:
    """A reply with the results that were not yet told."""
    return Decision.speak(" ".join((*state.untold, rest)), state=Steps(state.done))
