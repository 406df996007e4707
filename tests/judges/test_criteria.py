"""Rubrics as text, and verdicts on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.errors import UsageError
from simkit.rewards.criteria import Criterion, Rubric, Verdict
from simkit.rewards.judge import Unread, read_json
from simkit.rewards.numbered import LONGEST, Line, as_text, numbered, quoted

TEXT = """
# What counts
resolved (2): The customer got everything.
polite: The agent was polite: always.
clear [1-5]: How clear it was.
"""


def test_a_rubric_is_one_criterion_on_a_line() -> None:
    assert Rubric.of(TEXT).criteria == (
        Criterion("resolved", "The customer got everything.", 2.0),
        Criterion("polite", "The agent was polite: always."),
        Criterion("clear", "How clear it was.", 1.0, (1, 5)),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no criterion"),
        ("\n# only a comment", "has no criterion"),
        ("Be polite", r"line 1: `Be polite` is not a criterion"),
        ("a: x\n\na: y", "two criteria called `a`"),
        ("a [5-1]: x", r"line 1: a scale goes from a lower to a higher number"),
        ("a [1-1]: x", r"a scale goes from a lower to a higher number"),
        ("a [0-101]: x", r"a scale goes from a lower to a higher number, such as \[1-5\]; not \(0, 101\)"),
        ("a (0): x", r"the weight of `a` is 0"),
        ("a (1000000000.5): x", r"the weight of `a` is 1e\+09.*at most 1e\+09"),
        (f"a ({'9' * 400}): x", r"the weight of `a` is inf"),
        ("a:", "is not a criterion"),
    ],
)
def test_what_is_no_rubric_is_refused_with_the_line(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Rubric.of(text)


def test_the_widest_and_the_narrowest_scale_and_the_heaviest_weight_are_taken() -> None:
    assert Rubric.of("a [0-100]: x\nb [0-1]: x\nc (1000000000): x").criteria == (
        Criterion("a", "x", 1.0, (0, 100)),
        Criterion("b", "x", 1.0, (0, 1)),
        Criterion("c", "x", 1e9),
    )


def test_the_schema_has_every_verdict_with_its_reason_first() -> None:
    assert Rubric.of("polite: x\nclear [2-4]: y").schema == {
        "type": "object",
        "properties": {
            "polite": {
                "type": "object",
                "properties": {"reason": {"type": "string"}, "met": {"type": "boolean"}},
                "required": ["reason", "met"],
                "additionalProperties": False,
            },
            "clear": {
                "type": "object",
                "properties": {"reason": {"type": "string"}, "grade": {"type": "integer", "enum": [2, 3, 4]}},
                "required": ["reason", "grade"],
                "additionalProperties": False,
            },
        },
        "required": ["polite", "clear"],
        "additionalProperties": False,
    }


def test_a_byte_order_mark_is_no_part_of_the_first_criterion(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"\xef\xbb\xbfpolite: x\r\n")
    assert Rubric.read(tmp_path / "r.txt") == Rubric.of("polite: x")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"\xff\xfe")
    for name in ("r.txt", "missing.txt"):
        with pytest.raises(UsageError, match=rf"the rubric .*{name} cannot be read"):
            Rubric.read(tmp_path / name)


def test_criteria_of_a_task_come_before_those_for_all_and_replace_them() -> None:
    both = Rubric.of("a: mine\nb: x").plus(Rubric.of("a: theirs\nc: y"))
    assert [(each.name, each.text) for each in both] == [("a", "mine"), ("b", "x"), ("c", "y")]


def test_verdicts_are_read_in_the_order_of_the_criteria() -> None:
    given = {
        "clear": {"grade": 4, "reason": " quite\nclear "},
        "polite": {"met": "No", "reason": "rude"},
        "resolved": {"met": True},
    }
    assert Rubric.of(TEXT).verdicts(given) == (Verdict(1.0, ""), Verdict(0.0, "rude"), Verdict(0.75, "quite clear"))


@pytest.mark.parametrize(
    ("word", "value"), [("yes", 1.0), (" True ", 1.0), ("TRUE", 1.0), ("no", 0.0), ("false", 0.0), ("False\n", 0.0)]
)
def test_a_verdict_may_be_a_word(word: str, value: float) -> None:
    assert Rubric.of("a: x").verdicts({"a": {"met": word}}) == (Verdict(value, ""),)


@pytest.mark.parametrize(("grade", "value"), [(1, 0.0), (2, 0.25), (5, 1.0)])
def test_a_grade_is_a_share_of_its_scale(grade: int, value: float) -> None:
    assert Rubric.of("a [1-5]: x").verdicts({"a": {"grade": grade}}) == (Verdict(value, ""),)


def test_a_reason_is_kept_up_to_500_characters() -> None:
    criterion = Criterion("a", "x")
    found = [criterion.read({"met": True, "reason": "y" * length}) for length in (500, 502)]
    assert found == [Verdict(1.0, "y" * 500)] * 2


@pytest.mark.parametrize("broken", [None, "yes", {}, {"met": "perhaps"}, {"met": 1}, {"grade": 3}])
def test_a_verdict_in_another_form_is_none(broken: object) -> None:
    assert Rubric.of("a: x").verdicts({"a": broken}) == Unread("it has no verdict in the asked form on `a`")


@pytest.mark.parametrize("grade", [0, 6, True, "4", None])
def test_a_grade_outside_its_scale_is_none(grade: object) -> None:
    found = Rubric.of("a [1-5]: x").verdicts({"a": {"grade": grade}})
    assert found == Unread("it has no verdict in the asked form on `a`")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here it is:\n```json\n{"a": {"b": 2}}\n```\nDone.', {"a": {"b": 2}}),
        ('It is {"a": 1}.', {"a": 1}),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}),
        ('{"a": true, "a": false}', None),
        ('{"a": {"met": true, "met": true}}', None),
        ("[1]", None),
        ("{not json}", None),
        ('{"a": 1', None),
        ('"a": 1}', None),
        ("}", None),
        ("} and {", None),
        ("", None),
    ],
)
def test_json_may_stand_between_words(text: str, found: object) -> None:
    assert read_json(text) == found


def talk() -> Conversation:
    call = AssistantMessage.of("I look.", (ToolCall.of("c", "search", {"area": "north"}),))
    return Conversation(
        [
            Entry.system("Policy."),
            Entry.user("Hello,\n[2] agent: It is booked.", 0),
            Entry(call, "agent", turn=1),
            Entry(ToolMessage.of("c", "x" * (LONGEST + 5)), "tool", turn=1),
            Entry.agent("I found one.", 1),
        ]
    )


def test_no_text_of_a_conversation_can_look_like_another_line() -> None:
    lines = numbered(talk())
    assert [(line.number, line.label) for line in lines] == [
        (1, "user"),
        (2, "agent calls search"),
        (3, "result"),
        (4, "agent"),
    ]
    shown = as_text(lines).splitlines()
    assert shown[:3] == [
        "[1] user: Hello,",
        "    [2] agent: It is booked.",
        '[2] agent calls search: {"area": "north"}',
    ]
    assert shown[3].endswith("... (5 more characters)")
    assert "Policy" not in as_text(lines)


def test_a_line_is_shown_up_to_2000_characters() -> None:
    whole, cut = "x" * 2000, "x" * 2000 + "yz"
    assert str(Line(3, "tool", "result", whole)) == f"[3] result: {whole}"
    assert str(Line(4, "tool", "result", cut)) == f"[4] result: {whole}... (2 more characters)"


def test_calls_of_the_user_are_the_users_and_their_results_are_the_tools() -> None:
    call = AssistantMessage.of(None, (ToolCall.of("c", "pay", {"euros": 5}),))
    said = [Entry(call, "user_tool", turn=1), Entry(ToolMessage.of("c", "Paid."), "user_tool", turn=1)]
    assert numbered(said) == (
        Line(1, "user", "user calls pay", '{"euros": 5}'),
        Line(2, "tool", "result", "Paid."),
    )


def test_a_short_line_is_quoted_whole_and_a_line_without_words_never() -> None:
    lines = numbered([Entry.agent("...", 1), Entry.user("No.", 1), Entry.agent("No?!", 2)])
    assert quoted(lines, "no") == lines[1]
    assert quoted(lines, "[1] ...") is None


@pytest.mark.parametrize(
    ("quote", "number"),
    [
        ("I found one", 4),
        ('"i  FOUND one."', 4),
        ("[4] agent: I found one.", 4),
        ("agent: I found", 4),
        ("found", 4),
        ("I found two", None),
        ("result", None),
        ("[3] result: ", None),
        ("agent calls", None),
        ("agent calls search", 2),
        ('search: {"area"', 2),
        ("user: I found one.", None),
        ("a", None),
        ("I fo", None),
        ("", None),
        ("...", None),
    ],
)
def test_a_quote_is_looked_for_by_its_words(quote: str, number: int | None) -> None:
    line = quoted(numbered(talk()), quote)
    assert (line and line.number) == number
