"""Reward for the goals of worlds from files: calls, final states, what was told, and the verdicts of a judge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from simkit.components.reward import EpisodeReward, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.components.world import Check, World
from simkit.core.messages import ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.models.base import ChatModel
from simkit.plugins.prompts import PromptChoice
from simkit.rewards.criteria import Criterion, Rubric
from simkit.rewards.due_texts import contains_tokens
from simkit.rewards.goal_calls import Rules, reaches
from simkit.rewards.judge import Form
from simkit.rewards.rubric import Judged, RubricJudge

RULES = Rules(literal=False, errors_count=False)


class TaskGoals(Reward[Any]):
    """The weight of the goals that were reached over the weight of all.

    A goal's detail says what it is:

    - `tool` and `parameters`: a call that succeeds, with at least these arguments;
    - `told`: a text or number that one of the agent's replies has to contain, as whole words;
    - `state` or `writes`: a condition of the world's state (`World.holds`), which must also hold at the end;
    - `rubric`: a criterion for a judge, which is met or not, or has a grade on a `scale`. All criteria of a task are
      judged together at the end of an episode, as by the reward `rubric`.

    All but rubrics are sparse goals: searches harvest at the turn that reaches one. A call reaches at most one copy of
    a goal.

    Args:
        world: evaluates conditions of its state.
        judge: the model that judges rubrics (`--judge-model`); None for no judge.
        goals, votes, form, prompt: options of the judge, as those of `RubricReward`. With `goals`, rubrics without a
            scale are sparse goals too.

    Raises:
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = "task_goals"
    final: bool = True

    def __init__(
        self,
        world: World,
        judge: ChatModel | None = None,
        *,
        goals: bool = False,
        votes: int = 1,
        form: Form = "schema",
        prompt: PromptChoice = None,
    ) -> None:
        self._world = world
        self._judge = None if judge is None else RubricJudge.of(judge, votes, form, prompt)
        self._goals = goals

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
        """The goals that a turn can reach: all but rubrics; with the option `goals` also those without a scale."""
        criteria = _criteria(task)
        return tuple(goal for goal in task.goals if goal.key not in criteria or self._is_sparse(criteria[goal.key]))

    async def score_turn(self, request: ScoreTurn[Any]) -> tuple[Hit, ...]:
        """The remaining goals that the turn reached, in the order of its calls.

        Raises:
            ModelFault, RewardFault: the judge gave no verdict.
        """
        hits = _called(request)
        last = request.calls[-1] if request.calls else None
        evidence, step = ("", 0) if last is None else (last.call_id, last.step)
        reply = _last_reply(request)
        for goal in {goal.key: goal for goal in request.remaining}.values():
            if "told" in goal.detail:
                if contains_tokens(reply, str(goal.detail["told"])):
                    hits.append(Hit(goal.key, reply[:200], step))
            elif _of_state(goal) and last is not None and self._holds(goal, request.world):
                hits.append(Hit(goal.key, evidence, step))
        return (*hits, *await self._reached(request, step))

    async def _reached(self, request: ScoreTurn[Any], step: int) -> tuple[Hit, ...]:
        """The remaining rubrics that are met after the turn."""
        left = {goal.key for goal in request.remaining}
        asked = {key: each for key, each in _criteria(request.task).items() if key in left and self._is_sparse(each)}
        if self._judge is None or not asked:
            return ()
        found = await self._judge.reached(Rubric(tuple(asked.values())), request)
        keys = {each.name: key for key, each in asked.items()}
        return tuple(Hit(keys[each.criterion.name], each.evidence, step) for each in found)

    def _is_sparse(self, criterion: Criterion) -> bool:
        return self._goals and criterion.scale is None

    async def score_episode(self, request: ScoreEpisode[Any]) -> EpisodeReward:
        """The weight of the goals reached over the weight of all, with each goal as a part.

        Raises:
            ModelFault, RewardFault: the judge gave no verdict.
        """
        judged = await self._judged(request)
        left, parts = list(request.achieved), list[RewardPart]()
        for goal in request.task.goals:
            hit = next((hit for hit in left if hit.goal == goal.key), None)
            if hit is not None:
                left.remove(hit)
            value, evidence = float(hit is not None), hit.evidence if hit else ""
            if goal.key in judged:
                value, evidence = judged[goal.key].value, judged[goal.key].evidence
            elif _of_state(goal):
                met = self._holds(goal, request.world)
                value, evidence = float(met), "holds" if met else "does not hold"
            parts.append(RewardPart(goal.key, value, goal.weight, evidence))
        total = sum(part.weight for part in parts)
        return EpisodeReward(sum(part.value * part.weight for part in parts) / total if total else 0.0, tuple(parts))

    async def _judged(self, request: ScoreEpisode[Any]) -> Mapping[str, Judged]:
        """The verdicts on the rubrics of the task, by goal; all are asked for at once."""
        criteria = _criteria(request.task)
        if not criteria:
            return {}
        if self._judge is None:
            raise UsageError(f"the goal `{next(iter(criteria))}` needs a judge; name one: --judge-model openai/NAME")
        rubric = Rubric(tuple(criteria.values()))
        found = await self._judge.ask(rubric, request.task.instructions, request.conversation, request.key)
        return dict(zip(criteria, found, strict=True))

    def _holds(self, goal: Goal, state: object) -> bool:
        return self._world.holds(Check(goal.key, dict(goal.detail)), state)


def _criteria(task: Task) -> dict[str, Criterion]:
    """The rubrics of a task as criteria, by the keys of their goals; their own names are like those in a rubric."""
    found: dict[str, Criterion] = {}
    names = set[str]()
    for goal in task.goals:
        if "rubric" in goal.detail and goal.key not in found:
            name = re.sub(r"[^A-Za-z0-9-]+", "_", goal.key)
            while name in names:
                name += "_"
            names.add(name)
            low_high = goal.detail.get("scale")
            text = " ".join(str(goal.detail["rubric"]).split())
            found[goal.key] = Criterion(name, text, goal.weight, None if low_high is None else tuple(low_high))
    return found


def _of_state(goal: Goal) -> bool:
    detail: Mapping[str, Any] = goal.detail
    return "state" in detail or "writes" in detail


def _called(request: ScoreTurn[Any]) -> list[Hit]:
    """The remaining goals that the calls of the turn reached, at most one copy per call."""
    left = list(request.remaining)
    hits: list[Hit] = []
    for record in request.calls:
        reached = {goal.key: goal for goal in left if reaches(record, goal, RULES, any_entity=False)}
        for goal in reached.values():
            left.remove(goal)
            hits.append(Hit(goal.key, record.call_id, record.step))
    return hits


def _last_reply(request: ScoreTurn[Any]) -> str:
    heard = (entry.heard for entry in reversed(request.conversation) if entry.author == "agent")
    return next((text for text in heard if text is not None), "")
