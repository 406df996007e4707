"""Reasoning is told apart from words, and words about reasoning are words."""

from __future__ import annotations

import json
from random import Random

import pytest

from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec
from simkit.core.reasoning import (
    leaks_reasoning,
    reasoning_of,
    separated,
    split_reasoning,
    with_reasoning,
    without_reasoning,
)
from simkit.core.text_calls import find_calls

HARMONY = (
    "<|channel|>analysis<|message|>They want a bike.<|end|><|start|>assistant<|channel|>final<|message|>Which day?"
)


@pytest.mark.parametrize(
    "text",
    [
        "<think>They want a bike.</think>Which day?",
        "<think>\nThey want a bike.\n</think>\n\nWhich day?",
        "They want a bike.\n</think>\n\nWhich day?",
        "They want a bike.</think>Which day?",
        " \n<Thinking effort='low'>They want a bike.</thinking >\nWhich day?",
        "<thought>They want a bike.</thought>Which day?",
        "<reasoning>They want a bike.</reasoning>\nWhich day?",
        "<seed:think>They want a bike.</seed:think>Which day?",
        "<longcat_think>They want a bike.</longcat_think>Which day?",
        "<think>They want a bike.</thinking>Which day?",
        "[THINK]They want a bike.[/THINK]Which day?",
        "They want a bike.[/THINK]Which day?",
        "◁think▷They want a bike.◁/think▷Which day?",
        "<|START_THINKING|>They want a bike.<|END_THINKING|><|START_RESPONSE|>Which day?<|END_RESPONSE|>",
        "<|begin_of_thought|>They want a bike.<|end_of_thought|>\n<|begin_of_solution|>Which day?<|end_of_solution|>",
        "<|channel>thought\nThey want a bike.<channel|>Which day?",
        "<think>They want a bike.</think><answer>Which day?</answer>",
        "Here is my thought process: They want a bike. Here is my response: Which day?",
        HARMONY,
        HARMONY + "<|return|>",
        HARMONY.removeprefix("<|channel|>"),
        HARMONY.removeprefix("<|channel|>analysis<|message|>"),
        "analysisThey want a bike.assistantfinalWhich day?",
    ],
)
def test_reasoning_at_the_beginning_in_every_notation(text: str) -> None:
    assert split_reasoning(text) == ("They want a bike.", "Which day?")
    assert not leaks_reasoning(without_reasoning(text))


@pytest.mark.parametrize(
    ("text", "reasoning", "words"),
    [
        ("<think>a</think>\n<think>b</think>\nc", "a\n\nb", "c"),
        ("a</think>b</think>c", "a\n\nb", "c"),
        ("<think></think>Hi", None, "Hi"),
        ("<think/>Hi", None, "Hi"),
        ("<think>cut off in the mid", "cut off in the mid", ""),
        ("<|channel|>analysis<|message|>cut o", "cut o", ""),
        ('I could say "Which day?"</think>Which day?', 'I could say "Which day?"', "Which day?"),
        ('Hm.\n</think>"Sure," she said.', "Hm.", '"Sure," she said.'),
        ("<|channel|>final<|message|>Hi", None, "Hi"),
    ],
)
def test_repeated_empty_and_cut_off_reasoning(text: str, reasoning: str | None, words: str) -> None:
    assert split_reasoning(text) == (reasoning, words)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Which day?",
        "The tag `</think>` ends it.",
        "Models write <think> before they answer.",
        "Use the </think> tag to end it.",
        'He said "<think>hard</think>" to me.',
        "```xml\n<think>x</think>\n```\nThat is all.",
        "Prices are < 5 and > 3 [1].",
        "Analysis: the assistant (me) found <b>two</b> hotels.",
        "analysis of your trip: fine",
        "Here is my list: one, two.",
        "x <analysis of the room> y",
    ],
)
def test_words_about_reasoning_are_words(text: str) -> None:
    assert split_reasoning(text) == (None, text)
    assert not leaks_reasoning(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sure. <think>hm</think> Which day?",
        "Sure.\n<thinking>\nhm",
        "Sure. <|channel|>analysis",
        "Hm [THINK]x[/THINK]",
        'Sure: {"fence": "```"}\n<think>hm</think> Which day?',
        'He said "{\n"a": 1}<think>hm</think>" then.',
    ],
)
def test_reasoning_in_the_middle_of_words_stays_and_is_noticed(text: str) -> None:
    assert leaks_reasoning(without_reasoning(text))


def test_a_message_keeps_its_reasoning_once() -> None:
    plain = AssistantMessage.of("Hi")
    assert separated(plain) is plain
    call = ToolCall.of("a", "f", {})
    thought = separated(AssistantMessage.of("<think>hm</think>", (call,)))
    assert thought.to_openai() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call.to_openai()],
        "reasoning_content": "hm",
    }
    both = with_reasoning(AssistantMessage.of("<think>b</think>c"), "a")
    assert (reasoning_of(separated(both)), separated(both).content) == ("a\n\nb", "c")
    assert separated(separated(both)) == separated(both)


def test_plain_replies_with_json_code_and_brackets_are_left_alone() -> None:
    """At most 0.5% of them may be taken for reasoning or calls; here none is."""
    tools = (ToolSpec.of("search_hotel", "Find.", {"area": {"type": "string"}}), ToolSpec.of("book", "Book.", {}))
    rng = Random(7)
    pieces = (
        lambda: "I found two hotels (see <https://x.org>).",
        lambda: json.dumps({"name": rng.choice(("Acorn", "Lodge")), "arguments": {"area": "north"}}),
        lambda: f"```python\nif a < {rng.randrange(9)}:\n    print([a, b])\n```",
        lambda: f"```json\n{json.dumps({'search': {'hotel': rng.randrange(9)}})}\n```",
        lambda: "Use <b>bold</b> & <i class='x'>tags</i>, not <think> tags.",
        lambda: "List[int] and dict[str, list[int]] are types; a[0] < b[1] > c(2).",
        lambda: "\n".join(f"- [{n}] option {n}: book (it) or search_hotel?" for n in range(3)),
        lambda: '{"open": [1, 2, {"close": null}]}',
        lambda: "The `search_hotel(area='x')` call is `<tool_call>` in Hermes and `[TOOL_CALLS]` in Mistral.",
        lambda: "function f(x) { return <div>{x}</div>; }",
    )
    flagged = 0
    for _ in range(1000):
        text = rng.choice(("\n", " ", "\n\n")).join(rng.choice(pieces)() for _ in range(rng.randrange(1, 5)))
        flagged += split_reasoning(text) != (None, text) or leaks_reasoning(text) or find_calls(text, tools) is not None
    assert flagged <= 5
