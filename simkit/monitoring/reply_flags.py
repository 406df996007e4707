"""Replies that do not hold what a model meant to say: what they are, why they come, and the switch of the server.

A score of such a run says little about the model. The flags come from agents and simulated users; see
`Decision.flags` and `UserTurn.flags`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

REPLY_FLAGS: Mapping[str, tuple[str, str]] = {
    "call_as_text": (
        "tool calls came as text and were not spoken",
        "the server does not parse them: start vLLM or SGLang with --tool-call-parser (vLLM also with "
        "--enable-auto-tool-choice), llama.cpp with --jinja; or use --agent function_calling,text_calls=read",
    ),
    "leaked_reasoning": (
        "spoken texts still seem to hold reasoning",
        "start the server with a reasoning parser (--reasoning-parser of vLLM and SGLang, --reasoning-format of "
        "llama.cpp)",
    ),
    "cut_off_call": (
        "replies were cut off in their tool calls, which were not executed",
        "raise --max-tokens",
    ),
    "unparsed_call": (
        "tool calls could not be read, were not spoken, and the model was told",
        "the model writes invalid calls; choose another model or tool-call parser of its server, or --agent react",
    ),
    "format_ignored": (
        "replies did not follow the JSON schema of the request",
        "the endpoint ignored `response_format`: use a server that constrains replies (vLLM, SGLang, llama.cpp, "
        "local/), or leave out constrained=true or ending=json",
    ),
    "unknown_finish": (
        "replies ended for a reason that simkit does not know",
        "they were used as they are; look at them in `response -> 'doubts'` of model_calls",
    ),
}
"""Flags about replies, with what happened and what to do about it."""

LOCAL_REMEDIES: Mapping[str, str] = {
    "call_as_text": (
        "the model writes calls where none can be executed: constrain its replies (--agent react,constrained=true, "
        "--user goal,ending=json)"
    ),
    "leaked_reasoning": (
        "simkit does not know the tags of its reasoning: switch it off in the chat template or the prompt, or choose "
        "another model"
    ),
    "unparsed_call": (
        "the model writes invalid calls: constrain its replies (--agent react,constrained=true, --user "
        "goal,ending=json), or choose another model"
    ),
}
"""What to do about flags if the model is one in this process, where there is no server to configure."""

LOCAL = "local/"
"""Beginning of the names of models in this process."""


def are_local(models: Iterable[str | None]) -> bool:
    """Whether all of these models are models in this process; False without any."""
    names = [name for name in models if name]
    return bool(names) and all(name.startswith(LOCAL) for name in names)


def reply_notes(flags: Mapping[str, int], *, local: bool = False) -> Iterator[tuple[int, str]]:
    """Number and description of the messages with each flag about replies.

    Args:
        flags: the number of messages by flag, `kind: detail`.
        local: whether they come from models in this process.
    """
    counts: Counter[str] = Counter()
    details: dict[str, list[str]] = {}
    for flag, count in flags.items():
        kind, _, detail = flag.partition(": ")
        if kind in REPLY_FLAGS:
            counts[kind] += count
            details.setdefault(kind, []).extend([detail] if detail else [])
    for kind, count in counts.most_common():
        happened, remedy = REPLY_FLAGS[kind]
        remedy = LOCAL_REMEDIES.get(kind, remedy) if local else remedy
        shown = f" ({', '.join(sorted(details[kind])[:3])})" if details[kind] else ""
        yield count, f"{happened}{shown}: {remedy}"
