"""Models behind OpenAI's Responses API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simkit.models.adjustments import Adjustment
from simkit.models.base import ChatRequest, ChatResponse
from simkit.models.providers.anthropic_requests import encode
from simkit.models.providers.dialect import SETTING, Dialect, without_keywords
from simkit.models.providers.openai import Endpoint, OpenAIModel, OpenAIProvider
from simkit.models.providers.responses_format import read_responses_reply, to_responses_body
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.url import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesEndpoint(Endpoint):
    """An endpoint of the Responses API: `/responses` is appended to the base URL."""

    @property
    def address(self) -> Address:
        """The address of responses."""
        return Address.of(self.base_url, "/responses")


@dataclass(frozen=True)
class ResponsesDialect(Dialect):
    """The form of requests to the Responses API, which has neither seeds nor texts that end a reply."""

    adjustments: tuple[Adjustment, ...] = (Adjustment(SETTING, "seed", ""), Adjustment(SETTING, "stop", ""))

    def body(self, model: str, request: ChatRequest) -> bytes:
        """The body of a request, as JSON text.

        Raises:
            BadRequest: an option has no equivalent in the API.
        """
        settings = self.settings(request.sent_settings(), request.limit is not None)
        body = to_responses_body(model, request, settings, reasoning=self.sends_blocks)
        if self.keywords and "tools" in body:
            body["tools"] = without_keywords(body["tools"], self.keywords)
        return encode(body)


class ResponsesModel(OpenAIModel):
    """One model at one endpoint of the Responses API."""

    def _known_dialect(self, endpoint: Endpoint) -> Dialect:
        return ResponsesDialect()

    def _read(self, reply: HttpReply) -> ChatResponse:
        return self._billed(read_responses_reply(reply, self._reading))


class ResponsesProvider(OpenAIProvider):
    """A model behind OpenAI's Responses API (--base-url, OPENAI_API_KEY)."""

    endpoint_type: ClassVar[type[Endpoint]] = ResponsesEndpoint
    model_type: ClassVar[type[OpenAIModel]] = ResponsesModel
