"""HTTP transports: the contract, the choice between them, and the one for proxies and other event loops."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Protocol

import anyio
from anyio import get_cancelled_exc_class

from simkit.errors import MalformedReply, ModelTimeout, Unreachable, UsageError
from simkit.models.config import TransportChoice
from simkit.models.transport.decoding import InvalidReply, codings_of, decode
from simkit.models.transport.http1 import ERROR_BODY, HttpReply, too_large
from simkit.models.transport.pool import ConnectionPool, HttpLimits
from simkit.models.transport.secrets import Secrets
from simkit.models.transport.url import Address, checked_headers, shown_url
from simkit.plugins.extras import require


class HttpTransport(Protocol):
    """Posts JSON to one endpoint."""

    async def post(self, body: bytes) -> HttpReply:
        """The reply, of any status.

        Raises:
            Unreachable, ModelTimeout, MalformedReply: no complete reply was received.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def open_transport(
    address: Address,
    headers: Mapping[str, str],
    limits: HttpLimits,
    choice: TransportChoice = "auto",
    secrets: Secrets | None = None,
) -> HttpTransport:
    """Open a transport to an address, inside the event loop that will use it. `secrets` are removed from messages.

    Raises:
        UsageError: a header is invalid.
    """
    if choice == "httpx2" or (choice == "auto" and (behind_proxy(address) or not _on_asyncio())):
        return HttpxTransport(address, headers, limits, secrets)
    return ConnectionPool(address, address.head(headers), limits, _tls() if address.secure else None, secrets)


def behind_proxy(address: Address) -> bool:
    """Whether the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) sends this address through a proxy."""
    proxies = urllib.request.getproxies()
    if not (proxies.get("https" if address.secure else "http") or proxies.get("all")):
        return False
    return not urllib.request.proxy_bypass(address.host)


def check_proxies(environment: Mapping[str, str] | None = None) -> None:
    """Check the proxies that the environment names.

    Raises:
        UsageError: one has a form that cannot be used, or needs a package that is not installed.
    """
    for name, url in (os.environ if environment is None else environment).items():
        if name.lower() not in ("http_proxy", "https_proxy", "all_proxy") or not url:
            continue
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        shown = f"{name} is `{shown_url(url)}`"
        if scheme in ("socks5", "socks5h"):
            try:
                require("socksio", "socks")
            except UsageError as error:
                raise UsageError(f"{shown}: {error}. Or unset the variable, if the endpoint needs no proxy") from error
        elif scheme not in ("http", "https"):
            raise UsageError(
                f"{shown}, and `{scheme}` is not a kind of proxy that can be used: write socks5://HOST:PORT (needs the "
                "extra `socks`) or http://HOST:PORT, or unset the variable if the endpoint needs no proxy"
            )


def _on_asyncio() -> bool:
    return "asyncio" in get_cancelled_exc_class().__module__


def _tls() -> ssl.SSLContext:
    import httpx2

    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpxTransport:
    """Transport on httpx2. It supports proxies and trio, at several times the cost of `ConnectionPool`."""

    def __init__(
        self, address: Address, headers: Mapping[str, str], limits: HttpLimits, secrets: Secrets | None = None
    ) -> None:
        import httpx2

        check_proxies()
        self._secrets = secrets or Secrets()
        self._errors = httpx2
        self._address = address
        self._limits = limits
        self._connects = limits.first_connect
        self._client = httpx2.AsyncClient(
            headers={"accept-encoding": "identity", **checked_headers(headers)},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            follow_redirects=False,
        )

    async def post(self, body: bytes) -> HttpReply:
        """The endpoint's reply to a JSON body.

        Raises:
            Unreachable, ModelTimeout, MalformedReply: no complete reply was received.
        """
        origin, seconds = self._address.origin, self._limits.request
        late = f"{origin} gave no answer within {seconds:g} s; raise --request-timeout if its answers take that long"
        try:
            with anyio.fail_after(seconds):
                return await self._post(body)
        except (self._errors.ConnectError, self._errors.ConnectTimeout, self._errors.ProxyError) as error:
            waited = self._connects if isinstance(error, self._errors.ConnectTimeout) else 0.0
            raise Unreachable(f"{origin} cannot be reached: {self._clean(error)}", waited=waited) from None
        except (TimeoutError, self._errors.TimeoutException) as error:
            raise ModelTimeout(late) from error
        except InvalidReply as error:
            raise MalformedReply(
                f"the answer of {origin} cannot be read: {error}", retries=0 if error.hopeless else None
            ) from None
        except (self._errors.RemoteProtocolError, self._errors.DecodingError) as error:
            kind = Unreachable if "without sending" in str(error) and "response" in str(error) else MalformedReply
            raise kind(f"{origin}: {self._clean(error)}") from None
        except self._errors.TransportError as error:
            raise Unreachable(f"{origin}: {type(error).__name__} {self._clean(error)}".rstrip()) from None

    def _clean(self, error: Exception) -> str:
        """An error's text without secrets. It may repeat what the server sent, so the error itself is not chained."""
        return self._secrets.out_of_message(str(error))[:300]

    async def _post(self, body: bytes) -> HttpReply:
        bounds = self._errors.Timeout(self._limits.request, connect=self._connects)
        async with self._client.stream("POST", self._address.url, content=body, timeout=bounds) as response:
            self._connects = self._limits.connect
            head, failed = dict(response.headers), response.status_code != 200
            codings = codings_of(head, lenient=failed)
            taken = bytearray()
            async for piece in response.aiter_raw():
                taken += piece
                if failed and len(taken) >= ERROR_BODY:
                    del taken[ERROR_BODY:]
                    break
                if len(taken) > self._limits.body:
                    raise MalformedReply(f"{self._address.origin}: {too_large(self._limits.body)}")
            body = decode(bytes(taken), codings, ERROR_BODY if failed else self._limits.body, partial=failed)
            return HttpReply(response.status_code, head, body, reusable=True)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()
