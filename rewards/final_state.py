"""Reward for how an episode ends: the state of the world, due texts, checks, calls, and the verdict of a judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from simkit.components.reward import EpisodeReward, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.components.tools import StartTools
from simkit.components.world import Check, EndPart, Expected, World
from simkit.core.conversation import Conversation
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.models.base import ChatModel
from simkit.rewards.due_texts import Comparison, is_said
from simkit.rewards.end_measures import end_measures
from simkit.rewards.statements import judge_statement

Goals: TypeAlias = Literal["actions", "writes", "state", "said", "checks"]

ENDED = ("user_ended", "agent_ended", "goals_done")
"""Outcomes of episodes whose end is judged; every other end has the reward 0."""

NOT_RUN = "judge not run"
"""Evidence of statements that were not judged, because there is no judge. They decide nothing."""

_STATE, _SAID, _CHECK, _ACTION, _JUDGED = "state", "said:", "check:", "action:", "judged:"
_OTHERWISE: dict[Comparison, Comparison] = {"substring": "token", "token": "substring"}


class FinalState(Reward[Any]):
    """Judges how an episode ends: 1 if every part that the world names holds, else 0.

    The parts are `state` (the tables are as after the right calls, whatever calls led there), `said` (each due text was
    in one of the agent's replies), `checks` (each condition of the state holds), `actions` (each due call was made, by
    the agent or the user) and `judged` (a judge agrees with each statement). All are recorded, with evidence; the world
    says which of them decide. What the other way to look for a text found is recorded, too (`token:...` or
    `substring:...`), and decides nothing. Without a judge, `judged` decides nothing, and its evidence is "judge not
    run". Neither do `floor`, the reward for doing nothing, and `reads_made` and `writes_made`, the shares of the
    solution's calls that were made.

    An episode that a limit ended has the reward 0. In searches that branch, `goals_done` is judged at the branch that
    took the last goal.

    Sparse goals, for searches that harvest at each goal, can be chosen:

    - `actions`: every call of the task's solution with exactly these arguments, reads included, in any order (as JOSH
      on tau-bench);
    - `writes`: those of them that change the state;
    - `state`: the right state, one goal, unless nothing has to change. It is reached by a turn that changed something
      and left the right state;
    - `said`: each due text;
    - `checks`: each condition of the state that does not hold at the start.

    Args:
        world: says what a good end is (`World.expected`).
        goals: the sparse goals.
        said: how due texts are looked for: `substring` (as tau-bench does, without the commas of replies, so that 10 is
            found in 100) or `token` (whole words and numbers). By default `token` for worlds in the variant `fixed`.
        judge: the model that judges statements (`--judge-model`); None for no judge.

    Raises:
        UsageError: there are no such goals or no such comparison, or the world does not say what a good end is.
    """

    name: ClassVar[str] = "final_state"
    final: bool = True

    def __init__(
        self,
        world: World,
        goals: Goals = "actions",
        said: Comparison | None = None,
        judge: ChatModel | None = None,
    ) -> None:
        if goals not in get_args(Goals):
            raise UsageError(f"final_state has no goals `{goals}`; choose one of: {', '.join(get_args(Goals))}")
        if said is not None and said not in get_args(Comparison):
            raise UsageError(f"final_state cannot look for texts by `{said}`; choose substring or token")
        if type(world).expected is World.expected:
            raise UsageError(
                f"the world `{world.name}` does not say how its episodes should end, which `final_state` judges; "
                "choose another reward, such as goal_calls"
            )
        self._world = world
        self._goals: Goals = goals
        usual: Comparison = "token" if getattr(world, "variant", None) == "fixed" else "substring"
        self._comparison: Comparison = said or usual
        self._judge = judge

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The chosen sparse goals of a task; there may be none."""
        match self._goals:
            case "actions":
                return task.goals
            case "writes":
                writes = self._expected(task).writes
                return tuple(goal for goal in task.goals if goal.key in writes)
            case "state":
                return (Goal(_STATE),) if self._expected(task).writes else ()
            case "said":
                return tuple(Goal(f"{_SAID}{text}") for text in self._expected(task).said)
            case "checks":
                return self._open_checks(task)

    def _open_checks(self, task: Task) -> tuple[Goal, ...]:
        checks = self._expected(task).checks
        if not checks:
            return ()
        start = self._world.tools().start(StartTools(task)).state
        return tuple(Goal(_key(check), check.detail) for check in checks if not self._world.holds(check, start))

    def _expected(self, task: Task) -> Expected:
        expected = self._world.expected(task)
        if expected is None:
            raise UsageError(
                f"the world `{self._world.name}` does not say how {task.id} should end; leave the task out, or choose "
                "another reward"
            )
        return expected

    async def score_turn(self, request: ScoreTurn[Any]) -> tuple[Hit, ...]:
        """The remaining goals that the turn, or the calls of a user's answer, reached.

        A call reaches at most one copy of a goal.
        """
        match self._goals:
            case "actions" | "writes":
                return _called(request.remaining, request.calls)
            case "state":
                return self._state_reached(request)
            case "said":
                said = _last_reply(request.conversation)
                remaining = _distinct(request.remaining)
                return tuple(Hit(goal.key, said[:200]) for goal in remaining if self._says(said, goal))
            case "checks":
                return tuple(self._checks_met(request))

    def _says(self, said: str, goal: Goal) -> bool:
        return is_said(said, goal.key.removeprefix(_SAID), self._comparison)

    def _state_reached(self, request: ScoreTurn[Any]) -> tuple[Hit, ...]:
        writing = [call for call in request.calls if call.writes]
        if not request.remaining or not writing:
            return ()
        if self._world.digest(request.world) != self._expected(request.task).digest:
            return ()
        return (Hit(_STATE, writing[-1].call_id, writing[-1].step),)

    def _checks_met(self, request: ScoreTurn[Any]) -> Iterator[Hit]:
        """The remaining checks that hold now, each with the last call before it."""
        last = request.calls[-1] if request.calls else None
        evidence, step = ("", 0) if last is None else (last.call_id, last.step)
        left = {goal.key for goal in request.remaining}
        for check in self._expected(request.task).checks:
            if _key(check) in left and self._world.holds(check, request.world):
                yield Hit(_key(check), evidence, step)

    async def score_episode(self, request: ScoreEpisode[Any]) -> EpisodeReward:
        """1 or 0, with each part and its evidence; the parts that do not decide have the weight 0.

        Raises:
            ModelFault: the judge did not answer.
            RewardFault: the judge gave no verdict.
        """
        expected = self._expected(request.task)
        replies = _replies(request.conversation)
        parts = [_state_part(self._world.digest(request.world), expected)]
        for text in expected.said:
            parts.append(_said_part(text, replies, self._comparison, _weight("said", expected)))
            parts.append(_said_part(text, replies, _OTHERWISE[self._comparison], 0.0, own_name=True))
        parts += [self._check_part(check, request, expected) for check in expected.checks]
        parts += self._action_parts(request.calls, expected)
        parts += await self._judged_parts(request, expected)
        parts += end_measures(self._world, request.task, expected, request.start, request.calls)
        good = all(part.value for part in parts if part.weight)
        if request.outcome not in ENDED:
            parts.append(RewardPart("ended", 0.0, evidence=request.outcome))
            good = False
        return EpisodeReward(float(good), tuple(parts))

    def _check_part(self, check: Check, request: ScoreEpisode[Any], expected: Expected) -> RewardPart:
        held = self._world.holds(check, request.world)
        evidence = "holds" if held else "does not hold"
        return RewardPart(_key(check), float(held), _weight("checks", expected), evidence)

    def _action_parts(self, calls: tuple[CallRecord, ...], expected: Expected) -> Iterator[RewardPart]:
        made = self._matching(calls, expected)
        for place, action in enumerate(expected.actions):
            call = made.get(place)
            evidence = "not called" if call is None else f"{call.call_id} by the {call.by}"
            yield RewardPart(f"{_ACTION}{action.name}", float(call is not None), _weight("actions", expected), evidence)

    def _matching(self, calls: tuple[CallRecord, ...], expected: Expected) -> dict[int, CallRecord]:
        """A call that matches each expected one, by its place."""
        fits = [
            [number for number, call in enumerate(calls) if self._world.matches(action, call)]
            for action in expected.actions
        ]
        if expected.calls_count_once:
            return {place: calls[number] for number, place in _assigned(fits).items()}
        return {place: calls[found[0]] for place, found in enumerate(fits) if found}

    async def _judged_parts(self, request: ScoreEpisode[Any], expected: Expected) -> list[RewardPart]:
        if self._judge is None:
            return [RewardPart(f"{_JUDGED}{statement}", 0.0, 0.0, NOT_RUN) for statement in expected.judged]
        parts: list[RewardPart] = []
        for number, statement in enumerate(expected.judged if request.outcome in ENDED else ()):
            verdict = await judge_statement(self._judge, request, statement, number)
            met, weight = float(verdict.met), _weight("judged", expected)
            parts.append(RewardPart(f"{_JUDGED}{statement}", met, weight, verdict.reason))
        return parts


def _state_part(digest: str, expected: Expected) -> RewardPart:
    return RewardPart(_STATE, float(digest == expected.digest), _weight("state", expected), digest)


def _said_part(
    text: str, replies: list[str], comparison: Comparison, weight: float, *, own_name: bool = False
) -> RewardPart:
    found = next((reply for reply in replies if is_said(reply, text, comparison)), None)
    name = f"{comparison}:{text}" if own_name else f"{_SAID}{text}"
    return RewardPart(name, float(found is not None), weight, (found or "")[:200])


def _weight(part: EndPart, expected: Expected) -> float:
    return float(part in expected.basis)


def _key(check: Check) -> str:
    return f"{_CHECK}{check.name}"


def _assigned(fits: list[list[int]]) -> dict[int, int]:
    """Places by the number of the call that each gets, such that as many as possible get one of their own."""
    given: dict[int, int] = {}

    def give(place: int, tried: set[int]) -> bool:
        for number in fits[place]:
            if number not in tried:
                tried.add(number)
                if number not in given or give(given[number], tried):
                    given[number] = place
                    return True
        return False

    for place in range(len(fits)):
        give(place, set())
    return given


def _called(remaining: tuple[Goal, ...], calls: tuple[CallRecord, ...]) -> tuple[Hit, ...]:
    left, hits = list(remaining), list[Hit]()
    for call in calls:
        goal = next((goal for goal in left if _is(call, goal)), None)
        if goal is not None:
            left.remove(goal)
            hits.append(Hit(goal.key, call.call_id, call.step))
    return tuple(hits)


def _is(call: CallRecord, goal: Goal) -> bool:
    detail = goal.detail
    same = call.name == detail.get("tool") and call.parameters == detail.get("arguments")
    return same and call.by == detail.get("by", "agent")


def _distinct(goals: tuple[Goal, ...]) -> tuple[Goal, ...]:
    return tuple({goal.key: goal for goal in goals}.values())


def _replies(conversation: Conversation) -> list[str]:
    return [entry.heard for entry in conversation if entry.author == "agent" and entry.heard is not None]


def _last_reply(conversation: Conversation) -> str:
    return next(reversed(_replies(conversation)), "")
