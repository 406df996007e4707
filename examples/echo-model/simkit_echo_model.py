"""A model provider for simkit in a package of its own: `--model echo/WORDS`."""

from __future__ import annotations

from simkit.core.messages import AssistantMessage, text_of
from simkit.models import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.models.provider import Provider, Resources


class EchoModel:
    """Repeats the last message behind its own words."""

    def __init__(self, name: str, words: str) -> None:
        self.name = name
        self.words = words

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The answer; a real provider sends `request.settings()` and its messages to a server here."""
        text = f"{self.words}: {text_of(request.messages[-1])}"
        usage = Usage(prompt_tokens=len(request.messages), completion_tokens=len(text.split()))
        return ChatResponse(message=AssistantMessage.of(text), usage=usage, model=self.name)


class EchoProvider(Provider):
    """Repeats what it hears behind the words that it is named with."""

    argument = "WORDS"

    def open(self, resources: Resources) -> ChatModel:
        """The model; what it shares with others would come from `resources`."""
        return EchoModel(self.model_name, self.name)
