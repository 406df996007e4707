"""Files of questions and of held-out text, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simkit.errors import UsageError
from simkit.preservation.perplexity import Document, read_corpus
from simkit.preservation.questions import read_questions

GOOD = {"question_id": 1, "category": "writing", "turns": ["Write.", "Shorter."], "reference": ["a"]}


def written(folder: Path, *lines: Any) -> Path:
    file = folder / "mine.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_questions_are_read(tmp_path: Path) -> None:
    one, two = read_questions(written(tmp_path, GOOD, "", {"question_id": "b", "turns": ["Hm?"]}))
    assert (one.id, one.turns, one.category, one.reference) == ("1", ("Write.", "Shorter."), "writing", ("a", ""))
    assert (two.id, two.turns, two.category, two.reference) == ("b", ("Hm?",), "", ())
    assert one.digest != two.digest
    assert read_questions(tmp_path / "mine.jsonl", 1) == (one,)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ([1], "line 2 is not a JSON object"),
        ({"turns": ["a"]}, "line 2 has no question_id"),
        ({"question_id": 2}, "line 2 has no turns"),
        ({"question_id": 2, "turns": []}, "line 2 has no turns"),
        ({"question_id": 2, "turns": "a"}, "line 2: `turns` is not a list of non-empty texts"),
        ({"question_id": 2, "turns": ["a", " "]}, "line 2: `turns` is not a list of non-empty texts"),
        ({"question_id": 2, "turns": ["a"], "reference": ["a", "b"]}, "line 2 has 2 references for 1 turns"),
        (GOOD, "two questions with the id 1"),
    ],
)
def test_a_bad_question_is_named_with_its_line(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_questions(written(tmp_path, GOOD, line))


def test_a_question_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="holds no question"):
        read_questions(written(tmp_path, ""))


def test_a_text_is_split_at_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "held.txt"
    file.write_text("one\ntwo\n\n \nthree\n\none\ntwo\n")
    first, second = read_corpus(file)
    assert (first.text, second.text) == ("one\ntwo", "three")
    assert first == Document.of("one\ntwo")
    assert read_corpus(file, 1) == (first,)


def test_json_lines_and_folders(tmp_path: Path) -> None:
    named, unnamed = read_corpus(written(tmp_path, {"text": "größer", "id": 7}, {"text": "b"}, {"text": " "}))
    assert (named.id, named.bytes, unnamed.id) == ("7", 8, Document.of("b").id)
    (tmp_path / "b.txt").write_text("second\n\nstill second")
    (tmp_path / "a.txt").write_text("first")
    assert [each.id for each in read_corpus(tmp_path)] == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": "a"}', "{"], "line 2 is not JSON"),
        (['{"words": "a"}'], "line 1 has no text"),
        (['{"text": "a", "id": 1}', '{"text": "b", "id": 1}'], "two texts with the id 1"),
        ([""], "holds no text"),
    ],
)
def test_a_bad_corpus_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_corpus(written(tmp_path, *lines))
    with pytest.raises(UsageError, match="cannot be read"):
        read_corpus(tmp_path / "none.txt")
