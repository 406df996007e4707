"""A worker thread that runs an engine for requests from event loops.

The forward passes run in the thread; event loops only submit requests and receive replies.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import current_token
from pydantic import ConfigDict, TypeAdapter, ValidationError

from simkit.errors import BadRequest, ModelFault, SimkitError, UsageError
from simkit.local.chat import ReadReply
from simkit.local.constraints import Constraint
from simkit.local.engine import Generation, LocalEngine, result_of
from simkit.local.job import Job
from simkit.local.weights import EngineOptions
from simkit.models.base import ChatRequest
from simkit.plugins.loading import nearest, parse_reference

WINDOW = 2.0
"""Milliseconds that an idle worker waits for more requests after the first."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with its tokens.

    Attributes:
        prompt: the tokens of the request.
        generation: the generated tokens.
        read: the message that they stand for, with its doubts.
    """

    prompt: list[int]
    generation: Generation
    read: ReadReply


@dataclass(slots=True, eq=False)
class _Ask:
    """A pending request. `post` runs a function in the event loop that waits for it."""

    request: ChatRequest
    seed: int
    constraint: Constraint | None
    post: Callable[[Callable[[], object]], object]
    done: anyio.Event = field(default_factory=anyio.Event)
    heard: Callable[[Sequence[int]], object] | None = None
    sent: int = 0
    job: Job | None = None
    reply: Reply | None = None
    error: Exception | None = None
    left: bool = False

    def leave(self) -> None:
        self.left = True
        if self.job is not None:
            self.job.dropped = True


class Worker:
    """Generates replies for all callers, until it is closed.

    Args:
        engine: the model, for the exclusive use of this worker.
        window: milliseconds that an idle worker waits for more requests after the first.
    """

    def __init__(self, engine: LocalEngine, window: float = WINDOW) -> None:
        self.engine = engine
        self._window = window / 1000
        self._inbox: deque[_Ask] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, path: str, options: EngineOptions, window: float = WINDOW) -> Worker:
        """Create a worker with a model from a folder or the Hugging Face hub.

        Raises:
            UsageError: no usable model was found, or a package is missing.
        """
        return cls(LocalEngine.open(path, options), window)

    async def ask(
        self, request: ChatRequest, seed: int, heard: Callable[[Sequence[int]], object] | None = None
    ) -> Reply:
        """The reply to a request. A cancelled request leaves the batch at the next token.

        Args:
            request: the request.
            seed: seed of the reply's random numbers.
            heard: called in the event loop with new tokens as they are generated.

        Raises:
            BadRequest, ContextTooLong, ModelFault: the call failed; see `LocalModel.complete`.
        """
        constraints = self.engine.constraints
        ready, constraint = constraints.known(request)
        if not ready:
            constraint = await anyio.to_thread.run_sync(constraints.of, request)
        ask = _Ask(request, seed, constraint, _poster(), heard=heard)
        with self._news:
            if self._closing:
                raise ModelFault("the local model was closed; call it inside the run that opened it")
            self._inbox.append(ask)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="simkit-local", daemon=True)
                self._thread.start()
            self._news.notify()
        try:
            await ask.done.wait()
        except BaseException:
            ask.leave()
            raise
        if ask.error is not None:
            raise ask.error
        assert ask.reply is not None
        return ask.reply

    def close(self) -> None:
        """Stop after the current pass, and wait for it. Pending requests fail."""
        with self._news:
            self._closing = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    async def aclose(self) -> None:
        """Like `close`, without blocking the event loop."""
        await anyio.to_thread.run_sync(self.close)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        asks: dict[int, _Ask] = {}
        while self._wait(bool(asks) or self.engine.busy):  # the next step also clears rows without a caller
            self._take(asks)
            try:
                ended = self.engine.step()
            except Exception as error:  # a failed pass loses the memory of all its rows
                self.engine.reset()
                self._fail(asks, error)
                continue
            self._finish(asks, ended)
        self._fail(asks, ModelFault("the local model was closed before it answered"))

    def _wait(self, working: bool) -> bool:
        """Wait for work. Returns False if the worker is closing."""
        with self._news:
            if working or self._closing:
                return not self._closing
            while not self._inbox and not self._closing:
                self._news.wait()
            if self._closing:
                return False
        time.sleep(self._window)
        return True

    def _take(self, asks: dict[int, _Ask]) -> None:
        jobs: list[Job] = []
        while self._inbox:
            ask = self._inbox.popleft()
            if ask.left:
                continue
            try:
                ask.job = self._job(ask)
            except Exception as error:
                self._answer([(ask, _as_fault(error))])
                continue
            asks[id(ask.job)] = ask
            jobs.append(ask.job)
        if jobs:
            self.engine.submit(jobs)

    def _job(self, ask: _Ask) -> Job:
        request = ask.request
        tools = () if request.tool_choice == "none" else request.tools
        return self.engine.job(
            self.engine.chat.prompt(request.messages, tools), request.sampling, ask.seed, ask.constraint
        )

    def _finish(self, asks: dict[int, _Ask], ended: list[Job]) -> None:
        answers = [(asks.pop(id(job)), job) for job in ended]
        for key, ask in list(asks.items()):
            if ask.left:
                del asks[key]
            elif ask.heard is not None:
                self._tell(ask)
        self._answer([(ask, self._reply(ask, job)) for ask, job in answers])

    def _reply(self, ask: _Ask, job: Job) -> Reply | Exception:
        if job.error is not None:
            return _as_fault(job.error)
        made = result_of(job)
        chat = self.engine.chat
        offered = () if ask.request.tool_choice == "none" else ask.request.tools
        try:
            text = chat.said(made.ids) if made.text is None else made.text
            return Reply(job.prompt, made, chat.read(text, offered))
        except Exception as error:
            return _as_fault(error)

    def _tell(self, ask: _Ask) -> None:
        job, heard = ask.job, ask.heard
        assert job is not None
        assert heard is not None
        fresh = tuple(job.ids[ask.sent :])
        ask.sent = len(job.ids)
        if fresh:
            _post(ask, lambda: heard(fresh))

    def _fail(self, asks: dict[int, _Ask], error: Exception) -> None:
        waiting = [*asks.values(), *self._inbox]
        for ask in waiting:
            ask.leave()
        asks.clear()
        self._inbox.clear()
        self._answer([(ask, _as_fault(error)) for ask in waiting])

    def _answer(self, answers: Sequence[tuple[_Ask, Reply | Exception]]) -> None:
        """Deliver answers, with one callback per event loop."""
        for ask, answer in answers:
            if isinstance(answer, Exception):
                ask.error = answer
            else:
                ask.reply = answer
        for post in {ask.post for ask, _ in answers}:
            mine = [ask.done for ask, _ in answers if ask.post == post]
            _run(post, lambda mine=mine: [done.set() for done in mine])


def _poster() -> Callable[[Callable[[], object]], object]:
    """Function with which another thread runs a callback in this event loop, asyncio or trio."""
    native: Any = current_token().native_token
    return getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon


def _post(ask: _Ask, function: Callable[[], object]) -> None:
    _run(ask.post, function)


def _run(post: Callable[[Callable[[], object]], object], function: Callable[[], object]) -> None:
    try:
        post(function)
    except RuntimeError:  # the event loop and its waiting callers are gone
        return


def _as_fault(error: Exception) -> Exception:
    if isinstance(error, UsageError):
        return BadRequest(str(error))
    if isinstance(error, SimkitError):
        return error
    fault = ModelFault(
        f"the local model failed: {type(error).__name__}: {error}; if memory ran out, give it a smaller max_batch or "
        "memory, or shorter conversations"
    )
    fault.__cause__ = error
    return fault


# --- by name ----------------------------------------------------------------------------------------------------------


def parse_local(text: str) -> tuple[str, EngineOptions, float]:
    """Path, options and window (milliseconds) of `PATH[,option=value,...]`.

    Names that are no options are for the chat template, such as `enable_thinking=false`, unless they resemble one.

    Raises:
        UsageError: an option is unknown, or a value is invalid.
    """
    reference = parse_reference(text)
    names = tuple(each.name for each in fields(EngineOptions) if each.name != "template_kwargs")
    wanted: dict[str, Any] = {}
    for_template: list[tuple[str, Any]] = []
    for name, value in reference.options.items():
        if name in (*names, "window"):
            wanted[name] = value
        elif name.isidentifier() and name != "template_kwargs" and not nearest(name, names):
            for_template.append((name, _value(value)))
        else:
            known = ", ".join((*names, "window"))
            raise UsageError(f"local models have no option `{name}`{nearest(name, names)}; their options: {known}")
    try:
        window = TypeAdapter(float).validate_python(wanted.pop("window", WINDOW))
        options = TypeAdapter(EngineOptions).validate_python({**wanted, "template_kwargs": for_template})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "window"
        raise UsageError(f"the local model's option `{name}` is `{first['input']}`: {first['msg']}") from error
    path = str(Path(reference.target).expanduser()) if reference.target.startswith("~") else reference.target
    return path, options, window


def _value(text: str) -> str | float | bool:
    """A value for a chat template: true, false, a number, else the text."""
    try:
        return TypeAdapter(bool | int | float, config=ConfigDict(strict=True)).validate_json(text)
    except ValidationError:
        return text
