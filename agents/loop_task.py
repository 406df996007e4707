"""A loop of an agent at work: suspended at each tool call and reply, until the run asks it to go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from simkit.agents.loop_trail import Answered, Pause, Record, Replied, Step, hash_of
from simkit.core.cancellation import is_cancellation, unasked
from simkit.errors import AgentFault
from simkit.models.base import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from simkit.agents.loop import Dialogue

T = TypeVar("T")

Complete: TypeAlias = Callable[[ChatRequest], Awaitable[ChatResponse]]

PATIENCE = 10.0
"""Seconds without progress after which a loop that has to repeat its steps has taken another way."""

STEPS_OF_THE_EVENT_LOOP = 20
"""Steps of the event loop that a repeated answer takes, so that what runs beside it can begin, as it did before."""


class Closed(Exception):
    """The loop was ended while something waited for it."""


@dataclass(slots=True)
class _Slot(Generic[T]):
    """The place of an answer for which a part of the loop waits."""

    filled: anyio.Event = field(default_factory=anyio.Event)
    value: T | None = None
    error: Exception | None = None

    def fill(self, value: T) -> None:
        self.value = value
        self.filled.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.filled.set()

    async def wait(self) -> T:
        await self.filled.wait()
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


@dataclass(slots=True)
class _AskedModel:
    """A model call that waits for its answer."""

    request: ChatRequest
    slot: _Slot[ChatResponse] = field(default_factory=lambda: _Slot[ChatResponse]())


@dataclass(slots=True)
class _Waiting:
    """A tool call or a reply that waits for its result."""

    pause: Pause
    slot: _Slot[str] = field(default_factory=lambda: _Slot[str]())


class RunningLoop:
    """One loop at work.

    It runs in a task of its own. `proceed` runs in the task of the agent's turn: model calls are made there, so that
    their limits, errors and cancellations are those of the turn.

    Attributes:
        free: whether it waits at its last pause, and nobody has told it to go on; `mark` is the number of that pause.
        made: steps that it has finished since they were last taken.
        answered: number of model calls that came over HTTP and were answered.
        finished: whether the loop has returned; `last` is what it returned.
    """

    def __init__(self, name: str, record: Record) -> None:
        self.free = False
        self.mark = 0
        self.made: list[Step] = []
        self.answered = 0
        self.finished = False
        self.last: str | None = None
        self._name = name
        self._record = record
        self._models: deque[_AskedModel] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._error: Exception | None = None
        self._scope = anyio.CancelScope()
        self._changed = anyio.Event()
        self._closed = False

    # --- the loop's side ----------------------------------------------------------------------------------------------

    async def run(self, loop: Callable[[Dialogue], Awaitable[object]], dialogue: Dialogue) -> None:
        """Run the loop to its end; started in the task group that holds all loops."""
        with self._scope:
            try:
                with unasked(f"the loop of `{self._name}`"):
                    last = await loop(dialogue)
                if last is not None and not isinstance(last, str):
                    raise AgentFault(
                        f"the loop of `{self._name}` returned a {type(last).__name__}; return a last reply or None"
                    )
                self.last, self.finished = last, True
            except Exception as error:
                self._error = error
            except BaseException as error:
                if is_cancellation(error) or isinstance(error, (KeyboardInterrupt, GeneratorExit)):
                    raise
                self._error = AgentFault(f"the loop of `{self._name}` raised {type(error).__name__}: {error}")
            self._tell()
        self._release()

    async def pause(self, pause: Pause) -> str:
        """Wait until the run has carried a step out; a recorded one is not carried out again.

        Raises:
            Closed: the loop was ended meanwhile.
        """
        step = self._record.take(pause.identity)
        if isinstance(step, Answered) or step is None:
            return await self._wait(_Waiting(pause))
        await self._repeated()
        return step.result

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """The answer of the model; a recorded one is not asked for again.

        Raises:
            Closed: the loop was ended meanwhile.
        """
        step = self._record.take(("model", hash_of(request)))
        if isinstance(step, Answered):
            await self._repeated()
            return step.response
        asked = _AskedModel(request)
        self._models.append(asked)
        self._tell()
        return await self._answer(asked.slot)

    async def _wait(self, waiting: _Waiting) -> str:
        self._waiting.append(waiting)
        self._tell()
        return await self._answer(waiting.slot)

    async def _answer(self, slot: _Slot[T]) -> T:
        if self._closed:
            raise Closed
        return await slot.wait()

    async def _repeated(self) -> None:
        for _ in range(STEPS_OF_THE_EVENT_LOOP):
            await checkpoint()
        self._tell()

    def _tell(self) -> None:
        self._changed.set()

    # --- the run's side -----------------------------------------------------------------------------------------------

    async def proceed(self, result: str | None, complete: Complete) -> Pause | None:
        """Go on until the loop waits for something new, and return that; None if it has returned.

        Args:
            result: the result for which it waits; None if it has just been started.
            complete: answers model calls.

        Raises:
            Exception: what the loop or a model call raised.
            AgentFault: it did not repeat its recorded steps.
        """
        self.free = False
        try:
            if result is not None:
                self._waiting.popleft().slot.fill(result)
            await self._until_it_waits(complete)
        except BaseException:
            self.close()
            raise
        if self.finished:
            return None
        self.free = True
        self.mark += 1
        return self._waiting[0].pause

    async def _until_it_waits(self, complete: Complete) -> None:
        while True:
            self._changed = anyio.Event()
            if self._error is not None:
                raise self._error
            if self._record:
                await self._repeats()
            elif self._models:
                await self._ask_model(complete)
            elif self.finished or self._waiting:
                return
            else:
                await self._changed.wait()

    async def _repeats(self) -> None:
        """Wait for the loop to repeat its steps."""
        if self.finished:
            raise self._differs("it returned")
        with anyio.move_on_after(PATIENCE):
            await self._changed.wait()
            return
        new = self._waiting[0].pause if self._waiting else "another call of the model" if self._models else "nothing"
        raise self._differs(f"{new} came")

    def _differs(self, instead: str) -> AgentFault:
        return AgentFault(
            f"the loop of `{self._name}` was run again for another branch, and did not repeat its steps: instead of "
            f"{self._record}, {instead}. A loop must do the same after the same results and answers: keep clocks and "
            "random numbers out of requests, ask the model through the dialogue, or give `reply` a memory"
        )

    async def _ask_model(self, complete: Complete) -> None:
        """Answer the model calls that wait, all at once and in their order."""
        asked, self._models = tuple(self._models), deque[_AskedModel]()
        try:
            answers = await _answers(asked, complete)
        except BaseException:
            for call in asked:
                call.slot.fail(Closed("the model did not answer, so the branch of this loop has ended"))
            raise
        for place, call in enumerate(asked):
            self.made.append(Answered(hash_of(call.request), answers[place]))
            call.slot.fill(answers[place])

    def taken(self) -> tuple[Step, ...]:
        """The steps that it has finished since this was last asked."""
        made, self.made = tuple(self.made), []
        return made

    @property
    def ends(self) -> bool:
        """Whether its pause ends the conversation."""
        return bool(self._waiting) and isinstance(self._waiting[0].pause, Replied) and self._waiting[0].pause.end

    def close(self) -> None:
        """End the loop, wherever it is."""
        self.free = False
        self._scope.cancel()
        self._release()

    def _release(self) -> None:
        """Let go whatever waits for an answer that will not come."""
        self._closed = True
        for waiting in (*self._models, *self._waiting):
            if not waiting.slot.filled.is_set():
                waiting.slot.fail(Closed("the branch of this loop has ended"))
        self._models.clear()


async def _answers(asked: tuple[_AskedModel, ...], complete: Complete) -> dict[int, ChatResponse]:
    """The answers to model calls by their places; several calls are answered at the same time."""
    answers: dict[int, ChatResponse] = {}

    async def answer(place: int, call: _AskedModel) -> None:
        answers[place] = await complete(call.request)

    if len(asked) == 1:
        await answer(0, asked[0])
        return answers
    try:
        async with anyio.create_task_group() as group:
            for place, call in enumerate(asked):
                group.start_soon(answer, place, call)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return answers
