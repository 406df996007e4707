"""The text protocol as the release's agents wrote it is read as the release read it; malformed calls are refused."""

from __future__ import annotations

import json
from collections import Counter

from recordings import ReadLines

from simkit.agents.commands import Call, Plan, Speech, Unreadable, parse


def test_every_recorded_reply_is_read(read_lines: ReadLines) -> None:
    texts = [
        str(message["content"])
        for trace in read_lines("josh_traces.jsonl.gz")
        if trace["style"] == "react"
        for message in trace["messages"]
        if message["role"] == "assistant" and "<COMMAND_END>" in str(message.get("content"))
    ]
    kinds: Counter[str] = Counter()
    for text in texts:
        match parse(text):
            case (Plan("I will use an api."), Call(name, parameters)):
                assert json.dumps({"name": name, "parameters": parameters}) in text
                kinds["call"] += 1
            case (Plan("I will answer."), Speech(words)):
                assert text.endswith(f"SPEAK {words} <COMMAND_END>")
                kinds["speech"] += 1
            case Unreadable(reason):
                assert "APICALL search_hotel(area=north)" in text, reason
                kinds["malformed"] += 1
            case other:
                raise AssertionError(f"{text} was read as {other}")
    assert kinds.total() == len(texts) > 900
    assert min(kinds.values()) >= 10
