"""Models behind Anthropic's Messages API: Anthropic, and servers and gateways that speak it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

from simkit.errors import UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse
from simkit.models.config import ModelConfig
from simkit.models.prices import Price
from simkit.models.provider import Provider, Resources
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.anthropic_requests import MAX_TOKENS, encode, to_messages_body
from simkit.models.providers.openai import Endpoint, key_of
from simkit.models.providers.reply_errors import Reading
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


class AnthropicModel:
    """One model at one endpoint of the Messages API.

    Args:
        model: the model's name at the endpoint.
        endpoint: the endpoint; used only to read replies.
        transport: an open transport to the endpoint, shared by its models and closed by its opener.
        price: price per token; None to compute no cost.
    """

    def __init__(
        self, model: str, endpoint: MessagesEndpoint, transport: HttpTransport, *, price: Price | None = None
    ) -> None:
        self._model = model
        self._transport = transport
        self._price = price
        longest = price.max_output if price else None
        self._max_tokens = min(MAX_TOKENS, longest or MAX_TOKENS)
        self._reading = Reading(
            endpoint.address.origin, model, endpoint.secret, endpoint.more_secrets, key_name=endpoint.key_name
        )

    @property
    def name(self) -> str:
        """The model's name at its endpoint."""
        return self._model

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with its cost.

        Raises:
            ModelFault: this call failed; `trouble` says whether to retry it.
            BadRequest: an option of the request has no equivalent in the API.
            RunStopped: every call would fail because of the credentials, the model's name or the account.
        """
        body = to_messages_body(self._model, request, request.sent_settings(), max_tokens=self._max_tokens)
        reply = read_messages_reply(await self._transport.post(encode(body)), self._reading)
        response = reply.response
        if request.response_format is not None and request.response_format.get("type") == "json_object":
            doubt = "response_format: the Messages API has no `json_object`; the request was sent without it"
            response = replace(response, doubts=(*response.doubts, doubt))
        if self._price is None:
            return response
        return replace(response, usage=self._price.bill(response.usage, reply.written))


class AnthropicProvider(Provider):
    """A model behind Anthropic's Messages API (--base-url, ANTHROPIC_API_KEY)."""

    checks_itself: ClassVar[bool] = True

    @property
    def model_name(self) -> str:
        """The model's name at its endpoint."""
        return self.name

    @cached_property
    def _at(self) -> MessagesEndpoint:
        return MessagesEndpoint.of(self.config)

    @property
    def endpoint(self) -> Hashable:
        """The base URL, the key and the headers."""
        return self._at.base_url.rstrip("/"), self._at.secret, tuple(self._at.headers.items())

    def open(self, resources: Resources) -> ChatModel:
        """The model, on a transport that all models of its endpoint share."""
        transport = resources.shared(("anthropic", self.endpoint), self._at.open)
        return AnthropicModel(self.name, self._at, transport, price=self.price)
