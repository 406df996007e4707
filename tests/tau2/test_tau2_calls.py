"""Calls of tools in the manner of tau2-bench: sides, names of arguments, errors, texts, synchronization."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from simkit.core.messages import ToolSpec
from simkit.tools.tau.call import Called
from simkit.tools.tau.rows import Base, Draft, Rows, Side
from simkit.tools.tau.text import Refused
from simkit.tools.tau2.call import Environment, Toolset, run_call
from simkit.tools.tau2.text import Record, value_text


def look(db: Draft, id: str) -> object:
    """The row of a line."""
    return Record(db.get("lines", id))


def rename(db: Draft, id: str, label: str, tone: str = "dry") -> object:
    """Rename a line, unless the tone is wrong."""
    db.edit("lines", id)["label"] = label
    if tone == "broken":
        raise Refused("broken tone")
    return {"label": label, "count": 3}


def press(db: Draft) -> object:
    """Press the button of the phone."""
    db.edit("user.device", "")["pressed"] = True
    return "Pressed."


def sync(db: Draft) -> None:
    """Show the label of the first line on the phone; count on the line how often the phone was pressed."""
    label = db.get("lines", "a")["label"]
    if label == "unknown":
        raise ValueError("no such label")
    if db.get("user.device", "")["shown"] != label:
        db.edit("user.device", "")["shown"] = label
    if db.get("user.device", "")["pressed"] and not db.get("lines", "a")["pressed"]:
        db.edit("lines", "a")["pressed"] = True


TOOLS = Toolset.of("LineTools", read=[look], write=[rename])
BOTH = Environment(TOOLS, Toolset.of("PhoneTools", write=[press]), sync)


def rows() -> Rows:
    tables = {
        "lines": {"a": {"label": "old", "pressed": False, "used": 3.5}},
        "user.device": {"": {"shown": "old", "pressed": False}},
        "defaults.vpn": {"": {"quality": "excellent"}},
    }
    return Rows(Base(tables))


def call(name: str, side: Side = "agent", environment: Environment = BOTH, **arguments: object) -> Called:
    return run_call(environment, rows(), name, arguments, side)


def test_numbers_are_strings_in_plain_values_and_numbers_in_records() -> None:
    draft = Draft(rows())
    plain = {"a": 3.5, "b": [True, None, 1], "c": Record({"d": 2.0}), "e": ({"f": "x"},)}
    assert value_text(draft, plain) == ('{"a": "3.5", "b": ["True", null, "1"], "c": {"d": 2.0}, "e": [{"f": "x"}]}')
    assert value_text(draft, "as it is") == "as it is"
    assert value_text(draft, None) == "null"
    assert value_text(draft, datetime.date(2025, 1, 15)) == '"2025-01-15"'
    with pytest.raises(ValueError, match="Unsupported type"):
        value_text(draft, {1, 2})


def test_a_successful_call_is_synchronized_and_its_record_is_read_after_that() -> None:
    called = call("rename", id="a", label="new")
    assert called.text == '{"label": "new", "count": "3"}'
    assert [(write.table, write.row) for write in called.writes] == [
        ("lines", {"label": "new", "pressed": False, "used": 3.5}),
        ("user.device", {"shown": "new", "pressed": False}),
    ]
    pressed = run_call(Environment(TOOLS, BOTH.user), called.rows, "press", {}, "user").rows
    read = run_call(BOTH, pressed, "look", {"id": "a"})
    assert read.text == '{"label": "new", "pressed": true, "used": 3.5}'
    assert [write.table for write in read.writes] == ["lines"]


def test_a_change_before_an_error_waits_for_the_next_successful_call() -> None:
    failed = call("rename", id="a", label="new", tone="broken")
    assert (failed.text, failed.error) == ("Error: broken tone", True)
    assert failed.rows.get("lines", "a") == {"label": "new", "pressed": False, "used": 3.5}
    assert failed.rows.get("user.device", "") == {"shown": "old", "pressed": False}
    after = run_call(BOTH, failed.rows, "look", {"id": "a"}).rows
    assert after.get("user.device", "") == {"shown": "new", "pressed": False}


def test_an_error_of_the_synchronization_is_the_result() -> None:
    called = call("rename", id="a", label="unknown")
    assert (called.text, called.error) == ("Error: no such label", True)
    assert len(called.writes) == 1


@pytest.mark.parametrize(
    ("name", "side", "arguments", "text"),
    [
        ("nothing", "agent", {"a": 1}, "Tool 'nothing' not found."),
        ("press", "agent", {}, "Tool 'press' not found."),
        ("look", "user", {"id": "a"}, "Tool 'look' not found."),
        ("look", "agent", {"id": "b"}, "'b'"),
        ("look", "agent", {"id": ["a"]}, "unhashable type: 'list'"),
        ("look", "agent", {}, "LineTools.look() missing 1 required positional argument: 'id'"),
        ("rename", "agent", {}, "LineTools.rename() missing 2 required positional arguments: 'id' and 'label'"),
        ("press", "user", {"": 1}, "PhoneTools.press() got an unexpected keyword argument ''"),
        ("look", "agent", {"x": 1}, "LineTools.look() got an unexpected keyword argument 'x'"),
        (
            "nothing",
            "agent",
            {"self": 1, "tool_name": 2},
            "Environment.make_tool_call() got multiple values for argument 'self'",
        ),
        (
            "look",
            "user",
            {"tool_name": 1, "self": 2},
            "Environment.make_tool_call() got multiple values for argument 'tool_name'",
        ),
        (
            "look",
            "agent",
            {"self": 1, "requestor": 2},
            "tau2.environment.environment.Environment.make_tool_call() got multiple values for keyword argument "
            "'requestor'",
        ),
    ],
)
def test_errors_are_worded_as_python_words_them_for_the_release(
    name: str, side: Side, arguments: dict[str, Any], text: str
) -> None:
    called = run_call(BOTH, rows(), name, arguments, side)
    assert (called.text, called.error, called.writes) == (f"Error: {text}", True, ())


def test_a_side_without_tools_is_told_so() -> None:
    assert call("press", "user", Environment(TOOLS)).text == "Error: User tools not available"


def test_a_solo_agent_has_the_tools_of_both_sides() -> None:
    solo = Environment(TOOLS, BOTH.user, sync, solo=True)
    assert call("press", environment=solo).text == "Pressed."
    assert call("look", environment=solo, id="a").text.startswith("{")
    assert (
        call("press", environment=solo, a=1).text == "Error: PhoneTools.press() got an unexpected keyword argument 'a'"
    )
    assert call("press", "user", solo).text == "Error: User tool calls are not allowed in solo mode"


def test_checked_tools_refuse_wrong_arguments_and_keep_nothing_of_a_failed_call() -> None:
    text = {"type": "string"}
    specs = [
        ToolSpec.of("rename", "", {"id": text, "label": text, "tone": text}, ("id",)),
        ToolSpec.of("look", "", {"id": text}),
    ]
    checked = BOTH.checked(specs)
    assert call("rename", environment=checked, id="a", label="new").rows.get("user.device", "")
    assert call("rename", environment=checked, id=3).text == "Error: rename was not called: `id` must be a string"
    assert call("dial", environment=checked).text == "Error: there is no tool dial; the tools are: look, rename"
    failed = call("rename", environment=checked, id="a", label="new", tone="broken")
    assert (failed.text, failed.error, list(failed.rows)) == ("Error: broken tone", True, [])
    lost = call("look", environment=checked, id="b")
    assert lost.text == "Error: look failed and changed nothing (KeyError: 'b')"


def test_each_side_has_its_own_digest() -> None:
    start = rows()
    renamed = call("rename", id="a", label="new").rows
    alone = run_call(Environment(TOOLS), start, "rename", {"id": "a", "label": "new"}).rows
    assert alone.digest(side="agent") == renamed.digest(side="agent") != start.digest(side="agent")
    assert alone.digest(side="user") == start.digest(side="user") != renamed.digest(side="user")
    draft = Draft(start)
    draft.edit("defaults.vpn", "")["quality"] = "poor"
    spoiled = draft.done()[0]
    assert spoiled != start
    assert spoiled.digest(side="agent") == start.digest(side="agent")
    assert spoiled.digest(side="user") == start.digest(side="user")
