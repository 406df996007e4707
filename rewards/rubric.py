"""Reward by a rubric: a model judges criteria, at the end of an episode and, if chosen, as sparse goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from simkit.components.checks import ROUNDING
from simkit.components.reward import EpisodeReward, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.models.base import ChatModel
from simkit.plugins.prompts import Prompt, PromptChoice, choose_prompt
from simkit.rewards.criteria import Criterion, Rubric, Verdict
from simkit.rewards.judge import Ballot, Form, Judge
from simkit.rewards.numbered import as_text, numbered

FIELD = "rubric"
"""Field of `Task.data` with the rubric of a task, as text."""

_END, _TURN, _ANSWER = range(3)
"""Places of the questions about one turn: the end of the episode, the agent's turn, the user's answer to it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The votes on one criterion, at least one."""

    criterion: Criterion
    votes: tuple[Verdict, ...]

    @property
    def value(self) -> float:
        """The value from 0 to 1: what most votes say; for a grade their mean."""
        mean = sum(vote.value for vote in self.votes) / len(self.votes)
        return float(mean > 0.5) if self.criterion.scale is None else mean

    @property
    def agreeing(self) -> tuple[Verdict, ...]:
        """The votes nearest to the value."""
        nearest = min(abs(vote.value - self.value) for vote in self.votes)
        return tuple(vote for vote in self.votes if abs(vote.value - self.value) == nearest)

    @property
    def unanimous(self) -> bool:
        """Whether all votes say that it is met."""
        return all(vote.value == 1.0 for vote in self.votes)

    @property
    def evidence(self) -> str:
        """The reason, with the count of votes if there are several."""
        count = f"{len(self.agreeing)} of {len(self.votes)} votes: " if len(self.votes) > 1 else ""
        return count + self.agreeing[0].reason


@dataclass(frozen=True, slots=True)
class RubricJudge:
    """A judge with the prompt for rubrics."""

    judge: Judge
    prompt: Prompt

    @classmethod
    def of(cls, model: ChatModel, votes: int, form: Form, prompt: PromptChoice) -> RubricJudge:
        """A model as the judge, by the options of a reward; see `RubricReward`.

        Raises:
            UsageError: the number of votes is invalid, or the prompt cannot be used.
        """
        return cls(
            Judge(model, votes, form), choose_prompt("simkit.rewards", "rubric-1.txt", prompt, ("conversation",))
        )

    async def ask(
        self, rubric: Rubric, instructions: str, conversation: Conversation, key: TurnKey | None, place: int = _END
    ) -> tuple[Judged, ...]:
        """The votes on each criterion; `instructions` is what the user wanted.

        Raises:
            ModelFault, RewardFault: see `Judge.ask`.
        """
        prompt = self.prompt.fill(
            task=instructions,
            conversation=as_text(numbered(conversation)),
            criteria=str(rubric),
            form=rubric.example,
        )
        votes = await self.judge.ask(Ballot(prompt, rubric.schema), rubric.verdicts, key, place)
        return tuple(Judged(each, tuple(vote[n] for vote in votes)) for n, each in enumerate(rubric))

    async def reached(self, rubric: Rubric, request: ScoreTurn[Any]) -> tuple[Judged, ...]:
        """The criteria that are met after a turn, by all votes.

        Raises:
            ModelFault, RewardFault: see `Judge.ask`.
        """
        place = _ANSWER if any(call.by == "user" for call in request.calls) else _TURN
        judged = await self.ask(rubric, request.task.instructions, request.conversation, request.key, place)
        return tuple(each for each in judged if each.unanimous)


class RubricReward(Reward[Any]):
    """Judges a conversation by the criteria of a rubric: the weighted mean of their values, from 0 to 1.

    The criteria are those of the task (`rubric` in its data) and those of the reward; each is a part of the recorded
    reward, with the judge's reason. A judge that does not answer, or not in the asked form, is a fault and never a
    score.

    With `goals`, each criterion that is met or not is a sparse goal too: it is reached by the first turn after which
    every vote says that it is met. Searches then ask the judge once a turn of each branch. The more often a judge is
    asked, the likelier is one false yes, so a search finds its mistakes; the end is therefore judged again, as a whole,
    and an episode counts as a success only if that verdict agrees.

    Args:
        judge: the model that judges (`--judge-model`).
        file: a rubric for all tasks, one criterion on a line; see `simkit.rewards.criteria`.
        goals: make criteria sparse goals.
        votes: verdicts on each question; an odd number, and above 1 only with a judge at a temperature above 0.
        at_least: if given, the reward is 1 for a weighted mean of at least this, and else 0.
        form: `schema` to ask for JSON by `response_format` too, `text` to ask in words alone.
        prompt: a prompt file of your own, with {{conversation}}, {{criteria}}, {{task}} and {{form}}.

    Raises:
        UsageError: an option is invalid, or the file is not a rubric.
    """

    name: ClassVar[str] = "rubric"
    final: bool = True

    def __init__(
        self,
        judge: ChatModel,
        file: Path | None = None,
        *,
        rubric: Rubric | None = None,
        goals: bool = False,
        votes: int = 1,
        at_least: float | None = None,
        form: Form = "schema",
        prompt: PromptChoice = None,
    ) -> None:
        if at_least is not None and not 0 < at_least <= 1:
            raise UsageError(f"at_least is {at_least:g}; it must be above 0 and at most 1")
        self._judge = RubricJudge.of(judge, votes, form, prompt)
        self._rubric = Rubric.read(file) if file is not None else rubric
        self._goals = goals
        self._at_least = at_least

    def rubric(self, task: Task) -> Rubric:
        """The rubric of a task: its own criteria, then those of the reward.

        Raises:
            UsageError: there is none, or the task's is not a rubric.
        """
        text = task.data.get(FIELD)
        if text is None and self._rubric is None:
            raise UsageError(
                f"the task {task.id} has no rubric, and the reward `{self.name}` was given none; give a file with a "
                "criterion on each line (--reward rubric,file=rubric.txt)"
            )
        if text is None:
            assert self._rubric is not None
            return self._rubric
        if not isinstance(text, str):
            raise UsageError(f"the rubric of the task {task.id} is not a text; write one criterion on a line")
        own = Rubric.of(text, f"the rubric of the task {task.id}")
        return own if self._rubric is None else own.plus(self._rubric)

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        """Check that the task has a rubric, and with `goals` one with a criterion that can be a goal.

        Raises:
            UsageError: it has not.
        """
        self.rubric(task)
        if self._goals and not self.goals(task):
            raise UsageError(
                f"all criteria of the task {task.id} are grades, which cannot be sparse goals; add one that is met or "
                "not, or leave out goals=true"
            )

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The criteria that are sparse goals; none by default."""
        if not self._goals:
            return ()
        met = (each for each in self.rubric(task) if each.scale is None)
        return tuple(Goal(each.name, {"criterion": each.text}, each.weight) for each in met)

    async def score_turn(self, request: ScoreTurn[Any]) -> tuple[Hit, ...]:
        """The remaining criteria that are met after the turn, by all votes.

        Raises:
            ModelFault, RewardFault: the judge gave no verdict.
        """
        if not self._goals or not request.remaining:
            return ()
        left = self.rubric(request.task).only(frozenset(goal.key for goal in request.remaining))
        step = request.calls[-1].step if request.calls else 0
        return tuple(Hit(each.criterion.name, each.evidence, step) for each in await self._judge.reached(left, request))

    async def score_episode(self, request: ScoreEpisode[Any]) -> EpisodeReward:
        """The weighted mean of the criteria, each with the judge's reason.

        Raises:
            ModelFault, RewardFault: the judge gave no verdict.
        """
        rubric = self.rubric(request.task)
        judged = await self._judge.ask(rubric, request.task.instructions, request.conversation, request.key)
        parts = tuple(
            RewardPart(each.criterion.name, each.value, each.criterion.weight, each.evidence) for each in judged
        )
        value = sum(part.value * part.weight for part in parts) / sum(part.weight for part in parts)
        if self._at_least is not None:
            value = float(value > self._at_least - ROUNDING)
        return EpisodeReward(value, parts)
