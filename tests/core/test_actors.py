from __future__ import annotations

import gc
import re
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from simkit.actors.actor import ActorRef, Request, Stopwatch
from simkit.actors.capacity import Capacity, HeldPlaces
from simkit.actors.deadlines import AskLimits
from simkit.actors.scope import open_scope
from simkit.core.records import ComponentLoad
from simkit.errors import ActorStopped, AskTimeout, UsageError

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Double(Request[int]):
    number: int

    def serve(self, worker: Worker, /) -> Coroutine[Any, Any, int]:
        return worker.double(self.number)


@dataclass(frozen=True, slots=True)
class Run(Request[object]):
    """Runs a function inside the actor that gets it."""

    work: Callable[[], Coroutine[Any, Any, object]]

    def serve(self, worker: Worker, /) -> Coroutine[Any, Any, object]:
        return self.work()


class Worker:
    """Doubles numbers and runs what it is handed; remembers what it handled, in order."""

    def __init__(self, concurrency: object = None, sessions: object = None) -> None:
        self.concurrency = concurrency
        self.sessions = sessions
        self.seen: list[int] = []

    async def double(self, number: int) -> int:
        self.seen.append(number)
        return number * 2


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


async def test_a_method_that_is_not_async_is_asked_like_any_other() -> None:
    class Name(Request[str]):
        def serve(self, actor: object, /) -> str:
            return type(actor).__name__

    async with open_scope() as scope:
        assert await scope.spawn(Worker()).ask(Name()) == "Worker"


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


async def test_a_message_that_no_method_answers_says_so() -> None:
    class Bare(Request[None]):
        pass

    async with open_scope() as scope:
        with pytest.raises(NotImplementedError, match="Bare does not say which method"):
            await scope.spawn(Worker()).ask(Bare())


# --- concurrency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_messages_are_handled_at_most_concurrency_at_a_time(concurrency: int) -> None:
    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker(concurrency))
        async with anyio.create_task_group() as askers:
            for _ in range(10):
                askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            assert gate.entered == concurrency
            (state,) = scope.load()
            assert (state.serving, state.waiting) == (concurrency, 10 - concurrency)
            gate.open.set()
        (state,) = scope.load()
    assert gate.finished == 10
    assert gate.most == concurrency
    assert (state.serving, state.waiting, state.most_waiting) == (0, 0, 10 - concurrency)
    assert state.waited > 0


async def test_an_actor_without_limits_has_no_load_to_show() -> None:
    async with open_scope() as scope:
        assert scope.spawn(Worker()).state is None
        limited = scope.spawn(Worker(2, 3), name="limited")
        assert scope.load() == (ComponentLoad(name="limited", concurrency=2, sessions=3),)
        assert limited.state == scope.load()[0]


async def test_asks_are_served_in_the_order_they_came() -> None:
    gate, worker = Gate(), Worker(1)
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(worker)
        async with anyio.create_task_group() as askers:
            askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            for number in range(6):
                askers.start_soon(ref.ask, Double(number))
                await wait_all_tasks_blocked()
            gate.open.set()
    assert worker.seen == list(range(6))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
@pytest.mark.parametrize("attribute", ["concurrency", "sessions"])
async def test_a_limit_that_is_no_positive_number_is_refused(attribute: str, value: object) -> None:
    async with open_scope() as scope:
        words = re.escape(f"`clerk` declares `{attribute} = {value!r}`")
        with pytest.raises(UsageError, match=words):
            scope.spawn(Worker(**{attribute: value}), name="clerk")


async def test_a_deadline_counts_from_when_a_message_is_served() -> None:
    """Ten asks one after another take far longer than the deadline of each, and none is late."""

    async def work() -> object:
        return await anyio.sleep(0.02)

    async with deadline(), open_scope(AskLimits(0.1, 0.1)) as scope:
        ref = scope.spawn(Worker(1))
        async with anyio.create_task_group() as askers:
            for _ in range(10):
                askers.start_soon(ref.ask, Run(work))
        (state,) = scope.load()
    assert state.waited > 0.1


async def test_a_stopwatch_does_not_count_the_wait() -> None:
    gate, stopwatches = Gate(), [Stopwatch(), Stopwatch()]
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker(1))
        async with anyio.create_task_group() as askers:
            askers.start_soon(ref.ask, Run(gate), stopwatches[0])
            await wait_all_tasks_blocked()
            askers.start_soon(ref.ask, Double(1), stopwatches[1])
            await wait_all_tasks_blocked()
            gate.open.set()
        (state,) = scope.load()
    assert stopwatches[0].seconds - stopwatches[1].seconds >= state.waited > 0


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_places_are_taken_all_at_once_and_nobody_overtakes() -> None:
    capacity, order = Capacity(3), list[str]()

    async def hold(name: str, places: int, let_go: anyio.Event) -> None:
        async with HeldPlaces([capacity], places):
            order.append(name)
            await let_go.wait()

    first, rest = anyio.Event(), anyio.Event()
    async with deadline(), anyio.create_task_group() as tasks:
        for name, places, let_go in (("small", 2, first), ("large", 3, rest), ("tiny", 1, rest)):
            tasks.start_soon(hold, name, places, let_go)
            await wait_all_tasks_blocked()
        assert order == ["small"]
        assert (capacity.in_use, capacity.waiting) == (2, 2)
        first.set()
        await wait_all_tasks_blocked()
        assert order == ["small", "large"]
        rest.set()
    assert order == ["small", "large", "tiny"]
    assert capacity.in_use == 0


async def test_leaving_the_queue_lets_the_next_in_and_frees_what_was_held() -> None:
    one, two, inside = Capacity(2, 1), Capacity(2, 0), list[str]()

    async def hold(name: str, capacities: list[Capacity], places: int) -> None:
        async with HeldPlaces(capacities, places):
            inside.append(name)
            await anyio.sleep_forever()

    async with deadline(), anyio.create_task_group() as tasks:
        tasks.start_soon(hold, "first", [one], 1)
        await wait_all_tasks_blocked()
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(hold, "both", [two, one], 2)
            await wait_all_tasks_blocked()
            tasks.start_soon(hold, "second", [one], 1)
            await wait_all_tasks_blocked()
            assert inside == ["first"]
            impatient.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert inside == ["first", "second"]
        assert (one.in_use, two.in_use) == (2, 0)
        tasks.cancel_scope.cancel()
    assert (one.in_use, one.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
async def test_sessions_of_several_actors_are_never_held_in_a_circle(seed: int) -> None:
    random = Random(seed)
    capacities = [Capacity(random.randint(2, 4), rank) for rank in range(3)]

    async def episode() -> None:
        wanted = random.sample(capacities, random.randint(1, 3))
        async with HeldPlaces(wanted, random.randint(1, 2)):
            for _ in range(random.randrange(4)):
                await checkpoint()
            assert all(capacity.in_use <= capacity.places for capacity in capacities)

    async with deadline(), anyio.create_task_group() as episodes:
        for _ in range(50):
            episodes.start_soon(episode)
    assert [capacity.in_use for capacity in capacities] == [0, 0, 0]


# --- cancellation -----------------------------------------------------------------------------------------------------


async def test_a_timeout_error_of_the_handler_is_not_taken_for_the_deadline() -> None:
    async def give_up() -> object:
        raise TimeoutError("the provider's own")

    async with open_scope(AskLimits(60)) as scope:
        ref = scope.spawn(Worker())
        with pytest.raises(TimeoutError, match="the provider's own"):
            await ref.ask(Run(give_up))


async def test_a_handler_may_clean_up_after_its_deadline() -> None:
    cleaned = False

    async def work() -> object:
        nonlocal cleaned
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0.01)
            cleaned = True

    async with deadline(), open_scope(AskLimits(0.02, 10)) as scope:
        with pytest.raises(AskTimeout):
            await scope.spawn(Worker()).ask(Run(work))
        assert cleaned
        assert scope.abandoned == ()


async def test_cancelling_the_asker_cancels_the_work_and_spares_the_actor() -> None:
    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker(1))
        async with anyio.create_task_group() as askers:
            askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            askers.cancel_scope.cancel()
        assert (gate.entered, gate.cancelled, gate.finished) == (1, 1, 0)
        assert await ref.ask(Double(5)) == 10


async def test_cancelling_a_waiting_asker_takes_its_message_back() -> None:
    gate, worker = Gate(), Worker(1)
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
    gate, worker = Gate(), Worker(1)
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
            await checkpoint()  # the gate's asker ends and hands its place over, the next one is cancelled on waking
            leave.cancel_scope.cancel()
        assert await ref.ask(Double(3)) == 6
    assert worker.seen in ([2, 3], [1, 2, 3])


@pytest.mark.parametrize("seed", range(5))
async def test_no_place_and_no_message_is_lost_when_askers_come_and_go(seed: int) -> None:
    random, done = Random(seed), 0

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
            for _ in range(4):
                with suppress(LookupError):
                    await ref.ask(Run(work))
            tasks.cancel_scope.cancel()
        done += 1

    gate = Gate()
    async with deadline(), open_scope() as scope:
        ref = scope.spawn(Worker(3))
        async with anyio.create_task_group() as askers:
            for _ in range(60):
                askers.start_soon(asker, ref, random.randrange(200))
        assert done == 60
        async with anyio.create_task_group() as askers:
            for _ in range(5):
                askers.start_soon(ref.ask, Run(gate))
            await wait_all_tasks_blocked()
            assert gate.entered == 3  # all three places came back, and no fourth
            gate.open.set()
    assert gate.finished == 5


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
            ref = scope.spawn(Worker(1))
            for _ in range(3):
                askers.start_soon(ask, ref, Run(gate))
            await wait_all_tasks_blocked()
        assert gate.cancelled == 1  # leaving waited until the work was unwound
    assert len(errors) == 3


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
            async with open_scope() as scope, anyio.create_task_group() as askers:
                ref = scope.spawn(Worker())
                askers.start_soon(ref.ask, Run(gate))
                await ref.ask(Run(gate))

        tasks.start_soon(house)
        await wait_all_tasks_blocked()
        assert gate.entered == 2
        tasks.cancel_scope.cancel()
    assert gate.cancelled == 2


async def test_nothing_is_left_behind() -> None:
    before = {info.id for info in anyio.get_running_tasks()}
    gate = Gate()

    async def ask(ref: ActorRef) -> None:
        with suppress(ActorStopped):
            await ref.ask(Run(gate))

    async def house(askers: anyio.abc.TaskGroup) -> None:
        async with open_scope() as scope:
            for ref in [scope.spawn(Worker(1)) for _ in range(5)] * 2:
                askers.start_soon(ask, ref)
            await wait_all_tasks_blocked()

    async with deadline(), anyio.create_task_group() as askers:
        await house(askers)
    assert gate.cancelled == 5
    assert {info.id for info in anyio.get_running_tasks()} == before
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


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_actor_is_left_after_its_work_is_unwound(cancelled: bool) -> None:
    log: list[str] = []

    async def work() -> object:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
            log.append("unwound")

    async def ask(ref: ActorRef) -> None:
        with suppress(ActorStopped):
            await ref.ask(Run(work))

    async with deadline(), anyio.create_task_group() as tasks, open_scope() as scope:
        tasks.start_soon(ask, scope.spawn(Managed(log, "a")))
        await wait_all_tasks_blocked()
        if cancelled:
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
