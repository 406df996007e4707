"""Where an endpoint is, and the part of a request that never changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from simkit.errors import UsageError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Address:
    """The place requests are posted to: `path` holds the query too."""

    secure: bool
    host: str
    port: int
    path: str

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
            raise UsageError(f"the base URL `{base_url}` has characters that must be %-escaped")
        return cls(secure, parts.hostname or "", parts.port or (443 if secure else 80), path)

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
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"the base URL `{base_url}` cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"the base URL `{base_url}` is none; write it like http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the base URL holds a user name or password; give the key as OPENAI_API_KEY instead")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname):
        raise UsageError(f"the base URL `{base_url}` has no valid host; write it like http://localhost:8000/v1")
    return parts
