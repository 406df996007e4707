"""Training files made at random from a grammar hold what was written into them."""

from __future__ import annotations

from hypothesis import given, settings

from support.made_files import MadeFile, check_altered, check_file, files


@settings(max_examples=60, derandomize=True, deadline=None)
@given(files())
def test_a_training_file_is_read_as_what_it_holds(made: MadeFile) -> None:
    check_file(made)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(files())
def test_a_file_that_was_cut_off_gives_examples_or_an_error(made: MadeFile) -> None:
    check_altered(made.data[: len(made.data) * 2 // 3], made.name)
