"""Replies with calls as text, made at random from a grammar of notations, are read as what they mean."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.local.chat import ChatFormat
from support.made_calls import MadeReply, call_replies, check_beginnings, check_calls, check_read
from support.tiny_llama import tiny_tokenizer

BOUNDED = settings(max_examples=200, derandomize=True, deadline=None)


@BOUNDED
@given(call_replies())
def test_each_call_of_a_reply_is_read_as_what_it_means(made: MadeReply) -> None:
    check_calls(made)


@BOUNDED
@given(call_replies(), st.lists(st.integers(0, 2000), min_size=1, max_size=8))
def test_the_beginning_of_a_reply_holds_its_first_calls(made: MadeReply, ends: list[int]) -> None:
    check_beginnings(made, ends)


@BOUNDED
@given(call_replies())
def test_a_local_model_speaks_none_of_its_calls(made: MadeReply) -> None:
    check_read(made, ChatFormat(tiny_tokenizer()))
