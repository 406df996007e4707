"""Text that acts on a terminal, or hides in it, is shown as escapes."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.core.safe_text import visible, visible_block, visible_json, visible_line

HOSTILE = {
    "clipboard": ("\x1b]52;c;ZXZpbA==\x07", "\\x1b]52;c;ZXZpbA==\\x07"),
    "title": ("\x1b]0;pwned\x1b\\", "\\x1b]0;pwned\\x1b\\"),
    "clear": ("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
    "link": ("\x1b]8;;http://evil\x1b\\here", "\\x1b]8;;http://evil\\x1b\\here"),
    "one byte": ("\x9b2J \x9d0;x\x9c \x90q\x9c", "\\x9b2J \\x9d0;x\\x9c \\x90q\\x9c"),
    "overwritten": ("reward 0\rreward 1", "reward 0\\rreward 1"),
    "erased": ("no\b\byes \x7f", "no\\x08\\x08yes \\x7f"),
    "turned round": ("\u202egnorw\u202c \u2066x\u2069", "\\u202egnorw\\u202c \\u2066x\\u2069"),
    "zero width": ("a\u200bb\u2060c\ufeffd", "a\\u200bb\\u2060c\\ufeffd"),
    "joined": ("a\u200db\u200c", "a\\u200db\\u200c"),
    "separators": ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
    "tags": ("hi\U000e0068\U000e0069", "hi\\U000e0068\\U000e0069"),
    "selectors": ("😀\ufe0f\ufe01\ufe02 x\ufe00", "😀\ufe0f\\ufe01\\ufe02 x\\ufe00"),
    "half": ("\ud83d!", "\\ud83d!"),
    "fillers": ("\u3164\u115f\xad\u034f", "\\u3164\\u115f\\xad\\u034f"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_acts_or_hides_is_shown(name: str) -> None:
    text, shown = HOSTILE[name]
    assert visible(text) == shown


WRITTEN = {
    "plain": "plain",
    "lines": "tab\tand\nline",
    "letters": "Grüße, 日本語, ∮",
    "family": "👨\u200d👩\u200d👧",
    "burning heart": "❤️\u200d🔥",
    "persian": "می\u200cخواهم",
    "keycap": "1\ufe0f\u20e3",
    "markup": "[bold]x[/bold]",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_people_write_stays(name: str) -> None:
    assert visible(WRITTEN[name]) == WRITTEN[name]


@given(st.text(st.characters(), max_size=40))
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible_line(text)
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff")
    assert visible_line(shown) == shown


@given(st.text(st.characters(), max_size=40))
def test_json_keeps_its_values(text: str) -> None:
    line = visible_json(json.dumps([text], ensure_ascii=False))
    assert json.loads(line) == [text]
    assert visible(line) == line


def test_a_text_of_several_lines_passes_for_one_speaker_only() -> None:
    assert visible_line("ok\n  2 user  I agree\tnow") == "ok\\n  2 user  I agree\\tnow"
    assert visible_block("ok\nyou: yes\r\n", 7) == "ok\n       you: yes\\r\n       "
