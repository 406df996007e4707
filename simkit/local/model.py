"""Chat models in this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ClassVar, Literal

from simkit.core.messages import AssistantMessage
from simkit.errors import BadRequest, UsageError
from simkit.local.constraints import check_form
from simkit.local.sampling import check
from simkit.local.worker import Reply, Worker, parse_local
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, FinishReason, Tokens, Usage
from simkit.models.config import Adaptive
from simkit.models.prices import Price
from simkit.models.provider import Provider, Resources
from simkit.plugins.loading import parse_reference


class LocalModel:
    """Answers with a model of transformers. Concurrent calls are generated in one batch.

    Args:
        worker: holds the model; shared by all callers, and closed by its opener.
        name: the model's name in the store.
    """

    def __init__(self, worker: Worker, name: str) -> None:
        self._worker = worker
        self._name = name

    @property
    def name(self) -> str:
        """The model's name in the store."""
        return self._name

    @property
    def lacks_for_tools(self) -> str | None:
        """The reason why the model cannot be given tools; None if it can."""
        return self._worker.engine.chat.lacks_for_tools

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with the exact token ids and log probabilities.

        Raises:
            ContextTooLong: the conversation leaves no room for a reply.
            BadRequest: the request needs a feature that local models lack, its form cannot be compiled, or the chat
                template refuses it.
            ModelFault: the forward pass failed, for example because memory ran out.
        """
        check_request(request)
        reply = await self._worker.ask(request, key.seed if request.seed is None else request.seed)
        return response_of(reply, self._name, request)


def response_of(reply: Reply, name: str, request: ChatRequest) -> ChatResponse:
    """Convert a reply to a `ChatResponse`."""
    made = reply.generation
    message = reply.read.message
    return ChatResponse(
        message=message,
        finish=finish_of(message, made.finish),
        usage=Usage(len(reply.prompt), len(made.ids), made.cached),
        model=name,
        logprobs=tuple(made.logprobs) if request.sampling.logprobs else None,
        tokens=Tokens(tuple(reply.prompt), tuple(made.ids)),
        doubts=reply.read.doubts,
    )


def finish_of(message: AssistantMessage, ending: str) -> FinishReason:
    """The finish reason of a reply, from its contents and the engine's reason `ending`."""
    if ending == "length":
        return "length"
    if message.tool_calls:
        return "tool_calls"
    return "stop" if message.content else "empty"


def check_request(request: ChatRequest) -> None:
    """Reject features that local models lack.

    Raises:
        BadRequest: the request needs one; the message names it.
    """
    check(request.sampling)
    check_form(request)
    for index, message in enumerate(request.messages):
        parts = message.content if isinstance(message.content, tuple) else ()
        if other := next((part.type for part in parts if part.type != "text"), None):
            raise BadRequest(f"`messages.{index}.content` has a part of type {other!r}; local models read text only")


def check_tools(request: ChatRequest, lacks: str | None) -> None:
    """Reject tools that the model would not see.

    Args:
        request: the request.
        lacks: the reason why the model cannot be given tools; None if it can.

    Raises:
        BadRequest: the request offers tools, and the model cannot be given any.
    """
    if lacks is not None and request.tools and request.tool_choice != "none":
        raise BadRequest(
            f"this model does not support tools: {lacks}; leave out `tools`, and describe them in a message (simkit: "
            "--agent react; for a simulated user ending=line or ending=json)"
        )


class LocalProvider(Provider):
    """A model in this process, from a folder or a name at Hugging Face."""

    argument: ClassVar[str] = "FOLDER"
    checks_itself: ClassVar[bool] = True
    shared: ClassVar[bool] = True

    @property
    def model_name(self) -> str:
        """`local/` and the path without options."""
        return f"local/{parse_reference(self.name).target}"

    @property
    def price(self) -> Price:
        """Zero."""
        return Price(input=0, output=0)

    @property
    def endpoint(self) -> Hashable:
        """The model's name: each path is a separate endpoint."""
        return self.model_name

    @property
    def concurrency(self) -> int | Literal["adaptive"] | Adaptive:
        """The configured limit; by default practically none, since the engine admits what fits."""
        chosen = self.config.api_concurrency
        return Adaptive(start=65536, most=65536) if chosen == "adaptive" else chosen

    def open(self, resources: Resources) -> ChatModel:
        """The model. Agent, user and judges with the same path and options share one."""
        return LocalModel(resources.shared(*self._worker()), self.model_name)

    async def load(self, resources: Resources) -> None:
        """Load the model in a thread, so that `open` need not."""
        await resources.load(*self._worker())

    def _worker(self) -> tuple[Hashable, Callable[[], Worker]]:
        """The key of the model's worker among the resources of a run, and a function that opens it.

        Raises:
            UsageError: an option is invalid.
        """
        try:
            check(self.config.sampling)
        except BadRequest as error:
            raise UsageError(str(error)) from error
        path, options, window = parse_local(self.name)
        return ("local", path, options, window), lambda: Worker.open(path, options, window)
