"""A long text of repeated or nested marks is read in linear time: with squared time each case would take minutes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from simkit.core.reasoning import leaks_reasoning, split_reasoning
from simkit.core.text_calls import find_calls
from support.made_replies import check_any
from support.made_texts import TOOLS

LONG = 1 << 18


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fails a test that hangs instead of waiting for it."""

    def hang(*_: object) -> None:
        raise TimeoutError("it does not end")

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def filled(unit: str, head: str = "", tail: str = "") -> str:
    return head + unit * (LONG // len(unit.encode())) + tail


@pytest.mark.parametrize(
    "text",
    [
        filled("`</think>` and more words of a sentence, "),
        filled("Some words, then a mark. <think> with a word ", "Hello "),
        filled("‘</think>’ is what they write "),
        filled("<think>some thoughts of it</thinking>"),
        filled(" ", "<answer>", "x"),
        filled(" ", "<think>a</think><answer>", "x"),
        filled("<|channel|>analysis<|message|>some words "),
        filled("<"),
        filled("a", "<"),
    ],
)
def test_marks_of_reasoning(text: str) -> None:
    split_reasoning(text)
    leaks_reasoning(text)
    check_any(json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        "[" * LONG,
        '{"error":' * (LONG // 9),
        filled('data: {"choices": [{"delta": {"logprobs": [1], "content": "a"}}]}\n\n'),
        filled("data: \n\n"),
        filled("limit 1 requested "),
        filled("{ "),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 429])
def test_bodies(body: str, status: int) -> None:
    check_any(body.encode(), status)


@pytest.mark.parametrize(
    "unit", ["\n{", "assistantcommentary to=", "\n***", "<function=book>", "<tool_call>{ ", "book(", "print("]
)
def test_texts_in_which_calls_are_looked_for(unit: str) -> None:
    for size in (16_000, LONG):
        text = "{" + unit * (size // len(unit))
        find_calls(text, TOOLS, anywhere=True)
        find_calls(text, TOOLS)
