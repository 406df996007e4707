"""Where an endpoint is, and the part of a request that never changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from simkit.errors import UsageError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

HIDDEN = "***"
"""What stands for a secret in a URL that is shown or stored."""

_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_UP_TO_AT = re.compile(r"^(\w+://)?[^?#]*@")
_PUBLIC = frozenset({"api-version", "version"})


@dataclass(frozen=True, slots=True)
class Address:
    """The place requests are posted to: `path` holds the query too, `credentials` are the URL's (`user:password`)."""

    secure: bool
    host: str
    port: int
    path: str = field(repr=False)
    credentials: str = field(default="", repr=False)

    @classmethod
    def of(cls, base_url: str, resource: str = "/chat/completions") -> Address:
        """The address of a resource below a base URL, whose query (`?api-version=...`) is kept.

        Raises:
            UsageError: the base URL is not one.
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
        """Scheme, host and port: what names the endpoint in messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.secure else 80)
        return f"{'https' if self.secure else 'http'}://{host}{'' if usual else f':{self.port}'}"

    @property
    def url(self) -> str:
        """The whole URL."""
        return self.origin + self.path

    def head(self, headers: Mapping[str, str]) -> bytes:
        """Request line and headers, up to the value of the content length, which comes last."""
        lines = [f"POST {self.path} HTTP/1.1", f"host: {self.origin.partition('://')[2]}"]
        lines += [f"{name}: {value}" for name, value in checked_headers(headers).items()]
        return "\r\n".join([*lines, "content-length: "]).encode("latin-1")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with lower-case names.

    Raises:
        UsageError: a name or value that would break out of its line; values are not shown, they may be secret.
    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name[:40]!r} is no name of an HTTP header")
        if not _VALUE.fullmatch(value):
            raise UsageError(
                f"the header `{name}` holds a line break or another character that HTTP does not allow; "
                "check where its value comes from (a key file with a trailing newline?)"
            )
    return {name.lower(): value.strip() for name, value in headers.items()}


def _split(base_url: str) -> SplitResult:
    form = "write it like http://localhost:8000/v1"
    told = _UP_TO_AT.sub(rf"\1{HIDDEN}@", shown_url(base_url))  # a stray `/` in a password moves it out of its place
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise UsageError(f"the base URL `{told}` cannot be read; {form}, with %-escapes in a password") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"the base URL `{told}` is none; {form}")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname):
        raise UsageError(f"the base URL `{told}` has no valid host; {form}")
    return parts


def shown_url(url: str) -> str:
    """A URL as it may be shown and stored: user name, password and the values of its query hidden, but for versions."""
    url, _, _ = url.partition("#")
    place, mark, query = url.partition("?")
    fields = "&".join(map(_shown_field, query.split("&"))) if query else ""
    return f"{_USERINFO.sub(f'{HIDDEN}@', place)}{mark}{fields}"


def url_secrets(url: str) -> tuple[str, ...]:
    """What `shown_url` hides, as it stands there and without %-escapes."""
    place, _, query = url.partition("#")[0].partition("?")
    found = _USERINFO.search(place)
    secrets = re.split(":", found[0][:-1], maxsplit=1) if found else []
    secrets += [value for name, value in map(_field, query.split("&")) if name.lower() not in _PUBLIC]
    return tuple(dict.fromkeys(each for value in secrets for each in (value, unquote(value)) if len(each) > 3))


def url_credentials(url: str) -> tuple[str, ...]:
    """User name and password of a URL in one, as basic authentication sends them; empty when it has no password."""
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
