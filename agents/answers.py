"""What agents that ask a model have in common: the call, its seed and its price, and answers that are none."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from simkit.components import Act, Agent, AgentStart, Decision, StartAgent
from simkit.messages import AssistantMessage, Message, ToolCall, UserMessage, text_of, without_reasoning
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Sampling
from simkit.prompts import Prompt, read_prompt, shipped_prompt
from simkit.sendable import says_nothing

CUT_OFF = "ERROR: your reply was cut off because it was too long. Write a shorter one."
FILTERED = "ERROR: your reply was withheld by a content filter. Put it in other words."
EMPTY = "ERROR: your reply was empty. Call a tool or answer the customer."


class ModelAgent(Agent):
    """An agent whose decisions are answers of a model: one call each, seeded by the turn's key.

    An answer nobody could act on (empty, cut off, withheld by a filter) stays in the record as the model gave it, and
    the model is told; it decides again while the turn has steps left. What it is told begins with `ERROR:`, so the
    harvest takes no example from such a conversation.

    Attributes of the constructor:
        model: answers.
        sampling: how it picks its words; with temperature 0 the agent is `deterministic`.
        prompt: path of a text file to use instead of the shipped prompt.
    """

    prompt_file: ClassVar[str]
    needed_places: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: ChatModel, sampling: Sampling | None = None, prompt: Path | None = None) -> None:
        self._model = model
        self._sampling = sampling or Sampling()
        self._prompt = (
            read_prompt(prompt, self.needed_places) if prompt else shipped_prompt("simkit.agents", self.prompt_file)
        )
        self.deterministic = self._sampling.temperature == 0

    @property
    def prompt(self) -> Prompt:
        """The prompt it starts from."""
        return self._prompt

    def start(self, request: StartAgent) -> AgentStart:
        """The system prompt, with the world's own rules for agents."""
        return AgentStart(self._prompt.fill(**self.places(request)))

    async def act(self, request: Act) -> Decision:
        """One call of the model, read as a decision.

        Raises:
            ModelFault: the model has no answer.
        """
        response = await self._model.complete(self.ask(request), CallKey(request.key, "agent", request.step))
        return self._paid(self.read(response, request), response, request)

    def places(self, request: StartAgent) -> dict[str, str]:
        """What the places of the prompt hold."""
        return {"policy": request.policy}

    @abstractmethod
    def ask(self, request: Act) -> ChatRequest:
        """What the model is asked; `base_request` is a start."""

    @abstractmethod
    def read(self, response: ChatResponse, request: Act) -> Decision:
        """What the model decided."""

    def base_request(self, request: Act, messages: tuple[Message, ...]) -> ChatRequest:
        """These messages, with sampling and seed."""
        seed = CallKey(request.key, "agent", request.step).seed
        return ChatRequest(messages=messages, sampling=self._sampling, seed=seed)

    def _paid(self, decision: Decision, response: ChatResponse, request: Act) -> Decision:
        usage = response.usage
        return replace(decision, state=request.state, tokens=usage.tokens, cost=usage.cost)


def told(message: AssistantMessage, note: str) -> Decision:
    """A decision that keeps the message, tells the model what was wrong with it, and lets it decide again."""
    return Decision(message, note=UserMessage.of(note))


def trouble(response: ChatResponse) -> str | None:
    """What to tell the model about an answer without calls that nobody could act on; None when it is fine."""
    if response.finish == "length":
        return CUT_OFF
    if response.finish == "content_filter":
        return FILTERED
    return None if aloud(written(response)) else EMPTY


def aloud(message: AssistantMessage) -> str:
    """The words of an answer without the reasoning some models write before it."""
    return without_reasoning(text_of(message)).strip()


def written(response: ChatResponse) -> AssistantMessage:
    """The message of a response; a refusal's words stand in its content, where endpoints and trainers read them."""
    message = response.message
    refusal = (message.model_extra or {}).get("refusal")
    return AssistantMessage.of(refusal) if isinstance(refusal, str) and says_nothing(message) else message


def named_calls(message: AssistantMessage, request: Act) -> tuple[ToolCall, ...]:
    """The calls of a message under ids that follow from their place: `t03s01c00`.

    Providers invent ids at random, repeat them, or leave them empty. Two branches that make the same call must be equal
    in the store, and every result must find its call. Nine letters and digits are what the strictest provider takes.
    """
    return tuple(
        call.model_copy(update={"id": call_id(request, index)}) for index, call in enumerate(message.tool_calls or ())
    )


def call_id(request: Act, index: int) -> str:
    """The id of one call of a decision."""
    return f"t{request.key.turn:02d}s{request.step:02d}c{index:02d}"
