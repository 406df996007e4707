"""Models behind OpenAI's Responses API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse
from simkit.models.prices import Price
from simkit.models.provider import Resources
from simkit.models.providers.anthropic_requests import encode
from simkit.models.providers.openai import Endpoint, OpenAIProvider
from simkit.models.providers.reply_errors import Reading
from simkit.models.providers.responses_format import read_responses_reply, to_responses_body
from simkit.models.transport.transports import HttpTransport
from simkit.models.transport.url import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesEndpoint(Endpoint):
    """An endpoint of the Responses API: `/responses` is appended to the base URL."""

    @property
    def address(self) -> Address:
        """The address of responses."""
        return Address.of(self.base_url, "/responses")


class ResponsesModel:
    """One model at one endpoint of the Responses API.

    Args:
        model: the model's name at the endpoint.
        endpoint: the endpoint; used only to read replies.
        transport: an open transport to the endpoint, shared by its models and closed by its opener.
        price: price per token; None to compute no cost.
    """

    def __init__(
        self, model: str, endpoint: ResponsesEndpoint, transport: HttpTransport, *, price: Price | None = None
    ) -> None:
        self._model = model
        self._transport = transport
        self._price = price
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
        body = to_responses_body(self._model, request, request.sent_settings())
        response = read_responses_reply(await self._transport.post(encode(body)), self._reading)
        return response if self._price is None else replace(response, usage=self._price.bill(response.usage))


class ResponsesProvider(OpenAIProvider):
    """A model behind OpenAI's Responses API (--base-url, OPENAI_API_KEY)."""

    @cached_property
    def _at(self) -> ResponsesEndpoint:
        return ResponsesEndpoint.of(self.config)

    def open(self, resources: Resources) -> ChatModel:
        """The model, on a transport that all models of its endpoint share."""
        transport = resources.shared(("openai-responses", self.endpoint), self._at.open)
        return ResponsesModel(self.name, self._at, transport, price=self.price)
