"""Text of a reply while it grows: equal to the text of all its tokens, and decoded piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.local.chat import ChatFormat
from simkit.local.incremental import GrowingText
from simkit.local.job import Job
from simkit.local.wire import Speech
from simkit.models.sampling import Sampling
from support.tiny_llama import tiny_tokenizer

CHARACTERS = "aé日🚲 "


def bytes_as_text(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


@settings(derandomize=True, deadline=None)
@given(st.text(CHARACTERS, max_size=30), st.lists(st.integers(1, 5), max_size=40))
def test_characters_of_several_tokens_come_whole(text: str, sizes: list[int]) -> None:
    ids, growing, found = list(text.encode()), GrowingText(bytes_as_text), ""
    for size in (*sizes, len(ids)):
        piece, ids = ids[:size], ids[size:]
        new = growing.add(piece)
        assert "\ufffd" not in new
        found += new
    assert found == text


def test_tokens_that_never_become_a_character_are_given_up() -> None:
    growing = GrowingText(bytes_as_text)
    found = [growing.add([0xFF]) for _ in range(20)]
    assert "".join(found) == "\ufffd" * 20


class Counting(ChatFormat):
    """Counts the tokens that are decoded."""

    decoded = 0

    def text(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return super().text(ids)


@pytest.mark.parametrize("calls", [True, False])
def test_a_stream_decodes_each_token_a_few_times_only(calls: bool) -> None:
    chat = Counting(tiny_tokenizer())
    speech = Speech(chat, calls=calls, stop=("never said",))
    ids = chat.tokenizer("please book the hotel in the north. " * 100, add_special_tokens=False)["input_ids"]
    heard = "".join(speech.hear([each]) for each in ids)
    assert len(ids) > 1000
    assert heard.startswith("please book the hotel")
    assert chat.decoded < 5 * len(ids)


def test_a_stop_text_over_several_tokens_is_found_at_its_first_place() -> None:
    chat = Counting(tiny_tokenizer())
    text = "I need a hotel in the north, please. In the north centre."
    ids = chat.tokenizer(text * 20, add_special_tokens=False)["input_ids"]
    job = Job([5], Sampling(stop=("north centre", "x" * 900)), 1, 5000)
    remaining = iter(ids)
    while job.finish is None:
        job.take(next(remaining), -1.0, chat)
    assert (job.finish, job.text) == ("stop", text[: text.index("north centre")])
    assert chat.decoded < 5 * len(job.ids)
