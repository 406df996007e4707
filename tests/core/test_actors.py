from __future__ import annotations

import gc
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from simkit.actors.actor import ActorRef, Request, Scope, open_scope
from simkit.errors import ActorStopped, AskCycle, AskTimeout, Unhandled, UsageError

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Double(Request[int]):
    number: int


@dataclass(frozen=True, slots=True)
class Run(Request[object]):
    """Runs a function inside the actor that gets it."""

    work: Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True)
class Other(Request[None]):
    pass


class Worker:
    """Doubles numbers and runs what it is handed; remembers what it handled, in order."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def handle(self, message: object) -> object:
        match message:
            case Double(number):
                self.seen.append(number)
                return number * 2
            case Run(work):
                return await work()
            case _:
                return NotImplemented


class Gate:
    """Work that says when it has begun and ends when it is let go."""

    def __init__(self) -> None:
        self.entered = 0
        self.most = 0
        self.cancelled = 0
        self.finished = 0
        self._inside = 0
        self.open = anyio.Event()

    async def __call__(self) -> object:
        self.entered += 1
        self._inside += 1
        self.most = max(self.most, self._inside)
        try:
            await self.open.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self._inside -= 1
        self.finished += 1
        return self.finished


async def nothing() -> object:
    return None


@asynccontextmanager
async def deadline() -> AsyncGenerator[None]:
    """A hang is a failure, not a hung test run; never reached when all is well."""
    with anyio.fail_after(20):
        yield


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_an_ask_brings_the_reply() -> None:
    async with open_scope() as scope:
        ref = scope.spawn(Worker())
        assert await ref.ask(Double(21)) == 42
        assert ref.name == "Worker"


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_messages_are_handled_at_most_concurrency_at_a_time(concurrency: int) -> None:
    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker(), concurrency=concurrency)
        async with anyio.create_task_group() as askers:
            for _ in range(10):
                askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            assert gate.entered == concurrency
            gate.open.set()
    assert gate.finished == 10
    assert gate.most == concurrency


async def test_asks_and_tells_are_served_in_the_order_they_came() -> None:
    gate, worker = Gate(), Worker()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker)
        async with anyio.create_task_group() as askers:
            askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            for number in range(6):
                askers.start_soon(ref.ask if number % 2 else ref.tell, Double(number))
                await wait_all_tasks_blocked()
            gate.open.set()
        await scope.settle()
    assert worker.seen == list(range(6))


async def test_an_error_reaches_the_asker_as_itself_with_its_traceback_and_spares_the_actor() -> None:
    async def explode() -> object:
        raise LookupError("no such hotel")

    async with open_scope() as scope:
        ref = scope.spawn(Worker())
        with pytest.raises(LookupError, match="no such hotel") as caught:
            await ref.ask(Run(explode))
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[-1] == "explode"
        assert caught.value.__context__ is None
        assert await ref.ask(Double(1)) == 2


async def test_an_unhandled_message_is_an_error_that_names_actor_and_message() -> None:
    async with open_scope() as scope:
        ref = scope.spawn(Worker(), name="desk")
        with pytest.raises(Unhandled, match="`desk` does not handle Other"):
            await ref.ask(Other())
        assert await ref.ask(Double(2)) == 4


async def test_handlers_that_never_wait_still_let_others_run() -> None:
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await checkpoint()
            others += 1

    async with open_scope() as scope, anyio.create_task_group() as tasks:
        ref = scope.spawn(Worker())
        tasks.start_soon(other)
        for number in range(200):
            await ref.ask(Double(number))
        tasks.cancel_scope.cancel()
    assert others >= 2


# --- deadlines and cancellation ---------------------------------------------------------------------------------------


async def test_a_deadline_cancels_the_work_and_spares_the_actor() -> None:
    gate = Gate()
    async with open_scope() as scope:
        ref = scope.spawn(Worker(), name="slow")
        with pytest.raises(AskTimeout, match=r"`slow` did not answer Run within 0\.001 s"):
            await ref.ask(Run(gate), timeout=0.001)
        assert gate.cancelled == 1
        assert await ref.ask(Double(3)) == 6


async def test_a_deadline_counts_the_wait_for_a_busy_actor() -> None:
    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker())
        async with anyio.create_task_group() as askers:
            askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            with pytest.raises(AskTimeout):
                await ref.ask(Double(1), timeout=0.001)
            gate.open.set()
        assert await ref.ask(Double(4)) == 8


async def test_a_timeout_error_of_the_handler_is_not_taken_for_the_deadline() -> None:
    async def give_up() -> object:
        raise TimeoutError("the provider's own")

    async with open_scope() as scope:
        ref = scope.spawn(Worker())
        with pytest.raises(TimeoutError, match="the provider's own"):
            await ref.ask(Run(give_up), timeout=60)


async def test_cancelling_the_asker_cancels_the_work_and_spares_the_actor() -> None:
    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker())
        async with anyio.create_task_group() as askers:
            askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            askers.cancel_scope.cancel()
        assert (gate.entered, gate.cancelled, gate.finished) == (1, 1, 0)
        assert await ref.ask(Double(5)) == 10


async def test_cancelling_a_waiting_asker_takes_its_message_back() -> None:
    gate, worker = Gate(), Worker()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker)
        async with anyio.create_task_group() as first:
            first.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            async with anyio.create_task_group() as second:
                second.start_soon(ref.ask, Double(1))
                await wait_all_tasks_blocked()
                second.cancel_scope.cancel()
            gate.open.set()
        assert await ref.ask(Double(2)) == 4
    assert worker.seen == [2]


async def test_a_turn_given_to_a_cancelled_asker_goes_to_the_next() -> None:
    gate, worker = Gate(), Worker()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker)
        async with anyio.create_task_group() as stay, anyio.create_task_group() as leave:
            stay.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            leave.start_soon(ref.ask, Double(1))
            await wait_all_tasks_blocked()
            stay.start_soon(ref.ask, Double(2))
            await wait_all_tasks_blocked()
            gate.open.set()
            await checkpoint()  # the gate's asker ends and hands its slot over, the next one is cancelled on waking
            leave.cancel_scope.cancel()
        assert await ref.ask(Double(3)) == 6
    assert worker.seen in ([2, 3], [1, 2, 3])


# --- telling ----------------------------------------------------------------------------------------------------------


async def test_a_full_mailbox_holds_the_teller_up_until_there_is_room() -> None:
    gate, worker = Gate(), Worker()
    told: list[int] = []

    async def tell_all(ref: ActorRef) -> None:
        for number in range(5):
            await ref.tell(Double(number))
            told.append(number)

    async with deadline(), open_scope() as scope, anyio.create_task_group() as tasks:
        ref = scope.spawn(worker, mailbox=2)
        await ref.tell(Run(gate))
        tasks.start_soon(tell_all, ref)
        await wait_all_tasks_blocked()
        assert told == [0, 1]
        gate.open.set()
        await scope.settle()
        assert told == worker.seen == [0, 1, 2, 3, 4]


async def test_a_teller_cancelled_at_the_door_has_told_nothing() -> None:
    gate, worker = Gate(), Worker()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker, mailbox=1)
        await ref.tell(Run(gate))
        await ref.tell(Double(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.tell, Double(2))
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        gate.open.set()
        await scope.settle()
    assert worker.seen == [1]


async def test_a_failed_tell_ends_the_scope_with_that_error() -> None:
    async def explode() -> object:
        raise LookupError("told")

    cause = ValueError("its cause")

    async def explode_because() -> object:
        raise LookupError("told") from cause

    refs: list[ActorRef] = []

    async def house(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        async with deadline(), open_scope() as scope:
            refs.append(scope.spawn(Worker()))
            await refs[-1].tell(Run(work))
            await anyio.sleep_forever()

    for work, expected in ((explode, None), (explode_because, cause)):
        with pytest.raises(LookupError, match="told") as caught:
            await house(work)
        assert caught.value.__cause__ is expected
        with pytest.raises(ActorStopped):
            await refs[-1].ask(Double(1))


async def test_several_failures_are_all_told() -> None:
    async def explode() -> object:
        raise LookupError("told")

    async def house() -> None:
        async with open_scope() as scope:
            await scope.spawn(Worker()).tell(Run(explode))
            await scope.spawn(Worker()).tell(Run(explode))
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await house()
    assert [type(error) for error in caught.value.exceptions] == [LookupError, LookupError]


async def test_an_unhandled_tell_ends_the_scope() -> None:
    async def house() -> None:
        async with deadline(), open_scope() as scope:
            await scope.spawn(Worker(), name="desk").tell(Other())
            await anyio.sleep_forever()

    with pytest.raises(Unhandled, match="`desk` does not handle Other"):
        await house()


async def test_a_tell_is_handled_in_the_context_it_came_from() -> None:
    speaker: ContextVar[str] = ContextVar("speaker", default="nobody")
    heard: list[str] = []

    async def hear() -> object:
        heard.append(speaker.get())
        return None

    async def tell(ref: ActorRef, name: str) -> None:
        speaker.set(name)
        await ref.tell(Run(hear))

    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            for name in ("ann", "bob"):
                tasks.start_soon(tell, ref, name)
                await wait_all_tasks_blocked()
            gate.open.set()
        await scope.settle()
    assert heard == ["ann", "bob"]


# --- ending -----------------------------------------------------------------------------------------------------------


async def test_the_error_of_the_body_leaves_the_scope_as_itself() -> None:
    async def house() -> None:
        async with open_scope() as scope:
            scope.spawn(Worker())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await house()


async def test_a_stopped_actor_says_so() -> None:
    async with open_scope() as scope:
        ref = scope.spawn(Worker(), name="gone")
    with pytest.raises(ActorStopped, match="`gone` has ended"):
        await ref.ask(Double(1))
    with pytest.raises(ActorStopped, match="`gone` has ended"):
        await ref.tell(Double(1))
    with pytest.raises(ActorStopped, match="spawn inside"):
        scope.spawn(Worker())


async def test_asks_in_flight_and_waiting_are_stopped_with_the_scope() -> None:
    gate = Gate()
    errors: list[str] = []

    async def ask(ref: ActorRef, message: Request[object]) -> None:
        try:
            await ref.ask(message)
        except ActorStopped as error:
            errors.append(str(error))

    async with deadline(), anyio.create_task_group() as askers:
        async with open_scope() as scope:
            ref = scope.spawn(Worker())
            for _ in range(3):
                askers.start_soon(ask, ref, Run(gate))
            await wait_all_tasks_blocked()
        assert gate.cancelled == 1  # leaving waited until the work was unwound
    assert len(errors) == 3


async def test_a_teller_at_the_door_is_stopped_with_the_scope() -> None:
    stopped = anyio.Event()

    async def tell(ref: ActorRef) -> None:
        with pytest.raises(ActorStopped):
            await ref.tell(Double(2))
        stopped.set()

    async with deadline(), anyio.create_task_group() as tellers:
        async with open_scope() as scope:
            ref = scope.spawn(Worker(), mailbox=1)
            await ref.tell(Run(Gate()))
            await ref.tell(Double(1))
            tellers.start_soon(tell, ref)
            await wait_all_tasks_blocked()
        await stopped.wait()


async def test_a_nested_ask_in_flight_ends_with_the_scope() -> None:
    gate = Gate()
    async with deadline(), anyio.create_task_group() as askers:
        stopped = anyio.Event()

        async def ask(outer: ActorRef, inner: ActorRef) -> None:
            with pytest.raises(ActorStopped):
                await outer.ask(Run(lambda: inner.ask(Run(gate))))
            stopped.set()

        async with open_scope() as scope:
            outer, inner = scope.spawn(Worker(), name="outer"), scope.spawn(Worker(), name="inner")
            askers.start_soon(ask, outer, inner)
            await wait_all_tasks_blocked()
        await stopped.wait()
    assert gate.cancelled == 1


async def test_cancelling_the_scope_from_outside_ends_everything() -> None:
    gate = Gate()
    async with deadline(), anyio.create_task_group() as tasks:

        async def house() -> None:
            async with open_scope() as scope:
                ref = scope.spawn(Worker(), concurrency=2)
                await ref.tell(Run(gate))
                await ref.ask(Run(gate))

        tasks.start_soon(house)
        await wait_all_tasks_blocked()
        assert gate.entered == 2
        tasks.cancel_scope.cancel()
    assert gate.cancelled == 2


@pytest.mark.parametrize(("mailbox", "concurrency"), [(0, 1), (1, 0)])
async def test_a_size_below_one_is_refused(mailbox: int, concurrency: int) -> None:
    async with open_scope() as scope:
        with pytest.raises(UsageError, match="at least 1"):
            scope.spawn(Worker(), mailbox=mailbox, concurrency=concurrency)


async def test_nothing_is_left_behind() -> None:
    before = {info.id for info in anyio.get_running_tasks()}
    gate = Gate()
    async with deadline(), open_scope() as scope:
        refs = [scope.spawn(Worker(), mailbox=3) for _ in range(5)]
        for index in range(5):
            await refs[index].tell(Run(gate))
            await refs[index].tell(Double(1))
    assert {info.id for info in anyio.get_running_tasks()} == before
    refs.clear()
    del scope
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Worker]


# --- actors that are entered ------------------------------------------------------------------------------------------


class Managed(Worker):
    def __init__(self, log: list[str], name: str, ready: anyio.Event | None = None) -> None:
        super().__init__()
        self.log, self.label, self.ready = log, name, ready

    async def __aenter__(self) -> Managed:
        if self.ready is not None:
            await self.ready.wait()
        self.log.append(f"enter {self.label}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.log.append(f"exit {self.label}")


async def test_an_actor_is_entered_before_its_first_message_and_left_last_first() -> None:
    log: list[str] = []
    ready = anyio.Event()
    async with deadline(), open_scope() as scope:
        first = scope.spawn(Managed(log, "first", ready))
        second = scope.spawn(Managed(log, "second"))
        assert await second.ask(Double(1)) == 2
        async with anyio.create_task_group() as askers:
            askers.start_soon(first.ask, Double(1))
            await wait_all_tasks_blocked()
            log.append("asked")
            ready.set()
    assert log == ["enter second", "asked", "enter first", "exit second", "exit first"]


async def test_an_actor_is_left_after_its_work_is_unwound() -> None:
    log: list[str] = []

    async def work() -> object:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("unwound")

    async with deadline(), anyio.create_task_group() as tasks:

        async def house() -> None:
            async with open_scope() as scope:
                ref = scope.spawn(Managed(log, "a"))
                await ref.tell(Run(work))
                await anyio.sleep_forever()

        tasks.start_soon(house)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert log == ["enter a", "unwound", "exit a"]


async def test_an_actor_that_cannot_be_entered_ends_the_scope() -> None:
    class Broken(Worker):
        async def __aenter__(self) -> Broken:
            raise OSError("no port")

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("was never entered")

    async def house() -> None:
        async with deadline(), open_scope() as scope:
            await scope.spawn(Broken()).ask(Double(1))

    with pytest.raises(OSError, match="no port"):
        await house()


async def test_leaving_while_an_actor_is_being_entered() -> None:
    log: list[str] = []
    async with deadline(), open_scope() as scope:
        scope.spawn(Managed(log, "never", anyio.Event()))
        await wait_all_tasks_blocked()
    assert log == []


async def test_an_actor_whose_own_task_group_fails_ends_the_scope() -> None:
    class Hosting(Worker):
        async def __aenter__(self) -> Hosting:
            self.tasks = await anyio.create_task_group().__aenter__()
            return self

        async def __aexit__(self, *error: Any) -> bool | None:
            return await self.tasks.__aexit__(*error)

    async def explode() -> None:
        raise LookupError("in the background")

    actor = Hosting()

    async def house() -> None:
        async with deadline(), open_scope() as scope:
            ref = scope.spawn(actor)
            await ref.ask(Double(1))
            actor.tasks.start_soon(explode)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await house()
    assert isinstance(caught.value.exceptions[0], LookupError)


# --- cycles -----------------------------------------------------------------------------------------------------------


def asking(*refs: ActorRef) -> Callable[[], Coroutine[Any, Any, object]]:
    """Work that asks the first, which asks the second, and so on."""
    first, *rest = refs
    return lambda: first.ask(Run(asking(*rest) if rest else nothing))


def spawn(scope: Scope, names: str, **options: Any) -> list[ActorRef]:
    return [scope.spawn(Worker(), name=name, **options) for name in names]


@pytest.mark.parametrize(
    ("path", "chain"),
    [("aa", "a -> a"), ("aba", "a -> b -> a"), ("abca", "a -> b -> c -> a"), ("abcb", "b -> c -> b")],
)
async def test_a_cycle_is_named_at_once(path: str, chain: str) -> None:
    async with deadline(), open_scope() as scope:
        refs = dict(zip("abc", spawn(scope, "abc"), strict=True))
        with pytest.raises(AskCycle, match=f"wait for itself: {chain};"):
            await asking(*(refs[name] for name in path))()
        assert await refs["a"].ask(Double(1)) == 2


async def test_an_actor_with_a_free_slot_may_be_asked_again() -> None:
    async with deadline(), open_scope() as scope:
        a, b = spawn(scope, "ab", concurrency=2)
        assert await asking(a, b, a, b)() is None
        with pytest.raises(AskCycle, match="a -> b -> a"):
            await asking(a, b, a, b, a)()


async def test_a_chain_that_waits_for_somebody_who_can_finish_is_no_cycle() -> None:
    gate = Gate()
    async with deadline(), open_scope() as scope, anyio.create_task_group() as askers:
        a, b = spawn(scope, "ab", concurrency=2)
        askers.start_soon(b.ask, Run(gate))
        askers.start_soon(a.ask, Run(gate))
        await wait_all_tasks_blocked()
        askers.start_soon(asking(a, b, a))
        await wait_all_tasks_blocked()
        gate.open.set()


async def test_two_askers_that_would_block_each_other_are_told() -> None:
    together = anyio.Event()
    errors: list[str] = []

    async def then_ask(ref: ActorRef) -> object:
        await together.wait()
        return await ref.ask(Double(1))

    async def ask(first: ActorRef, second: ActorRef) -> None:
        try:
            await first.ask(Run(lambda: then_ask(second)))
        except AskCycle as error:
            errors.append(str(error))

    async with deadline(), open_scope() as scope:
        a, b = spawn(scope, "ab")
        async with anyio.create_task_group() as askers:
            askers.start_soon(ask, a, b)
            askers.start_soon(ask, b, a)
            await wait_all_tasks_blocked()
            together.set()
    assert len(errors) == 1
    assert "a -> b -> a" in errors[0] or "b -> a -> b" in errors[0]


async def test_a_cycle_through_the_handlers_own_task_group_is_named() -> None:
    async with deadline(), open_scope() as scope:
        a, b = spawn(scope, "ab")

        async def fan_out() -> object:
            async with anyio.create_task_group() as outer:
                outer.start_soon(inner)
            return None

        async def inner() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(b.ask, Run(asking(a)))

        with pytest.raises(ExceptionGroup) as caught:
            await a.ask(Run(fan_out))
        assert caught.group_contains(AskCycle, match="a -> b -> a")


async def test_a_task_started_elsewhere_by_a_handler_may_wait_for_its_actor() -> None:
    gate = Gate()
    replies: list[int] = []

    async with deadline(), open_scope() as scope, anyio.create_task_group() as elsewhere:
        (a,) = spawn(scope, "a")

        async def later() -> None:
            replies.append(await a.ask(Double(4)))

        async def start() -> object:
            elsewhere.start_soon(later)
            return await gate()

        async with anyio.create_task_group() as askers:
            askers.start_soon(a.ask, Run(start))
            await wait_all_tasks_blocked()
            assert replies == []
            gate.open.set()
        await wait_all_tasks_blocked()
        assert replies == [8]


async def test_a_tell_to_oneself_waits_its_turn_and_is_named_when_it_never_comes() -> None:
    worker = Worker()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker, name="a", mailbox=1)

        async def once() -> object:
            await ref.tell(Double(1))
            return None

        async def twice() -> object:
            await ref.tell(Double(2))
            await ref.tell(Double(3))
            return None

        await ref.ask(Run(once))
        await scope.settle()
        with pytest.raises(AskCycle, match="a -> a"):
            await ref.ask(Run(twice))
        await scope.settle()
    assert worker.seen == [1, 2]


async def test_asking_an_actor_that_is_still_being_entered_is_no_cycle() -> None:
    ready = anyio.Event()
    async with deadline(), open_scope() as scope:
        slow = scope.spawn(Managed([], "slow", ready), name="slow")
        (a,) = spawn(scope, "a")
        async with anyio.create_task_group() as askers:
            askers.start_soon(asking(a, slow))
            await wait_all_tasks_blocked()
            ready.set()


# --- under disturbance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_no_slot_and_no_message_is_lost_when_askers_come_and_go(seed: int) -> None:
    random = Random(seed)
    worker, done = Worker(), 0

    async def work() -> object:
        for _ in range(random.randrange(4)):
            await checkpoint()
        if random.random() < 0.2:
            raise LookupError
        return None

    async def asker(ref: ActorRef, patience: int) -> None:
        nonlocal done
        async with anyio.create_task_group() as tasks:

            async def impatient() -> None:
                for _ in range(patience):
                    await checkpoint()
                tasks.cancel_scope.cancel()

            tasks.start_soon(impatient)
            for number in range(4):
                with suppress(LookupError):
                    await ref.ask(Run(work))
                await ref.tell(Double(number))
            tasks.cancel_scope.cancel()
        done += 1

    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker, concurrency=3, mailbox=4)
        async with anyio.create_task_group() as askers:
            for _ in range(60):
                askers.start_soon(asker, ref, random.randrange(200))
        assert done == 60
        await scope.settle()
        async with anyio.create_task_group() as askers:
            for _ in range(5):
                askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            assert gate.entered == 3  # all three slots came back, and no fourth
            gate.open.set()
    assert gate.finished == 5
    assert worker.seen
