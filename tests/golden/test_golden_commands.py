"""The text protocol as the release's agents wrote it is read as the release read it; malformed calls are refused."""

from __future__ import annotations

import json

import pytest
from recordings import ReadLines, Recording

from simkit.agents.commands import CallCommand, CommandError, PlanCommand, SpeakCommand, parse


def bodies_that_are_none(trace: Recording) -> set[str]:
    """The malformed calls of a trace's menu, as its agent wrote them."""
    return {str(entry["raw"]) for entry in trace["wrongs"] if "raw" in entry}


def test_every_recorded_reply_is_read(read_lines: ReadLines) -> None:
    read = 0
    for trace in read_lines("josh_traces.jsonl.gz"):
        if trace["style"] != "react":
            continue
        malformed = bodies_that_are_none(trace)
        for message in trace["messages"]:
            text = str(message.get("content"))
            if message["role"] != "assistant" or "<COMMAND_END>" not in text:
                continue
            read += 1
            is_read_as_written(text, malformed)
    if not read:
        pytest.skip("no agent of these recordings wrote in the text protocol")


def is_read_as_written(text: str, malformed: set[str]) -> None:
    body = text.partition(" APICALL ")[2].removesuffix(" <COMMAND_END>")
    match parse(text):
        case (PlanCommand("I will use an api."), CallCommand(name, parameters)):
            assert body not in malformed, text
            assert json.loads(body) == {"name": name, "parameters": parameters}, text
        case (PlanCommand("I will answer."), SpeakCommand(words)):
            assert text.endswith(f"SPEAK {words} <COMMAND_END>")
            assert not body, text
        case CommandError(reason):
            assert body in malformed, f"{text}: {reason}"
        case other:
            raise AssertionError(f"{text} was read as {other}")
