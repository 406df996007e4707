"""A chat model in this process."""

from __future__ import annotations

from simkit.core.messages import AssistantMessage
from simkit.errors import BadRequest
from simkit.local.worker import Reply, Worker
from simkit.models.base import CallKey, ChatRequest, ChatResponse, FinishReason, Tokens, Usage


class LocalModel:
    """Answers with a model of transformers, together with everybody else who asks it at the same time.

    Args:
        worker: holds the model; shared by all that ask it, and closed by whoever opened it.
        name: what the store calls it.
    """

    def __init__(self, worker: Worker, name: str) -> None:
        self._worker = worker
        self._name = name

    @property
    def name(self) -> str:
        """What the store calls the model."""
        return self._name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer; `tokens` and `logprobs` are its own.

        Raises:
            ContextTooLong: the conversation leaves no room for a reply.
            BadRequest: the request asks for something that local models do not do, or the chat template refuses it.
            ModelFault: the forward pass failed, for want of memory for one.
        """
        check_request(request)
        reply = await self._worker.ask(request, key.seed if request.seed is None else request.seed)
        return response_of(reply, self._name, request)


def response_of(reply: Reply, name: str, request: ChatRequest) -> ChatResponse:
    """A reply as everybody reads it."""
    made = reply.generation
    return ChatResponse(
        message=reply.message,
        finish=finish_of(reply.message, made.finish),
        usage=Usage(len(reply.prompt), len(made.ids), made.cached),
        model=name,
        logprobs=tuple(made.logprobs) if request.sampling.logprobs else None,
        tokens=Tokens(tuple(reply.prompt), tuple(made.ids)),
    )


def finish_of(message: AssistantMessage, ending: str) -> FinishReason:
    """How a reply ended, from what it holds and whether it was cut off."""
    if ending == "length":
        return "length"
    if message.tool_calls:
        return "tool_calls"
    return "stop" if message.content else "empty"


def check_request(request: ChatRequest) -> None:
    """Refuse what local models do not do.

    Raises:
        BadRequest: the request asks for it; the message says what.
    """
    choice, form = request.tool_choice, request.response_format
    if choice not in (None, "auto", "none"):
        raise BadRequest(f"a local model cannot be made to call tools (tool_choice `{choice}`); leave it to the model")
    if form is not None and form.get("type") != "text":
        raise BadRequest(
            f"a local model cannot be held to the response_format `{form.get('type')}`; ask for it in words"
        )
