"""Replies made at random from a grammar are read as what they mean."""

from __future__ import annotations

from hypothesis import given, settings

from support.made_replies import Made, anthropic_replies, check_anthropic, check_openai, openai_replies

BOUNDED = settings(max_examples=150, derandomize=True, deadline=None)


@BOUNDED
@given(openai_replies())
def test_a_chat_completion_is_read_as_what_it_means(made: Made) -> None:
    check_openai(made)


@BOUNDED
@given(anthropic_replies())
def test_a_message_of_anthropic_is_read_as_what_it_means(made: Made) -> None:
    check_anthropic(made)
