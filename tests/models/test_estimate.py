"""Estimates of tokens before a provider has counted them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from players_models import HELLO

from simkit.core.messages import ToolSpec, UserMessage
from simkit.models import ChatRequest
from simkit.models.base import ReplyLimit
from simkit.models.middleware.token_estimate import ReplyEstimate, TokenEstimate, request_bytes

TOOLS = tuple(ToolSpec.of(name, "Find something.", {}) for name in ("find", "book"))
SIZE = request_bytes(HELLO)


@pytest.mark.parametrize("tools", [(), TOOLS[:1], TOOLS])
@pytest.mark.parametrize("words", [(), ("one",), ("one", "two", "three")])
def test_a_request_is_as_long_as_its_messages_and_tools(words: Sequence[str], tools: Sequence[ToolSpec]) -> None:
    messages = [UserMessage.of(word) for word in words]
    whole = sum(len(each.to_json()) for each in (*messages, *tools))
    assert request_bytes(ChatRequest(messages=messages, tools=tools)) == whole


def test_before_anything_was_counted_a_byte_is_a_token_at_most_and_four_are_one_as_a_rule() -> None:
    estimate = TokenEstimate()
    assert estimate.bound(HELLO) == SIZE + 64
    assert estimate.likely(HELLO) == SIZE / 4


def test_the_bound_is_a_quarter_over_the_most_that_was_ever_counted() -> None:
    estimate = TokenEstimate()
    for tokens in (SIZE // 2, SIZE // 4):
        estimate.learn(HELLO, tokens)
        assert estimate.bound(HELLO) == int(SIZE // 2 * 1.25) + 64
    estimate.learn(HELLO, SIZE * 2)
    assert estimate.bound(HELLO) == SIZE + 64, "no tokenizer needs more than a token for a byte"


def test_one_token_is_a_count() -> None:
    estimate = TokenEstimate()
    estimate.learn(HELLO, 1)
    assert estimate.bound(HELLO) == 1 + 64


def test_the_likely_number_moves_a_tenth_of_the_way_to_each_count() -> None:
    estimate = TokenEstimate()
    estimate.learn(HELLO, SIZE)
    assert estimate.likely(HELLO) == pytest.approx(SIZE * 0.325)
    estimate.learn(HELLO, SIZE)
    assert estimate.likely(HELLO) == pytest.approx(SIZE * 0.3925)


@pytest.mark.parametrize("request_", [HELLO, replace(HELLO, messages=())])
def test_what_is_no_count_teaches_nothing(request_: ChatRequest) -> None:
    estimate = TokenEstimate()
    for tokens in (0, -1) if request_ is HELLO else (5,):
        estimate.learn(request_, tokens)
    assert (estimate.bound(HELLO), estimate.likely(HELLO)) == (SIZE + 64, SIZE / 4)


@pytest.mark.parametrize(
    ("lengths", "limit"),
    [
        ((), ReplyLimit(4096)),
        ((0,), ReplyLimit(64, provisional=True)),
        ((32,), ReplyLimit(64, provisional=True)),
        ((33,), ReplyLimit(128, provisional=True)),
        ((100, 10), ReplyLimit(256, provisional=True)),
        ((10, 100), ReplyLimit(256, provisional=True)),
        ((1024,), ReplyLimit(2048, provisional=True)),
        ((1025,), ReplyLimit(4096)),
        ((4000,), ReplyLimit(4096)),
    ],
)
def test_room_for_a_reply_is_twice_the_longest_before_it_in_powers_of_two(
    lengths: Sequence[int], limit: ReplyLimit
) -> None:
    estimate = ReplyEstimate(4096)
    for length in lengths:
        estimate.learn(length)
    assert estimate.limit() == limit
