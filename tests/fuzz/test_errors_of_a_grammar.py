"""Error replies made at random from a grammar are read as the errors that they stand for."""

from __future__ import annotations

from hypothesis import given, settings

from support.made_errors import MadeError, check_error, error_replies


@settings(max_examples=200, derandomize=True, deadline=None)
@given(error_replies())
def test_an_error_reply_is_read_as_what_it_means(made: MadeError) -> None:
    check_error(made)
