"""The rows with which a task begins: the tables, changed by the task's data, set-up functions and earlier messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from simkit.errors import DataCorrupt
from simkit.tools.tau.rows import USER_TABLES, Draft, Row, Rows, Side, copied
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.layout import LAYOUTS, DomainName
from simkit.tools.tau2.mock import SHARED

Json: TypeAlias = Mapping[str, Any]
_SIDES: Final[tuple[Side, ...]] = ("agent", "user")


def parts_of(data: Json, *names: str) -> Sequence[Json]:
    """The objects in a list of nested JSON; none if the list, or an object around it, is missing or null."""
    *outer, last = names
    for name in outer:
        data = cast("Json", data.get(name) or {})
    return cast("Sequence[Json]", data.get(last) or ())


def start_rows(domain: DomainName, environment: Environment, rows: Rows, state: Json | None, where: str) -> Rows:
    """The rows after a task's initial state.

    Args:
        domain: the domain.
        environment: its tools.
        rows: the tables as they are.
        state: the task's `initial_state`; None if it has none.
        where: the task in words, for errors.

    Raises:
        DataCorrupt: the state names a function or a table that does not exist, a function fails, or a call of the
            earlier messages has another result than it had.
    """
    state = state or {}
    data = cast("Json", state.get("initialization_data") or {})
    draft = Draft(rows)
    try:
        for side in _SIDES:
            _merge(domain, draft, side, data.get(f"{side}_data"), environment)
        for action in parts_of(state, "initialization_actions"):
            run_function(environment, draft, action)
    except Exception as error:
        raise DataCorrupt(f"the initial state of {where} cannot be set up ({error}); get the data again") from error
    after = _replayed(environment, draft.done()[0], parts_of(state, "message_history"), where)
    if environment.sync is not None:
        draft = Draft(after)
        environment.sync(draft)
        after = draft.done()[0]
    return after


def state_digest(rows: Rows, exact: bool = True) -> str:
    """The digests of both sides; where both were given the same tables, the digest of these, twice."""
    shared = rows.get(*SHARED) if SHARED[0] in rows.base.tables else None
    sides = _SIDES if shared is None else (shared["side"], shared["side"])
    return " ".join(rows.digest(exact, side) for side in sides)


def run_function(environment: Environment, draft: Draft, call: Json) -> object:
    """Run a set-up function, a check or a tool that a task names, and synchronize both sides.

    Raises:
        LookupError: there is no such function.
        Exception: what the function raises.
    """
    side: Side = "user" if call["env_type"] == "user" else "agent"
    value = environment.function(side, call["func_name"])(draft, **copied(call["arguments"]))
    if environment.sync is not None:
        environment.sync(draft)
    return value


def _merge(domain: DomainName, draft: Draft, side: Side, data: Json | None, environment: Environment) -> None:
    """Write a task's own data over the rows of a side.

    As in the release, the tools of the other side then work on the same tables, and find none of their own.
    """
    if data is None:
        return
    for name, rows in data.items():
        table = f"{USER_TABLES}{name}" if side == "user" else name
        layout = LAYOUTS[domain][table]
        for id, change in cast("Mapping[str, Any]", rows).items():
            merged = _merged(draft.get(table, id) if draft.has(table, id) else {}, change)
            draft.put(table, id, merged if layout is None else layout.arranged(merged))
    if environment.user is not None and environment.schemas is None:
        draft.put(*SHARED, {"side": side})


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copied(new) if isinstance(new, dict | list) else new
    row, change = cast("Row", old), cast("Row", new)
    return {**copied(row), **{key: _merged(row.get(key), value) for key, value in change.items()}}


def _replayed(environment: Environment, rows: Rows, messages: Sequence[Json], where: str) -> Rows:
    """The rows after the calls of earlier messages that change rows; the other calls are not made again."""
    for call, result in _calls(messages, where):
        tool = environment.find(call["name"])
        if tool is None or tool.kind != "write":
            continue
        called = run_call(environment, rows, call["name"], copied(call["arguments"]), _caller(call))
        rows = called.rows
        if _json(called.text) != _json(result.get("content")):
            raise DataCorrupt(
                f"the call {call['name']} in the earlier messages of {where} gives {called.text:.200}, and its result "
                f"there is {result.get('content')!s:.200}; get the data again"
            )
    return rows


def _caller(call: Json) -> Side:
    return "user" if call.get("requestor") == "user" else "agent"


def _calls(messages: Sequence[Json], where: str) -> Iterator[tuple[Json, Json]]:
    """The calls of messages, each with the message of its result."""
    waiting: list[Json] = []
    for message in messages:
        if message["role"] != "tool":
            if waiting:
                break
            waiting = list(parts_of(message, "tool_calls"))
        elif not waiting or waiting[0].get("id") != message.get("id"):
            raise DataCorrupt(f"a result in the earlier messages of {where} belongs to no call; get the data again")
        else:
            yield waiting.pop(0), message
    if waiting:
        raise DataCorrupt(f"a call in the earlier messages of {where} has no result; get the data again")


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text
