"""Results of verifiers, and other files of conversations with rewards, to be imported as a run.

verifiers 0.4 writes `traces.jsonl`, one episode per line with the traces of its agents; versions before wrote
`results.jsonl` (rows with `prompt`, `completion` and `reward`) beside `metadata.json`, or a folder of `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from simkit.components.reward import RewardPart
from simkit.core.events import Outcome
from simkit.core.messages import AssistantMessage, Message, UserMessage, text_of
from simkit.data.imported import ImportedConversation, ImportedFile
from simkit.data.inspect_logs import is_inspect_log, read_eval_file, read_log
from simkit.data.message_forms import MessageReader, tools_of
from simkit.data.row_files import FileRow, as_number, as_object, as_objects, file_rows, parsed, unpacked
from simkit.data.tau_results import is_tau2, is_tau_bench, read_tau2, read_tau_bench
from simkit.errors import DataCorrupt, DataMissing, UsageError

Row = Mapping[str, Any]

_STOPS: Mapping[str, Outcome] = {
    "max_turns_reached": "turn_limit",
    "max_turns": "turn_limit",
    "prompt_too_long": "context_limit",
    "context_length": "context_limit",
    "max_total_tokens": "token_limit",
    "max_tokens": "token_limit",
    "timeout_reached": "time_limit",
    "timeout": "time_limit",
}
_IDS = ("task_id", "example_id", "id", "question_id", "uuid")
_REWARDS = ("reward", "score", "success", "label")
_NOT_METRICS = frozenset(("reward", "prompt", "completion", "example_id", "generation_ms", "scoring_ms", "total_ms"))


def read_conversations(path: Path | str, score: str | None = None) -> ImportedFile:
    """Read a log of inspect_ai, results of verifiers, tau-bench or tau2-bench, or a file of conversations.

    Args:
        path: the file, or the folder of an evaluation of verifiers or tau2-bench.
        score: the scorer, metric or column that gives the rewards; None for the usual one.

    Raises:
        DataMissing: there is no such file.
        DataCorrupt: it cannot be read; the message says where and why.
        UsageError: it holds no conversations, or nothing of that name gives rewards.
    """
    folder = Path(path)
    inside = (folder / name for name in ("traces.jsonl", "results.jsonl", "results.json"))
    path = next((file for file in inside if file.is_file()), folder)
    if path.suffix == ".eval":
        if not path.is_file():
            raise DataMissing(f"{path} does not exist; inspect_ai writes its logs to ./logs")
        return read_eval_file(path, score)
    rows = list(file_rows(path))
    if not rows:
        raise UsageError(f"{path} has no rows; give a file with at least one conversation")
    for row in rows:
        if not isinstance(row.value, Mapping):
            raise DataCorrupt(f"{row.place} of {path} is not a JSON object with a conversation")
    first = cast("Row", rows[0].value)
    if len(rows) == 1 and is_inspect_log(first):
        return read_log(first, path, score)
    if len(rows) == 1 and is_tau2(first):
        return read_tau2(first, path, score)
    if is_tau_bench(first):
        return read_tau_bench(rows, path, score)
    return _traces(rows, path, score) if "traces" in first else _results(rows, path, score)


# --- verifiers 0.4 ----------------------------------------------------------------------------------------------------


def _traces(rows: Sequence[FileRow], path: Path, score: str | None) -> ImportedFile:
    traces = [(row, trace) for row in rows for trace in as_objects(row.value.get("traces"))]
    found: list[ImportedConversation] = []
    branched = 0
    for row, trace in traces:
        nodes = as_objects(trace.get("nodes"))
        leaves = _leaves(nodes)
        branched += len(leaves) > 1
        if leaves:
            found.append(_trace(trace, _path(nodes, leaves[-1]), score, f"{row.place} of {path}"))
    if not found:
        raise UsageError(f"{path} holds no trace with messages; there is nothing to import")
    names = {part.name for each in found for part in each.parts}
    if score is not None and score not in names:
        raise UsageError(f"{path} has no score {score!r}; it has {', '.join(sorted(names)) or 'none'}")
    worlds = (str(as_object(row.value, "env").get("id") or "") for row in rows)
    models = (str(call["model"]) for _, trace in traces for call in as_objects(trace.get("calls")) if call.get("model"))
    return ImportedFile(
        format="verifiers",
        world=next(filter(None, worlds), path.parent.name),
        model=next(models, None),
        conversations=tuple(found),
        score=score or "reward",
        notes=(f"{branched} traces have several branches; the last of each was imported",) if branched else (),
    )


def _leaves(nodes: Sequence[Row]) -> list[int]:
    parents = [node.get("parent") for node in nodes]
    return [place for place in range(len(nodes)) if place not in parents]


def _path(nodes: Sequence[Row], leaf: int) -> list[Row]:
    """The nodes from the root to a leaf."""
    found: list[Row] = []
    place: Any = leaf
    while isinstance(place, int) and 0 <= place < len(nodes) and len(found) < len(nodes):
        found.append(nodes[place])
        place = nodes[place].get("parent")
    return found[::-1]


def _trace(trace: Row, nodes: Sequence[Row], score: str | None, place: str) -> ImportedConversation:
    data = as_object(trace, "task", "data")
    scores = {name: as_object(given) for name, given in as_object(trace, "rewards").items()}
    rewards = [
        RewardPart(name, value, as_number(given.get("weight", 1.0)) or 0.0)
        for name, given in scores.items()
        if (value := as_number(given.get("score"))) is not None
    ]
    parts = (*rewards, *_measured(as_object(trace, "metrics")))
    total = sum(part.value * part.weight for part in rewards) if rewards else None
    errors = [str(error.get("message") or error.get("type")) for error in as_objects(trace.get("errors"))]
    messages, _ = MessageReader(place).messages([node.get("message") for node in nodes], "nodes")
    offered = trace.get("tools") or (nodes[0].get("tools") if nodes else None)
    ids = (data.get("id"), data.get("idx"), as_object(trace, "task").get("key"))
    return ImportedConversation(
        task_id=next((str(each) for each in ids if each is not None), "0"),
        messages=messages,
        tools=tools_of(offered, place),
        instructions=_asked(messages),
        reward=total if score is None else next((part.value for part in parts if part.name == score), None),
        parts=parts,
        outcome=_stopped(trace),
        error=errors[-1] if errors and not trace.get("ok", False) else None,
    )


def _measured(metrics: Row) -> Iterator[RewardPart]:
    """The numbers among some values, as parts that do not count."""
    for name, value in metrics.items():
        if (number := as_number(value)) is not None:
            yield RewardPart(name, number, 0.0)


def _stopped(row: Row) -> Outcome | None:
    condition = str(row.get("stop_condition") or "")
    return _STOPS.get(condition) or ("turn_limit" if row.get("is_truncated") else None)


# --- rows of conversations --------------------------------------------------------------------------------------------


def _results(rows: Sequence[FileRow], path: Path, score: str | None) -> ImportedFile:
    beside = (path.parent if path.is_file() else path) / "metadata.json"
    known: Row = as_object(parsed(beside.read_bytes(), f"{beside}")[0]) if beside.is_file() else {}
    environment = str(known.get("env_id") or known.get("env") or "")
    first = cast("Row", rows[0].value)
    verifiers = bool(environment) or {"prompt", "completion", "reward", "example_id"} <= first.keys()
    column = score or next((name for name in _REWARDS if isinstance(first.get(name), int | float)), "")
    if score is not None and not any(score in row.value or score in as_object(row.value, "metrics") for row in rows):
        raise UsageError(f"{path} has no column {score!r}; it has {', '.join(first)}")
    return ImportedFile(
        format="verifiers" if verifiers else "conversations",
        world=environment or path.stem,
        model=known.get("model"),
        conversations=tuple(
            _result(row.value, column, f"{row.place} of {path}", number) for number, row in enumerate(rows)
        ),
        score=column,
    )


def _result(row: Row, column: str, place: str, number: int) -> ImportedConversation:
    messages = tuple(_row_messages(row, place))
    info = as_object(unpacked(row.get("info"), place, "{"))
    tools = next((row[name] for name in ("tool_defs", "tools", "functions") if row.get(name)), None)
    metrics = {**row, **as_object(row, "metrics")}
    reward = as_number(metrics.get(column))
    if reward is None and metrics.get(column) is not None:
        raise DataCorrupt(f"{place}: `{column}` is {metrics[column]!r:.40}; a reward is a number or a boolean")
    return ImportedConversation(
        task_id=next((str(row[name]) for name in _IDS if row.get(name) is not None), str(number)),
        messages=messages,
        tools=tools_of(tools or info.get("oai_tools"), place),
        instructions=_asked(messages),
        reward=reward,
        parts=tuple(part for part in _measured(metrics) if part.name not in (*_NOT_METRICS, *_IDS, column)),
        outcome=_stopped(row),
        error=_said(row["error"]) if row.get("error") else None,
    )


def _row_messages(row: Row, place: str) -> Iterator[Message]:
    reader = MessageReader(place)
    for name in ("messages", "conversations", "conversation"):
        if row.get(name) is not None:
            yield from reader.messages(row[name], name)[0]
            return
    if row.get("prompt") is None or row.get("completion") is None:
        raise DataCorrupt(
            f"{place} has the columns {', '.join(row) or 'none'}; a conversation is `messages`, `conversations`, or "
            "`prompt` and `completion` (pairs of answers and single prompts cannot be imported)"
        )
    for name, kind in (("prompt", UserMessage), ("completion", AssistantMessage)):
        value = row[name]
        if isinstance(value, str) and not value.lstrip().startswith("[{"):
            yield kind.of(value)
        else:
            yield from reader.messages(value, name)[0]


def _said(error: Any) -> str:
    known = as_object(error)
    said = known.get("error_chain_str") or known.get("message") or known.get("error")
    return str(said or error)[:2000]


def _asked(messages: Iterable[Message]) -> str:
    """The user's first words, by which equal tasks are recognised."""
    return next((text_of(message) for message in messages if isinstance(message, UserMessage)), "")
