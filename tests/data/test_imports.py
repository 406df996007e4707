"""Results of other programs in the store: logs of inspect_ai, results of verifiers, files of conversations."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from typer.testing import CliRunner

from simkit import ModelConfig, Run
from simkit.cli.app import app
from simkit.core.events import EpisodeStarted, RunStarted
from simkit.core.records import CallRecord
from simkit.data.conversation_files import read_conversations
from simkit.data.imported import ImportedRun, run_events
from simkit.data.selection import Selection, select
from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.store import Store
from simkit.store.encoding import JournalEvents

ASKED = {"role": "user", "content": "A table for two."}
CALL = {"id": "k1", "function": "book", "arguments": {"n": 12345678901234567890123}, "type": "function"}


def sample(**more: Any) -> dict[str, Any]:
    """As inspect_ai 0.3 writes it, with the fields that matter."""
    messages: list[Any] = [
        {"id": "m0", "role": "system", "content": "attachment://a1"},
        {"id": "m1", "source": "input", **ASKED},
        {
            "id": "m2",
            "role": "assistant",
            "source": "generate",
            "content": [
                {"type": "reasoning", "reasoning": "Two people.", "signature": "s"},
                {"type": "text", "text": "One moment."},
            ],
            "tool_calls": [CALL],
        },
        {"role": "tool", "content": "", "tool_call_id": "k1", "function": "book", "error": {"message": "full"}},
        {"role": "assistant", "content": "It is full."},
    ]
    tool: dict[str, Any] = {
        "name": "book",
        "description": "Books.",
        "parameters": {"type": "object", "properties": {"n": {}}},
    }
    return {
        "id": "s1",
        "epoch": 1,
        "input": "A table for two.",
        "target": "x",
        "messages": messages,
        "scores": {"includes": {"value": "C", "answer": "full"}, "judge": {"value": 0.25}},
        "attachments": {"a1": "Be brief."},
        "events": [{"event": "sample_init"}, {"event": "model", "tools": [tool]}],
        **more,
    }


def log(*samples: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"task": "dining", "model": "openai/gpt-x", "created": "2026-11-27"}
    return {"version": 2, "status": "success", "eval": about, "plan": {}, "samples": list(samples), **more}


def as_json(path: Path, *samples: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps(log(*samples, **more)))
    return path


def as_eval(path: Path, samples: list[dict[str, Any]], header: str = "header.json", method: int = 8) -> Path:
    """An archive in the layout of inspect_ai; its newer versions compress with Zstandard (method 93)."""
    head = log()
    del head["samples"]
    members = {header: head, **{f"samples/{each['id']}_epoch_{each['epoch']}.json": each for each in samples}}
    if method == 93:
        path.write_bytes(zstandard_zip({name: json.dumps(value).encode() for name, value in members.items()}))
        return path
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in members.items():
            archive.writestr(name, json.dumps(value))
    return path


def zstandard_zip(members: dict[str, bytes]) -> bytes:
    """A zip archive of Zstandard frames that hold their data in raw blocks."""
    local, central = b"", b""
    for name, data in members.items():
        blocks = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        frame = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data))
        for number, block in enumerate(blocks):
            frame += struct.pack("<I", len(block) << 3 | (number == len(blocks) - 1))[:3] + block
        sizes = struct.pack("<III", crc32(data), len(frame), len(data))
        common = struct.pack("<HHHHH", 63, 0, 93, 0, 0) + sizes + struct.pack("<HH", len(name), 0)
        central += (
            b"PK\1\2" + struct.pack("<H", 63) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(local)) + name.encode()
        )
        local += b"PK\3\4" + common + name.encode() + frame
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(central), len(local), 0)
    return local + central + b"PK\5\6" + end


def simkit(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def imported(store: Path, file: Path, *flags: str) -> dict[str, Any]:
    return json.loads(simkit("import", str(file), "--store", str(store), "--json", *flags))


# --- inspect_ai -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "stored", "deflate", "zstandard", "unfinished"])
def test_all_layouts_of_a_log_are_read_as_the_same(tmp_path: Path, kind: str) -> None:
    samples = [sample(), sample(epoch=2, scores={"includes": {"value": "I"}}), sample(id=7)]
    match kind:
        case "json":
            file = as_json(tmp_path / "a.json", *samples)
        case "unfinished":
            file = as_eval(tmp_path / "a.eval", samples, "_journal/start.json")
        case _:
            file = as_eval(tmp_path / "a.eval", samples, method={"stored": 0, "deflate": 8, "zstandard": 93}[kind])
    found = read_conversations(file)
    assert (found.format, found.world, found.model, found.score) == ("inspect_ai", "dining", "openai/gpt-x", "includes")
    told = [(each.task_id, each.trial, each.reward) for each in found.conversations]
    assert sorted(told) == [("7", 0, 1.0), ("s1", 0, 1.0), ("s1", 1, 0.0)]
    conversation = found.conversations[0]
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant", "tool", "assistant"]
    system, _, answer, result, _ = (message.to_openai() for message in conversation.messages)
    assert system["content"] == "Be brief."
    assert (answer["content"], answer["reasoning_content"]) == ("One moment.", "Two people.")
    assert "12345678901234567890123" in answer["tool_calls"][0]["function"]["arguments"]
    assert result["content"] == "full"
    assert [tool.name for tool in conversation.tools] == ["book"]
    assert [(part.name, part.value, part.weight) for part in conversation.parts][-1] == ("judge", 0.25, 0.0)


def test_the_scorer_is_the_headline_or_the_one_named(tmp_path: Path) -> None:
    file = as_json(tmp_path / "a.json", sample(), results={"headline": {"scorer": "judge"}})
    assert [each.reward for each in read_conversations(file).conversations] == [0.25]
    assert [each.reward for each in read_conversations(file, "includes").conversations] == [1.0]
    with pytest.raises(UsageError, match="no scorer 'other'; it has includes, judge"):
        read_conversations(file, "other")


@pytest.mark.parametrize(
    ("value", "reward"),
    [
        *[("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), (True, 1.0), ("0.7", 0.7), ("Yes", 1.0), ("no", 0), (3, 3.0)],
        *[({"a": 1, "b": 0}, 0.5), ([1, 1], 1.0), ("great", None), (None, None), ({"a": "?"}, None)],
    ],
)
def test_values_of_scores(tmp_path: Path, value: Any, reward: float | None) -> None:
    file = as_json(tmp_path / "a.json", sample(scores={"s": {"value": value}}))
    assert read_conversations(file).conversations[0].reward == reward


@pytest.mark.parametrize(
    ("more", "outcome", "reward"),
    [
        ({"error": {"message": "boom", "traceback": "t"}}, "agent_fault", None),
        ({"limit": {"type": "message", "limit": 3}}, "turn_limit", 1.0),
        ({"limit": {"type": "token", "limit": 3}}, "token_limit", 1.0),
        ({"messages": [ASKED]}, "user_ended", 1.0),
        ({}, "agent_ended", 1.0),
        ({"scores": None}, "agent_ended", None),
    ],
)
def test_endings_of_samples(tmp_path: Path, more: dict[str, Any], outcome: str, reward: float | None) -> None:
    store = tmp_path / "store"
    imported(store, as_json(tmp_path / "a.json", sample(**more)))
    rows = Store(store).query("select outcome, reward, error from episode_scores").rows
    assert rows == [(outcome, reward, "boom" if outcome == "agent_fault" else None)]


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.eval", b"x", DataCorrupt, "not an .eval file"),
        ("a.json", json.dumps(log()).encode(), UsageError, "has no samples"),
        ("a.jsonl", b"[1]", DataCorrupt, "not a JSON object with a conversation"),
        ("a.jsonl", b"", UsageError, "has no rows"),
        ("a.jsonl", b'{"prompt": [], "chosen": []}', DataCorrupt, "pairs of answers and single prompts cannot"),
        ("a.jsonl", b'{"messages": [{"role": "robot"}]}', DataCorrupt, "cannot be read"),
        ("a.jsonl", b'{"traces": []}', UsageError, "no trace with messages"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, name: str, data: bytes, error: type[Exception], message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message):
        read_conversations(tmp_path / name)


def test_a_damaged_member_and_a_missing_file_are_named(tmp_path: Path) -> None:
    file = as_eval(tmp_path / "a.eval", [sample()], method=93)
    data = file.read_bytes()
    file.write_bytes(data.replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe"))
    with pytest.raises(DataCorrupt, match=r"header\.json of .* cannot be unpacked"):
        read_conversations(file)
    with pytest.raises(DataMissing, match="does not exist"):
        read_conversations(tmp_path / "b.eval")
    with zipfile.ZipFile(tmp_path / "c.eval", "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(DataCorrupt, match=r"neither header\.json nor a journal"):
        read_conversations(tmp_path / "c.eval")


# --- verifiers --------------------------------------------------------------------------------------------------------


def result(number: int, reward: float, **more: Any) -> dict[str, Any]:
    """A row of `results.jsonl`; calls are JSON text in it."""
    call = json.dumps({"id": "k1", "name": "book", "arguments": '{"n": 2}'})
    return {
        "example_id": number,
        "prompt": [ASKED],
        "completion": [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "ok", "tool_call_id": "k1"},
            {"role": "assistant", "content": "Booked."},
        ],
        "reward": reward,
        "metrics": {"num_turns": 2},
        "num_turns": 2,
        "tool_defs": [{"name": "book", "description": "", "parameters": {"type": "object"}, "strict": None}],
        "is_truncated": False,
        "stop_condition": "no_tools_called",
        "total_ms": 3.0,
        "error": None,
        **more,
    }


def test_results_of_verifiers_are_imported_with_their_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metadata.json").write_text(json.dumps({"env_id": "dining", "model": "gpt-x"}))
    rows = [
        result(0, 1.0),
        result(0, 0.5),
        result(1, 0.0, error="ModelError('boom')"),
        result(2, 0.25, is_truncated=True),
        result(3, 0.0, stop_condition="prompt_too_long", completion="Text alone.", prompt="A table."),
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = imported(tmp_path / "store", folder, "--name", "base")
    assert told["average_reward"] == pytest.approx((1.0 + 0.5 + 0.25) / 4)
    assert (told["format"], told["world"], told["model"], told["episodes"]) == ("verifiers", "dining", "gpt-x", 5)
    rows = Store(tmp_path / "store").query("select task_id, trial, reward, outcome from episode_scores").rows
    assert rows == [
        ("0", 0, 1.0, "agent_ended"),
        ("0", 1, 0.5, "agent_ended"),
        ("1", 0, None, "agent_fault"),
        ("2", 0, 0.25, "turn_limit"),
        ("3", 0, 0.0, "context_limit"),
    ]
    calls = Store(tmp_path / "store").query("select name, arguments, result ->> '$' from tool_calls").rows
    assert calls == [("book", '{"n": 2}', "ok")] * 4
    assert imported(tmp_path / "store", folder, "--score", "num_turns", "--full-reward", "2")["average_reward"] == 2.0
    with pytest.raises(UsageError, match="has no column 'other'"):
        read_conversations(folder, "other")


def test_a_data_set_of_verifiers_is_imported(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `train` is not installed")
    rows = [{name: value for name, value in result(n, 1.0).items() if name != "tool_defs"} for n in range(2)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    found = read_conversations(tmp_path / "saved")
    assert [each.reward for each in found.conversations] == [1.0, 1.0]
    assert found.conversations[0].messages == read_conversations(_lines(tmp_path, rows)).conversations[0].messages


def _lines(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def trace(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A trace of verifiers 0.4: a graph of messages."""
    nodes = [
        {"message": message, "sampled": message["role"] == "assistant", **({"parent": n - 1} if n else {})}
        for n, message in enumerate(messages)
    ]
    task = {"type": "T", "data": {"idx": 4}, "key": "abc"}
    rewards = {"solved": {"score": 1.0, "weight": 0.5}, "style": {"score": 0.5, "weight": 1.0}}
    calls = [{"node": 1, "model": "gpt-x"}]
    return {
        "task": task,
        "nodes": nodes,
        "rewards": rewards,
        "metrics": {"turns": 1},
        "ok": True,
        "calls": calls,
        **more,
    }


SAID = {"role": "assistant", "content": "When?", "reasoning_content": "No time was named."}


def test_traces_of_verifiers_are_imported(tmp_path: Path) -> None:
    tools = [{"type": "function", "name": "book", "description": "Books."}]
    failed = trace(ASKED, rewards={}, ok=False, errors=[{"type": "ProviderError", "message": "boom"}])
    rows = [
        {"env": {"id": "dining"}, "task": {}, "traces": [trace(ASKED, SAID, tools=tools)]},
        {"env": {"id": "dining"}, "task": {}, "traces": [failed, trace(ASKED, SAID, stop_condition="max_turns")]},
    ]
    found = read_conversations(_lines(tmp_path, rows))
    assert (found.world, found.model, found.format) == ("dining", "gpt-x", "verifiers")
    assert [(each.task_id, each.reward, each.error, each.outcome) for each in found.conversations] == [
        ("4", 1.0, None, None),
        ("4", None, "boom", None),
        ("4", 1.0, None, "turn_limit"),
    ]
    assert [tool.name for tool in found.conversations[0].tools] == ["book"]
    assert found.conversations[0].messages[1].to_openai() == SAID
    solved = read_conversations(tmp_path / "rows.jsonl", "style").conversations
    assert solved[0].reward == 0.5
    told = imported(tmp_path / "store", tmp_path / "rows.jsonl")
    assert (told["episodes"], told["scored"]) == (3, 2)


def test_of_a_branched_trace_the_last_branch_is_imported_and_that_is_said(tmp_path: Path) -> None:
    one = trace(ASKED, SAID)
    one["nodes"].append({"parent": 0, "message": {"role": "assistant", "content": "No."}})
    found = read_conversations(_lines(tmp_path, [{"traces": [one]}]))
    assert found.conversations[0].messages[-1].content == "No."
    assert found.notes == ("1 traces have several branches; the last of each was imported",)


# --- files of conversations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reward"),
    [
        ({"messages": [ASKED, {"role": "assistant", "content": "Yes."}], "reward": 0.5}, 0.5),
        ({"conversations": [{"from": "human", "value": "A table for two."}, {"from": "gpt", "value": "Yes."}]}, None),
        ({"prompt": [ASKED], "completion": [{"role": "assistant", "content": "Yes."}], "label": True}, 1.0),
        ({"prompt": "A table for two.", "completion": "Yes.", "success": False, "label": "?"}, 0.0),
    ],
)
def test_plain_conversations_are_imported(tmp_path: Path, row: dict[str, Any], reward: float | None) -> None:
    store = tmp_path / "store"
    imported(store, _lines(tmp_path, [row]))
    assert Store(store).query("select reward from episodes").rows == [(reward,)]
    rows = Store(store).query("select author, content, heard, turn from messages order by seq").rows
    assert rows == [("user", "A table for two.", "A table for two.", 0), ("agent", "Yes.", "Yes.", 1)]


# --- what can be done with an imported run ----------------------------------------------------------------------------


@pytest.fixture
def played(tmp_path: Path) -> Path:
    """A store with two imported runs of the same two tasks."""
    for name, grades in (("one", "CI"), ("two", "CC")):
        samples = [
            sample(id=f"s{n}", input=f"Table {n}.", scores={"m": {"value": grade}}) for n, grade in enumerate(grades)
        ]
        imported(tmp_path / "store", as_json(tmp_path / f"{name}.json", *samples), "--name", name)
    return tmp_path / "store"


def test_an_imported_run_is_listed_shown_compared_and_exported(played: Path, tmp_path: Path) -> None:
    assert "one" in simkit("ls", "--store", str(played))
    shown = simkit("show", "one", "s1", "--branch", ".1", "--store", str(played))
    assert "It is full." in shown
    compared = json.loads(simkit("compare", "one", "two", "--store", str(played), "--json"))
    assert "0.5" in json.dumps(compared)
    simkit("doctor", "one", "--store", str(played))
    simkit("doctor", "--verify", "--store", str(played))
    examples = select(Store(played), "sft", Selection(runs=("two",), source="episodes", where="reward >= 1"))
    assert len(examples) == 1  # the same conversation, twice
    assert examples.removed == {"duplicates": 1}
    assert [message.role for message in examples.demonstrations[0].messages][-2:] == ["tool", "assistant"]
    recipes = Store(played).query("select distinct recipe, config ->> '$.imported.format' from runs").rows
    assert recipes == [("import", "inspect_ai")]
    units = Store(played).query("select distinct fate from units").rows
    assert units == [("done",)]


def test_an_imported_run_is_neither_resumed_nor_replayed(played: Path) -> None:
    for arguments in (["resume", "one"], ["run", "rollout", "--replay", "one"]):
        refused = CliRunner().invoke(app, [*arguments, "--store", str(played)])
        assert refused.exit_code == 2
        assert "was imported from another program" in refused.output


@pytest.mark.anyio
async def test_python_refuses_it_too(played: Path) -> None:
    with pytest.raises(UsageError, match="was imported from another program"):
        async with Run.replay("one", store=played, models=ModelConfig()):
            pass


def test_the_journal_is_the_record(played: Path) -> None:
    """The database can be made again from it."""
    before = Store(played).query("select * from messages order by all").rows
    (played / "simkit.duckdb").unlink()
    assert Store(played).query("select * from messages order by all").rows == before
    journal = next((played / "journals").glob("*/main.jsonl"))
    assert len(list(JournalEvents(journal, (RunStarted, EpisodeStarted)))) == 3


def test_results_belong_to_the_decision_that_called(tmp_path: Path) -> None:
    found = read_conversations(as_json(tmp_path / "a.json", sample()))
    run = ImportedRun(run_id="r", name="r", version="0", number=1)
    calls = [call for event in run_events(found, run, "a.json") for call in getattr(event, "tool_calls", ())]
    assert all(isinstance(call, CallRecord) for call in calls)
    assert [(call.name, call.result, call.error, call.step, call.seq) for call in calls] == [
        ("book", "full", True, 0, 3)
    ]
