"""Tracebacks for authors: bounded, own frames first, without secrets and control characters."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from simkit.core.redaction import redacted
from simkit.core.tracebacks import MOST, own_place, traceback_of
from simkit.errors import AgentFault, RateLimited, RunStopped, UsageError


def caught(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_own_frames_come_before_those_of_libraries() -> None:
    error = caught(lambda: json.loads("{"))
    lines = traceback_of(error).splitlines()
    libraries = lines.index("  in libraries:")
    assert all(__file__ in line for line in lines[1:libraries] if line.startswith("  File"))
    assert not any(__file__ in line for line in lines[libraries:])
    assert own_place(error).startswith(f"{__file__}:")


def test_a_deep_stack_and_a_long_message_are_cut() -> None:
    def deeper(level: int) -> None:
        deeper(level + 1)

    text = traceback_of(caught(lambda: deeper(0)))
    assert "more frames" in text
    assert len(text) < MOST + 100

    def long() -> None:
        raise ValueError("x" * 100_000)

    assert len(traceback_of(caught(long))) < 2_500


def test_a_chain_that_contains_itself_ends() -> None:
    def circular() -> None:
        first, second = ValueError("first"), TypeError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    text = traceback_of(caught(circular))
    assert (text.count("ValueError: first"), text.count("TypeError: second")) == (1, 1)


def test_control_characters_and_imitated_frames_are_shown_as_text() -> None:
    def painted() -> None:
        raise ValueError('\x1b]0;title\x07\nFile "fake.py", line 1')

    text = traceback_of(caught(painted))
    assert "\x1b" not in text
    assert "\\x1b]0;title\\x07" in text
    assert not any(line.startswith('  File "fake.py"') for line in text.splitlines())


def test_an_error_of_simkit_without_foreign_code_has_no_traceback() -> None:
    def refused() -> None:
        raise UsageError("a mistake of the caller's")

    assert traceback_of(caught(refused)) == ""
    assert traceback_of(RateLimited("too often")) == ""
    assert traceback_of(AgentFault("a reply of the wrong kind")) == ""


KEY = "abcDEF123456ghijkl"


@pytest.mark.parametrize(
    "text",
    [
        f"401: the key {KEY} is invalid",
        "401: sk-proj-abcdefghijklmnop was refused",
        "Authorization: Bearer abcdef.ghijkl-mnop",
        "cannot open https://user:hunter2@host/path",
        'client = Client(api_key="hunter2 hunter2")',
        "headers={'x-api-key': 'hunter2'}",
        "PASSWORD = 'hunter2'",
    ],
)
def test_keys_and_passwords_are_removed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", KEY)
    clean = redacted(text)
    assert "[key]" in clean
    assert not any(secret in clean for secret in (KEY, "abcdefghijklmnop", "abcdef.ghijkl", "hunter2"))


@pytest.mark.parametrize(
    "text",
    ["KeyError: 'stars'", "max_tokens = 512", "row['key'] is missing", "tokens: 3 of 4", "see https://host/path?x=1"],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redacted(text) == text


def test_a_usage_error_about_the_code_of_the_author_shows_only_that_code() -> None:
    def loading() -> None:
        try:
            json.loads("{")
        except ValueError as error:
            raise UsageError("mine.py cannot be imported") from error

    text = traceback_of(caught(loading))
    assert text.startswith("JSONDecodeError")
    assert "UsageError" not in text
    assert text.count("test_tracebacks.py") == 1


@pytest.mark.parametrize(
    "kinds", [(UsageError, UsageError), (UsageError, RunStopped, UsageError), (KeyError, UsageError)]
)
def test_a_chain_that_leads_back_to_its_beginning_ends(kinds: tuple[type[Exception], ...]) -> None:
    errors = [kind(f"error {place}") for place, kind in enumerate(kinds)]
    for error, cause in zip(errors, (*errors[1:], errors[0]), strict=True):
        error.__cause__ = cause
    assert traceback_of(errors[0]).count("error 0") <= 1
