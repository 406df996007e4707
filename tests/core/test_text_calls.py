"""Calls that models write as text, in the notations of their chat templates."""

from __future__ import annotations

import json

import pytest

from simkit.core.messages import ToolSpec
from simkit.core.text_calls import find_calls

TOOLS = (
    ToolSpec.of(
        "find_bike", "Find.", {"day": {"type": "string"}, "seats": {"type": "integer"}, "cargo": {"type": "boolean"}}
    ),
    ToolSpec.of("hire", "Hire.", {"name": {"type": "string"}}),
)
ONE = '{"name": "find_bike", "arguments": {"day": "Sunday", "seats": 2}}'
LLAMA = ONE.replace("arguments", "parameters")
BARE = '{"day": "Sunday", "seats": 2}'
REPEATED = ("<tool_call>", "<function=a>", "<invoke name=a>", '{"a":', "[", "[TOOL_CALLS]", "to=a ", "<think>")
DSML = (
    '<｜DSML｜parameter name="day" string="true">Sunday</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="seats" string="false">2</｜DSML｜parameter>'
)
XML = "<{0}parameter{1}day{2}>Sunday</{0}parameter>\n<{0}parameter{1}seats{2}>2</{0}parameter>"


@pytest.mark.parametrize(
    ("notation", "text"),
    [
        ("hermes", f"<tool_call>\n{ONE}\n</tool_call>"),
        ("hermes", f"<tool_call>{ONE}"),
        ("hermes", f"<tool_calls>[{ONE}]</tool_calls>"),
        ("hermes", f"<TOOLCALL>[{ONE}]</TOOLCALL>"),
        ("xml", f"<tool_call>\n<function=find_bike>\n{XML.format('', '=', '')}\n</function>\n</tool_call>"),
        ("xml", f"<function=find_bike>{BARE}</function>"),
        ("mistral", f"[TOOL_CALLS][{ONE}]"),
        ("mistral", f"[TOOL_CALLS]find_bike[ARGS]{BARE}"),
        ("mistral", f"[TOOL_CALLS]find_bike{BARE}"),
        ("llama", f"<|python_tag|>{LLAMA}"),
        ("llama", '<|python_tag|>find_bike.call(day="Sunday", seats=2)'),
        (
            "deepseek",
            f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>find_bike\n```json\n{BARE}\n```",
        ),
        ("deepseek", f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>find_bike<｜tool▁sep｜>{BARE}<｜tool▁call▁end｜>"),
        (
            "deepseek",
            f'<｜DSML｜function_calls>\n<｜DSML｜invoke name="find_bike">\n{DSML}\n</｜DSML｜invoke>',
        ),
        (
            "kimi",
            f"<|tool_calls_section_begin|><|tool_call_begin|>functions.find_bike:0<|tool_call_argument|>{BARE}",
        ),
        (
            "glm",
            "<tool_call>find_bike\n<arg_key>day</arg_key>\n<arg_value>Sunday</arg_value>\n<arg_key>seats</arg_key>\n"
            "<arg_value>2</arg_value>\n</tool_call>",
        ),
        ("harmony", f"<|channel|>commentary to=functions.find_bike <|constrain|>json<|message|>{BARE}<|call|>"),
        ("harmony", f"assistantcommentary to=functions.find_bike json{BARE}"),
        ("minimax", f'<minimax:tool_call>\n<invoke name="find_bike">\n{XML.format("", " name=", "")}\n</invoke>'),
        (
            "minimax",
            f'<function_calls><invoke name="find_bike">{XML.format("", " name=", "")}</invoke></function_calls>',
        ),
        ("gemma", '<|tool_call>call:find_bike{day:<|"|>Sunday<|"|>,seats:2}<tool_call|>'),
        ("gemma", '```tool_code\nprint(find_bike(day="Sunday", seats=2))\n```'),
        ("granite", '<|tool_call_start|>[find_bike(day="Sunday", seats=2)]<|tool_call_end|>'),
        ("phi", f"functools[{ONE}]"),
        ("cohere", f'<|START_ACTION|>[{{"tool_name": "find_bike", "parameters": {BARE}}}]<|END_ACTION|>'),
        ("internlm", f"<|action_start|><|plugin|>\n{LLAMA}<|action_end|>"),
        ("apertus", '<|tools_prefix|>[{"find_bike": {"day": "Sunday", "seats": 2}}]<|tools_suffix|>'),
        ("json", LLAMA),
        ("json", f"```json\n{ONE}\n```"),
        ("json", json.dumps({"type": "function", "function": {"name": "find_bike", "arguments": BARE}})),
        ("json", json.dumps({"tool_calls": [json.loads(ONE)]})),
        ("json", f'{{"tool_uses": [{{"recipient_name": "functions.find_bike", "parameters": {BARE}}}]}}'),
        ("json", f'{{"find_bike": {BARE}}}'),
        ("action", f"Thought: look\nAction: find_bike\nAction Input: {BARE}"),
        ("python", '[find_bike(day="Sunday", seats=2)]'),
        ("python", "find_bike('Sunday', seats=2)"),
        ("python", f"find_bike({BARE})"),
    ],
)
def test_a_call_in_every_notation(notation: str, text: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert found.notation == notation
    assert [(call.name, json.loads(call.arguments)) for call in found.calls] == [("find_bike", json.loads(BARE))]
    assert found.words == ("Thought: look" if notation == "action" else "")
    before = find_calls(f"I look for bikes.\n{text}", TOOLS)
    assert before is not None
    assert before.calls == found.calls
    assert before.words.startswith("I look for bikes.")


@pytest.mark.parametrize(
    "text",
    [
        f'{ONE}\n{{"name": "hire", "arguments": {{"name": "b"}}}}',
        f'{ONE}; {{"name": "hire", "parameters": {{"name": "b"}}}}',
        f'<tool_call>{ONE}</tool_call>\n<tool_call>{{"name": "hire", "arguments": {{"name": "b"}}}}</tool_call>',
        '[find_bike(day="Sunday", seats=2), hire(name="b")]',
        'find_bike(day="Sunday", seats=2)\nhire(name="b")',
    ],
)
def test_several_calls(text: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert [call.name for call in found.calls] == ["find_bike", "hire"]


@pytest.mark.parametrize(
    "text",
    [
        f'{ONE}\n{{"day": "Monday"}}',  # one without a name
        '{"name": "find_bike", "arguments": {"day": "Sun',
        "{'name': 'find_bike', 'arguments': {'day': 'Sunday'}}",
        '<tool_call>{"name": "find_bike", "arguments": {"day": Sunday}}</tool_call>',
        "<tool_call>\n",
        "[TOOL_CALLS]",
        '<|tool_call>call:find_bike{day:[<|"|>Sunday<|"|>]}<tool_call|>',
    ],
)
def test_a_call_that_cannot_be_read_is_noticed(text: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert found.calls == ()


@pytest.mark.parametrize(
    "text",
    [
        "Which day?",
        '{"name": "Acorn", "arguments": {"day": "Sunday"}}',
        '{"name": "find_bike", "price": 3}',
        '```json\n{"name": "Acorn"}\n```',
        "I used find_bike(day='Sunday') for you.",
        "Models write `<tool_call>` around calls.",
        "```\n<tool_call>x</tool_call>\n```",
        "Bikes (two) [1] <b>here</b>: {a}.",
    ],
)
def test_plain_words_hold_no_call(text: str) -> None:
    assert find_calls(text, TOOLS) is None
    assert find_calls(f"<tool_call>{ONE}</tool_call>", ()) is None


@pytest.mark.parametrize("piece", REPEATED)
def test_hostile_repetition_ends(piece: str) -> None:
    for text in (piece * 4_000, f"\n{piece}" * 4_000, f"find_bike({piece * 1_000}"):
        found = find_calls(text, TOOLS)
        assert found is None or found.calls == ()


def test_arguments_stay_exact() -> None:
    found = find_calls('find_bike(seats=12345678901234567890123)\nhire({"name": 98765432109876543210987})', TOOLS)
    assert found is not None
    digits = ["12345678901234567890123", "98765432109876543210987"]
    assert [call.arguments for call in found.calls] == [f'{{"seats": {digits[0]}}}', f'{{"name": {digits[1]}}}']
