"""Removal of secrets from texts of foreign code: error messages and source lines that are stored and shown.

Model endpoints know their own keys (`simkit.models.transport.secrets`). The code of a component may hold others: in the
environment, in a message of a client library, or as a literal in a line of source.
"""

from __future__ import annotations

import os
import re

REMOVED = "[key]"
"""Replacement for a secret."""

_SHORTEST = 8
"""Minimum characters of an environment variable's value that is treated as a secret."""

_NAMES = r"api[-_]?key|access[-_]?key|private[-_]?key|auth[-_]?key|token|secret|passw(?:or)?d|passphrase|credential"
_SECRET_NAME = re.compile(rf"(?:{_NAMES}|authorization|_key$|^key$)", re.IGNORECASE)
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk)-[\w-]{12,}|\bhf_\w{16,}|\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}|\bxox[a-z]-[\w-]{10,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
)
_SCHEMES = re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_LOGINS = re.compile(r"(://)[^\s/@'\"]+:[^\s/@'\"]+@")
_TELLING = rf"\w{{0,40}}(?:{_NAMES}|authorization)\w{{0,40}}"
_LITERALS = re.compile(rf"(\b{_TELLING}['\"]?\]?\s*[=:,]\s*[bfru]*)(['\"])(?:(?!\2).){{4,400}}\2", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text without keys and passwords.

    Removed are the values of environment variables with telling names, the usual shapes of keys, credentials in URLs
    and headers, and literals that are assigned to telling names.
    """
    for value in _environment():
        text = text.replace(value, REMOVED)
    text = _SHAPES.sub(REMOVED, text)
    text = _SCHEMES.sub(rf"\1\2{REMOVED}", text)
    text = _LOGINS.sub(rf"\1{REMOVED}@", text)
    return _LITERALS.sub(rf"\1\2{REMOVED}\2", text)


def names_secret(name: str) -> bool:
    """Whether the name of a variable says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


def _environment() -> list[str]:
    """Secret values of the environment, longest first, so that no part of a longer one remains."""
    found = {value for name, value in os.environ.items() if names_secret(name) and not _is_plain(value)}
    return sorted(found, key=len, reverse=True)


def _is_plain(value: str) -> bool:
    """Whether a value is too short, an ordinary word, a number or a path, which also occurs in harmless texts."""
    return (
        len(value) < _SHORTEST
        or value.startswith(("/", "~"))
        or value.isdigit()
        or (value.isalpha() and len(value) < 20)
    )
