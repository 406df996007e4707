"""The address of an endpoint, and the constant part of its requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from simkit.errors import UsageError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

HIDDEN = "***"
"""Placeholder for a secret in a URL that is shown or stored."""

SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password|credential|session", re.IGNORECASE)
"""Names of headers that may hold a secret."""

_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_UP_TO_AT = re.compile(r"^(\w+://)?[^?#]*@")
_PUBLIC = frozenset({"api-version", "version"})


@dataclass(frozen=True, slots=True)
class Address:
    """The target of requests. `path` includes the query; `credentials` are those of the URL (`user:password`)."""

    secure: bool
    host: str
    port: int
    path: str = field(repr=False)
    credentials: str = field(default="", repr=False)

    @classmethod
    def of(cls, base_url: str, resource: str = "/chat/completions") -> Address:
        """The address of a resource below a base URL. The URL's query (`?api-version=...`) is kept.

        Raises:
            UsageError: the base URL is invalid.
        """
        parts = _split(base_url)
        secure = parts.scheme == "https"
        query = f"?{parts.query}" if parts.query else ""
        path = f"{parts.path.rstrip('/')}{resource}{query}"
        if not re.fullmatch(r"[\x21-\x7e]+", path):
            raise UsageError(f"the base URL `{shown_url(base_url)}` has characters that must be %-escaped")
        credentials = unquote(parts.netloc.rpartition("@")[0])
        return cls(secure, parts.hostname or "", parts.port or (443 if secure else 80), path, credentials)

    @property
    def origin(self) -> str:
        """Scheme, host and port: the endpoint's name in messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.secure else 80)
        return f"{'https' if self.secure else 'http'}://{host}{'' if usual else f':{self.port}'}"

    @property
    def url(self) -> str:
        """The whole URL."""
        return self.origin + self.path

    def head(self, headers: Mapping[str, str]) -> bytes:
        """Request line and headers, up to the value of the content length, which is last."""
        lines = [f"POST {self.path} HTTP/1.1", f"host: {self.origin.partition('://')[2]}"]
        lines += [f"{name}: {value}" for name, value in checked_headers(headers).items()]
        return "\r\n".join([*lines, "content-length: "]).encode("latin-1")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with lower-case names.

    Raises:
        UsageError: a name or value is invalid; values are not shown, because they may be secret.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name[:40]!r} is not a valid name of an HTTP header")
        if not _VALUE.fullmatch(value):
            raise UsageError(
                f"the header `{name}` holds a line break or another character that HTTP does not allow; "
                "check where its value comes from (a key file with a trailing newline?)"
            )
    return {name.lower(): value.strip() for name, value in headers.items()}


def _split(base_url: str) -> SplitResult:
    form = "use a form like http://localhost:8000/v1"
    shown = _UP_TO_AT.sub(rf"\1{HIDDEN}@", shown_url(base_url))  # a stray `/` in a password ends the authority part
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise UsageError(f"the base URL `{shown}` cannot be parsed; {form}, with %-escapes in a password") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"`{shown}` is not a valid base URL; {form}")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname):
        raise UsageError(f"the base URL `{shown}` has no valid host; {form}")
    return parts


def shown_url(url: str) -> str:
    """A URL safe to show and store: user name, password and query values are hidden, except versions."""
    url, _, _ = url.partition("#")
    place, mark, query = url.partition("?")
    fields = "&".join(map(_shown_field, query.split("&"))) if query else ""
    return f"{_USERINFO.sub(f'{HIDDEN}@', place)}{mark}{fields}"


def shown_header(header: str) -> str:
    """A header `NAME=VALUE` safe to show and store: the value is hidden if the name suggests a secret."""
    name, _, _ = header.partition("=")
    return f"{name}={HIDDEN}" if SECRET_HEADER.search(name) else header


def url_secrets(url: str) -> tuple[str, ...]:
    """The secrets that `shown_url` hides, with and without %-escapes."""
    place, _, query = url.partition("#")[0].partition("?")
    found = _USERINFO.search(place)
    secrets = re.split(":", found[0][:-1], maxsplit=1) if found else []
    secrets += [value for name, value in map(_field, query.split("&")) if name.lower() not in _PUBLIC]
    return tuple(dict.fromkeys(each for value in secrets for each in (value, unquote(value)) if len(each) > 3))


def url_credentials(url: str) -> tuple[str, ...]:
    """User name and password of a URL, joined as in basic authentication; empty if it has no password."""
    found = _USERINFO.search(url.partition("#")[0].partition("?")[0])
    return (unquote(found[0][:-1]),) if found and ":" in found[0] else ()


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    return (name, value) if equals else ("", name)


def _shown_field(text: str) -> str:
    name, value = _field(text)
    if name.lower() in _PUBLIC or not value:
        return text
    return f"{name}={HIDDEN}" if name else HIDDEN
