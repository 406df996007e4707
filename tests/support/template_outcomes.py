"""What trainings make of a dialogue in each chat template of TRL 1.16: the stated outcomes, and the dialogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage
from simkit.core.reasoning import with_reasoning

Outcome: TypeAlias = Literal["whole", "whole, TRL's", "replies", "no tools", "not rendered", "other prompt", "no text"]
"""Of SFT: one row for the conversation, with the model's own template or TRL's training template; one row per reply; or
refused, because the template has no tools, does not render reasoning, renders another prompt once there is a reply, or
takes contents in parts.
"""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome for the dialogue with its reasoning, without it, and without it with `enable_thinking=false`."""

    reasoning: Outcome
    plain: Outcome
    unthinking: Outcome | None = None


_NO_TOOLS = Outcomes("no tools", "no tools")
_NO_REASONING = Outcomes("not rendered", "whole")
_GEMMA_4 = Outcomes("not rendered", "whole", "whole")
_OPENING = Outcomes("replies", "other prompt", "whole, TRL's")
_NEMOTRON = Outcomes("replies", "other prompt", "whole")
_KEEPING = Outcomes("replies", "whole")

OUTCOMES = {
    **dict.fromkeys(("cohere", "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3"), _NO_TOOLS),
    **dict.fromkeys(("idefics3", "lfm2", "llama3", "llava_next", "phi3", "phi3_5"), _NO_TOOLS),
    **dict.fromkeys(("qwen2_5_vl", "smolvlm"), _NO_TOOLS),
    **dict.fromkeys(("llama3_1", "llama3_2", "lfm2_v2"), _NO_REASONING),
    **dict.fromkeys(("qwen2_5", "qwen3_instruct_2507", "qwen3_vl"), _NO_REASONING),
    **dict.fromkeys(("gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4"), _GEMMA_4),
    **dict.fromkeys(("lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl", "muse_glimmer"), _KEEPING),
    **dict.fromkeys(("diffusion_gemma", "gemma4_v5", "glm4moe"), Outcomes("replies", "whole", "whole")),
    **dict.fromkeys(("nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"), _NEMOTRON),
    **dict.fromkeys(("qwen3_5_think", "qwen3_6"), _OPENING),
    "gptoss": Outcomes("replies", "replies"),
    "qwen3": Outcomes("replies", "whole, TRL's", "whole, TRL's"),
    "qwen3_5_nothink": Outcomes("other prompt", "whole, TRL's", "whole, TRL's"),
    "qwen3_8": _NEMOTRON,
}

TEXT_ONLY: dict[str, Outcome] = {
    **dict.fromkeys(("cohere", "cohere2", "gemma", "gemma3", "lfm2", "llama3"), "whole"),
    **dict.fromkeys(("phi3", "phi3_5", "qwen2_5_vl"), "whole"),
    **dict.fromkeys(("deepseek_r1_distill", "deepseekv3"), "other prompt"),
    **dict.fromkeys(("idefics3", "llava_next", "smolvlm"), "no text"),
}
"""The outcome for replies without calls (`--agent react`) in the templates that have no tools."""

SINGLE = {"llama3_1", "llama3_2", "gptoss"}
"""Templates that render one call in a reply at most: Llama's refuse two, that of gpt-oss drops the second."""

FIND = ToolSpec.of("find_bike", "Finds bikes.", {"day": {"type": "string"}, "seats": {"type": "integer"}}, ("day",))
BOOK = ToolSpec.of("book_bike", "Books one.", {"name": {"type": "string"}}, ("name",))
TOOLS = (FIND, BOOK)


def dialogue(*, reasoning: bool, two_calls: bool = True) -> tuple[Message, ...]:
    """A dialogue with calls, their results, one of them an error, and two more replies."""
    calls = (ToolCall.of("call_0", "find_bike", {"day": "Sunday", "seats": 2}),)
    results = (ToolMessage.of("call_0", '{"error": "no bike on Sunday"}'),)
    if two_calls:
        calls += (ToolCall.of("call_1", "book_bike", {"name": "Ashley (é)"}),)
        results += (ToolMessage.of("call_1", '{"booked": true}'),)
    replies = [
        (AssistantMessage.of(None, calls), "I look for one."),
        (AssistantMessage.of("There is none on Sunday."), "It failed."),
        (AssistantMessage.of("Goodbye."), "We are done."),
    ]
    told = [with_reasoning(reply, thought) if reasoning else reply for reply, thought in replies]
    asked, bye = UserMessage.of("A bike for two on Sunday, please."), UserMessage.of("Bye.")
    return (SystemMessage.of("You rent bikes."), asked, told[0], *results, told[1], bye, told[2])
