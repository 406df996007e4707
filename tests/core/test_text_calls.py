"""Calls that models write as text, in the notations of their chat templates."""

from __future__ import annotations

import json

import pytest

from simkit.core.messages import ToolSpec
from simkit.core.text_calls import certain_words, find_calls

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
        ("gemma", '<|tool_call>call:find_bike{<|"|>day<|"|>:<|"|>Sunday<|"|>,seats:2}<tool_call|>'),
        ("gemma", '```tool_code\nprint(find_bike(day="Sunday", seats=2))\n```'),
        ("lfm", '<|tool_call_start|>[find_bike(day="Sunday", seats=2)]<|tool_call_end|>'),
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
        f'I look. {ONE}\n```json\n{{"name": "hire", "arguments": {{"name": "b"}}}}\n```',
        f'[{ONE}, {{"name": "hire", "arguments": {{"name": "b"}}}}]',
        '[TOOL_CALLS]find_bike[ARGS]{}[TOOL_CALLS][{"name": "hire", "arguments": {"name": "b"}}]',
        f'<|tool_call|>[{ONE}, {{"name": "hire", "arguments": {{}}}}]<|/tool_call|>',
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
        '{"name": "find_bike", "arguments": {"day": "Sun',
        "{'name': 'find_bike', 'arguments': {'day': 'Sunday'}}",
        '<tool_call>{"name": "find_bike", "arguments": {"day": Sunday}}</tool_call>',
        "<tool_call>\n",
        "[TOOL_CALLS]",
        '<|tool_call>call:find_bike{day:[<|"|>Sunday<|"|>}<tool_call|>',
        '<tool_call>{"name": "find_bike"}</tool_call>',
        '<tool_call>{"name": "find_bike", "arguments": "Sunday"}</tool_call>',
        '{"name": "find_bike", "arguments": ["Sunday"]}',
        '{"name": "find_bike"}',
        '{"name": "find_bike", "argu',
        '{"arguments": {"day": ]}, "name": "find_bike"}',
        "<function=find_bike><parameter=day>Sunday</function>",
        "<function=find_bike><parameter=day>Sunday</parameter>",
        "<tool_call>find_bike\n<arg_key>day</arg_key>\n<arg_value>Sunday</tool_call>",
        "find_bike(day=Sunday)",
        'find_bike(day="Sun',
        'find_bike(day="Sunday", day="Monday")',
    ],
)
def test_a_call_that_cannot_be_read_is_noticed(text: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert found.calls == ()
    assert found.unread
    assert found.rest == text.strip()
    assert "find_bike" not in found.words


HIRE = '{"name": "hire", "arguments": {"name": "b"}}'
FENCED = '{"name": "find_bike",\n"arguments": {"day": "```"}}'
TICKED = '{"name": "find_bike", "arguments": {"day": "the 1`st"}}'
UNCLOSED = '{"name": "hire", "arguments": {"name": "b"}'


@pytest.mark.parametrize(
    ("text", "names", "unread"),
    [
        (f'{ONE}\n{{"name": "hire"}}', "find_bike", '{"name": "hire"}'),
        (f'{ONE}\n{{"arguments": {{"day": "Monday"}}}}', "find_bike", '{"arguments": {"day": "Monday"}}'),
        (f'{ONE}\n{{"name": "Acorn", "parameters": {{}}}}', "find_bike", '{"name": "Acorn", "parameters": {}}'),
        (f'{ONE}\n{{"name": "hi', "find_bike", '{"name": "hi'),
        (f'{ONE}\n{{"name": "hire", "arguments": ', "find_bike", '{"name": "hire", "arguments":'),
        (f"{UNCLOSED}\n{ONE}", "find_bike", UNCLOSED),
        (f'[{{"name": "hire"}}, {ONE}]', "find_bike", '{"name": "hire"}'),
        (f'{{"tool_calls": [{ONE}, {{"day": 1}}]}}', "find_bike", f'{{"tool_calls": [{ONE}, {{"day": 1}}]}}'),
        (f"```json\n{ONE}\n```\n```json\n{UNCLOSED}\n```", "find_bike", UNCLOSED),
        (f"<tool_call>{ONE}</tool_call><tool_call>north</tool_call>", "find_bike", "<tool_call>north</tool_call>"),
        (f"<tool_call>{ONE}</tool_call>\n<tool_call>\n", "find_bike", "<tool_call>"),
        (
            f"<tool_call>{UNCLOSED}</tool_call>\n<tool_call>{ONE}</tool_call>",
            "find_bike",
            f"<tool_call>{UNCLOSED}</tool_call>",
        ),
        (f"<tool_call>{UNCLOSED}\n{ONE}</tool_call>", "find_bike", f"<tool_call>{UNCLOSED}"),
        (f'<tool_call>{ONE}\n{{"day": "Monday"}}</tool_call>', "find_bike", '{"day": "Monday"}</tool_call>'),
        (
            f"<tool_call>{ONE}</tool_call>\nAnd then:\n<tool_call>{{}}</tool_call>",
            "find_bike",
            "<tool_call>{}</tool_call>",
        ),
        (f'<tool_call>{{"name": 3}}</tool_call>\n{HIRE}', "hire", '<tool_call>{"name": 3}</tool_call>'),
        (f'[TOOL_CALLS][{ONE}, {{"name": "hire"}}]', "find_bike", '{"name": "hire"}'),
        (f"{FENCED}\n<tool_call>{{}}</tool_call>", "find_bike", "<tool_call>{}</tool_call>"),
        (f"{TICKED} <tool_call>{{}}</tool_call>", "find_bike", "<tool_call>{}</tool_call>"),
        (f"<|python_tag|>{LLAMA}; {UNCLOSED}", "find_bike", UNCLOSED),
        ('[TOOL_CALLS]hire[ARGS]{"name": [TOOL_CALLS]find_bike[ARGS]{}', "find_bike", '[TOOL_CALLS]hire[ARGS]{"name":'),
        (
            "<tool_call><function=hire><parameter=name>b</function></tool_call>\n<function=find_bike>{}</function>",
            "find_bike",
            "<tool_call><function=hire><parameter=name>b</function></tool_call>",
        ),
        ('[find_bike(day="Sunday"), hire(name=)]', "find_bike", "hire(name=)"),
        ('hire(name=)\nI look:\nfind_bike(day="Sunday")', "find_bike", "hire(name=)"),
        (f"{ONE}\n{UNCLOSED}\n{HIRE}", "find_bike hire", UNCLOSED),
    ],
)
def test_a_malformed_call_is_kept_apart_from_those_beside_it(text: str, names: str, unread: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert [call.name for call in found.calls] == names.split()
    assert found.unread == (unread,)
    assert unread in found.rest
    assert "hire" not in found.words


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (f'{ONE}\n{{"day": "Monday"}}', '{"day": "Monday"}'),
        (f'{{"day": "Monday"}}\n{ONE}', '{"day": "Monday"}'),
        (f'{ONE}\n{{"reason": "It is free."}}', '{"reason": "It is free."}'),
        (f'<tool_call>{ONE}</tool_call>\n{{"name": "Anna", "age": 4}}', '{"name": "Anna", "age": 4}'),
        (f'[{ONE}, {{"name": "Anna", "age": 4}}]', '{"name": "Anna", "age": 4}]'),
        (f'```json\n{{"day": 1}}\n```\n```json\n{ONE}\n```', '```json\n{"day": 1}\n```'),
    ],
)
def test_plain_data_beside_a_call_is_text_that_is_not_spoken(text: str, rest: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert [call.name for call in found.calls] == ["find_bike"]
    assert (found.unread, found.words, found.rest) == ((), "", rest)


@pytest.mark.parametrize("key", ["action", "steps"])
def test_a_call_inside_plain_data_is_malformed(key: str) -> None:
    text = json.dumps({key: [json.loads(ONE)], "why": "It is free."})
    found = find_calls(text, TOOLS)
    assert found is not None
    assert (found.calls, found.unread) == ((), (text,))


def test_more_calls_than_a_hundred_are_all_malformed() -> None:
    for text, count in (("\n".join([ONE] * 100), 100), ("\n".join([ONE] * 101), 0), (f"<tool_call>{ONE}\n" * 101, 0)):
        found = find_calls(text, TOOLS)
        assert found is not None
        assert (len(found.calls), len(found.unread)) == (count, int(not count))


@pytest.mark.parametrize(
    "text",
    [
        "Which day?",
        '{"name": "Acorn", "arguments": {"day": "Sunday"}}',
        '{"name": "Anna", "age": 4}',
        '[{"name": "Anna", "age": 4}, {"name": "Ben", "age": 5}]',
        '{"name": "find_bike", "price": 3}',
        '```json\n{"name": "Acorn"}\n```',
        "I used find_bike(day='Sunday') for you.",
        "Models write `<tool_call>` around calls.",
        "```\n<tool_call>x</tool_call>\n```",
        'Put {"fence": "```"} before it:\n```\n<tool_call>x</tool_call>\n```',
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


def test_words_before_and_after_a_call_are_kept() -> None:
    found = find_calls(f"One moment.\n<tool_call>{ONE}</tool_call>\nI will tell you.", TOOLS)
    assert found is not None
    assert found.words == "One moment.\nI will tell you."
    assert len(found.calls) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "find_bike", "arguments": {"day":"Sun",  "seats": 1.50}}</tool_call>',
        '{"arguments": {"day":"Sun",  "seats": 1.50}, "name": "find_bike"}',
        '[TOOL_CALLS]find_bike[ARGS]{"day":"Sun",  "seats": 1.50}',
        'find_bike({"day":"Sun",  "seats": 1.50})',
    ],
)
def test_arguments_in_json_stay_as_written(text: str) -> None:
    found = find_calls(text, TOOLS)
    assert found is not None
    assert [call.arguments for call in found.calls] == ['{"day":"Sun",  "seats": 1.50}']


@pytest.mark.parametrize(
    ("written", "meant"), [("True", True), ("false", False), ("null", None), ("2", 2), ("Sunday", "Sunday")]
)
def test_arguments_in_elements_have_the_declared_types(written: str, meant: object) -> None:
    tool = ToolSpec.of("book", "Book.", {"x": {"anyOf": [{"type": "boolean"}, {"type": "integer"}, {"type": "null"}]}})
    text = ToolSpec.of("book", "Book.", {"x": {"type": "string"}})
    call = f"<tool_call>\n<function=book>\n<parameter=x>\n{written}\n</parameter>\n</function>\n</tool_call>"
    for spec, value in ((tool, meant), (text, written)):
        found = find_calls(call, (spec,))
        assert found is not None
        assert [json.loads(each.arguments) for each in found.calls] == [{"x": value}]


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("Which day", "Which "),
        ("Which day do you want? find_bike(", "Which day do you want? "),
        ("I look.\n{", "I look.\n"),
        ("One moment. <tool", "One moment. "),
        ("Sure.\nAction: find", "Sure.\n"),
    ],
)
def test_words_that_precede_all_calls_are_certain_early(text: str, certain: str) -> None:
    place, decided = certain_words(text, offered=True)
    assert text[:place] == certain
    assert decided == any(each in text for each in "({<")


def test_without_tools_only_marks_are_held_back() -> None:
    for text, certain in (("a {b} (c) [1] d", "a {b} (c) [1] d"), ("a <tool", "a "), ("a <tool_call>{", "a ")):
        assert text[: certain_words(text, offered=False)[0]] == certain


def test_arguments_stay_exact() -> None:
    found = find_calls('find_bike(seats=12345678901234567890123)\nhire({"name": 98765432109876543210987})', TOOLS)
    assert found is not None
    digits = ["12345678901234567890123", "98765432109876543210987"]
    assert [call.arguments for call in found.calls] == [f'{{"seats": {digits[0]}}}', f'{{"name": {digits[1]}}}']
