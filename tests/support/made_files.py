"""Training files in the forms and encodings that people have, each with the conversation that it holds."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import strategies as st

from simkit.core.messages import AssistantMessage, Message, ToolMessage, text_of
from simkit.core.reasoning import reasoning_of
from simkit.data.checks import check
from simkit.data.examples import DpoExample, Example, KtoExample, SftExample
from simkit.data.export import write
from simkit.data.reading import read_examples
from simkit.errors import SimkitError
from support.made_replies import ARGUMENTS
from support.made_texts import PLAIN, SEARCH, SENTENCES, THOUGHTS

Fields: TypeAlias = dict[str, Any]
Said: TypeAlias = tuple[str, str, str | None, tuple[tuple[str, Fields], ...]]
"""Role, text, reasoning and calls of a message."""


@dataclass(frozen=True)
class MadeFile:
    """A file, and the conversation of each of its rows, with its label if it has one."""

    name: str
    data: bytes
    rows: tuple[tuple[tuple[Said, ...], bool | None], ...]


_CALLS = st.lists(st.tuples(st.just("search_hotels"), ARGUMENTS), min_size=1, max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Said, ...]:
    """A conversation that ends with the assistant's words."""
    said: list[Said] = [("system", draw(SENTENCES), None, ())] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 2))):
        said.append(("user", draw(SENTENCES), None, ()))
        if draw(st.booleans()):
            calls = tuple(draw(_CALLS))
            said.append(("assistant", "", None, calls))
            said += (("tool", draw(SENTENCES), None, ()) for _ in calls)
        said.append(("assistant", draw(PLAIN), draw(st.none() | THOUGHTS), ()))
    return tuple(said)


# --- forms ------------------------------------------------------------------------------------------------------------


def _openai(said: tuple[Said, ...], *, ids: bool, objects: bool, nulls: bool) -> list[Fields]:
    found: list[Fields] = []
    open_ids: list[str] = []
    for number, (role, text, thought, calls) in enumerate(said):
        message: Fields = {"role": role, "content": text if text or role != "assistant" else None}
        if calls:
            open_ids = [f"c{number}_{index}" for index in range(len(calls))]
            message["tool_calls"] = [
                {
                    **({"id": open_ids[index], "type": "function"} if ids else {}),
                    "function": {"name": name, "arguments": given if objects else json.dumps(given)},
                }
                for index, (name, given) in enumerate(calls)
            ]
        if role == "tool":
            message |= {"tool_call_id": open_ids.pop(0)} if ids else {"name": "search_hotels"}
        if thought:
            message["reasoning_content"] = thought
        if nulls:
            message = {"tool_calls": None, "name": None, "reasoning_content": None, **message}
        found.append(message)
    return found


def _sharegpt(said: tuple[Said, ...]) -> list[Fields]:
    names = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
    found: list[Fields] = []
    for role, text, _, calls in said:
        if calls:
            value = [{"name": name, "arguments": given} for name, given in calls]
            found.append({"from": "function_call", "value": json.dumps(value)})
        else:
            found.append({"from": names[role], "value": text})
    return found


@st.composite
def rows(draw: st.DrawFn, form: str) -> tuple[Fields, tuple[Said, ...], bool | None]:
    """A row in a form, its conversation, and its label."""
    said = draw(conversations())
    if form == "sharegpt":
        plain = tuple((role, text, None, calls) for role, text, _, calls in said)
        return {"conversations": _sharegpt(plain), "tools": json.dumps([SEARCH.to_openai()])}, plain, None
    options = {name: draw(st.booleans()) for name in ("ids", "objects", "nulls")}
    messages = _openai(said, **options)
    if form == "text":
        return {"messages": json.dumps(messages)}, said, None
    if form == "messages":
        tools = draw(st.sampled_from(({}, {"tools": [SEARCH.to_openai()]}, {"tools": None}, {"tools": "[]"})))
        return {"messages": messages, **tools}, said, None
    label = draw(st.booleans())
    words = draw(st.sampled_from(("true", "Yes", "1", True, 1) if label else ("false", "no", "0", False, 0)))
    row = {"prompt": messages[:-1], "completion": messages[-1:]}
    return (row, said, None) if form == "prompt" else ({**row, "label": words}, said, label)


@st.composite
def files(draw: st.DrawFn) -> MadeFile:
    """A file of one to three rows of the same form, in any encoding."""
    form = draw(st.sampled_from(("messages", "text", "sharegpt", "prompt", "label")))
    found = [draw(rows(form)) for _ in range(draw(st.integers(1, 3)))]
    values, ascii_only = [row for row, _, _ in found], draw(st.booleans())
    end = draw(st.sampled_from(("\n", "\r\n")))
    if draw(st.booleans()):
        text = end.join(json.dumps(value, ensure_ascii=ascii_only) for value in values) + draw(
            st.sampled_from(("", end))
        )
        name = draw(st.sampled_from(("a.jsonl", "a.ndjson", "a.JSONL")))
    else:
        text, name = json.dumps(values, ensure_ascii=ascii_only, indent=draw(st.sampled_from((None, 2)))), "a.json"
    data = text.encode(draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-32"))))
    if draw(st.booleans()):
        data, name = gzip.compress(data, mtime=0), f"{name}.gz"
    return MadeFile(name, data, tuple((said, label) for _, said, label in found))


# --- checks -----------------------------------------------------------------------------------------------------------


def check_file(made: MadeFile) -> None:
    """The file is read as what it holds; what is written from it is read as the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / made.name
        path.write_bytes(made.data)
        examples = read_examples(path)
        assert [(_said(example), _label(example)) for example in examples] == list(made.rows)
        assert not any(
            finding.name in ("orphan_result", "unanswered_call", "doubled_id") for finding in check(examples).findings
        )
        again = read_examples(write(examples, Path(folder) / "again.jsonl"))
        assert [_said(example) for example in again] == [said for said, _ in made.rows]


def check_altered(data: bytes, name: str) -> None:
    """A file of any bytes gives examples that can be checked, or a SimkitError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        with contextlib.suppress(SimkitError):
            check(read_examples(path))


def _label(example: Example) -> bool | None:
    return example.label if isinstance(example, KtoExample) else None


def _said(example: Example) -> tuple[Said, ...]:
    match example:
        case SftExample():
            messages = example.messages
        case KtoExample():
            messages = (*example.prompt, *example.completion)
        case DpoExample():
            messages = (*example.prompt, *example.chosen)
    return tuple(map(_of, messages))


def _of(message: Message) -> Said:
    calls = message.tool_calls or () if isinstance(message, AssistantMessage) else ()
    assert not isinstance(message, ToolMessage) or message.tool_call_id
    read = tuple((call.name, call.parse_arguments()) for call in calls)
    return message.role, text_of(message), reasoning_of(message), read
