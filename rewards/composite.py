"""Several rewards as one, with weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TypeVar

from simkit.components import checks
from simkit.components.reward import EpisodeReward, ExplainGoals, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.core.messages import ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import RewardFault, UsageError, WrongValue

V = TypeVar("V")
_SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Weighted:
    """One reward of a composition, with its unique name and its weight."""

    name: str
    reward: Reward
    weight: float = 1.0


class WeightedRewards(Reward):
    """The weighted mean of several rewards; its range is the weighted mean of theirs.

    Goals of a part have the keys `part/goal`; their weights are scaled so that they sum up to the weight of the part. A
    turn credits the goals of every part; an episode's value is the weighted mean of the parts' values, and the record
    keeps each part with its own parts. A part without goals (a judge, a final state) counts at the end only; if one of
    them judges ends (`final`), so does the composition.

    Args:
        parts: the rewards; weights must be positive and finite. A mapping of rewards gives each the weight 1.

    Raises:
        UsageError: no parts, two parts of one name, a name with a slash, an invalid weight, or an invalid range.
    """

    name = "weighted"

    def __init__(self, *parts: Weighted) -> None:
        _check(parts)
        self._parts = parts
        self._total = sum(part.weight for part in parts)
        self.range = self._mean_range()
        self.final = any(part.reward.final for part in parts)
        self.concurrency = _smallest(part.reward.concurrency for part in parts)
        self.sessions = _smallest(part.reward.sessions for part in parts)

    @classmethod
    def of(cls, rewards: Mapping[str, Reward | tuple[Reward, float]]) -> WeightedRewards:
        """A composition by name: `WeightedRewards.of({"goals": GoalCalls(), "polite": (Polite(), 0.2)})`."""
        named = ((name, given if isinstance(given, tuple) else (given, 1.0)) for name, given in rewards.items())
        return cls(*(Weighted(name, reward, weight) for name, (reward, weight) in named))

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The goals of every part, under the part's name."""
        return tuple(goal for part in self._parts for goal in _renamed(part, _goals_of(part, task)))

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        """The checks of all parts."""
        for part in self._parts:
            part.reward.check_task(task, tools)

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        """The goals reached in the turn by any part, in the order of the steps."""
        hits: list[Hit] = []
        for part in self._parts:
            known = _own_goals(part, request.task)
            remaining = _own(part, request.remaining, known)
            reply = await part.reward.score_turn(replace(request, remaining=remaining))
            found = _checked(part, "score_turn", checks.hits, reply)
            hits.extend(replace(hit, goal=_prefix(part) + hit.goal) for hit in found)
        return tuple(sorted(hits, key=lambda hit: hit.step))

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        """The weighted mean of the parts' episode rewards."""
        value = 0.0
        recorded: list[RewardPart] = []
        for part in self._parts:
            reply = await part.reward.score_episode(_episode_of(part, request))
            bounds = checks.reward_range(part.reward.range, part.name)
            scored = _checked(part, "score_episode", checks.reward_within(bounds), reply)
            share = part.weight / self._total
            value += scored.value * share
            recorded.append(RewardPart(part.name, scored.value, share))
            recorded.extend(replace(inner, name=_prefix(part) + inner.name) for inner in scored.parts)
        return EpisodeReward(value, tuple(recorded))

    async def explain_goals(self, request: ExplainGoals) -> Mapping[str, str]:
        """The explanations of every part."""
        found: dict[str, str] = {}
        for part in self._parts:
            missed = _own(part, request.missed, _own_goals(part, request.episode.task))
            if missed:
                asked = ExplainGoals(_episode_of(part, request.episode), missed)
                said = _checked(part, "explain_goals", checks.explanations, await part.reward.explain_goals(asked))
                found |= {_prefix(part) + goal: why for goal, why in said.items()}
        return found

    def _mean_range(self) -> checks.Range:
        low = high = 0.0
        for part in self._parts:
            share, bounds = part.weight / self._total, checks.reward_range(part.reward.range, part.name)
            low, high = low + share * bounds[0], high + share * bounds[1]
        return low, high


def _checked(part: Weighted, question: str, check: Callable[[object], V], reply: object) -> V:
    """The reply of a part, checked like the reply of a single reward.

    Raises:
        RewardFault: a run would refuse it.
    """
    try:
        return check(reply)
    except WrongValue as wrong:
        place = f"the part `{part.name}` of a weighted reward"
        raise RewardFault(f"{place}: {question} was answered with {wrong}") from None


def _goals_of(part: Weighted, task: Task) -> tuple[Goal, ...]:
    return _checked(part, "goals", checks.goals, part.reward.goals(task))


def _check(parts: tuple[Weighted, ...]) -> None:
    if not parts:
        raise UsageError("a composition needs at least one reward")
    names = [part.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two rewards of the composition are called `{twice}`; give each a name of its own")
    for part in parts:
        if not part.name or _SEPARATOR in part.name:
            raise UsageError(f"`{part.name}` cannot name a reward; use a name without `{_SEPARATOR}`")
        if not isfinite(part.weight) or part.weight <= 0:
            raise UsageError(f"the weight of `{part.name}` is {part.weight}; it must be a number above 0")


def _prefix(part: Weighted) -> str:
    return part.name + _SEPARATOR


def _own_goals(part: Weighted, task: Task) -> dict[str, list[Goal]]:
    """The part's own goals by key, with their original weights."""
    known: dict[str, list[Goal]] = {}
    for goal in _goals_of(part, task):
        known.setdefault(goal.key, []).append(goal)
    return known


def _renamed(part: Weighted, goals: tuple[Goal, ...]) -> list[Goal]:
    whole = sum(goal.weight for goal in goals)
    scale = part.weight / whole if whole else 0.0
    return [replace(goal, key=_prefix(part) + goal.key, weight=goal.weight * scale) for goal in goals]


def _own(part: Weighted, goals: tuple[Goal, ...], known: Mapping[str, list[Goal]]) -> tuple[Goal, ...]:
    """The goals of a part under their own keys and weights; copies are distinguished by their detail."""
    own: list[Goal] = []
    for goal in goals:
        if not goal.key.startswith(_prefix(part)):
            continue
        key = goal.key.removeprefix(_prefix(part))
        match = next((mine for mine in known.get(key, ()) if mine.detail == goal.detail), None)
        own.append(match or replace(goal, key=key))
    return tuple(own)


def _episode_of(part: Weighted, request: ScoreEpisode) -> ScoreEpisode:
    prefix = _prefix(part)
    achieved = tuple(
        replace(hit, goal=hit.goal.removeprefix(prefix)) for hit in request.achieved if hit.goal.startswith(prefix)
    )
    return replace(request, goals=_own(part, request.goals, _own_goals(part, request.task)), achieved=achieved)


def _smallest(limits: Iterable[int | None]) -> int | None:
    """The smallest limit, or None without limits."""
    return min((limit for limit in limits if limit is not None), default=None)
