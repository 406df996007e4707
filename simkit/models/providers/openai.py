"""Chat completions of any OpenAI-compatible endpoint: OpenAI, Azure, vLLM, llama.cpp, Ollama, gateways, ..."""

from __future__ import annotations

import re
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from simkit.models.base import CallKey, ChatRequest, ChatResponse
from simkit.models.prices import Prices
from simkit.models.providers.openai_replies import Reading, read_reply
from simkit.models.providers.quirks import Quirks, quirks_for
from simkit.models.transport.pool import HttpLimits
from simkit.models.transport.secrets import Secrets
from simkit.models.transport.transports import HttpTransport, TransportChoice, open_transport
from simkit.models.transport.url import Address, url_credentials, url_secrets

OPENAI_URL = "https://api.openai.com/v1"

_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint and the right to use it.

    Attributes:
        base_url: what `/chat/completions` is below; a query (`?api-version=...`) is kept, a user name and password are
            sent as basic authentication, instead of the key.
        api_key: sent as a bearer token, and as `api-key` to Azure; None sends none.
        organization: the OpenAI organisation that pays.
        headers: further headers.
        limits: bounds of each request.
        transport: how bytes get there.
    """

    base_url: str = field(default=OPENAI_URL, repr=False)
    api_key: SecretStr | None = None
    organization: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    limits: HttpLimits = field(default_factory=HttpLimits)
    transport: TransportChoice = "auto"

    @property
    def address(self) -> Address:
        """Where chat completions are."""
        return Address.of(self.base_url)

    @property
    def secret(self) -> str:
        """The key itself; never shown."""
        return self.api_key.get_secret_value().strip() if self.api_key else ""

    @property
    def more_secrets(self) -> tuple[str, ...]:
        """Secrets of the base URL, of proxies, and of headers that sound like some (with and without scheme)."""
        found = [value.strip() for name, value in self.headers.items() if _SECRET_HEADER.search(name)]
        told = tuple(secret for value in found for secret in (value, value.rpartition(" ")[2]) if len(secret) > 3)
        urls = (self.base_url, *urllib.request.getproxies().values())
        return (*told, *(secret for url in urls for secret in (*url_secrets(url), *url_credentials(url))))

    def open(self) -> HttpTransport:
        """A transport to it, for the event loop this is called in.

        Raises:
            UsageError: the base URL or a header cannot be used.
        """
        secrets = Secrets.of((self.secret, *self.more_secrets))
        return open_transport(self.address, self._all_headers(), self.limits, self.transport, secrets)

    def _all_headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "simkit"}
        if self.secret:
            azure = self.address.host.endswith(".azure.com")
            headers["api-key" if azure else "authorization"] = self.secret if azure else f"Bearer {self.secret}"
        if self.address.credentials:
            headers["authorization"] = f"Basic {b64encode(self.address.credentials.encode()).decode()}"
        if self.organization:
            headers["openai-organization"] = self.organization
        return {**headers, **{name.lower(): value for name, value in self.headers.items()}}


class OpenAIModel:
    """One model at one endpoint.

    Args:
        model: its name there.
        endpoint: where it is; only used to read replies and to know the endpoint's quirks.
        transport: an open transport to the endpoint, shared by its models and closed by whoever opened it.
        prices: what tokens cost; an unknown model costs nothing.
        extra_body: further fields of every request.
        quirks: in what the endpoint differs; from the table when None.
    """

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        transport: HttpTransport,
        *,
        prices: Prices | None = None,
        extra_body: Mapping[str, Any] | None = None,
        quirks: Quirks | None = None,
    ) -> None:
        self._model = model
        self._transport = transport
        self._price = prices.find(model) if prices else None
        self._extra = dict(extra_body or {})
        self._quirks = quirks or quirks_for(endpoint.address.host, model)
        self._reading = Reading(endpoint.address.origin, model, endpoint.secret, endpoint.more_secrets)

    @property
    def name(self) -> str:
        """The model's name at its endpoint."""
        return self._model

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, with its cost.

        Raises:
            ModelFault: this call failed; its `trouble` says whether to try again.
            RunStopped: every call would fail: the credentials, the model's name or the account.
        """
        settings = self._quirks.apply(request.sent_settings())
        if self._extra:
            settings |= self._extra
        reply = await self._transport.post(request.to_json(self._model, settings))
        response = read_reply(reply, self._reading)
        if self._price is None:
            return response
        return replace(response, usage=self._price.bill(response.usage))
