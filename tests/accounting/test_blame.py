"""What is raised inside a component is its fault, but for what is not its own: cancellations, limits, the run's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from simkit.actors.actor import Request
from simkit.actors.deadlines import AskLimits
from simkit.actors.scope import open_scope
from simkit.core.boundary import boundary, described
from simkit.errors import (
    AgentFault,
    AskTimeout,
    BudgetExhausted,
    JournalFailed,
    LimitHit,
    RateLimited,
    StrayCancellation,
)
from simkit.search.consulting import consult
from simkit.search.tree import together

pytestmark = pytest.mark.anyio


class Quit(BaseException):
    """Nothing a program would foresee."""


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise SystemExit("no words")

    __repr__ = __str__


def cancelled() -> BaseException:
    return asyncio.CancelledError("an inner timeout")


RAISED: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: ValueError("wrong"),
    "sys.exit": lambda: SystemExit(0),
    "a BaseException": lambda: Quit("bye"),
    "an asyncio cancellation": cancelled,
    "a timeout": lambda: TimeoutError(),
    "an error without words": Mute,
    "a group": lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    "a group of exits": lambda: BaseExceptionGroup("several", [SystemExit(3), Quit()]),
    "a group of groups": lambda: BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [Quit("deep")])]),
    "a group with a fault and an error": lambda: ExceptionGroup("both", [RateLimited("busy"), ValueError("wrong")]),
    "a group with a stray cancellation": lambda: BaseExceptionGroup("both", [cancelled(), ValueError("wrong")]),
}


@pytest.mark.parametrize("what", RAISED)
async def test_whatever_a_component_raises_is_its_fault(what: str) -> None:
    with pytest.raises(AgentFault, match="agent `x`, turn 3") as caught, boundary(AgentFault, "agent `x`, turn 3"):
        raise RAISED[what]()
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("what", RAISED)
def test_so_it_is_outside_of_an_event_loop(what: str) -> None:
    with pytest.raises(AgentFault), boundary(AgentFault, "agent `x`"):
        raise RAISED[what]()


PASSED: dict[str, tuple[Callable[[], BaseException], type[BaseException]]] = {
    "Ctrl-C": (KeyboardInterrupt, KeyboardInterrupt),
    "the end of a generator": (GeneratorExit, GeneratorExit),
    "the budget": (lambda: ExceptionGroup("g", [ValueError(), BudgetExhausted("used up")]), BudgetExhausted),
    "the disk": (lambda: ExceptionGroup("g", [JournalFailed("full"), LimitHit("", "token_limit")]), JournalFailed),
    "a limit": (lambda: ExceptionGroup("g", [ValueError(), LimitHit("no room", "token_limit")]), LimitHit),
    "a model's fault": (lambda: ExceptionGroup("g", [RateLimited("busy")]), RateLimited),
    "Ctrl-C before all": (
        lambda: BaseExceptionGroup("g", [BudgetExhausted("used up"), KeyboardInterrupt()]),
        KeyboardInterrupt,
    ),
}


@pytest.mark.parametrize("what", PASSED)
def test_what_is_not_the_components_passes_also_out_of_its_task_groups(what: str) -> None:
    made, kind = PASSED[what]
    with pytest.raises(kind), boundary(AgentFault, "agent `x`"):
        raise made()


def test_a_message_is_cut_and_a_broken_one_is_named() -> None:
    assert described(Mute()) == "Mute (its message cannot be read: its `__str__` raises)"
    assert len(described(ValueError("x" * 100_000))) < 5_000
    assert described(BaseExceptionGroup("g", [cancelled(), ValueError("wrong")])).startswith("ValueError: wrong")


# --- asks -------------------------------------------------------------------------------------------------------------


class Handler:
    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act


class Ping(Request[int]):
    def serve(self, actor: Handler, /) -> Any:
        return actor.act()


def count(reply: object) -> int:
    assert isinstance(reply, int)
    return reply


async def ask(act: Callable[[], object]) -> int:
    async with open_scope() as scope:
        return await consult(scope.spawn(Handler(act), name="x"), Ping(), count, AgentFault, "agent `x`")


@pytest.mark.parametrize("what", RAISED)
async def test_an_ask_attributes_it_too(what: str) -> None:
    async def act() -> int:
        await anyio.lowlevel.checkpoint()
        raise RAISED[what]()

    with pytest.raises(AgentFault):
        await ask(act)


def outcomes(scope: anyio.CancelScope) -> dict[str, Callable[[], object]]:
    """What a component can make of a cancellation that came while it waited."""

    async def returns() -> int:
        try:
            await anyio.sleep_forever()
        except BaseException:
            return 1
        return 2

    async def fails() -> int:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            raise ValueError("made of a cancellation") from error
        return 2

    async def exits() -> int:
        try:
            await anyio.sleep_forever()
        finally:
            raise SystemExit(0)

    async def groups() -> int:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            raise BaseExceptionGroup("both", [ValueError("wrong"), error]) from error
        return 2

    return {"returns": returns, "fails": fails, "exits": exits, "groups": groups}


@pytest.mark.parametrize("what", ["returns", "fails", "exits", "groups"])
async def test_a_cancellation_that_was_asked_for_wins_over_whatever_the_component_makes_of_it(what: str) -> None:
    went_on = False
    async with anyio.create_task_group() as group:

        async def asker() -> None:
            nonlocal went_on
            await ask(outcomes(group.cancel_scope)[what])
            went_on = True

        group.start_soon(asker)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert not went_on


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("what", ["returns", "fails", "exits", "groups"])
async def test_so_does_a_cancel_of_the_task(what: str) -> None:
    task = asyncio.create_task(ask(outcomes(anyio.CancelScope())[what]))
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_branch_that_is_cancelled_by_nobody_is_an_error_and_not_a_shorter_list() -> None:
    async def cancels_itself() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()
        return 1

    async def fine() -> int:
        return 2

    with pytest.raises(StrayCancellation, match="not by the run"):
        await together([fine, cancels_itself, fine])


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_an_ask_without_an_answer_ends_at_the_scopes_deadline_and_says_where_it_waited() -> None:

    async def waits() -> int:
        await anyio.sleep_forever()
        return 1

    with anyio.fail_after(20):
        async with open_scope(AskLimits(0.02, 0.02)) as scope:
            ref = scope.spawn(Handler(waits), name="slow")
            with pytest.raises(AskTimeout, match=r"`slow` did not answer Ping within 0.02 s; it was waiting at .* in "):
                await ref.ask(Ping())
            assert scope.abandoned == ()


async def test_one_that_ignores_its_cancellation_is_left_behind_and_the_asker_goes_on() -> None:

    seen: list[str] = []

    async def stays() -> int:
        while True:
            try:
                await anyio.sleep_forever()
            except GeneratorExit:
                seen.append("closed")
                raise
            except BaseException:
                seen.append("ignored")

    with anyio.fail_after(20):
        async with open_scope(AskLimits(0.02, 0.02)) as scope:
            ref = scope.spawn(Handler(stays), name="stubborn")
            with pytest.raises(AskTimeout, match="it was abandoned"):
                await ref.ask(Ping())
            assert "`stubborn` at " in scope.abandoned[0]
            await anyio.lowlevel.checkpoint()
    assert seen[-1] == "closed"


async def test_a_shield_does_not_hide_a_handler_from_its_deadline() -> None:

    async def hides() -> int:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()
        return 1

    with anyio.fail_after(20):
        async with open_scope(AskLimits(0.02, 10)) as scope:
            ref = scope.spawn(Handler(hides), name="shielded")
            for _ in range(2):
                with pytest.raises(AskTimeout, match="`shielded` did not answer"):
                    await ref.ask(Ping())
            assert scope.abandoned == ()
            await anyio.lowlevel.checkpoint()  # nobody is cancelled by what is left of it


async def test_a_cancelled_scope_leaves_behind_what_does_not_end() -> None:
    async def stays() -> int:
        while True:
            try:
                await anyio.sleep_forever()
            except GeneratorExit:
                raise
            except BaseException:
                continue

    abandoned: list[str] = []
    with anyio.fail_after(20), anyio.CancelScope() as outer:
        async with open_scope(AskLimits(None, 0.02)) as scope:
            ref = scope.spawn(Handler(stays), name="stubborn")
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(ref.ask, Ping())
                    await anyio.wait_all_tasks_blocked()
                    outer.cancel()
            finally:
                abandoned += scope.abandoned
    assert "`stubborn` at " in abandoned[0]
    assert "test_blame.py" in abandoned[0]


async def test_a_person_has_no_deadline() -> None:

    async def types() -> int:
        await anyio.sleep(0.1)
        return 1

    async with open_scope(AskLimits(0.01, 0.01)) as scope:
        ref = scope.spawn(Handler(types), name="human", deadline=False)
        assert await ref.ask(Ping()) == 1
