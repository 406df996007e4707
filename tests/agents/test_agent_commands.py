from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.agents.commands import END, CallCommand, Command, CommandError, PlanCommand, SpeakCommand, parse, render

CALL = CallCommand("search_hotel", {"area": "north"})
CALL_TEXT = 'APICALL {"name": "search_hotel", "parameters": {"area": "north"}}'


def test_a_plan_and_a_call() -> None:
    text = f"PLAN I know the area. {END}\n{CALL_TEXT} {END}"
    assert parse(text) == (PlanCommand("I know the area."), CALL)


def test_a_plan_and_a_speech() -> None:
    assert parse(f"PLAN There is one. {END}\nSPEAK Shall I book it? {END}") == (
        PlanCommand("There is one."),
        SpeakCommand("Shall I book it?"),
    )


def test_several_commands_in_one_reply() -> None:
    text = f"PLAN Two at once. {END} {CALL_TEXT} {END} {CALL_TEXT} {END}"
    assert parse(text) == (PlanCommand("Two at once."), CALL, CALL)


@pytest.mark.parametrize(
    "words",
    [
        "I PLAN to SPEAK about the APICALL",
        "first line\nsecond line",
        "a list:\nPLAN A, by train\nSPEAK up if you like it",
        'he said "go" \\ and {"name": "x"}',
        "ends with a colon: ",
        ": begins with one",
        "SPEAKER, PLANNING, APICALLS",
        "emoji 🚲 and ümlaut",
        "a < b > c",
    ],
)
def test_a_speech_may_hold_anything(words: str) -> None:
    assert parse(f"SPEAK {words} {END}") == (SpeakCommand(words.strip()),)


@pytest.mark.parametrize(
    ("parameters", "json"),
    [
        ({"a": {"b": {"c": [1, {"d": "}"}]}}}, '{"a": {"b": {"c": [1, {"d": "}"}]}}}'),
        ({"a": 'quote " slash \\ line \n'}, '{"a": "quote \\" slash \\\\ line \\n"}'),
        ({"a": "raw\nline"}, '{"a": "raw\nline"}'),
        ({"a": f"{END}\nSPEAK no"}, f'{{"a": "{END}\nSPEAK no"}}'),
        ({"a": "é"}, '{"a": "\\u00e9"}'),
        ({}, "{}"),
        ("north", '"north"'),
        (None, "null"),
    ],
)
def test_json_is_read_as_json(parameters: object, json: str) -> None:
    text = f'APICALL {{"name": "t", "parameters": {json}}} {END} SPEAK after {END}'
    assert parse(text) == (CallCommand("t", parameters), SpeakCommand("after"))


@pytest.mark.parametrize(
    "text",
    [
        f"APICALL\n```json\n{CALL_TEXT[8:]}\n```\n{END}",
        f"```\n{CALL_TEXT}\n```",
        f"**APICALL**: {CALL_TEXT[8:]}",
        f"> {CALL_TEXT}{END}",
        f"Sure, here is my command.\n{CALL_TEXT}",
        f"I will use an {CALL_TEXT} for that",
        f"<think>SPEAK or APICALL?</think>\n{CALL_TEXT} {END}",
        CALL_TEXT.replace("parameters", "arguments"),
        f"{CALL_TEXT}}} {END}",
        f"{CALL_TEXT} < COMMAND_END >",
        CALL_TEXT.replace(", ", ",\n    ").replace("{", "{\n"),
        f"{CALL_TEXT} {END}\nAPIRETURN []\nSPEAK Nothing there. {END}",
    ],
)
def test_what_models_write_around_a_call(text: str) -> None:
    assert parse(text) == (CALL,)


@pytest.mark.parametrize(
    "text",
    [
        f"PLAN Look it up.\n{CALL_TEXT} {END}",
        f"PLAN Look it up. {CALL_TEXT}",
        f"PLAN Look it up. {END}{CALL_TEXT}",
        f"- PLAN Look it up.\n\n- {CALL_TEXT}",
    ],
)
def test_a_plan_ends_where_a_call_begins(text: str) -> None:
    found = parse(text)
    assert isinstance(found, tuple)
    assert isinstance(found[0], PlanCommand)
    assert found[0].text.startswith("Look it up.")
    assert found[1:] == (CALL,)


def test_without_ends_a_line_begins_a_command() -> None:
    found = parse("PLAN Answer.\nSPEAK The red one.\nPLAN Wait.")
    assert found == (PlanCommand("Answer."), SpeakCommand("The red one."), PlanCommand("Wait.", whole=False))


def test_a_call_behind_a_speech_is_no_speech() -> None:
    assert parse(f"SPEAK Let me see.\n{CALL_TEXT} {END}") == (SpeakCommand("Let me see."), CALL)


def test_what_a_model_makes_tools_return_is_left_out() -> None:
    text = f'SPEAK One moment.\nAPIRETURN [{{"name": "x"}}]\nSPEAK I found x. {END}'
    assert parse(text) == (SpeakCommand("One moment."),)


def test_a_command_that_the_text_cuts_short_is_not_whole() -> None:
    assert parse(f"PLAN a {END} SPEAK The hotel is in the nor") == (
        PlanCommand("a"),
        SpeakCommand("The hotel is in the nor", False),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no command"),
        ("Hello! How can I help?", "holds no command"),
        (f"SPEAK {END}", "holds no command"),
        ("APIRETURN []", "holds no command"),
        (f"APICALL search_hotel(area=north) {END}", "is not JSON (Expecting value, at `search_hotel(area=no`)"),
        ("APICALL {'name': 'x'}", "is not JSON"),
        ('APICALL {"name": "x", "parameters": {"a": }}', "is not JSON"),
        ('APICALL {"parameters": {}}', "does not name a tool"),
        ('APICALL {"name": ""}', "does not name a tool"),
        ('APICALL ["search_hotel"]', "does not name a tool"),
        ('APICALL {"name": "x", "parameters": {"a": NaN}}', "NaN is no JSON"),
        ('APICALL {"name": "\\ud800"}', "cannot be used"),
        ('APICALL {"name": "x", "parameters": ' + "9" * 5000 + "}", "cannot be used"),
        ("APICALL " + "[" * 100_000, "cannot be used"),
        (f"{CALL_TEXT} {END} APICALL {{oops}} {END}", "is not JSON"),
    ],
)
def test_what_cannot_be_read_is_told_to_the_model(text: str, reason: str) -> None:
    found = parse(text)
    assert isinstance(found, CommandError)
    assert reason in found.reason
    assert END in found.reason


# --- properties -------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["PLAN", "SPEAK", "APICALL", "APIRETURN", END, "\n", " ", "```", '{"name": "x"}', "{", "}", '"']
)
MIXED = st.lists(WORDS | st.text(max_size=8), max_size=30).map("".join)

OPENS_A_LINE = re.compile(r"(^|\n)[ \t>*#_`-]*(PLAN|SPEAK|APICALL|APIRETURN)")


def is_prose(text: str) -> bool:
    """Text that no rule of tolerance takes for something else."""
    inside = "COMMAND_END" not in text and "APICALL" not in text and not OPENS_A_LINE.search(text)
    return inside and bool(text) and text == text.strip()


PROSE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(is_prose)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner)
    ),
    max_leaves=8,
)
CALLS = st.builds(
    CallCommand,
    st.from_regex(r"\A[a-zA-Z_][a-zA-Z0-9_-]{0,20}\Z"),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=10), JSON, max_size=4),
)
COMMANDS: st.SearchStrategy[Command] = st.builds(PlanCommand, PROSE) | st.builds(SpeakCommand, PROSE) | CALLS


@settings(deadline=None)
@given(MIXED | st.text())
def test_any_text_is_commands_or_a_reason(text: str) -> None:
    found = parse(text)
    assert found.reason if isinstance(found, CommandError) else found


@settings(deadline=None)
@given(MIXED | st.text())
def test_nothing_is_said_that_was_not_written(text: str) -> None:
    found = parse(text)
    if not isinstance(found, CommandError):
        assert all(command.text in text for command in found if not isinstance(command, CallCommand))


@settings(deadline=None)
@given(st.lists(COMMANDS, min_size=1, max_size=5))
def test_commands_come_back_as_they_were_written(commands: list[Command]) -> None:
    assert parse(render(commands)) == tuple(commands)
