"""Promises of a model provider: one name, valid settings, answers and usage, and errors that say what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias, cast, get_args

import anyio

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, SystemMessage, ToolSpec, UserMessage
from simkit.errors import ModelFault, RunStopped
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, FinishReason
from simkit.models.config import Adaptive
from simkit.models.prices import Price
from simkit.models.provider import Provider, Resources
from simkit.models.usage import doubt
from simkit.testing.promises import HOSTILE_TEXTS, Promise, Unchanged, expect, run_promises
from simkit.testing.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

NewProvider: TypeAlias = Callable[[], Provider]
"""Creates the provider of the model under test, as a run does: `lambda: EchoProvider("echo/Yes", ModelConfig())`."""

_TOOL = ToolSpec.of("look_up", "Looks up a word.", {"word": {"type": "string"}}, ("word",))

REQUESTS = (
    ChatRequest(messages=(SystemMessage.of("Answer briefly."), UserMessage.of("Hello, can you help me?")), seed=1),
    ChatRequest(messages=(UserMessage.of("What does `train` mean?"),), tools=(_TOOL,), tool_choice="auto", seed=2),
)


@dataclass(frozen=True, slots=True)
class ProviderSubject:
    """A provider under test, and requests that its model can answer; `failing` makes one whose calls fail."""

    new: NewProvider
    requests: tuple[ChatRequest, ...] = REQUESTS
    deterministic: bool = False
    failing: NewProvider | None = None
    seconds: float = 60.0

    @asynccontextmanager
    async def opened(self, new: NewProvider | None = None) -> AsyncGenerator[ChatModel]:
        """An open model of its own, closed at the end."""
        resources = Resources()
        model = (new or self.new)().open(resources)
        try:
            yield model
        finally:
            await resources.aclose()

    async def ask(self, model: ChatModel, request: ChatRequest, number: int = 0) -> ChatResponse:
        """The model's answer, whose kind is checked."""
        key = CallKey(turn=TurnKey(0, "conformance", 0, "", number + 1), role="agent")
        with anyio.move_on_after(self.seconds):
            reply = cast("object", await model.complete(request, key))
            expect(isinstance(reply, ChatResponse), f"`complete` returned a {type(reply).__name__}, not a ChatResponse")
            return cast("ChatResponse", reply)
        expect(False, f"`complete` did not return within {self.seconds:g} s")
        raise AssertionError


async def check_provider(
    new: NewProvider,
    *,
    requests: Sequence[ChatRequest] = REQUESTS,
    deterministic: bool = False,
    failing: NewProvider | None = None,
    seconds: float = 60.0,
) -> None:
    """Check every promise of a model provider. The model is called about 20 times.

    Args:
        new: creates the provider.
        requests: at least two different requests that the model can answer.
        deterministic: whether equal requests, with their seeds, get equal answers.
        failing: creates a provider whose calls fail, such as one whose server answers with an error.
        seconds: maximum seconds of one call.

    Raises:
        ConformanceError: a promise was broken; the message names it.
    """
    subject = ProviderSubject(new, tuple(requests), deterministic, failing, seconds)
    await run_promises(PROVIDER_PROMISES, subject, f"the provider of `{new().spec}`")


# --- the promises -----------------------------------------------------------------------------------------------------


async def has_one_name(subject: ProviderSubject) -> None:
    """Calls are recorded and replayed under one name: two providers of a model and the open model have the same."""
    name = cast("object", subject.new().model_name)
    expect(isinstance(name, str) and name, f"`model_name` is {name!r}; it must be a text")
    expect(subject.new().model_name == name, "two providers of the same model have different names")
    async with subject.opened() as model:
        expect(model.name == name, f"the opened model is named {model.name!r}, and the provider {name!r}")


async def declares_its_limits(subject: ProviderSubject) -> None:
    """The endpoint is a hashable value that is equal for equal models; price and concurrency are valid."""
    first, second = subject.new(), subject.new()
    try:
        expect(hash(first.endpoint) == hash(second.endpoint), "equal models have endpoints with different hashes")
    except TypeError:
        expect(False, f"`endpoint` is {first.endpoint!r}, which is not hashable")
    expect(
        first.endpoint == second.endpoint, "equal models have different endpoints, so each would have its own limits"
    )
    price, limit = cast("object", first.price), cast("object", first.concurrency)
    expect(price is None or isinstance(price, Price), f"`price` is {price!r}; give a Price, or None")
    fine = limit == "adaptive" or isinstance(limit, Adaptive) or (type(limit) is int and limit >= 1)
    expect(fine, f'`concurrency` is {limit!r}; give a whole number of at least 1, "adaptive" or an Adaptive')


async def shares_its_resources(subject: ProviderSubject) -> None:
    """Models of one endpoint share what they open, and the resources can be closed."""
    resources = Resources()
    try:
        subject.new().open(resources)
        before = len(resources)
        subject.new().open(resources)
        expect(len(resources) == before, "a second model of the same endpoint opened resources of its own")
    finally:
        await resources.aclose()


async def answers_are_valid(subject: ProviderSubject) -> None:
    """An answer has a message, a known finish reason and plausible usage, survives storage, and changes no request."""
    async with subject.opened() as model:
        for number, request in enumerate(subject.requests):
            watched = Unchanged(request=(tuple(request.messages), tuple(request.tools)))
            response = await subject.ask(model, request, number)
            watched.check("complete")
            _expect_valid(response)


def _expect_valid(response: ChatResponse) -> None:
    message = cast("object", response.message)
    expect(isinstance(message, AssistantMessage), f"the message is a {type(message).__name__}, not an AssistantMessage")
    expect(response.finish in get_args(FinishReason), f"the finish reason is {response.finish!r}")
    calls = bool(response.message.tool_calls)
    expect(calls or response.finish != "tool_calls", "the finish reason is `tool_calls`, and there is no call")
    wrong = doubt(response.usage)
    expect(wrong is None, f"a run would drop the usage: {wrong}")
    stored = ChatResponse.from_json(response.to_json())
    expect(snapshot(stored.message) == snapshot(response.message), "the message is stored as another one")


async def usage_is_billed(subject: ProviderSubject) -> None:
    """If the price is known, the usage has the cost of its tokens (`price.bill(usage)`); budgets in dollars need it."""
    price = subject.new().price
    if price is None:
        return
    async with subject.opened() as model:
        usage = (await subject.ask(model, subject.requests[0])).usage
    least = price.cost(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens if price.cached else 0)
    expect(isfinite(usage.cost) and usage.cost >= 0.99 * min(least, price.bill(usage).cost), f"{usage} has no cost")


async def seeds_decide(subject: ProviderSubject) -> None:
    """Equal requests get equal answers, alone and beside others, if the model is deterministic."""
    if not subject.deterministic:
        return
    async with subject.opened() as model:
        alone = [await subject.ask(model, request, number) for number, request in enumerate(subject.requests)]
        together: dict[int, ChatResponse] = {}

        async def call(number: int) -> None:
            together[number] = await subject.ask(model, subject.requests[number], number)

        async with anyio.create_task_group() as group:
            for number in reversed(range(len(subject.requests))):
                group.start_soon(call, number)
    for number, before in enumerate(alone):
        same = snapshot(together[number].message) == snapshot(before.message)
        expect(same, f"request {number} got another answer the second time")


async def any_text_is_answered(subject: ProviderSubject) -> None:
    """Any text is answered, or refused with a ModelFault; nothing else is raised."""
    async with subject.opened() as model:
        for number, text in enumerate(HOSTILE_TEXTS):
            request = ChatRequest(messages=(UserMessage.of(text),), seed=number)
            try:
                _expect_valid(await subject.ask(model, request, number))
            except ModelFault:
                continue


async def failures_are_model_faults(subject: ProviderSubject) -> None:
    """A failed call raises a ModelFault, which says whether to retry it, or a RunStopped if no call can succeed."""
    if subject.failing is None:
        return
    async with subject.opened(subject.failing) as model:
        try:
            await subject.ask(model, subject.requests[0])
        except (ModelFault, RunStopped) as error:
            expect(str(error), "the error has no message")
        except Exception as error:
            expect(False, f"it raised {type(error).__name__}: {error}; raise a ModelFault (simkit/errors.py)")
        else:
            expect(False, "the call that should fail was answered")


async def calls_can_be_cancelled(subject: ProviderSubject) -> None:
    """A cancelled call ends with its cancellation, not with an error, and the model answers the next one."""
    async with subject.opened() as model:
        for steps in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(subject.ask, model, subject.requests[0])
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        _expect_valid(await subject.ask(model, subject.requests[0]))


PROVIDER_PROMISES: tuple[Promise[ProviderSubject], ...] = (
    has_one_name,
    declares_its_limits,
    shares_its_resources,
    answers_are_valid,
    usage_is_billed,
    seeds_decide,
    any_text_is_answered,
    failures_are_model_faults,
    calls_can_be_cancelled,
)
"""Promises of a model provider; each takes a `ProviderSubject`."""
