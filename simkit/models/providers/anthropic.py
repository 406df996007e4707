"""Models behind Anthropic's Messages API: Anthropic, and servers and gateways that speak it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from simkit.models.adjustments import Adjustment
from simkit.models.base import CallKey, ChatRequest, ChatResponse
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.anthropic_requests import MAX_TOKENS, ThinkingForm, encode, to_messages_body
from simkit.models.providers.dialect import SETTING, Dialect, without_keywords
from simkit.models.providers.openai import Endpoint, OpenAIModel, OpenAIProvider
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.url import Address

ANTHROPIC_KEY = "ANTHROPIC_API_KEY"
ANTHROPIC_URL = "https://api.anthropic.com"

API_VERSION = "2023-06-01"
"""Version of the API that is requested. Version 2026-10-21 refuses every temperature; another one is a header."""


EFFORT, BUDGET = "output_config.effort", "thinking.budget_tokens"
"""Forms in which a request states a reasoning effort."""

SETTINGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("thinking", "effort", "budget_tokens"), ("reasoning_effort",)),
    "output_config": ("reasoning_effort", "response_format"),
    "output_format": ("response_format",),
    "stop_sequences": ("stop",),
    "disable_parallel_tool_use": ("parallel_tool_calls",),
}
"""Settings by the names of their fields in a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesEndpoint(Endpoint):
    """An endpoint of the Messages API. The base URL may end in `/v1`, or leave it out as Anthropic's SDK does."""

    default_url: ClassVar[str] = ANTHROPIC_URL
    url_variable: ClassVar[str] = "ANTHROPIC_BASE_URL"
    key_variable: ClassVar[str] = ANTHROPIC_KEY

    @property
    def address(self) -> Address:
        """The address of messages."""
        place, mark, query = self.base_url.partition("?")
        place = place.rstrip("/").removesuffix("/v1")
        return Address.of(place + mark + query, "/v1/messages")

    def _credentials(self) -> dict[str, str]:
        key = {"x-api-key": self.secret} if self.secret else {}
        return {"anthropic-version": API_VERSION, **key}


@dataclass(frozen=True)
class MessagesDialect(Dialect):
    """The form of requests to one model of the Messages API; `max_tokens` is sent if a request has no limit."""

    adjustments: tuple[Adjustment, ...] = (Adjustment(SETTING, "seed", ""),)
    max_tokens: int = MAX_TOKENS

    def body(self, model: str, request: ChatRequest) -> bytes:
        """The body of a request, as JSON text.

        Raises:
            BadRequest: an option has no equivalent in the API.
        """
        settings = self.settings(request.sent_settings(), request.limit is not None)
        form = self.names.get("reasoning_effort")
        if form in settings:
            settings["reasoning_effort"] = settings.pop(form)
        chosen = ThinkingForm(sent=self.sends_blocks, budget=form == BUDGET if form else None)
        body = to_messages_body(model, request, settings, max_tokens=self.max_tokens, thinking=chosen)
        if self.keywords and "tools" in body:
            body["tools"] = without_keywords(body["tools"], self.keywords)
        return encode(body)

    def other_names(self, name: str) -> tuple[str, ...]:
        """The two forms of a reasoning effort; other settings have one name."""
        return (EFFORT, BUDGET) if name == "reasoning_effort" else ()

    def settings_of(self, name: str) -> tuple[str, ...]:
        """The settings that a field of the body stands for."""
        return SETTINGS.get(name, (name,))


class AnthropicModel(OpenAIModel):
    """One model at one endpoint of the Messages API."""

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with its cost.

        Raises:
            ModelFault: this call failed; `trouble` says whether to retry it.
            BadRequest: an option of the request has no equivalent in the API.
            RunStopped: every call would fail because of the credentials, the model's name or the account.
        """
        response = await super().complete(request, key)
        if request.response_format is not None and request.response_format.get("type") == "json_object":
            doubt = "response_format: the Messages API has no `json_object`; the request was sent without it"
            response = replace(response, doubts=(*response.doubts, doubt))
        return response

    def _known_dialect(self, endpoint: Endpoint) -> Dialect:
        most = self._price and self._price.max_output
        return MessagesDialect(max_tokens=min(MAX_TOKENS, most or MAX_TOKENS))

    def _read(self, reply: HttpReply) -> ChatResponse:
        read = read_messages_reply(reply, self._reading)
        return self._billed(read.response, read.written)


class AnthropicProvider(OpenAIProvider):
    """A model behind Anthropic's Messages API (--base-url, ANTHROPIC_API_KEY)."""

    endpoint_type: ClassVar[type[Endpoint]] = MessagesEndpoint
    model_type: ClassVar[type[OpenAIModel]] = AnthropicModel
