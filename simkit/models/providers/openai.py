"""Chat completions of OpenAI-compatible endpoints: OpenAI, Azure, vLLM, llama.cpp, Ollama, gateways."""

from __future__ import annotations

import os
import urllib.request
from base64 import b64encode
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Self

from pydantic import SecretStr

from simkit.errors import BadRequest, ModelFault, ServerFailed, TokensUsed, UnparsedCall, UsageError
from simkit.models.adjustments import Adjustment, LearnedAdjustments
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.models.config import ModelConfig, TransportChoice
from simkit.models.prices import Price
from simkit.models.provider import Provider, Resources
from simkit.models.providers.dialect import Dialect, known_dialect, requested_adjustments
from simkit.models.providers.negotiation import REFUSALS, Negotiation
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.pool import HttpLimits
from simkit.models.transport.secrets import Secrets
from simkit.models.transport.transports import HttpTransport, open_transport
from simkit.models.transport.url import SECRET_HEADER, Address, shown_url, url_credentials, url_secrets

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint and its credentials.

    Attributes:
        base_url: the URL to which `/chat/completions` is appended. A query (`?api-version=...`) is kept; a user name
            and password are sent as basic authentication instead of the key.
        api_key: sent as a bearer token, or as `api-key` to Azure; None sends no key.
        organization: the OpenAI organization that is billed.
        headers: additional headers.
        limits: bounds of each request.
        transport: the HTTP client; see `TransportChoice`.
        key_name: the environment variable that holds the key, for error messages.
        adjustments: changes of requests that the user asks for.
        negotiates: whether requests are adjusted to what the endpoint accepts.
    """

    default_url: ClassVar[str] = OPENAI_URL
    url_variable: ClassVar[str] = "OPENAI_BASE_URL"
    key_variable: ClassVar[str] = OPENAI_KEY

    base_url: str = field(default=OPENAI_URL, repr=False)
    api_key: SecretStr | None = None
    organization: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    limits: HttpLimits = field(default_factory=HttpLimits)
    transport: TransportChoice = "auto"
    key_name: str = OPENAI_KEY
    adjustments: tuple[Adjustment, ...] = ()
    negotiates: bool = True

    @classmethod
    def of(cls, config: ModelConfig, environment: Mapping[str, str] | None = None) -> Self:
        """The endpoint that a configuration and the environment name.

        Raises:
            UsageError: the endpoint is that of the API's vendor, and there is no key.
        """
        env = os.environ if environment is None else environment
        base_url = config.base_url or env.get(cls.url_variable) or cls.default_url
        key_name = config.api_key_env or cls.key_variable
        key = key_of(config, env, key_name)
        vendor = Address.of(cls.default_url).host
        if key is None and Address.of(base_url).host == vendor:
            raise UsageError(
                f"there is no key for {vendor}; set {cls.key_variable}, or name another endpoint with --base-url "
                "(http://localhost:8000/v1 for a local vLLM)"
            )
        return cls(
            base_url=base_url,
            api_key=key,
            organization=config.organization or env.get("OPENAI_ORG_ID") or None,
            headers=config.all_headers,
            limits=limits_of(config),
            transport=config.transport,
            key_name=key_name,
            adjustments=requested_adjustments(config),
            negotiates=not config.no_negotiation,
        )

    @property
    def address(self) -> Address:
        """The address of chat completions."""
        return Address.of(self.base_url)

    @property
    def secret(self) -> str:
        """The key in plain text; never show it."""
        return self.api_key.get_secret_value().strip() if self.api_key else ""

    @property
    def more_secrets(self) -> tuple[str, ...]:
        """Secrets in the base URL, in proxy URLs, and in headers with telling names (with and without the scheme)."""
        found = [value.strip() for name, value in self.headers.items() if SECRET_HEADER.search(name)]
        secrets = tuple(secret for value in found for secret in (value, value.rpartition(" ")[2]) if len(secret) > 3)
        urls = (self.base_url, *urllib.request.getproxies().values())
        return (*secrets, *(secret for url in urls for secret in (*url_secrets(url), *url_credentials(url))))

    def open(self) -> HttpTransport:
        """Open a transport to the endpoint, in the current event loop.

        Raises:
            UsageError: the base URL or a header is invalid.
        """
        secrets = Secrets.of((self.secret, *self.more_secrets))
        return open_transport(self.address, self._all_headers(), self.limits, self.transport, secrets)

    def _all_headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "simkit"}
        headers["accept-encoding"] = "identity"
        headers |= self._credentials()
        if self.address.credentials:
            headers["authorization"] = f"Basic {b64encode(self.address.credentials.encode()).decode()}"
        return {**headers, **{name.lower(): value for name, value in self.headers.items()}}

    def _credentials(self) -> dict[str, str]:
        organization = {"openai-organization": self.organization} if self.organization else {}
        if not self.secret:
            return organization
        azure = self.address.host.endswith(".azure.com")
        key = {"api-key": self.secret} if azure else {"authorization": f"Bearer {self.secret}"}
        return key | organization


def limits_of(config: ModelConfig) -> HttpLimits:
    """Bounds of requests; the first connection takes no longer than the run waits for an endpoint at its start."""
    first = max(1.0, min(config.connect_timeout, config.retry_policy.last_attempt))
    return HttpLimits(connect=config.connect_timeout, first_connect=first, request=config.request_timeout)


def key_of(config: ModelConfig, environment: Mapping[str, str], name: str) -> SecretStr | None:
    """The key of an endpoint: the configuration's own, or else that in the environment variable `name`.

    Raises:
        UsageError: the user named a variable that is not set.
    """
    if config.api_key is not None or environment.get(name):
        return config.api_key or SecretStr(environment[name])
    if config.api_key_env:
        raise UsageError(f"--api-key-env names {name}, which is not set; set it, or leave the flag out")
    return None


class OpenAIModel:
    """One model at one endpoint.

    Args:
        model: the model's name at the endpoint.
        endpoint: the endpoint; used only to read replies and to find its dialect.
        transport: an open transport to the endpoint, shared by its models and closed by its opener.
        price: price per token; None to compute no cost.
        dialect: what is known about the requests that the endpoint accepts; None for what is known of the API.
        learned: what the run has learned about it, and learns from now on.
    """

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        transport: HttpTransport,
        *,
        price: Price | None = None,
        dialect: Dialect | None = None,
        learned: LearnedAdjustments | None = None,
    ) -> None:
        self._model = model
        self._transport = transport
        self._price = price
        secrets = endpoint.secret, endpoint.more_secrets
        self._reading = ReplyContext(endpoint.address.origin, model, *secrets, key_name=endpoint.key_name)
        self._negotiation = Negotiation(
            place=(shown_url(endpoint.base_url).rstrip("/"), model),
            known=dialect or self._known_dialect(endpoint),
            requested=endpoint.adjustments,
            learned=learned or LearnedAdjustments(),
            reading=self._reading,
        )
        self._negotiates = endpoint.negotiates

    @property
    def name(self) -> str:
        """The model's name at its endpoint."""
        return self._model

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with its cost.

        Raises:
            ModelFault: this call failed; `trouble` says whether to retry it.
            RunStopped: every call would fail because of the credentials, the model's name or the account.
        """
        negotiation = self._negotiation
        dialect = negotiation.dialect
        reply = await self._transport.post(dialect.body(self._model, request))
        if reply.status in REFUSALS and self._negotiates:
            reply, dialect = await negotiation.resend(request, dialect, reply, self._transport.post)
        try:
            response = self._answer(reply)
        except (BadRequest, ServerFailed):
            if reply.status != 200 or not self._negotiates:
                raise
            reply, dialect = await negotiation.resend(request, dialect, reply, self._transport.post)
            response = self._answer(reply)
        negotiation.accepted = True
        if dialect.adjustments:
            response = _ended(response, dialect.ends(request))
        return response

    def _answer(self, reply: HttpReply) -> ChatResponse:
        """The response in a reply; one without a message for a call that the server could not parse."""
        try:
            return self._read(reply)
        except ModelFault as fault:
            if fault.usage is not None and self._price is not None:
                fault.usage = TokensUsed(*fault.usage[:3], self._price.bill(Usage(*fault.usage)).cost)
            if not isinstance(fault, UnparsedCall):
                raise
            return self._billed(ChatResponse.of_unparsed(fault, self._model))

    def _known_dialect(self, endpoint: Endpoint) -> Dialect:
        """The form of requests before the first call."""
        return known_dialect(endpoint.address.host, self._model)

    def _read(self, reply: HttpReply) -> ChatResponse:
        """The response in a reply, with its cost."""
        return self._billed(read_reply(reply, self._reading))

    def _billed(self, response: ChatResponse, written: int = 0) -> ChatResponse:
        """The response with its cost; `written` are the prompt tokens that the provider wrote into its cache."""
        if self._price is None:
            return response
        return replace(response, usage=self._price.bill(response.usage, written))


def _ended(response: ChatResponse, stops: Sequence[str]) -> ChatResponse:
    """The response, cut at the texts that should have ended it, because the endpoint knows no such setting."""
    text = response.message.content
    ends = [place for stop in stops if isinstance(text, str) and (place := text.find(stop)) >= 0]
    if not ends or not isinstance(text, str):
        return response
    message = response.message.model_copy(update={"content": text[: min(ends)]})
    return replace(response, message=message, finish="stop" if response.finish == "length" else response.finish)


class OpenAIProvider(Provider):
    """A model behind an OpenAI-compatible endpoint (--base-url, OPENAI_API_KEY)."""

    checks_itself: ClassVar[bool] = True
    endpoint_type: ClassVar[type[Endpoint]] = Endpoint
    model_type: ClassVar[type[OpenAIModel]] = OpenAIModel

    @property
    def model_name(self) -> str:
        """The model's name at its endpoint."""
        return self.name

    @cached_property
    def _at(self) -> Endpoint:
        return self.endpoint_type.of(self.config)

    @property
    def endpoint(self) -> Hashable:
        """The base URL, the key and the headers."""
        return self._at.base_url.rstrip("/"), self._at.secret, tuple(self._at.headers.items())

    def open(self, resources: Resources) -> ChatModel:
        """The model, on a transport that all models of its endpoint share."""
        transport = resources.shared((self.endpoint_type, self.endpoint), self._at.open)
        return self.model_type(self.name, self._at, transport, price=self.price, learned=resources.learned)
