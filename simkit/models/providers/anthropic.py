"""Models behind Anthropic's Messages API: Anthropic, and servers and gateways that speak it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from simkit.errors import UsageError
from simkit.models.adjustments import Adjustment, Learned
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse
from simkit.models.config import ModelConfig
from simkit.models.prices import Price
from simkit.models.provider import Resources
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.anthropic_requests import MAX_TOKENS, encode, to_messages_body
from simkit.models.providers.dialect import SETTING, Dialect, requested_adjustments, without_keywords
from simkit.models.providers.openai import Endpoint, OpenAIModel, OpenAIProvider, key_of
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.pool import HttpLimits
from simkit.models.transport.transports import HttpTransport
from simkit.models.transport.url import Address

ANTHROPIC_KEY = "ANTHROPIC_API_KEY"
ANTHROPIC_URL = "https://api.anthropic.com"

API_VERSION = "2023-06-01"
"""Version of the API that is requested. Version 2026-10-21 refuses every temperature; another one is a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesEndpoint(Endpoint):
    """An endpoint of the Messages API. The base URL may end in `/v1`, or leave it out as Anthropic's SDK does."""

    @classmethod
    def of(cls, config: ModelConfig, environment: Mapping[str, str] | None = None) -> Self:
        """The endpoint that a configuration and the environment name.

        Raises:
            UsageError: the endpoint is Anthropic's, and there is no key.
        """
        env = os.environ if environment is None else environment
        base_url = config.base_url or env.get("ANTHROPIC_BASE_URL") or ANTHROPIC_URL
        key_name = config.api_key_env or ANTHROPIC_KEY
        key = key_of(config, env, key_name)
        if key is None and Address.of(base_url).host == Address.of(ANTHROPIC_URL).host:
            raise UsageError(
                "there is no key for api.anthropic.com; set ANTHROPIC_API_KEY, or name another endpoint with --base-url"
            )
        return cls(
            base_url=base_url,
            api_key=key,
            headers=config.all_headers,
            limits=HttpLimits(connect=config.connect_timeout, request=config.request_timeout),
            transport=config.transport,
            key_name=key_name,
            adjustments=requested_adjustments(config),
            negotiates=not config.no_negotiation,
        )

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
        body = to_messages_body(model, request, settings, max_tokens=self.max_tokens, thinking=self.sends_blocks)
        if self.keywords and "tools" in body:
            body["tools"] = without_keywords(body["tools"], self.keywords)
        return encode(body)


class AnthropicModel(OpenAIModel):
    """One model at one endpoint of the Messages API.

    Args:
        model: the model's name at the endpoint.
        endpoint: the endpoint; used only to read replies.
        transport: an open transport to the endpoint, shared by its models and closed by its opener.
        price: price per token; None to compute no cost.
        learned: what the run has learned about requests, and learns from now on.
    """

    def __init__(
        self,
        model: str,
        endpoint: MessagesEndpoint,
        transport: HttpTransport,
        *,
        price: Price | None = None,
        learned: Learned | None = None,
    ) -> None:
        dialect = MessagesDialect(max_tokens=min(MAX_TOKENS, (price and price.max_output) or MAX_TOKENS))
        super().__init__(model, endpoint, transport, price=price, dialect=dialect, learned=learned)

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

    def _read(self, reply: HttpReply) -> ChatResponse:
        read = read_messages_reply(reply, self._reading)
        return self._billed(read.response, read.written)


class AnthropicProvider(OpenAIProvider):
    """A model behind Anthropic's Messages API (--base-url, ANTHROPIC_API_KEY)."""

    @cached_property
    def _at(self) -> MessagesEndpoint:
        return MessagesEndpoint.of(self.config)

    def open(self, resources: Resources) -> ChatModel:
        """The model, on a transport that all models of its endpoint share."""
        transport = resources.shared(("anthropic", self.endpoint), self._at.open)
        return AnthropicModel(self.name, self._at, transport, price=self.price, learned=resources.learned)
