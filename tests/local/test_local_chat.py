"""Rendering and parsing: what is trained is what is seen and written in play."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from simkit.core.messages import AssistantMessage, ToolCall, UserMessage
from simkit.core.reasoning import reasoning_of
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat, ReadReply
from simkit.local.incremental import Segments
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
    with pytest.raises(UsageError, match=r"rewrites earlier messages: reply 1.*There is one called"):
        chat.conversation((CONVERSATION[0], CONVERSATION[1], *CONVERSATION[4:]))


def test_a_token_over_the_border_of_a_reply_is_refused() -> None:
    template = HERMES.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant\nho{% endif").replace(
        "{{ message.content }}", "{{ 'ho' if message.role == 'assistant' }}{{ message.content }}"
    )
    chat = ChatFormat(tiny_tokenizer(template))
    with pytest.raises(UsageError, match=r"in other tokens.*put special tokens around messages"):
        chat.conversation((UserMessage.of("yes"), AssistantMessage.of("tel")))


def test_a_reply_ends_with_the_mark_of_what_follows_if_the_template_has_no_other() -> None:
    """As in GLM's template: the mark differs after words and after calls."""
    template = HERMES.replace("<|im_end|>\n{% endfor %}", "{% endfor %}").replace(
        "<|im_start|>{{ message.role }}\n", "{{ header[message.role] }}"
    )
    headers = "{% set header = {'user': '<|im_end|>', 'tool': '<|pad|>', 'assistant': '<|im_start|>', 'system': ''} %}"
    template = headers + template.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>{% endif %}")
    tokenizer = tiny_tokenizer(template)
    chat = ChatFormat(tokenizer, [tokenizer.pad_token_id])
    call, words = CONVERSATION[2], CONVERSATION[4]
    assert isinstance(call, AssistantMessage)
    assert isinstance(words, AssistantMessage)
    assert chat.reply(CONVERSATION[:2], call, (FIND,)).answer.endswith("</tool_call><|pad|>")
    assert chat.reply(CONVERSATION[:4], words, (FIND,)).answer.endswith("Ashley House.<|im_end|>")
    assert chat.conversation(CONVERSATION, (FIND,)).ids[-1] == tokenizer.eos_token_id


def test_a_template_whose_replies_do_not_end_is_refused() -> None:
    endless = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(UsageError, match=r"no token that ends a reply.*generation_config\.json"):
        ChatFormat(tiny_tokenizer(endless)).reply((UserMessage.of("yes"),), AssistantMessage.of("no"))


def test_what_a_template_adds_after_the_end_is_not_learned() -> None:
    chat = ChatFormat(tiny_tokenizer(HERMES.replace("<|im_end|>\n{% endfor %}", "<|im_end|>\n<|pad|>{% endfor %}")))
    assert chat.reply((UserMessage.of("yes"),), AssistantMessage.of("no")).answer == "no<|im_end|>"


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
        f"I will look. {HELLO}",
        f"```json\n{HELLO}\n```",
        '<|python_tag|>{"name": "find_hotel", "parameters": {"area":"north"}}',
        '{"type": "function", "name": "find_hotel", "parameters": {"area":"north"}}',
        '<tool_call>{"arguments": {"area":"north"}, "name": "find_hotel"}</tool_call>',
    ],
)
def test_calls_are_read_with_their_arguments_as_written(text: str) -> None:
    read = ChatFormat(tiny_tokenizer()).read(text, (FIND,))
    assert read.message.tool_calls == (ToolCall.of("call_0", "find_hotel", '{"area":"north"}'),)
    assert read.message.content == ("I will look." if text.startswith("I") else None)
    assert read.doubts == ()


@pytest.mark.parametrize(
    ("text", "notation"),
    [
        ('<tool_call>{"name": "find_hotel", "arguments": {"area": "no</tool_call>', "hermes"),
        ('<tool_call>{"name": "find_hotel", "arguments": north}</tool_call>', "hermes"),
        ("<tool_call>[1]</tool_call>", "hermes"),
        ('{"name": "find_hotel", "parameters": {"area": ]}', "json"),
        ("[TOOL_CALLS]", "mistral"),
    ],
)
def test_a_call_that_cannot_be_read_is_a_doubt_about_the_whole_reply(text: str, notation: str) -> None:
    read = ChatFormat(tiny_tokenizer()).read(text, (FIND,))
    assert read == ReadReply(AssistantMessage.of(text), (f"unparsed_call: {notation}",))


@pytest.mark.parametrize(
    ("text", "content", "notation"),
    [
        (f'{HELLO}\n{{"reason": "It is far."}}', '{"reason": "It is far."}', None),
        (f'{{"name": "Anna", "age": 4}}\n{HELLO}', '{"name": "Anna", "age": 4}', None),
        (f'{HELLO}\n{{"arguments": {{"area": "south"}}}}', '{"arguments": {"area": "south"}}', "json"),
        (
            f"I look.\n<tool_call>{HELLO}</tool_call><tool_call>no</tool_call>",
            "I look.\n<tool_call>no</tool_call>",
            "hermes",
        ),
        (f'<tool_call>{HELLO}</tool_call>\n<tool_call>{{"na', '<tool_call>{"na', "hermes"),
    ],
)
def test_each_object_beside_a_call_is_judged_alone(text: str, content: str, notation: str | None) -> None:
    read = ChatFormat(tiny_tokenizer()).read(text, (FIND,))
    assert read.message.tool_calls == (ToolCall.of("call_0", "find_hotel", '{"area":"north"}'),)
    assert read.message.content == content
    assert read.doubts == ((f"unparsed_call: {notation}",) if notation else ())


@pytest.mark.parametrize("text", ["{not a call}", '{"area": "north"}', '{"name": "Anna", "age": 4}', "hi"])
def test_what_names_no_tool_stays_text(text: str) -> None:
    assert ChatFormat(tiny_tokenizer()).read(text, (FIND,)) == ReadReply(AssistantMessage.of(text))


def test_a_call_without_tools_is_unreadable() -> None:
    read = ChatFormat(tiny_tokenizer()).read(f"<tool_call>{HELLO}</tool_call>")
    assert read.message.tool_calls is None
    assert read.doubts == ("unparsed_call: hermes",)
    assert ChatFormat(tiny_tokenizer()).read(HELLO).doubts == ()


def test_a_call_in_reasoning_is_a_thought() -> None:
    read = ChatFormat(tiny_tokenizer()).read(f"I could <tool_call>{HELLO}</tool_call>.</think>Which day?", (FIND,))
    assert (read.message.content, read.message.tool_calls, read.doubts) == ("Which day?", None, ())
    assert reasoning_of(read.message) == f"I could <tool_call>{HELLO}</tool_call>."


REFUSING = HERMES.replace("{% for call", "{{ raise_exception('no') if message.tool_calls }}{% for call")
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "thinking": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"\(\((?P<name>\w+)=",
            "close": "))",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close": "<|im_end|>", "content": "text"},
    },
}


def test_a_response_template_reads_a_notation_that_simkit_does_not_know() -> None:
    tokenizer = tiny_tokenizer(
        HERMES.replace('<tool_call>{"name": "{{ call.function.name }}", "arguments": ', "(({{ call.function.name }}=")
        .replace("}}}</tool_call>", "}}))")
        .replace("assistant\n{% endif", "assistant\n<think>{% endif")
    )
    assert ChatFormat(tokenizer).lacks_for_tools == (
        "its chat template renders tool calls in a notation that simkit cannot read"
    )
    tokenizer.response_template = RESPONSE_TEMPLATE
    chat = ChatFormat(tokenizer)
    assert chat.calls_tools
    read = chat.read('I see.</think>((find_hotel={"area": "north"}))', (FIND,))
    assert [call.parse_arguments() for call in read.message.tool_calls or ()] == [{"area": "north"}]
    assert reasoning_of(read.message) == "I see.", "the prompt opens the reasoning"
    assert chat.read("Hm.</think>Yes.", (FIND,)).message.content == "Yes."
    text = "Hm.</think>((find_hotel={broken))"
    assert chat.read(text, (FIND,)) == ReadReply(AssistantMessage.of(text), ("unparsed_call: response_template",))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (HERMES, None),
        (HERMES.replace("{{ tools | tojson }}", ""), "its chat template does not render tools"),
        (HERMES.replace("{{ call.function.name }}", ""), "its chat template does not render tool calls"),
        (REFUSING, "its chat template refuses tool calls"),
    ],
)
def test_a_template_without_tools_is_told_apart(template: str, reason: str | None) -> None:
    chat = ChatFormat(tiny_tokenizer(template))
    assert chat.lacks_for_tools == reason
    assert chat.calls_tools == (reason is None)
