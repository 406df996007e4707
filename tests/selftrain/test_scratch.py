from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra [local]")
pytest.importorskip("transformers", reason="needs the extra [local]")

from simkit.core.messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.plugins.extras import require
from simkit.tools.builtin import BuiltinWorld
from simkit.training.jobs import OnMetrics, TrainingMetrics
from simkit.training.scratch import (
    ScratchSettings,
    scratch_tokenizer,
    train_scratch,
    vocabulary_of,
)

WORLD = BuiltinWorld(restaurants=12, hotels=12, attractions=12, departures=2)
VALUES = vocabulary_of(WORLD)
SMALL: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2, "inner": 32}


def dialogue(area: str, price: str) -> tuple[Message, ...]:
    call = ToolCall.of("t01s00c00", "search_hotel", {"area": area, "pricerange": price})
    return (
        SystemMessage.of("You work for a travel agency."),
        UserMessage.of(f"Hello, I need a hotel in the {area}, at 18:45 for 3 people. It should be {price}!"),
        AssistantMessage.of(None, (call,)),
        ToolMessage.of("t01s00c00", f'[{{"name": "jade gull hostel", "area": "{area}", "phone": "0555048398"}}]'),
        AssistantMessage.of(f"How about jade gull hostel? It is in the {area}.\nThe reference is 3QZ-B7."),
    )


SEARCH = ToolSpec.of("search_hotel", "Find a hotel.", {"area": {"type": "string"}, "pricerange": {"type": "string"}})
DIALOGUES = tuple(dialogue(area, price) for area in ("harbour", "hillside") for price in ("cheap", "expensive")) * 3


@pytest.fixture(scope="module")
def form() -> ChatFormat:
    return ChatFormat(scratch_tokenizer(DIALOGUES, VALUES, frequent=3))


def test_every_value_of_the_world_is_one_token(form: ChatFormat) -> None:
    values = sorted(VALUES)
    assert len(values) > 40
    tokens = form.tokenizer(values, add_special_tokens=False)["input_ids"]
    assert [len(each) for each in tokens] == [1] * len(values)


@pytest.mark.parametrize("area", ["harbour", "market quarter", "somewhere else", "42nd street, (no. 7)"])
def test_what_a_model_writes_is_read_back_as_it_was(form: ChatFormat, area: str) -> None:
    messages = dialogue(area, "moderate")
    rendered = form.conversation(messages)
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            prompt = form.prompt(messages[:index])
            assert rendered.ids[: len(prompt)] == prompt
            reply = rendered.ids[len(prompt) :]
            read = form.parse(reply[: reply.index(form.tokenizer.eos_token_id) + 1], (SEARCH,))
            assert read.content == message.content
            calls = [(call.name, call.arguments) for call in message.tool_calls or ()]
            assert [(call.name, call.arguments) for call in read.tool_calls or ()] == calls


def test_only_the_agents_words_and_their_end_are_learnt(form: ChatFormat) -> None:
    rendered = form.conversation(dialogue("harbour", "cheap"))
    learnt = [token for token, trained in zip(rendered.ids, rendered.trained, strict=True) if trained]
    text = form.text(learnt)
    assert text.startswith("<tool_call>")
    assert text.endswith("B7.<|end|>")
    assert text.count("<|end|>") == 2
    assert "Hello" not in text


def test_frequent_stretches_make_dialogues_short(form: ChatFormat) -> None:
    text = "Hello, I need a hotel in the harbour"
    tokens = form.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [form.text([token]) for token in tokens] == ["Hello,", " I need a hotel in the ", "harbour"]


def made(out: Path, heard: OnMetrics = lambda _: None, **more: int) -> Mapping[str, float]:
    values: dict[str, Any] = {**SMALL, "steps": 40, "batch": 4, **more}
    return train_scratch(DIALOGUES, VALUES, out, ScratchSettings(**values), heard)


def test_a_model_from_nothing_learns_and_says_so(tmp_path: Path) -> None:
    told: list[TrainingMetrics] = []
    counts = made(tmp_path / "model", told.append)
    losses = [each.values["loss"] for each in told]
    assert losses[-1] < 0.8 * losses[0]
    assert counts["dialogues"] == len(DIALOGUES)
    assert ChatFormat.of(tmp_path / "model").prompt(DIALOGUES[0][:2])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_same_seed_makes_the_same_weights(tmp_path: Path) -> None:
    def weights(name: str) -> bytes:
        return (tmp_path / name / "model.safetensors").read_bytes()

    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        made(tmp_path / name, seed=seed)
    assert weights("one") == weights("same")
    assert weights("one") != weights("other")


def test_a_small_model_is_trained_by_one_thread_and_other_models_keep_theirs(tmp_path: Path) -> None:
    torch, used = require("torch", "local"), set[int]()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        made(tmp_path / "model", lambda _: used.add(torch.get_num_threads()))
        assert (used, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


def test_dialogues_that_are_all_too_long_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max_length"):
        made(tmp_path / "model", max_length=5)
