"""Redaction: what an expression matches is in no text of an answer, wherever it stood and however it was cut."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from viewing_events import told

from simkit.core.conversation import Entry
from simkit.errors import UsageError
from simkit.store import Reader, Store
from simkit.viewing.export import Choice, collected
from simkit.viewing.redaction import RedactedReader, Redaction, without_keys

MAIL = r"[\w.]+@[\w.]+"


def test_an_expression_must_say_something() -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        Redaction.of(["("])
    with pytest.raises(UsageError, match="matches the empty text"):
        Redaction.of(["x", "a*"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ask a.b@c.de now", "ask [redacted] now"),
        ('{"mail": "a@b.c", "a@b.c": ["x a@b.c"]}', '{"mail":"[redacted]","[redacted]":["x [redacted]"]}'),
        ('{"mail": "nothing"}', '{"mail": "nothing"}'),
        (r'{"m": "a\u0040b.c"}', '{"m":"[redacted]"}'),
        ('"a@b.c"', '"[redacted]"'),
        ("{a@b.c", "{[redacted]"),
        ("", ""),
    ],
)
def test_texts_and_the_strings_of_json_in_them(text: str, shown: str) -> None:
    assert Redaction.of([MAIL]).text(text) == shown


def test_json_columns_stay_json_and_keep_the_keys_that_are_looked_up() -> None:
    redaction = Redaction.of(["content", '"name": "', "ann"])
    text = json.dumps({"content": "the content", "name": "joann", "ann": 1, "more": {"x": [None, 2, "ann"]}})
    assert json.loads(redaction.cell("message", text)) == {
        "content": "the [redacted]",
        "name": "jo[redacted]",
        "[redacted]": 1,
        "more": {"x": [None, 2, "[redacted]"]},
    }


def test_ids_keep_their_form_and_words_their_meaning() -> None:
    redaction = Redaction.of(["done", "user", "t-1"]).naming(["r-1", "user/2"], ["t-1", "t-2"])
    assert redaction.names == {"user/2": "run-2", "t-1": "task-1"}
    answer = {
        "run_id": "r-1",
        "task_id": "t-1",
        "branch_id": "user/2/t-1/0/L.1",
        "prev": "t-1/0",
        "author": "user",
        "status": "done",
        "text": "the user is done with t-1",
        "t-1/0": {"turn": [1]},
        "runs": ["user/2", "r-1"],
        "not t-1x": None,
    }
    assert redaction.answer(answer) == {
        "run_id": "r-1",
        "task_id": "task-1",
        "branch_id": "run-2/task-1/0/L.1",
        "prev": "task-1/0",
        "author": "user",
        "status": "done",
        "text": "the [redacted] is [redacted] with [redacted]",
        "task-1/0": {"turn": [1]},
        "runs": ["run-2", "r-1"],
        "not t-1x": None,
    }


@given(st.text(max_size=40), st.sampled_from(["secret", "a", "[0-9]+", "é"]))
def test_no_match_remains_in_any_text(text: str, expression: str) -> None:
    redaction = Redaction.of([expression])
    for shown in (redaction.text(text), redaction.text(json.dumps({"x": text}))):
        assert not re.search(expression, shown.replace("[redacted]", ""))


def test_what_looks_like_a_key_is_not_in_a_configuration() -> None:
    config = {
        "api_key": "abc",
        "nested": [{"Authorization": "Bearer x", "base_url": "https://u:pw@host/v1", "max_tokens": 90}],
        "agent": "x,sk-proj-0123456789abcdef",
        "empty_key": "",
        "tokens": {"count": 3},
    }
    assert without_keys(config) == {
        "api_key": "[key]",
        "nested": [{"Authorization": "[key]", "base_url": "https://[key]@host/v1", "max_tokens": 90}],
        "agent": "x,[key]",
        "empty_key": "",
        "tokens": {"count": 3},
    }


# --- of a store -------------------------------------------------------------------------------------------------------


def strings(value: Any) -> list[str]:
    """All strings and keys of a JSON value."""
    match value:
        case str():
            return [value]
        case dict():
            known = cast("dict[str, Any]", value)
            return [text for key, each in known.items() for text in (key, *strings(each))]
        case list() | tuple():
            return [text for each in cast("Sequence[Any]", value) for text in strings(each)]
        case _:
            return []


def everything(reader: Reader, run: str, *redact: str) -> list[str]:
    choice = Choice(run=reader.resolve(run).run_id, all_branches=True, redact=redact)
    found = collected(reader, choice)
    return strings([found.start, found.all_answers, found.left_out])


@pytest.mark.parametrize("expression", ["reference", "hotel", r"\d\d:\d\d", "train-0000[12]", "scripted", "rate"])
def test_an_export_has_no_match_in_any_string(played: Path, expression: str) -> None:
    with Store(played).reading() as reader:
        found = everything(reader, "trees", expression)
    assert re.search(r"\[redacted\]|task-2/0", " ".join(found))
    assert [text for text in found if re.search(expression, text)] == []


@pytest.mark.parametrize(
    "expression", [r"[{}\[\]\":,]", ".", r"(?s)\A.+\Z", "null|true|[0-9]", "content|name|reward|value|turn"]
)
def test_an_expression_that_matches_structure_leaves_an_export_whole(played: Path, expression: str) -> None:
    with Store(played).reading() as reader:
        run = reader.resolve("trees").run_id
        plain = collected(reader, Choice(run=run, episodes=("train-00001",)))
        found = collected(reader, Choice(run=run, episodes=("train-00001",), redact=(expression,)))
    assert len(found.all_answers) == len(plain.all_answers)
    talks = [value for path, value in found.all_answers.items() if path.startswith("/api/transcript/")]
    assert {value["after"] for value in talks if "after" in value} < {*found.all_answers}
    (episode,) = found.episodes.values()
    (before,) = plain.episodes.values()
    pages = [next(each for path, each in one.items() if "/episodes/" in path) for one in (episode, before)]
    assert pages[0]["nodes"]["parent"] == pages[1]["nodes"]["parent"]
    assert pages[0]["nodes"]["path"] == pages[1]["nodes"]["path"]


def test_a_match_that_a_cut_would_split_is_gone_as_well(tmp_path: Path) -> None:
    secret = "secret-" + "9" * 30
    texts = [f"{'x' * (399 - n)}{secret}" for n in range(36)] + [f"{'y' * 19_980}{secret}{'z' * 100}"]
    store = Store(tmp_path / "store")
    told(store, "r1", [Entry.agent(text, turn) for turn, text in enumerate(texts, 1)])
    with store.reading() as reader:
        found = everything(reader, "r1", r"secret-9{30}")
    assert any("x[redacted]" in text or "[redacted" in text for text in found)
    assert not [text for text in found if "secr" in text or "999" in text]


def test_a_redacted_reader_redacts_in_its_scopes_too(played: Path) -> None:
    with Store(played).reading() as reader:
        own = RedactedReader(reader, Redaction.of(["trees"]))
        run = reader.resolve("trees").run_id
        with own.scoped([run]) as scoped, scoped.reading(allow_incomplete=True) as again:
            assert again.query("select name from runs where run_id = ?", [run]).rows == [("[redacted]",)]
        assert own.runs()[0].name == "[redacted]"
