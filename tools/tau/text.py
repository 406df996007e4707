"""Text that an agent reads as the result of a call: the release's JSON, and its words for a refusal or an exception."""

from __future__ import annotations

import json


class Refused(Exception):
    """Reason why a tool refuses a call, in the words of the release."""


def value_text(value: object) -> str:
    """The result of a tool as text: a string as it is, anything else as JSON in the layout of `json.dumps`."""
    return value if isinstance(value, str) else json.dumps(value)


def error_text(error: Exception) -> str:
    """What the agent reads in place of a result. The words of Python's own exceptions are part of it."""
    return f"Error: {error}"
