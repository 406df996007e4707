"""Rendering and parsing: what is trained is what is seen and written in play."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from simkit.core.messages import AssistantMessage, ToolCall, UserMessage
from simkit.errors import UsageError
from simkit.local.calls import read_message
from simkit.local.chat import ChatFormat, Segments
from support.tiny_llama import CONVERSATION, FIND, FORGETFUL, HERMES, tiny_tokenizer


def trained_text(chat: ChatFormat, ids: list[int], trained: list[bool]) -> str:
    return chat.text([token for token, mine in zip(ids, trained, strict=True) if mine])


def test_the_assistant_learns_its_words_its_calls_and_where_to_end() -> None:
    chat = ChatFormat(tiny_tokenizer())
    rendered = chat.conversation(CONVERSATION, (FIND,))
    assert trained_text(chat, rendered.ids, rendered.trained) == (
        '<tool_call>{"name": "find_hotel", "arguments": {"area": "north"}}</tool_call><|im_end|>'
        "There is one called Ashley House.<|im_end|>"
        "Sure. Which day?<|im_end|>"
    )
    assert rendered.labels().count(-100) == rendered.trained.count(False)
    assert [label for label in rendered.labels() if label != -100] == [
        token for token, mine in zip(rendered.ids, rendered.trained, strict=True) if mine
    ]


def test_what_is_before_a_trained_reply_is_the_prompt_of_the_game() -> None:
    chat = ChatFormat(tiny_tokenizer())
    rendered = chat.conversation(CONVERSATION, (FIND,))
    for index, message in enumerate(CONVERSATION):
        if isinstance(message, AssistantMessage):
            prompt = chat.prompt(CONVERSATION[:index], (FIND,))
            assert rendered.ids[: len(prompt)] == prompt
            assert rendered.trained[len(prompt)]
            assert not rendered.trained[len(prompt) - 1]


def test_a_template_that_rewrites_the_past_is_refused_with_the_place() -> None:
    chat = ChatFormat(tiny_tokenizer(FORGETFUL))
    with pytest.raises(UsageError, match=r"rewrites earlier messages.*message 2.*There is one called"):
        chat.conversation((CONVERSATION[0], CONVERSATION[1], *CONVERSATION[4:]))


def test_a_token_over_the_border_of_a_reply_is_refused() -> None:
    template = HERMES.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant\nho{% endif").replace(
        "{{ message.content }}", "{{ 'ho' if message.role == 'assistant' }}{{ message.content }}"
    )
    chat = ChatFormat(tiny_tokenizer(template))
    with pytest.raises(UsageError, match="a token reaches over the place"):
        chat.conversation((UserMessage.of("yes"), AssistantMessage.of("tel")))


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        ChatFormat(tiny_tokenizer(""))


def test_a_template_that_fails_says_why() -> None:
    chat = ChatFormat(tiny_tokenizer("{{ raise_exception('only two roles, please') }}"))
    with pytest.raises(UsageError, match=r"refuses a conversation of 8 messages.*only two roles, please"):
        chat.prompt(CONVERSATION)


def test_no_tokenizer_in_a_folder(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="no tokenizer at"):
        ChatFormat.of(str(tmp_path))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    some.lists(some.sampled_from(["<|im_start|>", "<|im_end|>", "<|im_", "<tool_call>", "hotel", " ", "é", "\n", "x"]))
)
def test_pieces_have_the_ids_of_the_whole(parts: list[str]) -> None:
    tokenizer = tiny_tokenizer()
    segments = Segments(tokenizer)
    segments.ids("warm")
    text = "".join(parts)
    for _ in range(6):  # the first few are compared, the others are not
        assert segments.ids(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_reply_is_read_without_its_end_and_special_tokens() -> None:
    chat = ChatFormat(tiny_tokenizer())
    ids = tiny_tokenizer()("Sure<|pad|>. Which day?<|im_end|>", add_special_tokens=False)["input_ids"]
    assert chat.parse(ids) == AssistantMessage.of("Sure. Which day?")
    assert chat.parse(ids[-1:]) == AssistantMessage.of(None)
    assert len(chat.ends) == 1


HELLO = '{"name": "find_hotel", "arguments": {"area":"north"}}'


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{HELLO}\n</tool_call>",
        f"<tool_call>{HELLO}",
        f"[TOOL_CALLS][{HELLO}]",
        '[TOOL_CALLS]find_hotel[ARGS]{"area":"north"}',
        HELLO,
        '<|python_tag|>{"name": "find_hotel", "parameters": {"area":"north"}}',
        '{"type": "function", "name": "find_hotel", "parameters": {"area":"north"}}',
        '<tool_call>{"arguments": {"area":"north"}, "name": "find_hotel"}</tool_call>',
    ],
)
def test_calls_in_every_notation_keep_the_arguments_as_written(text: str) -> None:
    assert read_message(text).tool_calls == (ToolCall.of("call_0", "find_hotel", '{"area":"north"}'),)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{HELLO}</tool_call>\n<tool_call>{HELLO}</tool_call>",
        f"[TOOL_CALLS][{HELLO}, {HELLO}]",
        f"[TOOL_CALLS]find_hotel[ARGS]{{}}[TOOL_CALLS][{HELLO}]",
        f"{HELLO}; {HELLO}",
    ],
)
def test_several_calls(text: str) -> None:
    calls = read_message(text).tool_calls or ()
    assert [(call.id, call.name) for call in calls] == [("call_0", "find_hotel"), ("call_1", "find_hotel")]


def test_words_beside_a_call_stay() -> None:
    message = read_message(f"One moment.\n<tool_call>{HELLO}</tool_call>")
    assert message.content == "One moment."
    assert len(message.tool_calls or ()) == 1


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('<tool_call>{"name": "find_hotel", "arguments": {"area": "no</tool_call>', '{"area": "no'),
        ('<tool_call>{"name": "find_hotel", "arguments": north}</tool_call>', "north}"),
        ('{"name": "find_hotel", "parameters": {"area": ]}', '{"area": ]}'),
    ],
)
def test_a_broken_call_stays_a_call_with_what_was_written(text: str, arguments: str) -> None:
    calls = read_message(text).tool_calls or ()
    assert [(call.name, call.arguments) for call in calls] == [("find_hotel", arguments)]


@pytest.mark.parametrize(
    "text", ["<tool_call>north</tool_call>", "<tool_call>[1]</tool_call>", "{not a call}", '{"area": "north"}', "hi"]
)
def test_what_names_no_tool_stays_text(text: str) -> None:
    assert read_message(text) == AssistantMessage.of(text)


def test_a_tokenizer_with_a_response_template_reads_its_own_notation() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.response_template = {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {
            "tool_calls": {
                "open": "((",
                "close": "))",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"close": "<|im_end|>", "content": "text"},
        },
    }
    chat = ChatFormat(tokenizer)
    message = chat.read(f"(({HELLO}))")
    assert [json.loads(call.arguments) for call in message.tool_calls or ()] == [{"area": "north"}]
    assert chat.read("((broken))").content == "((broken))", "its parser fails, ours keeps the text"
    assert chat.read(f"(({HELLO}))", calls=False).content == f"(({HELLO}))"
