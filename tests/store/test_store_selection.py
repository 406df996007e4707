from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from store_events import Script, call, josh_episode, run_finished, run_started, write_journal

from simkit.core.conversation import Entry
from simkit.core.events import EpisodeStarted, Event, ModelCall, RunStarted, TaskSeen, ToolsetSeen
from simkit.core.ids import branch_id
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, ToolSpec, UserMessage, text_of
from simkit.data.examples import ExampleSet, Kind
from simkit.data.export import export
from simkit.data.selection import Selection, limited, select
from simkit.errors import UsageError
from simkit.store import Store


def fill(store: Store, *scripts: Script, run: str = "r1") -> None:
    write_journal(store.path, [run_started(run), *(event for script in scripts for event in script.events)], run=run)


def rollout(texts: Sequence[str], reward: float | None = 0.0, *, task: str = "T1", trial: int = 0) -> Script:
    """One conversation in which the agent says this, turn by turn."""
    script = Script(task=task, trial=trial)
    node = script.open()
    for text in texts:
        node = script.says(node, "", text)
        script.answer(node, "go on")
    script.finish(reward, "user_ended" if reward is not None else "agent_fault", int(reward is None))
    return script


def texts(messages: Sequence[Message]) -> list[str]:
    return [text_of(message) for message in messages]


def view(store: Store, name: str) -> list[dict[str, Any]]:
    """The rows of a view, with JSON columns as values."""
    found = store.query(f"FROM {name}")
    json = {column for column, kind in zip(found.columns, found.types, strict=True) if kind == "JSON"}
    return [{k: orjson.loads(v) if k in json and v is not None else v for k, v in row.items()} for row in found.dicts()]


def rows(examples: ExampleSet) -> list[dict[str, Any]]:
    return [example.row() for example in examples]


@pytest.mark.parametrize(
    ("kind", "name", "columns"),
    [
        ("sft", "sft_examples", ("messages", "tools")),
        ("kto", "kto_examples", ("prompt", "completion", "label", "tools")),
        ("dpo", "dpo_pairs", ("prompt", "chosen", "rejected", "tools")),
    ],
)
def test_the_golden_source_is_the_harvest_of_the_views(
    store: Store, kind: Kind, name: str, columns: Sequence[str]
) -> None:
    fill(store, *(josh_episode(task=f"T{n % 3}", trial=n // 3, opening=f"it's {n % 3}") for n in range(6)))
    found = select(store, kind)
    expected = [{name: row[name] for name in columns} for row in view(store, name)]
    assert rows(found) == expected
    assert found.removed == {"duplicates": {"sft": 3, "kto": 18, "dpo": 18}[kind]}
    assert {(example.origin.run_id, example.origin.trial) for example in found} == {("r1", 0)}


def test_examples_equal_over_several_runs_are_one(store: Store) -> None:
    fill(store, josh_episode("r1"), run="r1")
    fill(store, josh_episode("r2"), run="r2")
    found = select(store, "kto", Selection(runs=("r2", "r1")))
    assert {example.origin.run_id for example in found} == {"r2"}
    assert found.removed == {"duplicates": len(found)}


def test_what_one_run_lost_and_another_won_with_is_a_contradiction(store: Store) -> None:
    for run, winner, loser in (("r1", "Yes.", "No."), ("r2", "No.", "Yes.")):
        script = Script(run=run)
        root = script.open()
        script.turn(root, "R", [Entry.agent(loser, 1)], outcome="dropped")
        won = script.turn(root, "L", [Entry.agent(winner, 1)], goals=["book"])
        script.harvest(won, [root, won])
        script.finish()
        fill(store, script, run=run)
    assert len(select(store, "dpo", Selection(runs=("r1",)))) == 1
    both = select(store, "kto", Selection(runs=("r1", "r2")))
    assert [example.label for example in both.judged] == [True, True]
    assert both.removed == {"contradictions": 2}


def with_more_tools(script: Script) -> Script:
    """The same conversation of an agent that has one tool more."""
    events: list[Event] = []
    for event in script.events:
        if isinstance(event, ToolsetSeen):
            event = ToolsetSeen("tools-2", (*event.tools, ToolSpec.of("pay", "pay", {}).to_openai()))
        elif isinstance(event, EpisodeStarted):
            event = replace(event, toolset_id="tools-2")
        events.append(event)
    return replace(script, events=events)


def in_words(script: Script) -> ModelCall:
    """A call of its agent, whose model was sent no tools."""
    place, body = branch_id(script.id, "L", 1), dict[str, Any](messages=[])
    return ModelCall(script.id, place, "agent", 0, 0, "m", "h", body, None, None, 1, 1, 0.0, 0.1, 1000.0)


@pytest.mark.parametrize("words", [False, True])
def test_what_was_lost_with_other_tools_is_a_contradiction_only_if_the_model_was_shown_none(
    store: Store, words: bool
) -> None:
    for run, winner, loser in (("r1", "Yes.", "No."), ("r2", "No.", "Yes.")):
        script = Script(run=run)
        root = script.open()
        script.turn(root, "R", [Entry.agent(loser, 1)], outcome="dropped")
        won = script.turn(root, "L", [Entry.agent(winner, 1)], goals=["book"])
        script.harvest(won, [root, won])
        script.finish()
        script = script if run == "r1" else with_more_tools(script)
        fill(store, replace(script, events=[*script.events, in_words(script)]) if words else script, run=run)
    chosen = Selection(runs=("r1", "r2"))
    pairs = select(store, "dpo", chosen).pairs
    told = [(len(pair.tools), *texts((*pair.chosen, *pair.rejected))) for pair in pairs]
    assert told == ([] if words else [(1, "Yes.", "No."), (2, "No.", "Yes.")])
    both = select(store, "kto", chosen)
    assert [example.label for example in both.judged] == ([True, True] if words else [True, False, True, False])
    assert both.removed == ({"contradictions": 2} if words else {})


def test_duplicates_are_judged_after_the_condition(store: Store) -> None:
    """The first of three equal conversations is not chosen: the second one stands for them."""
    fill(store, *(josh_episode(trial=trial) for trial in range(3)))
    found = select(store, "sft", Selection(where="trial > 0"))
    assert [example.origin.trial for example in found] == [1]
    assert found.removed == {"duplicates": 1}


def test_filtered_and_unfiltered_rollouts(store: Store) -> None:
    fill(store, rollout(["Hi", "Bye"], 1.0), rollout(["No"], 0.5, trial=1), rollout(["half"], None, trial=2))
    good = select(store, "sft", Selection(source="episodes", where="reward >= 1"))
    assert [texts(example.messages) for example in good.demonstrations] == [["S", "Hello", "Hi", "go on", "Bye"]]
    control = select(store, "sft", Selection(source="episodes"))
    assert len(control) == 2
    assert control.removed == {"unscored": 1}


def test_a_bound_takes_by_lot_and_the_same_again(store: Store) -> None:
    fill(store, *(rollout([f"{task} {trial}"], task=task, trial=trial) for task in "ABC" for trial in range(6)))
    some = select(store, "sft", Selection(source="episodes", max_per_task=2, limit=5))
    again = select(store, "sft", Selection(source="episodes", max_per_task=2, limit=5))
    other = select(store, "sft", Selection(source="episodes", max_per_task=2, limit=5, seed=1))
    assert some == again
    assert some != other
    assert some.removed == {"over_max_per_task": 12, "over_limit": 1}
    assert [example.task_id for example in some] == sorted(example.task_id for example in some)


def bounded(store: Store, *runs: str) -> list[str]:
    """The runs of the examples that are left when every task gives one."""
    chosen = Selection(runs=runs, source="episodes", max_per_task=1)
    return sorted(f"{example.origin.run_id}/{example.task_id}" for example in select(store, "sft", chosen))


def played(run: str, instructions: str, *, task: str = "T1", world: str = "builtin") -> Script:
    """A conversation on a task that is told by its instructions."""
    script = Script(run=run, task=task, world=world, instructions=instructions)
    node = script.says(script.open(), "", f"{run} {task} {world}")
    script.answer(node, "bye")
    script.finish(1.0, "user_ended", 0)
    return script


def test_tasks_of_one_name_that_differ_are_two(store: Store) -> None:
    fill(store, played("r1", "Find a hotel."), run="r1")
    fill(store, played("r2", "Find a train."), run="r2")
    assert bounded(store, "r1", "r2") == bounded(store, "r2", "r1") == ["r1/T1", "r2/T1"]


def test_tasks_of_other_names_and_worlds_that_contain_the_same_are_one(store: Store) -> None:
    fill(store, played("r1", "Find a hotel."), run="r1")
    fill(store, played("r2", "find a  HOTEL.", task="T9", world="elsewhere"), run="r2")
    assert len(bounded(store, "r1", "r2")) == len(bounded(store, "r2", "r1")) == 1


def test_tasks_of_which_only_the_name_is_known_are_told_apart_by_their_world(store: Store) -> None:
    for run, world in (("r1", "here"), ("r2", "there"), ("r3", "there")):
        script = played(run, "x", world=world)
        fill(store, replace(script, events=[each for each in script.events if not isinstance(each, TaskSeen)]), run=run)
    found = select(store, "sft", Selection(runs=("r1", "r2", "r3"), source="episodes"))
    worlds = {"r1": "here", "r2": "there", "r3": "there"}
    named = [replace(each, origin=replace(each.origin, world=worlds[each.origin.run_id])) for each in found]
    kept = limited(replace(found, examples=tuple(named)), Selection(max_per_task=1))
    assert sorted(each.origin.world for each in kept) == ["here", "there"]


def test_a_smaller_bound_takes_from_what_a_larger_one_took(store: Store) -> None:
    fill(store, *(rollout([f"{trial}"], trial=trial) for trial in range(9)))
    large, small = (select(store, "sft", Selection(source="episodes", limit=n)) for n in (6, 3))
    assert {each.origin.trial for each in small} < {each.origin.trial for each in large}


def test_messages_are_as_the_model_was_sent_them(store: Store) -> None:
    """An empty answer is left out, and what the tool and the user say in a row is one message."""
    script = Script()
    root = script.open()
    entries = [
        Entry(AssistantMessage.of(""), "agent", 1, 0),
        Entry(UserMessage.of("Your reply was empty."), "tool", 1, 0),
        Entry.agent("Hello!", 1, 1),
    ]
    won = script.turn(root, "L", entries, goals=["book"])
    script.harvest(won, [root, won])
    script.finish()
    fill(store, script)
    [example] = select(store, "sft").demonstrations
    assert texts(example.messages) == ["S", "Hello\nYour reply was empty.", "Hello!"]
    [answer] = select(store, "kto").judged
    assert texts(answer.prompt) == ["S", "Hello\nYour reply was empty."]


def test_a_call_that_was_shown_mended_is_no_demonstration_but_what_was_written_is_judged(store: Store) -> None:
    script = Script()
    root = script.open()
    broken = AssistantMessage.of(None, (ToolCall.of("c1", "book", '{"day": '),))
    answered = Entry(ToolMessage.of("c1", "not JSON"), "tool", 1, 0)
    won = script.turn(root, "L", [Entry(broken, "agent", 1, 0), answered, Entry.agent("Done.", 1, 1)], goals=["book"])
    script.harvest(won, [root, won])
    script.finish()
    fill(store, script)
    assert select(store, "sft").removed == {"broken_calls": 1}
    first, second = select(store, "kto").judged
    assert first.completion == (broken,)
    shown = second.prompt[2]
    assert isinstance(shown, AssistantMessage)
    assert shown.tool_calls is not None
    assert shown.tool_calls[0].parse_arguments() == {"not_valid_json": '{"day": '}


@pytest.mark.parametrize(
    ("request_body", "tools"),
    [
        ({"messages": []}, 0),
        ({"messages": [], "tools": [{"type": "function"}]}, 1),
        ({"digest": {"messages": "", "tools": ""}}, 0),
        ({"digest": {"messages": "", "tools": "0a0b0c0d"}}, 1),
    ],
)
def test_an_agent_that_is_told_of_tools_in_words_has_no_tools(
    store: Store, request_body: dict[str, Any], tools: int
) -> None:
    script = josh_episode()
    place = branch_id(script.id, "L", 1)
    asked = ModelCall(script.id, place, "agent", 0, 0, "m", "h", request_body, None, None, 1, 1, 0.0, 0.1, 1000.0)
    write_journal(store.path, [run_started(), *script.events, asked])
    assert {len(example.tools) for example in select(store, "kto")} == {tools}


@pytest.mark.parametrize("errors", ["drop", "keep"])
@pytest.mark.parametrize("source", ["golden", "episodes"])
def test_error_markers(store: Store, source: Any, errors: Any) -> None:
    script = Script()
    root = script.open()
    won = script.turn(root, "L", [*call("book", 1, 0, result="ERROR: no"), Entry.agent("Oh.", 1, 1)], goals=["book"])
    script.harvest(won, [root, won])
    script.finish()
    fill(store, script)
    found = select(store, "sft", Selection(source=source, errors=errors))
    assert len(found) == (errors == "keep")
    assert found.removed == ({"error_markers": 1} if errors == "drop" else {})
    assert len(select(store, "sft", Selection(source=source))) == (source == "episodes")


def test_a_run_made_of_parts_brings_its_parts(store: Store) -> None:
    write_journal(store.path, [run_started("whole"), run_finished("whole")], run="whole")
    part = RunStarted("whole.rolls", "p", "part", 7, {"part_of": "whole", "stage": "rolls"}, "0.1.0", 1001.0)
    write_journal(store.path, [part, *josh_episode("whole.rolls").events], run="whole.rolls")
    assert {example.origin.run_id for example in select(store, "sft", Selection(runs=("whole",)))} == {"whole.rolls"}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(where="rewards > 1"), "(?s)episodes cannot be selected by 'rewards > 1'.*\"reward\".*episode_facts"),
        (Selection(where="reward >"), "is not SQL"),
        (Selection(where="true); drop table runs; select (1"), "contains several statements"),
        (Selection(runs=("nobody",)), "there is no run 'nobody'"),
    ],
)
def test_selections_that_cannot_be(store: Store, selection: Selection, message: str) -> None:
    fill(store, josh_episode())
    with pytest.raises(UsageError, match=message):
        select(store, "sft", selection)


def test_a_condition_may_end_in_a_comment(store: Store) -> None:
    fill(store, josh_episode())
    assert len(select(store, "sft", Selection(where="reward = 1 -- the winners"))) == 1


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="limit is 0"):
        Selection(limit=0)
    with pytest.raises(UsageError, match="needs a run"):
        Selection(runs=())


def test_rollouts_hold_no_preferences(store: Store) -> None:
    fill(store, rollout(["Hi"], 1.0))
    with pytest.raises(UsageError, match="single conversations contain no kto examples"):
        select(store, "kto", Selection(source="episodes"))


# --- exports ----------------------------------------------------------------------------------------------------------


def unpack(value: Any) -> Any:
    return [orjson.loads(item) for item in cast("list[str]", value)] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("sft", ["messages", "tools"]),
        ("kto", ["prompt", "completion", "label", "tools"]),
        ("dpo", ["prompt", "chosen", "rejected", "tools"]),
    ],
)
def test_exports_hold_the_examples_of_the_views(store: Store, tmp_path: Path, kind: Kind, columns: list[str]) -> None:
    fill(store, *(josh_episode(task=f"T{n % 3}", trial=n // 3, opening=f"it's {n % 3}") for n in range(6)))
    expected = [
        {name: row[name] for name in columns}
        for row in view(store, {"sft": "sft_examples", "kto": "kto_examples", "dpo": "dpo_pairs"}[kind])
    ]
    lines, table = tmp_path / "it's.jsonl", tmp_path / "it's.parquet"
    done = export(store, kind, lines, format="raw")
    assert (done.written, done.removed) == (len(expected), {"duplicates": {"sft": 3, "kto": 18, "dpo": 18}[kind]})
    found = [orjson.loads(line) for line in lines.read_bytes().splitlines()]
    assert [list(row) for row in found] == [[*columns, "origin"]] * len(expected)
    assert [{name: row[name] for name in columns} for row in found] == expected
    assert export(store, kind, table, format="raw").written == len(expected)
    read = Store(store.path, external=True).query("FROM read_parquet(?)", [str(table)])
    assert read.types[0] == "JSON[]"
    unpacked = [{name: unpack(value) for name, value in row.items()} for row in read.dicts()]
    assert [{name: row[name] for name in columns} for row in unpacked] == expected
    assert [orjson.loads(row["origin"]) for row in read.dicts()] == [row["origin"] for row in found]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it's.jsonl", "it's.parquet", "store"]


def test_an_agent_without_tools_exports_null(store: Store, tmp_path: Path) -> None:
    script = josh_episode()
    events: list[Event] = [event for event in script.events if type(event).__name__ != "ToolsetSeen"]
    write_journal(store.path, [run_started(), *events])
    export(store, "kto", tmp_path / "k.jsonl", Selection(runs=("demo",)))
    assert orjson.loads((tmp_path / "k.jsonl").read_bytes().splitlines()[0])["tools"] is None


@pytest.mark.parametrize(
    ("kind", "out", "message"),
    [
        ("ppo", "a.jsonl", "'ppo' is not a kind of training data; use one of sft, kto, dpo"),
        ("sft", "a.csv", "ends in .jsonl or .parquet"),
        ("sft", "nowhere/a.jsonl", "nowhere does not exist"),
    ],
)
def test_exports_that_cannot_be(store: Store, tmp_path: Path, kind: Any, out: str, message: str) -> None:
    fill(store, josh_episode())
    with pytest.raises(UsageError, match=message):
        export(store, kind, tmp_path / out)


def test_an_export_over_a_folder_is_refused_and_leaves_it(store: Store, tmp_path: Path) -> None:
    fill(store, josh_episode())
    target = tmp_path / "a.parquet"
    target.mkdir()
    with pytest.raises(UsageError, match=r"a\.parquet is a folder"):
        export(store, "sft", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "store"]
