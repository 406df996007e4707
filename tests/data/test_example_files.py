from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from made_examples import BOOK, CALL, demonstrations, judged, pairs, prompt

from simkit.core.messages import AssistantMessage, ToolCall, UserMessage, text_of
from simkit.data.examples import ExampleSet, KtoExample, SftExample, with_system
from simkit.data.export import ColumnOptions, row_of, write
from simkit.data.reading import read_examples
from simkit.errors import DataCorrupt, DataMissing, UsageError

SETS = [demonstrations(3), judged(4), pairs(2)]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def nulls(value: Any) -> int:
    """How many nulls there are in a value; a null content beside calls is the model's own."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return sum(nulls(each) for name, each in fields.items() if name != "content")
    return sum(map(nulls, cast("list[Any]", value))) if isinstance(value, list) else int(value is None)


@pytest.mark.parametrize("examples", SETS, ids=lambda one: one.kind)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_come_back_as_they_were(tmp_path: Path, examples: ExampleSet, ending: str) -> None:
    file = write(examples, tmp_path / f"it's.{ending}")
    assert read_examples(file) == examples
    bare = read_examples(write(examples, tmp_path / f"bare.{ending}", ColumnOptions(origin=False)))
    assert [example.row() for example in bare] == [example.row() for example in examples]
    assert bare.task_ids == frozenset()


@pytest.mark.parametrize("examples", SETS, ids=lambda one: one.kind)
def test_datasets_get_no_nulls(tmp_path: Path, examples: ExampleSet) -> None:
    """Two tools with different arguments: a struct column would fill up each call with the arguments of the other."""
    datasets = pytest.importorskip("datasets", reason="the extra `train` is not installed")
    expected = [row_of(example) for example in examples]
    assert nulls(expected) == 0
    made = examples.to_dataset()
    assert made.to_list() == expected
    assert nulls(made.shuffle(seed=1).to_list()) == 0
    loaded = datasets.load_dataset(
        "parquet", data_files=str(write(examples, tmp_path / "a.parquet")), split="train", cache_dir=str(tmp_path / "c")
    )
    assert loaded.remove_columns("origin").to_list() == expected
    assert [origin["task_id"] for origin in loaded["origin"]] == [each.task_id for each in examples]


def test_a_template_that_writes_arguments_as_json_gets_objects(tmp_path: Path) -> None:
    """As text they would be quoted twice; Llama's and Qwen's templates read them so."""
    datasets = pytest.importorskip("datasets", reason="the extra `train` is not installed")
    jinja2 = pytest.importorskip("jinja2", reason="the extra `train` is not installed")
    template = jinja2.Template("{% for call in answer.tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}")
    found = read_examples(write(judged(2), tmp_path / "a.parquet"))
    path = str(write(found, tmp_path / "a.jsonl"))
    loaded = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "c"))
    for row in (found.to_dataset()[0], loaded[0]):
        assert template.render(answer=row["completion"][0]) == '{"area": "north"}'


def test_arguments_that_are_no_json_stay_text(tmp_path: Path) -> None:
    broken = AssistantMessage.of(None, (ToolCall.of("c1", "book_hotel", '{"name": '),))
    examples = ExampleSet("kto", (KtoExample(prompt=prompt(1), completion=(broken,), label=False),))
    for name in ("a.jsonl", "a.parquet"):
        assert read_examples(write(examples, tmp_path / name)) == examples


def test_the_trap_is_real() -> None:
    """What `datasets` does without JSON columns: if this changes, ours are needed no more."""
    datasets = pytest.importorskip("datasets", reason="the extra `train` is not installed")
    rows = [{"calls": [{"name": "a", "arguments": {"x": 1}}]}, {"calls": [{"name": "b", "arguments": {"y": 1}}]}]
    assert nulls(datasets.Dataset.from_list(rows).to_list()) == 2


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}, "sft"),
        ({"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Y"}]}, "sft"),
        (
            {
                "prompt": [{"role": "user", "content": "Hi"}],
                "completion": [{"role": "assistant", "content": "Y"}],
                "label": False,
            },
            "kto",
        ),
        (
            {
                "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Y"}],
                "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "N"}],
            },
            "dpo",
        ),
        (
            {
                "input": {"messages": [{"role": "user", "content": "Hi"}], "tools": [BOOK.to_openai()]},
                "preferred_output": [{"role": "assistant", "content": "Y"}],
                "non_preferred_output": [{"role": "assistant", "content": "N"}],
            },
            "dpo",
        ),
    ],
)
def test_rows_of_the_field_are_read(tmp_path: Path, row: Any, kind: str) -> None:
    for file in (lines(tmp_path / "a.jsonl", row, {**row, "tools": json.dumps([BOOK.to_openai()])}),):
        found = read_examples(file)
        assert (found.kind, len(found)) == (kind, 2)
    listed = tmp_path / "a.json"
    listed.write_text(json.dumps([row]))
    assert read_examples(listed).examples == found.examples[:1]


def test_a_prompt_without_a_label_is_shown_and_not_learnt(tmp_path: Path) -> None:
    row = {"prompt": [m.to_openai() for m in prompt(1)], "completion": [CALL.to_openai()]}
    [example] = read_examples(lines(tmp_path / "a.jsonl", row)).demonstrations
    assert (example.context, len(example.messages)) == (2, 3)
    assert example.row() == {**row, "tools": None}


def test_arguments_given_as_objects_become_text_and_null_fields_go(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "book_hotel", "arguments": {"name": "é"}}}
    said = {"role": "assistant", "content": None, "tool_calls": [call], "name": None}
    asked = {"role": "user", "content": "Hi", "tool_calls": None}
    [example] = read_examples(lines(tmp_path / "a.jsonl", {"messages": [asked, said]})).demonstrations
    user, answer = example.messages
    assert user == UserMessage.of("Hi")
    assert isinstance(answer, AssistantMessage)
    assert answer.tool_calls is not None
    assert answer.tool_calls[0].arguments == '{"name": "é"}'
    assert answer.to_openai().keys() == {"role", "content", "tool_calls"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 of .* is not valid JSON"),
        ('{"text": "x"}', "has the columns text; it needs messages"),
        ('{"prompt": "Hi", "completion": "x", "label": true}', "`prompt` is text"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "line 1 of .*robot"),
        ('{"messages": [{"role": "user"}]}', "user.content is wrong"),
        ('{"messages": ["1"]}', "a message is 1"),
        ("[1]", "not a JSON object"),
        ("", "has no rows"),
    ],
)
def test_rows_that_cannot_be_read_say_where_and_why(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    with pytest.raises((DataCorrupt, UsageError), match=message):
        read_examples(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="does not exist; `simkit export`"):
        read_examples(tmp_path / "a.jsonl")
    for name, message in (("a.parquet", "cannot be read as parquet"), ("a.zip", "not a zip file")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataCorrupt, match=message):
            read_examples(tmp_path / name)
    (tmp_path / "a.csv").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"extension '\.csv'"):
        read_examples(tmp_path / "a.csv")
    mixed = lines(tmp_path / "m.jsonl", demonstrations(1)[0].row(), judged(1)[0].row())
    with pytest.raises(UsageError, match=r"line 2 of .* is not of the same kind as the rows before"):
        read_examples(mixed)


def test_an_empty_set_is_an_empty_file(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.parquet"):
        assert write(ExampleSet("kto", ()), tmp_path / name).exists()


def test_a_set_holds_one_kind() -> None:
    with pytest.raises(UsageError, match="example 0 of a kto set is for sft"):
        ExampleSet("kto", (demonstrations(1)[0],))


def test_a_system_prompt_goes_before_conversations_without_one() -> None:
    bare = KtoExample(prompt=(UserMessage.of("Hi"),), completion=(CALL,), label=True)
    kept = judged(1)[0]
    found = with_system(ExampleSet("kto", (bare, kept)), "You help.")
    assert [text_of(message) for message in found.judged[0].prompt] == ["You help.", "Hi"]
    assert found[1] == kept
    shown = SftExample(messages=(UserMessage.of("Hi"), CALL), context=1)
    assert with_system(ExampleSet("sft", (shown,)), "S").demonstrations[0].context == 2


# --- the JOSH release -------------------------------------------------------------------------------------------------


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def agent(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def release(tmp_path: Path, *, finished: bool = True, returned: str = "APIRETURN [1]") -> Path:
    """Made in the shape of the release: the left branch wins twice, two others lose, one of them later."""
    start = [user("Hi")]
    left = [*start, agent("APICALL {}"), user(returned), agent("SPEAK Which day?")]
    right = [*start, agent("SPEAK No idea."), {"role": "system", "content": "Error: Agent ran out of retries."}]
    won = [*left, user("Monday"), agent("APICALL book")]
    lost = [*left, user("Monday"), agent("SPEAK Never mind.")]
    same = [*start, agent("APICALL {}"), user(returned), agent("SPEAK Bye.")]
    later = [*right, user("What?"), agent("SPEAK Sorry.")]
    paths: list[Any] = [
        [[], True, True], [left, True, True], [right, False, False], [same, False, False],
        [left, True, True], [won, True, True], [lost, False, False], [later, False, False],
    ]  # fmt: skip
    told = {"internal_messages": [], "training_paths": paths, "100_percent_reached": finished}
    inner = tmp_path / "kto.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("records/training_data_v2/sim_MUL0001.json", json.dumps(told))
    return inner


def test_the_release_is_read_by_the_rules_of_the_harvest(tmp_path: Path) -> None:
    inner = release(tmp_path)
    wheel = tmp_path / "josh_train.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(inner, "data/llama3-josh-toolwoz-for-KTO.zip")
    found = read_examples(inner)
    told = [(len(each.prompt), text_of(each.completion[0]), each.label) for each in found.judged]
    assert sorted(told) == [
        (1, "APICALL {}", True),
        (1, "SPEAK No idea.", False),
        (3, "SPEAK Bye.", False),
        (3, "SPEAK Which day?", True),
        (5, "APICALL book", True),
        (5, "SPEAK Never mind.", False),
    ]
    assert found.task_ids == {"MUL0001.json"}
    assert {each.origin.world for each in found} == {"toolwoz"}
    assert read_examples(wheel) == found


def test_dialogues_of_the_release_that_are_left_out(tmp_path: Path) -> None:
    assert read_examples(release(tmp_path, finished=False)).removed == {"unfinished": 1}
    assert read_examples(release(tmp_path, returned="APIRETURN Error: no")).removed == {"error_markers": 1}


def test_a_zip_without_dialogues_is_not_the_release(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.json", orjson.dumps({}))
    with pytest.raises(DataCorrupt, match="holds no simulated dialogues"):
        read_examples(tmp_path / "a.zip")


def cached_wheel() -> Path:
    from simkit.tools.toolwoz.data import cache_folder

    return cache_folder().parent / "josh_train-0.1.4-py3-none-any.whl"


@pytest.mark.skipif(
    not cached_wheel().exists(), reason=f"{cached_wheel()} is not here: pip download --no-deps josh-train==0.1.4"
)
def test_the_release_itself() -> None:
    found = read_examples(cached_wheel())
    assert (len(found), found.removed) == (4393, {"error_markers": 203, "runtime_words": 53, "unfinished": 295})
    assert sum(example.label for example in found.judged) == 3359
    assert len(found.task_ids) == 428
