"""Components at their worst, at random: whatever they do, every planned episode is accounted for, in bounded time."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simkit.components.agent import Act, Agent, Decision
from simkit.components.reward import EpisodeReward, Reward, ScoreEpisode, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import JournalFailed
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.store.loader import LoadReport

ASK_TIMEOUT, GRACE = 0.05, 0.05
LONGEST = 60.0
"""Seconds that no example comes near, on the slowest machine: a hang fails instead of hanging the tests."""


class Quit(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")

    __repr__ = __str__


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("wrong"),
    "SystemExit": lambda: SystemExit(0),
    "Quit": lambda: Quit("bye"),
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": asyncio.TimeoutError,
    "StopIteration": lambda: StopIteration(1),
    "Mute": Mute,
    "a long one": lambda: ValueError("x" * 50_000),
    "a group": lambda: BaseExceptionGroup("g", [ExceptionGroup("h", [ValueError("one")]), SystemExit(3)]),
    "a group of cancellations": lambda: BaseExceptionGroup("g", [asyncio.CancelledError()]),
}
FAULTS = (*RAISED, "hangs", "hides", "swallows", "wrong type", "wrong inner type", "fails in a group")
HARMLESS = ("late", "cancels its scope", "leaks", "recovers")
LOST = ("cancels its task",)
"""A cancel of the task is pending then, and stands for a real one: the episode has no end, and is named."""
ROLES = ("agent", "user", "tool", "reward")


@dataclass(frozen=True)
class Case:
    """One run: what goes wrong in which episode, at whose hands; `limits` are concurrency and sessions by role."""

    backend: str
    search: bool
    fail_fast: bool
    concurrency: int
    stop_at: int | None
    limits: tuple[tuple[int | None, int | None], ...]
    wrong: tuple[tuple[str, str] | None, ...]


class Trouble:
    """What the players share: whose turn it is to misbehave, and what they have left behind."""

    def __init__(self, case: Case, run: Run) -> None:
        self._case = case
        self._run = run
        self._asks = itertools.count()
        self.leaked: list[asyncio.Task[None]] = []
        self.serving: Counter[str] = Counter()

    def limits(self, role: str) -> tuple[int | None, int | None]:
        """The concurrency and the sessions that a role declares."""
        return self._case.limits[ROLES.index(role)]

    @contextmanager
    def _counted(self, role: str) -> Generator[None]:
        """Fails, as nobody's fault, when a role serves more requests at once than it declares."""
        self.serving[role] += 1
        try:
            most = self.limits(role)[0]
            if most is not None and self.serving[role] > most:
                raise JournalFailed(f"{role} serves {self.serving[role]} requests at once")
            yield
        finally:
            self.serving[role] -= 1

    async def at(self, role: str, task: Task) -> Any:
        """Misbehave if it is this role's turn in this task; what to answer instead of the right thing, if anything."""
        if next(self._asks) == self._case.stop_at:
            self._run.stop()
        with self._counted(role):
            await anyio.lowlevel.checkpoint()
            return await self._misbehave(role, task)

    async def _misbehave(self, role: str, task: Task) -> Any:
        wrong = self._case.wrong[int(task.id)]
        if wrong is None or wrong[0] != role:
            return None
        what = wrong[1]
        if what in RAISED:
            raise RAISED[what]()
        return await self._ways()[what]()

    def _ways(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        return {
            "hangs": anyio.sleep_forever,
            "hides": self._hides,
            "swallows": self._swallows,
            "wrong type": self._wrong_type,
            "wrong inner type": self._wrong_inner_type,
            "fails in a group": self._fails_in_a_group,
            "late": self._late,
            "cancels its scope": self._cancels_its_scope,
            "leaks": self._leaks,
            "recovers": self._recovers,
            "cancels its task": self._cancels_its_task,
        }

    async def _hides(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    async def _swallows(self) -> None:
        while True:
            try:
                await anyio.sleep_forever()
            except GeneratorExit:
                raise
            except BaseException:
                continue

    async def _wrong_type(self) -> str:
        return "nonsense"

    async def _wrong_inner_type(self) -> type:
        return int

    async def _fails(self) -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("in a task")

    async def _fails_in_a_group(self) -> None:
        if self._case.backend == "asyncio":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fails())
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(self._fails)

    async def _late(self) -> None:
        await anyio.sleep(0.002)

    async def _cancels_its_scope(self) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()

    async def _leaks(self) -> None:
        if self._case.backend == "asyncio":
            self.leaked.append(asyncio.create_task(anyio.sleep_forever()))

    async def _recovers(self) -> None:
        try:
            await self._fails_in_a_group()
        except BaseExceptionGroup:
            return

    async def _cancels_its_task(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()


class OddAgent(Agent):
    name = "odd"

    def __init__(self, trouble: Trouble, tasks: dict[str, Task]) -> None:
        self._trouble, self._tasks = trouble, tasks
        self.concurrency, self.sessions = trouble.limits("agent")

    async def act(self, request: Act) -> Decision:
        given = await self._trouble.at("agent", self._tasks[request.key.task_id])
        if given is not None:
            return Decision(AssistantMessage.of("?"), say=given) if given is int else given  # pyright: ignore[reportArgumentType]
        if request.step == 0:
            call = ToolCall.of(f"{request.key.path}{request.key.turn}", "look", {})
            return Decision(AssistantMessage.of(None, (call,)), calls=(call,))
        return Decision(AssistantMessage.of("done"), say="done")


class OddUser(User):
    name = "odd"

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.concurrency, self.sessions = trouble.limits("user")

    async def speak(self, request: Speak) -> UserTurn:
        given = await self._trouble.at("user", request.task)
        if given is not None:
            return UserTurn(given) if given is int else given  # pyright: ignore[reportArgumentType]
        return UserTurn("hello", end=request.key.turn > 0)


class OddTools(ToolServer):
    name = "odd"

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.concurrency, self.sessions = trouble.limits("tool")

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart((ToolSpec.of("look", "look", {}),))

    async def call(self, request: CallTool) -> ToolReturn:
        given = await self._trouble.at("tool", request.task)
        if given is not None:
            return ToolReturn(ToolResult(value=1), writes=given) if given is int else given  # pyright: ignore[reportArgumentType]
        return ToolReturn(ToolResult(value="seen"))


class OddReward(Reward):
    name = "odd"

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.concurrency, self.sessions = trouble.limits("reward")

    async def score_turn(self, request: ScoreTurn) -> Any:
        given = await self._trouble.at("reward", request.task)
        return () if given is None else (given,)

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        return EpisodeReward(1.0)


class UnloadedStore(Store):
    """Its journals are read here; a database would take most of the time."""

    def load(self, *, wait: float | None = None) -> LoadReport:
        return LoadReport()


TASKS = {
    str(number): Task(id=str(number), world="builtin", split="test", instructions="", goals=(Goal("g"),))
    for number in range(4)
}


async def played(case: Case, store: Store) -> Run:
    run = Run(
        store=store,
        policy=FaultPolicy(fail_fast=case.fail_fast, max_share=1.0, raises=False),
        ask_timeout=ASK_TIMEOUT,
        grace=GRACE,
        concurrency=case.concurrency,
    )
    trouble = Trouble(case, run)
    search: Search = Josh(BeamSearch(beam=2), Limits(turns=2)) if case.search else Rollout(Limits(turns=2))
    with anyio.fail_after(LONGEST):
        async with run:
            cast = run.cast(
                run.world("builtin"),
                agent=OddAgent(trouble, TASKS),
                user=OddUser(trouble),
                tools=OddTools(trouble),
                reward=OddReward(trouble),
            )
            await run.play(search, cast, tuple(TASKS.values()))
    for task in trouble.leaked:
        task.cancel()
    if case.backend == "asyncio":
        await asyncio.gather(*trouble.leaked, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    return run


def wrong(backend: str) -> st.SearchStrategy[tuple[str, str] | None]:
    ways = (*FAULTS, *HARMLESS, *(LOST if backend == "asyncio" else ()))
    return st.none() | st.tuples(st.sampled_from(ROLES), st.sampled_from(ways))


def limit(least: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(least, 4)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    backend = draw(st.sampled_from(("asyncio", "trio")))
    return Case(
        backend=backend,
        search=draw(st.booleans()),
        fail_fast=draw(st.booleans()),
        concurrency=draw(st.integers(1, 4)),
        stop_at=draw(st.none() | st.integers(0, 12)),
        limits=tuple((draw(limit(1)), draw(limit(2))) for _ in ROLES),
        wrong=tuple(draw(wrong(backend)) for _ in TASKS),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_every_planned_episode_is_accounted_for(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = anyio.run(played, case, UnloadedStore(Path(folder)), backend=case.backend)
        events = [json.loads(line) for line in journal(run).read_bytes().splitlines()]
    planned = {unit["task_id"] for event in events if event["e"] == "UnitsPlanned" for unit in event["units"]}
    missed = {
        unit["task_id"]: unit["reason"] for event in events if event["e"] == "UnitsNotPlayed" for unit in event["units"]
    }
    ended = {event["episode_id"].split("/")[1]: event for event in events if event["e"] == "EpisodeFinished"}
    (end,) = [event for event in events if event["e"] == "RunFinished"]

    assert planned in (set(TASKS), set())
    assert set(missed) | set(ended) == planned
    assert not set(missed) & set(ended)
    assert (end["summary"]["planned"], end["summary"]["done"]) == (len(planned), len(ended))
    assert end["summary"]["not_played_because"] == dict(Counter(missed.values()))
    assert run.status == end["status"]
    assert (run.status == "done") <= (not missed)

    for name, event in ended.items():
        assert event["outcome"] == outcome_of(case, name), event["error"]
        assert len(event["error"] or "") < 10_000
    stopped = case.stop_at is not None and run.status == "interrupted"
    if not stopped and not case.fail_fast:
        assert set(missed) == {name for name in TASKS if (case.wrong[int(name)] or ("", ""))[1] in LOST}
        assert run.status == ("failed" if missed else "done")


def outcome_of(case: Case, name: str) -> str:
    """How an episode ends that comes to its end."""
    wrong = case.wrong[int(name)]
    if wrong is None or wrong[1] in HARMLESS:
        return "user_ended"
    assert wrong[1] not in LOST
    return f"{wrong[0]}_fault"


def journal(run: Run) -> Path:
    (path,) = (run.store.path / "journals" / run.id).glob("*.jsonl")
    return path
