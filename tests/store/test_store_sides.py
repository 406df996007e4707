"""What the store knows of users with tools: sides of calls, their messages and flags, openings, and older journals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from store_events import Script, call, josh_episode, rows, run_started, write_journal

from simkit.core.conversation import Entry
from simkit.core.events import BranchAdded, BranchExtended, Episode, EpisodeStarted, TaskSeen
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolResult
from simkit.core.records import CallRecord, RewardRow
from simkit.store import Store
from simkit.store.encoding import decode, encode

PRESS = ToolCall.of("u1", "press", {"x": "data"})


def episode() -> Script:
    """A tree whose left branch is rewarded for what the user did; the user doubts its call."""
    script = Script(goals=("pressed", "book"))
    root = script.open()
    event = script.events[-1]
    assert isinstance(event, BranchAdded)
    greeting = rows(root.conversation.append(Entry.agent("Hi!", 0)), 2)
    root.conversation = root.conversation.append(Entry.agent("Hi!", 0))
    script.events[-1] = replace(event, messages=event.messages + greeting)
    left = script.turn(root, "L", [*call("book", 1, 0), Entry.agent("Please press data.", 1, 1)])
    right = script.says(root, "R", "No idea.")
    start = len(left.conversation)
    left.conversation = left.conversation.extend(
        [
            Entry(AssistantMessage.of(None, (PRESS,)), "user_tool", 1),
            Entry(ToolMessage.of("u1", "ok"), "user_tool", 1),
            Entry.user("Done.", 1, 1),
        ]
    )
    added = rows(left.conversation, start)
    added = (replace(added[0], flags=("unknown_value: data",)), *added[1:2], replace(added[2], flags=("repeated",)))
    pressed = CallRecord.of(PRESS, ToolResult(value="ok"), 0, ({"x": "data"},), seq=start + 1, by="user")
    script.events.append(BranchExtended(left.id, added, (pressed,), (RewardRow("pressed", "u1", 0, True),)))
    script.harvest(left, [root, left], goals=["pressed"])
    script.end(right, "dropped")
    script.end(left, "goals_done")
    script.finish()
    ended = script.events[-1]
    assert isinstance(ended, Episode)
    script.events[-1] = replace(ended, achieved=("pressed",))
    return script


@pytest.fixture
def told(store: Store) -> Store:
    script = episode()
    goals = (
        {"key": "pressed", "detail": {"tool": "press", "parameters": {"x": "data"}, "by": "user"}},
        {"key": "book", "detail": {"tool": "press", "parameters": {"x": "data"}}},
    )
    events = [replace(each, goals=goals) if isinstance(each, TaskSeen) else each for each in script.events]
    write_journal(store.path, [run_started("r1", "first"), *events])
    return store


def test_a_call_knows_its_side(told: Store) -> None:
    assert told.query("select side, name, step, seq from tool_calls order by seq").rows == [
        ("agent", "book", 0, 3),
        ("user", "press", 0, 7),
    ]
    assert told.query("select goal, evidence from rewards").rows == [("pressed", "u1")]
    authors = told.query("select author from messages where branch_id like '%L.1' order by seq").rows
    assert [author for (author,) in authors] == ["agent", "tool", "agent", "user_tool", "user_tool", "user"]


def test_the_tree_and_the_goals_say_who_called(told: Store) -> None:
    with told.reading() as reader:
        tree = reader.tree("r1", "MUL1/0")
        assert tree.root is not None
        left = tree.root.children[0]
        assert left.calls == ("book {}", 'user: press {"x": "data"}')
        pressed, book = reader.goals(tree)
    assert (pressed.wanted, pressed.call) == ("press(x=data) by the user", "press(x=data)")
    assert book.difference == "`press` was not called (called: book)"


def test_flags_of_calls_are_flags_of_the_answer(told: Store) -> None:
    found = told.query("select flag, turns, share_of_turns from user_flags order by flag").rows
    assert found == [("repeated", 1, 0.5), ("unknown_value", 1, 0.5)]


def test_examples_have_nothing_of_the_user_and_learn_nothing_of_the_opening(told: Store) -> None:
    ((messages,),) = told.query("select messages from sft_examples").rows
    said = [message.get("content") for message in orjson.loads(messages)]
    assert said == ["S", "Hello", "Hi!", None, "[]", "Please press data."]
    wanted = told.query("select seq, label from kto_examples order by label desc, seq").rows
    assert wanted == [(3, True), (5, True), (3, False)]
    assert [row[0] for row in told.query("select seq from dpo_pairs").rows] == [3]


# --- older journals ---------------------------------------------------------------------------------------------------


def test_calls_of_older_journals_are_the_agents(tmp_path: Path) -> None:
    path = write_journal(tmp_path, [run_started("r1", "old"), *josh_episode().events])
    lines = path.read_bytes()
    assert b'"by":"agent"' in lines
    older = lines.replace(b',"by":"agent"', b"").replace(b',"user_toolset_id":null', b"")
    older = older.replace(b',"tool_calls":[],"rewards":[]}', b"}")
    assert b'"by"' not in older
    path.write_bytes(older)
    store = Store(tmp_path)
    assert store.query("select side, count(*) from tool_calls group by all").rows == [("agent", 2)]
    assert store.query("select count(*) from episodes where user_toolset_id is null").rows == [(1,)]
    assert store.query("select count(*) from unreadable_lines").rows == [(0,)]
    assert len(store.query("from sft_examples").rows) == 1


def test_new_fields_survive_a_journal() -> None:
    events = [each for each in episode().events if isinstance(each, (BranchExtended, EpisodeStarted))]
    events.append(replace(events[0], user_toolset_id="tools-2") if isinstance(events[0], EpisodeStarted) else events[0])
    for event in events:
        assert decode(encode(event)) == event
