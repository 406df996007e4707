from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from store_events import TOOLS, Node, Script, call, josh_episode, run_started, write_journal

from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, UserMessage
from simkit.store import Store


def fill(store: Store, *scripts: Script, run: str = "r1") -> None:
    write_journal(store.path, [run_started(run), *(event for script in scripts for event in script.events)], run=run)


def view(store: Store, name: str) -> list[dict[str, Any]]:
    """The rows of a view, with JSON columns as values."""
    found = store.query(f"FROM {name}")
    json = {column for column, kind in zip(found.columns, found.types, strict=True) if kind == "JSON"}
    return [{k: orjson.loads(v) if k in json and v is not None else v for k, v in row.items()} for row in found.dicts()]


def texts(messages: list[dict[str, Any]]) -> list[str | None]:
    return [message["content"] for message in messages]


def counts(store: Store) -> dict[str, Any]:
    row = view(store, "harvest_counts")[0]
    return {name: value for name, value in row.items() if name not in ("run_id", "name") and value}


def openai(node: Node) -> list[dict[str, Any]]:
    return [entry.message.to_openai() for entry in node.conversation]


def lost(script: Script, root: Node, text: str, path: str = "R", outcome: str | None = "dropped") -> Node:
    return script.turn(root, path, [Entry.agent(text, root.turn + 1)], outcome=outcome)


def won(script: Script, root: Node, *entries: Entry, reward: float = 1.0) -> Node:
    """The left branch wins with these entries, and the episode is over."""
    winner = script.turn(root, "L", entries, goals=["book"])
    script.harvest(winner, [root, winner])
    script.finish(reward)
    return winner


# --- SFT --------------------------------------------------------------------------------------------------------------


def test_sft_is_the_golden_conversation_with_its_tools(store: Store) -> None:
    fill(store, josh_episode())
    [row] = view(store, "sft_examples")
    assert [message["role"] for message in row["messages"]] == (
        ["system", "user", "assistant", "tool", "assistant", "user", "assistant", "tool", "assistant"]
    )
    assert row["messages"][2]["tool_calls"][0]["function"] == {"name": "search", "arguments": "{}"}
    assert row["messages"][-1]["content"] == "Booked."
    assert row["tools"] == list(TOOLS)


def test_sft_goes_to_the_last_winner(store: Store) -> None:
    """Two harvests: the second tree grows from the first winner, whose user answered in between."""
    script = Script(goals=("search", "book"))
    root = script.open()
    first = script.says(root, "L", "Found.", goals=["search"])
    script.harvest(first, [root, first], ["search"])
    script.answer(first, "Book it")
    second = script.says(first, "LR", "Booked.", goals=["book"])
    script.harvest(second, [first, second], ["book"], number=1)
    script.finish()
    fill(store, script)
    [row] = view(store, "sft_examples")
    assert texts(row["messages"]) == ["S", "Hello", "Found.", "Book it", "Booked."]


@pytest.mark.parametrize(
    ("author", "text", "kept"),
    [
        ("agent", "ERROR: no", False),
        ("agent", "Error: no", False),
        ("agent", "a FAILURE", False),
        ("agent", "I got APIRETURN []", False),
        ("agent", "An error occurred", True),
        ("tool", "APIRETURN ERROR: INVALID API CALL!", False),
        ("tool", "APIRETURN []", True),
        ("user", "I see an ERROR: on my screen", True),
    ],
)
def test_error_markers_of_the_agents_making_drop_the_episode(store: Store, author: Any, text: str, kept: bool) -> None:
    message = AssistantMessage.of(text) if author == "agent" else UserMessage.of(text)
    script = Script()
    root = script.open()
    lost(script, root, "No.")
    won(script, root, Entry(message, author, 1, 0), Entry.agent("Done.", 1, 1))
    fill(store, script)
    assert len(view(store, "sft_examples")) == kept
    assert bool(view(store, "kto_examples")) == kept


def test_text_of_the_runtime_is_never_in_an_example(store: Store) -> None:
    script = Script()
    root = script.open()
    runtime = Entry(AssistantMessage.of("(the agent did not answer)"), "runtime", 1, 1, heard="...")
    first = script.turn(root, "L", [*call("search", 1, 0), runtime])
    script.turn(root, "R", [Entry(AssistantMessage.of("(the agent did not answer)"), "runtime", 1, 0)])
    script.answer(first, "Well?")
    second = script.says(first, "L", "Booked.", goals=["book"])
    script.harvest(second, [root, first, second])
    script.finish()
    fill(store, script)
    [row] = view(store, "sft_examples")
    assert texts(row["messages"]) == ["S", "Hello", None, "[]", "Well?", "Booked."]
    rows = view(store, "kto_examples")
    assert [(len(row["prompt"]), row["label"]) for row in rows] == [(2, True), (5, True)]


def test_trailing_user_messages_are_trimmed(store: Store) -> None:
    script = Script()
    root = script.open()
    winner = won(script, root, Entry.agent("Booked.", 1))
    script.answer(winner, "Thanks, bye")
    fill(store, script)
    [row] = view(store, "sft_examples")
    assert texts(row["messages"]) == ["S", "Hello", "Booked."]


@pytest.mark.parametrize("reward", [0.5, None])
def test_other_rewards_give_no_examples(store: Store, reward: float | None) -> None:
    script = Script()
    root = script.open()
    won(script, root, Entry.agent("Booked.", 1))
    script.events.pop()
    script.finish(reward)
    fill(store, script)
    for name in ("sft_examples", "kto_examples", "dpo_pairs"):
        assert view(store, name) == []


# --- KTO and DPO ------------------------------------------------------------------------------------------------------


def test_every_golden_agent_message_is_desirable_given_what_was_before(store: Store) -> None:
    fill(store, josh_episode())
    [golden] = view(store, "sft_examples")
    desirable = [row for row in view(store, "kto_examples") if row["label"]]
    positions = [i for i, message in enumerate(golden["messages"]) if message["role"] == "assistant"]
    assert [row["prompt"] for row in desirable] == [golden["messages"][:i] for i in positions]
    assert [row["completion"] for row in desirable] == [[golden["messages"][i]] for i in positions]


def test_undesirable_are_messages_at_a_point_of_divergence(store: Store) -> None:
    fill(store, josh_episode())
    undesirable = [row for row in view(store, "kto_examples") if not row["label"]]
    assert [(row["path"], row["completion"][0]["content"]) for row in undesirable] == [
        ("R", "No idea."),
        ("LL", "I give up."),
    ]
    for row in undesirable:
        assert row["prompt"] in [good["prompt"] for good in view(store, "kto_examples") if good["label"]]


def test_only_the_first_message_of_a_lost_turn_diverges(store: Store) -> None:
    script = Script()
    root = script.open()
    script.turn(root, "R", [*call("other", 1, 0), Entry.agent("No.", 1, 1)], outcome="dropped")
    won(script, root, Entry.agent("Booked.", 1))
    fill(store, script)
    [negative] = [row for row in view(store, "kto_examples") if not row["label"]]
    assert negative["completion"][0]["tool_calls"][0]["function"]["name"] == "other"


@pytest.mark.parametrize(
    "outcome", ["agent_fault", "user_fault", "tool_fault", "model_fault", "reward_fault", "cancelled"]
)
def test_faults_and_cancelled_turns_are_no_negatives(store: Store, outcome: str) -> None:
    script = Script()
    root = script.open()
    lost(script, root, "half a turn", outcome=outcome)
    won(script, root, Entry.agent("Booked.", 1))
    fill(store, script)
    assert counts(store) == {"sft_examples": 1, "kto_desirable": 1}


def test_a_fault_told_later_is_no_negative_either(store: Store) -> None:
    script = Script()
    root = script.open()
    leaf = lost(script, root, "spoke before the user failed", outcome=None)
    script.end(leaf, "user_fault")
    won(script, root, Entry.agent("Booked.", 1))
    fill(store, script)
    assert counts(store) == {"sft_examples": 1, "kto_desirable": 1}


def test_successful_siblings_are_no_negatives(store: Store) -> None:
    script = Script()
    root = script.open()
    winner = script.says(root, "L", "Booked.", goals=["book"])
    also = script.says(root, "R", "Booked too.", goals=["book"])
    script.harvest(winner, [root, winner])
    harvested: Any = script.events.pop()
    script.events.append(
        type(harvested)(script.id, 0, winner.id, ("book",), (*harvested.successful, also.id), harvested.golden)
    )
    script.finish()
    fill(store, script)
    assert counts(store) == {"sft_examples": 1, "kto_desirable": 1}


def test_a_message_that_is_desirable_too_is_no_negative(store: Store) -> None:
    """Identical siblings, one golden and one not: the negative goes, and is counted."""
    script = Script()
    root = script.open()
    lost(script, root, "Booked.")
    lost(script, root, "Never mind.", path="RR")
    won(script, root, Entry.agent("Booked.", 1))
    fill(store, script)
    assert [(row["label"], row["completion"][0]["content"]) for row in view(store, "kto_examples")] == [
        (True, "Booked."),
        (False, "Never mind."),
    ]
    assert counts(store) == {
        "sft_examples": 1, "kto_desirable": 1, "kto_undesirable": 1, "kto_contradictions": 1, "dpo_pairs": 1,
    }  # fmt: skip


def test_duplicates_are_kept_once_and_counted(store: Store) -> None:
    fill(store, *(josh_episode(trial=trial) for trial in range(3)))
    assert counts(store) == {
        "sft_examples": 1,
        "sft_duplicates": 2,
        "kto_desirable": 4,
        "kto_undesirable": 2,
        "kto_duplicates": 12,
        "dpo_pairs": 2,
    }
    assert {row["trial"] for row in view(store, "kto_examples")} == {0}


def test_runs_do_not_mix(store: Store) -> None:
    fill(store, josh_episode("r1"), run="r1")
    fill(store, josh_episode("r2"), run="r2")
    assert [row["run_id"] for row in view(store, "sft_examples")] == ["r1", "r2"]
    assert [row["kto_duplicates"] for row in view(store, "harvest_counts")] == [0, 0]


def test_pairs_share_their_prompt(store: Store) -> None:
    fill(store, josh_episode())
    pairs = view(store, "dpo_pairs")
    assert [(len(row["prompt"]), row["rejected"][0]["content"]) for row in pairs] == [
        (2, "No idea."),
        (6, "I give up."),
    ]
    assert [row["chosen"][0]["tool_calls"][0]["function"]["name"] for row in pairs] == ["search", "book"]


def test_examples_do_not_depend_on_the_order_of_events(store: Store, tmp_path: Path) -> None:
    scripts = [josh_episode(task=f"T{n}", opening=f"Hi {n % 3}") for n in range(6)]
    other = Store(tmp_path / "other")
    fill(store, *scripts)
    fill(other, *reversed(scripts))
    for name in ("sft_examples", "kto_examples", "dpo_pairs"):
        assert view(store, name) == view(other, name)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_leave_out_what_has_no_reward(store: Store) -> None:
    scripts = [Script(task=f"T{n}") for n in range(5)]
    endings = [(1.0, "goals_done", 0), (0.5, "turn_limit", 1), (None, "no_goals", 0), (None, "agent_fault", 1)]
    for script, (reward, outcome, faults) in zip(scripts, endings, strict=False):
        script.open()
        script.finish(reward, outcome, faults)
    scripts[4].open()  # still running
    fill(store, *scripts)
    [row] = view(store, "run_summary")
    expected = {
        "episodes": 5,
        "finished": 4,
        "scored": 2,
        "average_reward": 0.75,
        "success_rate": 0.5,
        "no_goals": 1,
        "unscored": 1,
        "faults": 2,
    }
    assert {name: row[name] for name in expected} == expected
    assert [row["success"] for row in view(store, "episode_scores")] == [True, False, None, None, None]


def test_equal_goals_of_a_task_are_counted_one_by_one(store: Store) -> None:
    scripts = [Script(task=name, goals=("book", "book", "search")) for name in ("A", "B", "C")]
    for script, achieved in zip(scripts, [("book",), ("search", "book", "book"), None], strict=True):
        script.open()
        script.finish(0.5 if achieved else None)
        script.events[-1] = replace(script.events[-1], achieved=achieved or ())
    fill(store, *scripts)
    rows = [(row["task_id"], row["goal"], row["copy"], row["reached"]) for row in view(store, "episode_goals")]
    assert rows == [
        *[("A", "book", 1, True), ("A", "book", 2, False), ("A", "search", 1, False)],
        *[("B", "book", 1, True), ("B", "book", 2, True), ("B", "search", 1, True)],
    ]


def test_pass_hat_k(store: Store) -> None:
    """Task A succeeds in 3 of 4 trials, B in 1 of 2: pass^1 = (3/4 + 1/2)/2, pass^2 = (3/6 + 0)/2, pass^3 = 1/4."""
    wins = {"A": (1.0, 1.0, 0.0, 1.0), "B": (0.0, 1.0)}
    scripts = [Script(task=task, trial=i) for task, rewards in wins.items() for i in range(len(rewards))]
    for script in scripts:
        script.open()
        script.finish(wins[script.task][script.trial])
    fill(store, *scripts)
    [row] = view(store, "run_summary")
    assert row["pass_hat_k"] == pytest.approx([0.625, 0.25, 0.25, 0.0])
    assert [row["tasks"] for row in view(store, "pass_hat_k")] == [2, 2, 1, 1]


def test_the_conversation_of_any_branch(store: Store) -> None:
    script = Script()
    root = script.open()
    node = root
    for turn in range(12):
        other = script.says(node, f"{node.path}R", f"other {turn}")
        node = script.says(node, f"{node.path}L", f"turn {turn}")
        script.answer(other, "no")
        script.answer(node, f"answer {turn}")
    fill(store, script)
    found = store.query("SELECT message FROM conversation(?)", [node.id])
    assert [orjson.loads(row[0]) for row in found.rows] == openai(node)
