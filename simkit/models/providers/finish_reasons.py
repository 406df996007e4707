"""Finish reasons of servers, in the words of every provider, and the `FinishReason` that each stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, assert_never, cast

from simkit.core.messages import AssistantMessage
from simkit.models.base import FinishReason

Ending: TypeAlias = FinishReason | Literal["failed"]
"""A finish reason, or `failed`: the server gave up in the middle, and what there is of the reply is no answer."""

_WORDS: Mapping[Ending, tuple[str, ...]] = {
    "stop": (
        *("stop", "eos", "eostoken", "eot", "endturn", "endofturn", "turncomplete", "stopsequence", "stopstring"),
        *("stoptoken", "complete", "completed", "done", "finished", "finish", "end", "endoftext", "normal", "success"),
    ),
    "tool_calls": ("toolcalls", "toolcall", "tooluse", "functioncall", "functioncalls"),
    "length": (
        *("length", "maxtokens", "maxlength", "modellength", "limit", "tokenlimit", "maxoutputtokens", "maxnewtokens"),
        *("maxcompletiontokens", "contextlength", "contextlengthexceeded", "contextwindowexceeded", "errorlimit"),
        *("modelcontextwindowexceeded", "outputlimit", "incomplete", "truncated", "continuation", "compaction"),
        *("pauseturn", "repetition"),
    ),
    "content_filter": (
        *("contentfilter", "contentfiltered", "contentmoderation", "moderation", "safety", "imagesafety", "recitation"),
        *("language", "blocklist", "prohibitedcontent", "spii", "errortoxic", "guardrailintervened", "guardrails"),
        *("sensitive", "censored", "blocked", "filtered", "modelarmor", "escalation", "imageprohibitedcontent"),
    ),
    "refusal": ("refusal", "refused"),
    "failed": (
        *("error", "abort", "aborted", "cancelled", "canceled", "usercancel", "failed", "failure", "timeout"),
        *("servererror", "internalerror", "networkerror", "modelerror", "overloaded", "engineoverloaded"),
        *("insufficientsystemresource", "malformedfunctioncall", "malformedresponse", "malformedmodeloutput"),
        *("malformedtooluse", "unexpectedtoolcall", "toomanytoolcalls", "missingthoughtsignature"),
        *("load", "unload", "preempted", "interrupted"),
    ),
}
"""Names of finish reasons, in small letters and without separators.

They are those of OpenAI, Azure, Anthropic, Gemini and Vertex, Mistral, Cohere, Bedrock, DeepSeek, Z.ai, OpenRouter,
vLLM, SGLang, TGI, llama.cpp and Ollama (`load`: it loaded the model and generated nothing).
"""

_ENDINGS: Mapping[str, Ending] = {word: ending for ending, words in _WORDS.items() for word in words}
_COMMON: Mapping[object, Ending] = {
    name: _ENDINGS[name.replace("_", "")] for name in ("stop", "tool_calls", "length", "content_filter")
}
_SEPARATORS = re.compile(r"[^a-z]+")
_PREFIX = "finishreason"  # of enumerations: FINISH_REASON_STOP, FinishReason.STOP


def read_ending(reason: object) -> Ending | None:
    """The ending that a finish reason stands for: `unknown` for one in no list, None if the server gave no reason."""
    found = _COMMON.get(reason) if isinstance(reason, str) else None
    if found is not None:
        return found
    if isinstance(reason, dict):
        fields = cast("dict[str, Any]", reason)
        reason = next((fields[name] for name in ("type", "reason") if isinstance(fields.get(name), str)), fields)
    if reason is None or reason == "":
        return None
    if not isinstance(reason, str):
        return "unknown"
    word = _SEPARATORS.sub("", reason.lower())
    return _ENDINGS.get(word) or _ENDINGS.get(word.removeprefix(_PREFIX), "unknown")


def ending_doubts(ending: Ending | None, message: AssistantMessage, shown: str) -> tuple[str, ...]:
    """Doubts about an ending: a reason in no list, or one that announces calls which the message does not have."""
    if ending == "unknown":
        return (f"unknown_finish: {shown}",)
    return (f"missing_calls: {shown}",) if ending == "tool_calls" and not message.tool_calls else ()


def finish_of(message: AssistantMessage, ending: FinishReason | None) -> FinishReason:
    """The finish reason: what the message holds decides between `stop`, `tool_calls` and `empty`."""
    if (extra := message.model_extra) and extra.get("refusal"):
        return "refusal"
    match ending:
        case "length" | "content_filter" | "refusal" | "unknown":
            return ending
        case "stop" | "tool_calls" | "empty" | None:
            if message.tool_calls:
                return "tool_calls"
            return "stop" if message.content else "empty"
        case _:
            assert_never(ending)
