"""Reward for the goals of worlds from files: calls, final states, what was told, and the verdicts of a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from simkit.components.reward import EpisodeReward, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.components.world import Check, World
from simkit.core.messages import ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.models.base import ChatModel
from simkit.rewards.due_texts import is_said
from simkit.rewards.goal_calls import Rules, reaches
from simkit.rewards.statements import judge_statement

RULES = Rules(literal=False, errors_count=False)


class TaskGoals(Reward[Any]):
    """The weight of the goals that were reached over the weight of all.

    A goal's detail says what it is:

    - `tool` and `parameters`: a call that succeeds, with at least these arguments;
    - `told`: a text or number that one of the agent's replies has to contain, as whole words;
    - `state` or `writes`: a condition of the world's state (`World.holds`), which must also hold at the end;
    - `rubric`: a statement about the conversation that a judge agrees with. It is judged at the end of an episode.

    All but rubrics are sparse goals: searches harvest at the turn that reaches one. A call reaches at most one copy of
    a goal.

    Args:
        world: evaluates conditions of its state.
        judge: the model that judges rubrics (`--judge-model`); None for no judge.
    """

    name: ClassVar[str] = "task_goals"
    final: bool = True

    def __init__(self, world: World, judge: ChatModel | None = None) -> None:
        self._world = world
        self._judge = judge

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        """Check that each goal can be reached with these tools and this judge.

        Raises:
            UsageError: one cannot.
        """
        names = sorted(tool.name for tool in tools)
        for goal in task.goals:
            where = f"the goal `{goal.key}` of task `{task.id}` (world `{task.world}`)"
            if "rubric" in goal.detail and self._judge is None:
                raise UsageError(f"{where} needs a judge; name a model for it: --judge-model openai/NAME")
            tool = goal.detail.get("tool")
            if tool is not None and tool not in names:
                raise UsageError(f"{where} names the tool `{tool}`; there are: {', '.join(names) or 'no tools'}")

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The goals that a turn can reach: all but rubrics."""
        return tuple(goal for goal in task.goals if "rubric" not in goal.detail)

    async def score_turn(self, request: ScoreTurn[Any]) -> tuple[Hit, ...]:
        """The remaining goals that the turn reached, in the order of its calls."""
        hits = _called(request)
        last = request.calls[-1] if request.calls else None
        evidence, step = ("", 0) if last is None else (last.call_id, last.step)
        reply = _last_reply(request)
        for goal in {goal.key: goal for goal in request.remaining}.values():
            if "told" in goal.detail:
                if is_said(reply, str(goal.detail["told"]), "token"):
                    hits.append(Hit(goal.key, reply[:200], step))
            elif _of_state(goal) and last is not None and self._holds(goal, request.world):
                hits.append(Hit(goal.key, evidence, step))
        return tuple(hits)

    async def score_episode(self, request: ScoreEpisode[Any]) -> EpisodeReward:
        """The weight of the goals reached over the weight of all, with each goal as a part.

        Raises:
            ModelFault: the judge did not answer.
            RewardFault: the judge gave no verdict.
        """
        left, parts = list(request.achieved), list[RewardPart]()
        for number, goal in enumerate(request.task.goals):
            if "rubric" in goal.detail:
                parts.append(await self._judged(request, goal, number))
                continue
            hit = next((hit for hit in left if hit.goal == goal.key), None)
            if hit is not None:
                left.remove(hit)
            met = self._holds(goal, request.world) if _of_state(goal) else hit is not None
            evidence = ("holds" if met else "does not hold") if _of_state(goal) else hit.evidence if hit else ""
            parts.append(RewardPart(goal.key, float(met), goal.weight, evidence))
        total = sum(part.weight for part in parts)
        return EpisodeReward(sum(part.value * part.weight for part in parts) / total if total else 0.0, tuple(parts))

    async def _judged(self, request: ScoreEpisode[Any], goal: Goal, number: int) -> RewardPart:
        statement = str(goal.detail["rubric"])
        if self._judge is None:
            raise UsageError(f"the goal `{goal.key}` needs a judge; name a model for it: --judge-model openai/NAME")
        verdict = await judge_statement(self._judge, request, statement, number)
        return RewardPart(goal.key, float(verdict.met), goal.weight, verdict.reason)

    def _holds(self, goal: Goal, state: object) -> bool:
        return self._world.holds(Check(goal.key, dict(goal.detail)), state)


def _of_state(goal: Goal) -> bool:
    detail: Mapping[str, Any] = goal.detail
    return "state" in detail or "writes" in detail


def _called(request: ScoreTurn[Any]) -> list[Hit]:
    """The remaining goals that the calls of the turn reached, at most one copy per call."""
    left = [goal for goal in request.remaining if "tool" in goal.detail]
    hits: list[Hit] = []
    for record in request.calls:
        reached = {goal.key: goal for goal in reversed(left) if reaches(record, goal, RULES, any_entity=False)}
        for goal in reached.values():
            left.remove(goal)
            hits.append(Hit(goal.key, record.call_id, record.step))
    return hits


def _last_reply(request: ScoreTurn[Any]) -> str:
    heard = (entry.heard for entry in reversed(request.conversation) if entry.author == "agent")
    return next((text for text in heard if text is not None), "")
