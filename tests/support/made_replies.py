"""Replies of chat models, built from a grammar of what servers send, each with what it means."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import orjson
from hypothesis import strategies as st

from simkit.core.messages import text_of
from simkit.core.reasoning import leaks_reasoning
from simkit.errors import ModelFault, SimkitError
from simkit.models import ChatResponse, FinishReason, Usage
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply
from support.made_texts import PLAIN, THOUGHTS

Fields: TypeAlias = dict[str, Any]
READING = ReplyContext("http://there", "m", "sk-secret-0123456789")
FAILED = "failed"


@dataclass(frozen=True)
class Truth:
    """What a reply means; `finish` is `failed` for one that broke off."""

    text: str = ""
    reasoning: str | None = None
    calls: tuple[tuple[str, Fields], ...] = ()
    finish: FinishReason | str = "stop"
    usage: Usage = field(default_factory=Usage)
    extras: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Made:
    """A body, and what it means."""

    body: bytes
    truth: Truth
    status: int = 200


# --- calls, usage and endings -----------------------------------------------------------------------------------------

_KEYS: st.SearchStrategy[str] = st.sampled_from(("area", "day", "stars", "name", "x"))
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
    | st.sampled_from(("</think>", "<tool_call>", '{"a": 1}', "```"))
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=5
)
ARGUMENTS: st.SearchStrategy[Fields] = st.dictionaries(_KEYS, _VALUES, max_size=3)
_TOOLS: st.SearchStrategy[str] = st.sampled_from(("book", "search_hotels", "a.b-c"))
CALLS: st.SearchStrategy[list[tuple[str, Fields]]] = st.lists(st.tuples(_TOOLS, ARGUMENTS), max_size=3)
_NO_ARGUMENTS: tuple[Any, ...] = ("{}", {}, None, "null", "", [])
_OTHER_BLOCKS: tuple[list[Fields], ...] = ([], [], [{"type": "server_tool_use", "id": "s", "name": "w", "input": {}}])

ENDINGS = {
    "stop": (
        "stop",
        "STOP",
        "end_turn",
        "eos",
        "FINISH_REASON_STOP",
        "FinishReason.STOP",
        "stop_sequence",
        "EOS_TOKEN",
    ),
    "tool_calls": ("tool_calls", "function_call", "tool_use", "TOOL_CALLS", "tool_call", "toolUse"),
    "length": ("length", "MAX_TOKENS", "max_tokens", "model_length", "Length", "max_output_tokens"),
    "content_filter": ("content_filter", "SAFETY", "RECITATION", "content_filtered", "PROHIBITED_CONTENT"),
    "failed": ("error", "abort", "MALFORMED_FUNCTION_CALL", "insufficient_system_resource", "cancelled"),
}
UNKNOWN = st.from_regex(r"(?:zebra|new_reason|OTHER|X)_[a-z]{1,8}", fullmatch=True) | st.sampled_from(
    ("other", "unspecified", "?", 17, True, ["stop"], "stop!failed", "not_stop", "stopped_by_operator")
)


@st.composite
def endings(draw: st.DrawFn) -> tuple[Any, str]:
    """A finish reason as servers write it, and its meaning."""
    kind = draw(st.sampled_from((*ENDINGS, "stop", "tool_calls", "unknown")))
    return (draw(UNKNOWN), kind) if kind == "unknown" else (draw(st.sampled_from(ENDINGS[kind])), kind)


def finish_of(ending: str, text: str, calls: object) -> str:
    """The finish reason of an answer whose server named this ending."""
    if ending in ("stop", "tool_calls"):
        return "tool_calls" if calls else "stop" if text else "empty"
    return ending


@st.composite
def usages(draw: st.DrawFn) -> tuple[Any, Usage]:
    """A usage as servers write it, and its meaning."""
    prompt, completion = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**5))
    cached = draw(st.integers(0, prompt))
    plain = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    known = Usage(prompt, completion)
    with_cache = replace(known, cached_tokens=cached)
    return draw(
        st.sampled_from(
            (
                (None, Usage()),
                ({}, Usage()),
                (plain, known),
                ({**plain, "prompt_tokens_details": {"cached_tokens": cached}}, with_cache),
                ({**plain, "prompt_tokens_details": None, "completion_tokens_details": None}, known),
                ({**plain, "prompt_cache_hit_tokens": cached}, with_cache),
                ({"prompt_tokens": str(prompt), "completion_tokens": float(completion)}, known),
                ({"input_tokens": prompt, "output_tokens": completion}, known),
                ({"prompt_tokens": prompt, "completion_tokens": None}, Usage(prompt)),
            )
        )
    )


# --- OpenAI's form ----------------------------------------------------------------------------------------------------

_PAIRS = (
    *(("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>"), ("<THINK>", "</THINK>")),
    *(("<reasoning>", "</reasoning>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"), ("<think >", "</think>")),
    *(("<|START_THINKING|>", "<|END_THINKING|>"), ("<|inner_prefix|>", "<|inner_suffix|>")),
    *(("<|channel>thought\n", "<channel|>"), ("<seed:think>", "</seed:think>"), ("<antThinking>", "</antThinking>")),
)
_SPACES = st.sampled_from(("", "\n", "\n\n", " "))
_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_TAG = st.sampled_from(_PAIRS)


@st.composite
def contents(draw: st.DrawFn, text: str) -> tuple[Fields, str | None, str]:
    """Content and reasoning of a message that says `text`: its fields, the reasoning, and the text as it is heard."""
    thought = draw(THOUGHTS)
    opening, closing = draw(_TAG)
    space, other = draw(_SPACES), draw(_SPACES)
    part = {"type": "text", "text": text}
    forms: dict[str, tuple[Fields, str | None]] = {
        "none": ({"content": text}, None),
        "parts": ({"content": [part]}, None),
        "null": ({"content": text, "reasoning_content": None, "reasoning": ""}, None),
        "field": ({"content": text, draw(st.sampled_from(_FIELDS)): thought}, thought),
        "details": ({"content": text, "reasoning_details": [{"type": "reasoning.text", "text": thought}]}, thought),
        "inline": ({"content": f"{space}{opening}{other}{thought}{space}{closing}{other}{text}"}, thought),
        "both": ({"content": f"{opening}{thought}{closing}{text}", "reasoning_content": thought}, thought),
        "unopened": ({"content": f"{thought}{space}{closing}{other}{text}"}, thought),
        "empty": ({"content": f"{opening}{space}{closing}{other}{text}"}, None),
        "thinking": ({"content": [{"type": "thinking", "thinking": thought}, part]}, thought),
        "parts of parts": ({"content": [{"type": "thinking", "thinking": [{**part, "text": thought}]}, part]}, thought),
        "inline part": ({"content": [{**part, "text": f"{opening}{thought}{closing}{text}"}]}, thought),
        "harmony": (
            {
                "content": f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final"
                f"<|message|>{text}<|return|>"
            },
            thought,
        ),
        "cut": ({"content": f"{opening}{space}{thought}"}, thought),
    }
    kind = draw(st.sampled_from(list(forms)))
    found, reasoning = forms[kind]
    if not text and kind in ("none", "parts"):
        found = {"content": draw(st.sampled_from((None, "", [])))}
    return found, reasoning, "" if kind == "cut" else text


@st.composite
def written_calls(draw: st.DrawFn, calls: list[tuple[str, Fields]], content: object) -> Fields:
    """Fields of a message with these calls."""
    if not calls:
        return draw(st.sampled_from(({}, {"tool_calls": None}, {"tool_calls": []}, {"function_call": None})))
    if len(calls) == 1 and draw(st.integers(0, 5)) == 0:
        name, arguments = calls[0]
        return {"function_call": {"name": name, "arguments": json.dumps(arguments)}}
    if draw(st.integers(0, 7)) == 0 and content is None:
        return {"content": [{"type": "tool_use", "id": "c", "name": name, "input": given} for name, given in calls]}
    written: list[Any] = []
    for index, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        given: Any = draw(st.sampled_from((text, arguments, json.dumps(text), json.dumps(arguments, indent=1))))
        if not arguments:
            given = draw(st.sampled_from(_NO_ARGUMENTS))
        function = {"name": name, "arguments": given}
        wrapped: Fields = {"id": f"c{index}", "type": "function", "function": function}
        forms: tuple[Fields, ...] = (
            wrapped,
            {**wrapped, "index": index},
            {"function": function},
            {**wrapped, "id": None},
            {**wrapped, "id": "same"},
            function,
            {**wrapped, "extra_content": {"google": {"thought_signature": "c2ln"}}},
        )
        written.append(draw(st.sampled_from(forms)))
    return {"tool_calls": written}


@st.composite
def openai_replies(draw: st.DrawFn) -> Made:
    """A chat completion, as one object or as a stream of events."""
    calls = draw(CALLS)
    text = draw(st.just("") if calls else st.just("") | PLAIN) if draw(st.booleans()) else draw(PLAIN)
    content, reasoning, text = draw(contents(text))
    message: Fields = {"role": "assistant", **content}
    message |= draw(written_calls(calls, message["content"]))
    extras: Fields = draw(
        st.sampled_from(({}, {}, {"provider_specific_fields": {"a": [1, "x"]}}, {"audio_id": "a1"}, {"empty": {}}))
    )
    (reason, ending), (usage, used) = draw(endings()), draw(usages())
    choice: Fields = {"index": 0, "message": {**message, **extras}, "finish_reason": reason}
    choice |= draw(st.sampled_from(({}, {"logprobs": None}, {"content_filter_results": {}}, {"matched_stop": 2})))
    body: Fields = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    truth = Truth(
        text=text,
        reasoning=reasoning,
        calls=tuple(calls),
        finish=finish_of(ending, text, calls),
        usage=used,
        extras=tuple((name, value) for name, value in extras.items() if value),
    )
    if draw(st.integers(0, 3)) == 0 and isinstance(message["content"], str | None):
        return Made(draw(streamed(body)), truth)
    if draw(st.integers(0, 9)) == 0:
        return Made(json.dumps([body]).encode(), truth)
    return Made(draw(st.sampled_from((b"", b"\n  "))) + json.dumps(body).encode(), truth)


@st.composite
def streamed(draw: st.DrawFn, body: Fields) -> bytes:
    """A completion as a stream of events: its texts are cut into pieces anywhere."""
    choice = cast("Fields", body["choices"][0])
    message = cast("Fields", choice["message"])
    deltas: list[Fields] = [{"role": "assistant"}]
    for name, value in message.items():
        if name == "tool_calls" and value:
            for index, call in enumerate(cast("list[Fields]", value)):
                function = call.get("function")
                arguments = cast("Fields", function).get("arguments") if isinstance(function, dict) else None
                if not isinstance(arguments, str):
                    deltas.append({"tool_calls": [{**call, "index": index}]})
                    continue
                pieces = draw(pieces_of(arguments))
                named = {**cast("Fields", function), "arguments": pieces[0]}
                deltas.append({"tool_calls": [{**call, "index": index, "function": named}]})
                deltas += ({"tool_calls": [{"index": index, "function": {"arguments": each}}]} for each in pieces[1:])
        elif isinstance(value, str) and name in ("content", *_FIELDS):
            deltas += ({name: each} for each in draw(pieces_of(value)))
        elif name != "role":
            deltas.append({name: value})
    rest = {name: value for name, value in choice.items() if name not in ("message", "index", "finish_reason")}
    end = draw(st.sampled_from(("\n\n", "\r\n\r\n", "\r\r")))
    chunks: list[Fields] = [
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    last: Fields = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"], **rest}
    chunks.append({"id": "x", "model": "m", "choices": [last]})
    chunks.append({"id": "x", "model": "m", "choices": [], "usage": body["usage"]})
    lines = [f"data: {json.dumps(chunk)}" for chunk in chunks]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), ": keep-alive")
    lines.append("data: [DONE]")
    return (end.join(lines) + draw(st.sampled_from(("", end)))).encode()


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


# --- Anthropic's form -------------------------------------------------------------------------------------------------


@st.composite
def anthropic_replies(draw: st.DrawFn) -> Made:
    """A message of the Messages API."""
    blocks: list[Fields] = []
    thoughts, texts = draw(st.lists(THOUGHTS, max_size=2)), draw(st.lists(PLAIN, max_size=2))
    calls = draw(CALLS)
    blocks += ({"type": "thinking", "thinking": each, "signature": "c2ln"} for each in thoughts)
    blocks += draw(st.sampled_from(([], [{"type": "redacted_thinking", "data": "x"}])))
    blocks += ({"type": "text", "text": each} for each in texts)
    blocks += draw(st.sampled_from(_OTHER_BLOCKS))
    blocks += (
        {"type": "tool_use", "id": f"c{index}", "name": name, "input": given}
        for index, (name, given) in enumerate(calls)
    )
    reason, ending = draw(endings())
    counts = [draw(st.integers(0, 10**5)) for _ in range(4)]
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    body = {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": reason,
        "usage": dict(zip(names, counts, strict=True)),
    }
    text = "".join(texts)
    truth = Truth(
        text=text,
        reasoning="\n\n".join(thoughts) or None,
        calls=tuple(calls),
        finish=finish_of(ending, text, calls),
        usage=Usage(sum(counts[:3]), counts[3], counts[1]),
    )
    return Made(json.dumps(body).encode(), truth)


# --- checks -----------------------------------------------------------------------------------------------------------


def check_openai(made: Made) -> None:
    """The reply is read as what it means."""
    _check(made, read_reply)


def check_anthropic(made: Made) -> None:
    """The message is read as what it means."""
    _check(made, lambda reply, reading: read_messages_reply(reply, reading).response)


def _check(made: Made, read: Callable[[HttpReply, ReplyContext], ChatResponse]) -> None:
    truth = made.truth
    try:
        response = read(HttpReply(made.status, {"content-type": "application/json"}, made.body), READING)
    except ModelFault as error:
        _check_failed(error, truth)
        return
    assert truth.finish != FAILED, response
    assert text_of(response.message) == truth.text
    assert response.reasoning == truth.reasoning
    assert tuple((call.name, call.parse_arguments()) for call in response.message.tool_calls or ()) == truth.calls
    ids = [call.id for call in response.message.tool_calls or ()]
    assert len({*ids}) == len(ids)
    assert all(ids)
    assert response.finish == truth.finish
    assert (truth.finish == "unknown") == any(doubt.startswith("unknown_finish") for doubt in response.doubts)
    assert response.usage == truth.usage, response.doubts
    extra = response.message.model_extra or {}
    assert all(extra.get(name) == value for name, value in truth.extras), extra
    assert not leaks_reasoning(text_of(response.message))
    assert ChatResponse.from_json(orjson.loads(response.json_text())) == response


def _check_failed(error: ModelFault, truth: Truth) -> None:
    assert truth.finish == FAILED, error
    assert error.trouble == "transient", error
    told = error.usage or (0, 0, 0)
    assert tuple(told)[:3] == (truth.usage.prompt_tokens, truth.usage.completion_tokens, truth.usage.cached_tokens)


def check_any(body: bytes, status: int = 200) -> None:
    """A body of any kind gives an answer or a SimkitError."""
    for read in (read_reply, read_messages_reply):
        with contextlib.suppress(SimkitError):
            read(HttpReply(status, {}, body), READING)
