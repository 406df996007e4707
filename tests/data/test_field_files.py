"""Files of the field: other programs' encodings, columns and forms of messages."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.core.messages import AssistantMessage, ToolMessage, text_of
from simkit.data.checks import CheckReport, check
from simkit.data.examples import DpoExample, ExampleSet, KtoExample, SftExample
from simkit.data.export import ColumnOptions, write
from simkit.data.openai_files import refused
from simkit.data.reading import read_examples
from simkit.data.rules import good_answers
from simkit.errors import DataCorrupt, UsageError

ASKED = {"role": "user", "content": "A lamp, please."}
SAID = {"role": "assistant", "content": "Which one?"}
ROW = {"messages": [ASKED, SAID]}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(tmp_path: Path, *rows: Any) -> ExampleSet:
    return read_examples(written(tmp_path / "rows.jsonl", *rows))


def learned(examples: ExampleSet) -> list[list[str]]:
    return [[text_of(answer) for answer in good_answers(example)] for example in examples]


def found(report: CheckReport) -> dict[str, tuple[str, ...]]:
    return {finding.name: finding.places for finding in report.findings}


# --- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", codecs.BOM_UTF8 + json.dumps(ROW).encode() + b"\r\n"),
        ("a.json", codecs.BOM_UTF8 + json.dumps([ROW]).encode()),
        ("a.jsonl", json.dumps(ROW).encode("utf-16")),
        ("a.jsonl", codecs.BOM_UTF16_BE + json.dumps(ROW).encode("utf-16-be")),
        ("a.jsonl", json.dumps(ROW).encode("utf-32")),
        ("a.jsonl.gz", gzip.compress(json.dumps(ROW).encode(), mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps([ROW], indent=1).encode(), mtime=0)),
        ("a.JSONL", json.dumps(ROW).encode()),
        ("a.ndjson", b"\n\n" + json.dumps(ROW).encode()),
        ("a.json", json.dumps(ROW, indent=2).encode()),
    ],
)
def test_encodings_of_the_field_are_read(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert learned(read_examples(tmp_path / name)) == [["Which one?"]]


def test_files_that_were_concatenated_have_marks_in_the_middle(tmp_path: Path) -> None:
    line = codecs.BOM_UTF8 + json.dumps(ROW).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line + line)
    assert len(read_examples(tmp_path / "a.jsonl")) == 2


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", json.dumps(ROW).encode("utf-16-le"), "UTF-16 or UTF-32 text without a byte order mark"),
        ("a.jsonl", codecs.BOM_UTF16_LE + b"x", "damaged UTF-16 text"),
        ("a.jsonl", '{"messages": "é"}'.encode("latin-1"), "line 1 of .* is not UTF-8"),
        ("a.jsonl.gz", b"{}", "not compressed with gzip"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "damaged or not compressed"),
        ("a.jsonl", b'{"messages": NaN}', "NaN is not a JSON number"),
        ("a.jsonl", b'{"n": 1e999, "m": 12345678901234567890}', "1e999 is not a JSON number"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataCorrupt, match=message):
        read_examples(tmp_path / name)


def test_half_characters_are_replaced_and_reported(tmp_path: Path) -> None:
    rows = [ROW, {"messages": [{"role": "user", "content": "Ha \ud83d"}, SAID]}]
    examples = read(tmp_path, *rows)
    assert text_of(examples.demonstrations[1].messages[0]) == "Ha \ufffd"
    assert found(check(examples)) == {"lone_surrogate": ("line 2",)}
    assert len(read_examples(write(examples, tmp_path / "b.parquet"))) == 2


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 12345678901234567890123, -(2**70)])
def test_integers_keep_their_digits(tmp_path: Path, number: int) -> None:
    call = {"function": {"name": "find", "arguments": {"order": number, "deep": [{"n": number}]}}}
    examples = read(tmp_path, {"messages": [ASKED, {"role": "assistant", "tool_calls": [call]}]})
    for name in ("a.jsonl", "a.parquet"):
        back = read_examples(write(examples, tmp_path / name))
        (answer,) = good_answers(back[0])
        assert answer.tool_calls is not None
        assert answer.tool_calls[0].parse_arguments() == {"order": number, "deep": [{"n": number}]}


def test_a_folder_of_datasets_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `train` is not installed")
    examples = read(tmp_path, ROW, {"messages": [ASKED, said("No.")]})
    examples.to_dataset().save_to_disk(str(tmp_path / "saved"))
    assert read_examples(tmp_path / "saved") == examples
    both = datasets.DatasetDict({"train": examples.to_dataset()})
    both.save_to_disk(str(tmp_path / "both"))
    with pytest.raises(UsageError, match="several data sets; give the folder of one of them: train"):
        read_examples(tmp_path / "both")
    with pytest.raises(UsageError, match="not one that `datasets` saved"):
        read_examples(tmp_path)


# --- weights and labels -----------------------------------------------------------------------------------------------


WEIGHTS: list[Any] = [
    ((0, 1, 1), [["2", "3"]]),
    ((0, 0, 1), [["3"]]),
    ((1, 0, 1), [["1"], ["3"]]),
    ((1, 1, 0), [["1", "2"]]),
    ((None, 0, None), [["1"], ["3"]]),
    ((0, 0, 0), [[]]),
    ((False, True, 0), [["2"]]),
]


@pytest.mark.parametrize(("weights", "expected"), WEIGHTS)
@pytest.mark.parametrize("form", ["openai", "sharegpt"])
def test_answers_with_weight_0_are_context(tmp_path: Path, weights: Any, expected: list[list[str]], form: str) -> None:
    messages: list[dict[str, Any]] = []
    for number, weight in enumerate(weights, 1):
        more = {} if weight is None else {"weight": weight}
        if form == "openai":
            messages += [ASKED, said(str(number), **more)]
        else:
            messages += [{"from": "human", "value": "Go on."}, {"from": "gpt", "value": str(number), **more}]
    examples = read(tmp_path, {"messages" if form == "openai" else "conversations": messages})
    assert learned(examples) == expected
    for name in ("a.jsonl", "a.parquet"):
        assert learned(read_examples(write(examples, tmp_path / name))) == expected
    assert check(examples).ok is bool(expected[0])


@pytest.mark.parametrize("weight", [0.5, 2, -1, "1", [1]])
def test_other_weights_are_errors(tmp_path: Path, weight: Any) -> None:
    with pytest.raises(DataCorrupt, match=r"line 2 of .*the weight of a message is"):
        read(tmp_path, ROW, {"messages": [ASKED, {**SAID, "weight": weight}]})


def test_a_judged_answer_cannot_be_context(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match="weight 0; leave the row out"):
        read(tmp_path, {"prompt": [ASKED], "completion": [{**SAID, "weight": 0}], "label": True})
    with pytest.raises(DataCorrupt, match="an answer of `rejected` has weight 0"):
        read(tmp_path, {"prompt": [ASKED], "chosen": [SAID], "rejected": [{**SAID, "weight": 0}]})


@pytest.mark.parametrize(
    ("label", "expected"),
    [(True, True), (0, False), (1.0, True), ("false", False), ("Yes", True), (" NO ", False), ("undesirable", False)],
)
def test_labels_are_booleans_numbers_or_words(tmp_path: Path, label: Any, expected: bool) -> None:
    (example,) = read(tmp_path, {"prompt": [ASKED], "completion": [SAID], "label": label}).judged
    assert example.label is expected


@pytest.mark.parametrize("label", ["maybe", 2, -1, [True], "spam"])
def test_unknown_labels_are_errors(tmp_path: Path, label: Any) -> None:
    with pytest.raises(DataCorrupt, match="`label` is"):
        read(tmp_path, {"prompt": [ASKED], "completion": [SAID], "label": label})


def test_a_label_beside_messages_judges_the_last_answer(tmp_path: Path) -> None:
    turns = [ASKED, SAID, ASKED, said("No.")]
    (example,) = read(tmp_path, {"messages": turns, "label": "no"}).judged
    assert (len(example.prompt), text_of(example.completion[0]), example.label) == (3, "No.", False)


# --- forms of calls and conversations ---------------------------------------------------------------------------------


def test_results_without_ids_answer_open_calls_by_name_and_order(tmp_path: Path) -> None:
    calls: list[Any] = [{"function": {"name": name, "arguments": {}}} for name in ("a", "b", "a")]
    results: list[Any] = [{"role": "tool", "name": name, "content": name.upper()} for name in ("b", "a", "a")]
    messages: list[Any] = [ASKED, {"role": "assistant", "tool_calls": calls}, *results, SAID, ASKED, said("Bye.")]
    examples = read(tmp_path, {"messages": messages})
    conversation = examples.demonstrations[0].messages
    assert isinstance(conversation[1], AssistantMessage)
    ids = [call.id for call in conversation[1].tool_calls or ()]
    answered = [message.tool_call_id for message in conversation if isinstance(message, ToolMessage)]
    assert answered == [ids[1], ids[0], ids[2]]
    assert len(set(ids)) == 3
    assert check(examples).ok


def test_calls_of_one_row_have_different_ids_although_none_was_given(tmp_path: Path) -> None:
    turn: list[Any] = [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": {"n": 1}},
    ]
    examples = read(tmp_path, {"messages": [ASKED, *turn, *turn, SAID]})
    assert found(check(examples)) == {}
    assert text_of(examples.demonstrations[0].messages[2]) == '{"n": 1}'


CALLING_ROWS: list[Any] = [
    {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "function_call": {"name": "lamp", "arguments": '{"on": true}'}},
            {"role": "function", "name": "lamp", "content": "on"},
            said("Done."),
        ],
        "functions": [{"name": "lamp", "parameters": {"type": "object", "properties": {}}}],
        "parallel_tool_calls": False,
    },
    {
        "conversations": [
            {"from": "human", "value": "A lamp, please."},
            {"from": "function_call", "value": '{"name": "lamp", "arguments": {"on": true}}'},
            {"from": "observation", "value": "on"},
            {"from": "gpt", "value": "Done."},
        ],
        "tools": '[{"name": "lamp", "description": "x"}]',
    },
    {
        "messages": json.dumps(
            [
                ASKED,
                {"role": "assistant", "tool_calls": json.dumps([{"name": "lamp", "arguments": {"on": True}}])},
                {"role": "tool", "content": "on", "tool_call_id": None},
                said("Done."),
            ]
        ),
        "tools": [{"type": "function", "function": {"name": "lamp", "parameters": None}}],
    },
]


@pytest.mark.parametrize("row", CALLING_ROWS, ids=["function_call", "sharegpt", "json text"])
def test_older_and_other_forms_of_calls_are_calls(tmp_path: Path, row: Any) -> None:
    examples = read(tmp_path, row)
    (example,) = examples.demonstrations
    call, result, last = example.messages[1:]
    assert isinstance(call, AssistantMessage)
    assert call.tool_calls is not None
    assert (call.tool_calls[0].name, call.tool_calls[0].parse_arguments()) == ("lamp", {"on": True})
    assert (text_of(result), text_of(last)) == ("on", "Done.")
    assert [tool.name for tool in example.tools] == ["lamp"]
    assert check(examples, format="openai").findings == ()


def test_two_calls_at_once_in_sharegpt(tmp_path: Path) -> None:
    calls: list[Any] = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}]
    turns = [
        {"from": "human", "value": "Both."},
        {"from": "function_call", "value": json.dumps(calls)},
        {"from": "observation", "value": "1"},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Done."},
    ]
    assert check(read(tmp_path, {"conversations": turns})).calls == 2


def test_preferences_of_sharegpt_alpaca_and_ultrafeedback(tmp_path: Path) -> None:
    human = [{"from": "human", "value": "A lamp, please."}]
    rows = [
        {"conversations": human, "chosen": {"from": "gpt", "value": "Yes."}, "rejected": {"from": "gpt", "value": "N"}},
        {"instruction": "A lamp,", "input": "please.", "chosen": "Yes.", "rejected": "N"},
        {"prompt": "A lamp", "chosen": [ASKED, said("Yes.")], "rejected": [ASKED, said("N")], "score_chosen": 9.5},
        {"prompt": "A lamp, please.", "chosen": [said("Yes.")], "rejected": [said("N")]},
        {"chosen": [ASKED, said("Yes.")], "rejected": [ASKED, said("N")]},
    ]
    examples = read(tmp_path, *rows)
    assert [len(pair.prompt) for pair in examples.pairs] == [1] * 5
    assert learned(examples) == [["Yes."]] * 5
    assert found(check(examples))["ignored_rewards"] == ("line 3",)


def test_alpaca_rows(tmp_path: Path) -> None:
    row = {"instruction": "Sum up.", "input": "A, B", "output": "AB", "system": "Short.", "history": [["Hi", "Hello"]]}
    examples = read(tmp_path, row, {**row, "input": "", "history": []})
    assert [[text_of(each) for each in example.parts()[0]] for example in examples] == [
        ["Short.", "Hi", "Hello", "Sum up.\nA, B", "AB"],
        ["Short.", "Sum up.", "AB"],
    ]
    (bad,) = read(tmp_path, {**row, "kto_tag": False}).judged
    assert (bad.label, text_of(bad.completion[0])) == (False, "AB")


def test_schemas_of_structs_lose_the_nulls_that_were_filled_in(tmp_path: Path) -> None:
    schema = {"properties": {"a": {"type": "string", "enum": None, "default": None}, "b": None}, "required": None}
    (example,) = read(tmp_path, {**ROW, "tools": [{"name": "f", "strict": None, "parameters": schema}]})
    assert example.tools[0].to_openai()["function"] == {
        "name": "f",
        "parameters": {"properties": {"a": {"type": "string", "default": None}}},
    }


# --- what checks report -----------------------------------------------------------------------------------------------

CALL = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "1"}


@pytest.mark.parametrize(
    ("messages", "name"),
    [
        ([ASKED, CALLING, ASKED, SAID], "unanswered_call"),
        ([ASKED, {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "c2"}]}, RESULT, SAID], "unanswered_call"),
        ([ASKED, RESULT, SAID], "orphan_result"),
        ([ASKED, CALLING, {**RESULT, "tool_call_id": "x"}, SAID], "orphan_result"),
        ([ASKED, {"role": "tool", "content": "1"}, SAID], "orphan_result"),
        ([ASKED, CALLING, RESULT, RESULT, SAID], "orphan_result"),
        ([ASKED, {"role": "assistant", "tool_calls": [CALL, CALL]}, RESULT, SAID], "doubled_id"),
    ],
)
def test_broken_conversations_are_reported_by_row_and_refused_everywhere(
    tmp_path: Path, messages: list[Any], name: str
) -> None:
    examples = read(tmp_path, ROW, {"messages": messages}, {**ROW, "id": 4})
    report = check(examples)
    assert found(report)[name] == ("line 2",)
    assert f"error: {name}: " in report.to_text()
    assert "[1 examples: line 2]" in report.to_text()
    assert not report.ok
    assert refused(examples[1]) is not None
    assert report.unread == ("id",)


def test_a_call_at_the_end_is_an_answer_to_learn(tmp_path: Path) -> None:
    examples = read(tmp_path, {"messages": [ASKED, CALLING]}, {"messages": [ASKED, CALLING, RESULT, CALLING]})
    assert found(check(examples, format="openai")) == {"reused_id": ("line 2",)}


def test_an_answer_to_judge_is_one_message(tmp_path: Path) -> None:
    """A training on tokens compares single answers, and the fine-tuning API takes no others."""
    row = {"prompt": [ASKED], "completion": [CALLING, RESULT, SAID], "label": True}
    report = check(read(tmp_path, row, {**row, "completion": [SAID], "label": False}))
    assert found(report) == {"not_one_answer": ("line 1",)}


@pytest.mark.parametrize("column", ["reward", "rewards", "score", "rating", "loss_weight", "completion_mask"])
def test_columns_that_judge_are_not_ignored_silently(tmp_path: Path, column: str) -> None:
    examples = read(tmp_path, {**ROW, column: 0.1, "source": "x"}, {"messages": [ASKED, said("No.")]})
    report = check(examples)
    assert found(report) == {"ignored_rewards": ("line 1",)}
    assert report.ok
    assert "columns that are not read: source" in report.to_text()


def test_what_the_fine_tuning_api_refuses_is_found_by_a_check_for_it(tmp_path: Path) -> None:
    examples = read(tmp_path, ROW, {"messages": [ASKED, SAID, ASKED]})
    assert check(examples).ok
    assert found(check(examples, format="openai"))["refused"] == ("line 2",)


# --- rows with known truth --------------------------------------------------------------------------------------------

FIXED = settings(max_examples=50, derandomize=True, database=None, deadline=None)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"a{text}")
arguments = st.dictionaries(st.sampled_from("abc"), st.integers(-(2**70), 2**70) | words | st.booleans(), max_size=2)


@st.composite
def turns(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What happens in a conversation: ("user", text), ("calls", [arguments]) with results, ("said", text)."""
    found: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        found.append(("user", draw(words)))
        if draw(st.booleans()):
            found.append(("calls", draw(st.lists(arguments, min_size=1, max_size=2))))
        found.append(("said", draw(words)))
    return found


def in_openai_form(story: list[tuple[str, Any]], *, ids: bool, objects: bool) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn, (kind, what) in enumerate(story):
        match kind:
            case "user":
                messages.append({"role": "user", "content": what})
            case "said":
                messages.append(said(what))
            case _:
                calls = [
                    ({"id": f"{turn}-{n}"} if ids else {})
                    | {"function": {"name": "f", "arguments": each if objects else json.dumps(each)}}
                    for n, each in enumerate(what)
                ]
                messages.append({"role": "assistant", "content": None, "tool_calls": calls})
                for n in range(len(what)):
                    messages.append(
                        {"role": "tool", "content": f"r{n}"} | ({"tool_call_id": f"{turn}-{n}"} if ids else {})
                    )
    return messages


def in_sharegpt_form(story: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for kind, what in story:
        if kind == "calls":
            calls = [{"name": "f", "arguments": each} for each in what]
            messages.append({"from": "function_call", "value": json.dumps(calls if len(calls) > 1 else calls[0])})
            messages += [{"from": "observation", "value": f"r{n}"} for n in range(len(what))]
        else:
            messages.append({"from": "human" if kind == "user" else "gpt", "value": what})
    return messages


def told(example: SftExample) -> list[tuple[str, Any]]:
    """The story of a conversation that was read."""
    found: list[tuple[str, Any]] = []
    for message in example.messages:
        if isinstance(message, AssistantMessage) and message.tool_calls:
            found.append(("calls", [call.parse_arguments() for call in message.tool_calls]))
        elif not isinstance(message, ToolMessage):
            found.append(("said" if isinstance(message, AssistantMessage) else "user", text_of(message)))
    return found


@FIXED
@given(stories=st.lists(turns(), min_size=1, max_size=3), form=st.sampled_from(["openai", "trl", "sharegpt", "bare"]))
def test_all_forms_of_a_conversation_are_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, stories: list[list[tuple[str, Any]]], form: str
) -> None:
    """What a check passes is written, read back the same, and accepted by the fine-tuning API."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        {"conversations": in_sharegpt_form(story)}
        if form == "sharegpt"
        else {"messages": in_openai_form(story, ids=form in ("openai", "trl"), objects=form in ("trl", "bare"))}
        for story in stories
    ]
    examples = read(folder, *rows)
    assert [told(example) for example in examples.demonstrations] == stories
    report = check(examples, format="openai")
    assert report.ok, report.to_text()
    assert [refused(example) for example in examples] == [None] * len(stories)
    assert read_examples(write(examples, folder / "a.jsonl", ColumnOptions(arguments="text"))) == examples
    back = read_examples(write(examples, folder / "b.jsonl"))
    assert [told(example) for example in back.demonstrations] == stories


@FIXED
@given(story=turns(), cut=st.integers(0, 6), label=st.none() | st.booleans())
def test_a_check_passes_exactly_what_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, Any]], cut: int, label: bool | None
) -> None:
    """Conversations with a message taken out, as demonstrations, judged answers or pairs."""
    messages = in_openai_form(story, ids=True, objects=True)
    del messages[cut % len(messages)]
    if not messages:
        return
    row: dict[str, Any] = {"messages": messages}
    if label is not None:
        prompt, answer = messages[:-1], messages[-1:]
        row = {"prompt": prompt, "chosen": answer, "rejected": [said("no")]}
        row = {"prompt": prompt, "completion": answer, "label": True} if label else row
    (example,) = read(tmp_path_factory.mktemp("rows"), row)
    examples = ExampleSet(
        "kto" if isinstance(example, KtoExample) else "dpo" if isinstance(example, DpoExample) else "sft", (example,)
    )
    passed = {finding.name for finding in check(examples).findings if finding.severity == "error"} <= {"one_label"}
    if isinstance(example, KtoExample):
        example = DpoExample(prompt=example.prompt, chosen=example.completion, rejected=(AssistantMessage.of("no"),))
    reason = refused(example) or ""
    assert passed or reason
    assert passed == (not reason or "last message is not the assistant's" in reason)


CALL_OF_LAMP = '<tool_call>\n{"name": "lamp", "arguments": {"on": true}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (CALL_OF_LAMP, ("tool", '<tool_response>\n{"name": "lamp", "content": "on"}\n</tool_response>')),
        (f"Wait.\n{CALL_OF_LAMP}", ("tool", "on")),
        (f"<think>A lamp.</think>\n{CALL_OF_LAMP}", ("tool", "<tool_response>on</tool_response>")),
        (CALL_OF_LAMP, ("human", "<tool_response>\non\n</tool_response>")),
        ('[TOOL_CALLS] [{"name": "lamp", "arguments": {"on": true}}]', ("tool", "on")),
        ('<function=lamp>{"on": true}</function>', ("observation", "on")),
    ],
)
def test_calls_written_as_text_are_calls_if_results_follow(
    tmp_path: Path, answer: str, result: tuple[str, str]
) -> None:
    turns = [
        {"from": "human", "value": "Light, please."},
        {"from": "gpt", "value": answer},
        {"from": result[0], "value": result[1]},
        {"from": "gpt", "value": "Done."},
    ]
    tools = json.dumps([{"name": "lamp", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}])
    examples = read(tmp_path, {"conversations": turns, "tools": tools})
    (example,) = examples.demonstrations
    _, call, answered, _ = example.messages
    assert isinstance(call, AssistantMessage)
    assert call.tool_calls is not None
    assert (call.tool_calls[0].name, call.tool_calls[0].parse_arguments()) == ("lamp", {"on": True})
    assert (answered.role, text_of(answered)) == ("tool", "on")
    assert text_of(call) == ("Wait." if answer.startswith("Wait") else "")
    assert [finding.name for finding in check(examples, format="openai").findings] == ["text_calls"]


def test_two_results_in_one_message_answer_two_calls(tmp_path: Path) -> None:
    responses = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    turns = [
        {"from": "human", "value": "Both."},
        {"from": "gpt", "value": f"{CALL_OF_LAMP}\n{CALL_OF_LAMP}"},
        {"from": "tool", "value": responses},
        {"from": "gpt", "value": "Done."},
    ]
    messages = read(tmp_path, {"conversations": turns}).demonstrations[0].messages
    assert [text_of(each) for each in messages if each.role == "tool"] == ["1", "2"]
    assert len({each.tool_call_id for each in messages if isinstance(each, ToolMessage)}) == 2


@pytest.mark.parametrize("answer", [f"Write `{CALL_OF_LAMP}`.", CALL_OF_LAMP])
def test_marks_of_calls_that_nothing_answers_stay_text(tmp_path: Path, answer: str) -> None:
    turns = [
        {"from": "human", "value": "How does a model call a tool?"},
        {"from": "gpt", "value": answer},
        {"from": "human", "value": "Thank you."},
        {"from": "gpt", "value": "Bye."},
    ]
    messages = read(tmp_path, {"conversations": turns}).demonstrations[0].messages
    assert text_of(messages[1]) == answer
