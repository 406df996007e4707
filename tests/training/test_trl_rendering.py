"""What TRL would learn if it rendered messages itself: the reason why it gets the tokens and texts of play.

If a newer TRL fails a test here, more of it can be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from simkit.core.messages import AssistantMessage, Message
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.local.reply_tokens import ReplyTokens
from simkit.local.template_messages import template_messages, template_tools
from support.chat_templates import base_names, chat_format
from support.template_outcomes import OUTCOMES, SINGLE, TOOLS, dialogue

NAMES = [name for name in base_names() if OUTCOMES[name].plain != "no tools"]
if not NAMES:
    pytest.skip("TRL has the chat templates, and is not installed: pip install '.[train]'", allow_module_level=True)


def tokens(chat: ChatFormat, messages: Sequence[Message], **more: Any) -> Any:
    """As TRL's trainers make them."""
    apply, tools = chat.tokenizer.apply_chat_template, template_tools(TOOLS)
    return apply(template_messages(messages), tools=tools, return_dict=True, **more)


def replies(name: str, chat: ChatFormat) -> list[tuple[int, ReplyTokens]]:
    """The replies of the dialogue without reasoning, with their places; none if a prompt has no place for one."""
    told = dialogue(reasoning=False, two_calls=name not in SINGLE)
    try:
        return [
            (place, chat.reply(told[:place], each, TOOLS))
            for place, each in enumerate(told)
            if isinstance(each, AssistantMessage)
        ]
    except UsageError:
        return []


def test_single_replies_are_those_of_play_in_4_of_27_templates() -> None:
    """The others add what the template writes after the end token, or cut the prompt, or have no end token."""
    equal: set[str] = set()
    for name in NAMES:
        chat, told = chat_format(name), dialogue(reasoning=False, two_calls=name not in SINGLE)
        found = replies(name, chat)
        if found and all(tokens(chat, told[: place + 1])["input_ids"] == reply.ids for place, reply in found):
            equal.add(name)
    assert len(NAMES) == 27
    assert equal == {"gptoss", "llama3_1", "llama3_2", "muse_glimmer"}


def test_masks_of_whole_conversations_are_those_of_play_in_1_of_27_templates() -> None:
    """The others learn a line break after or before the reply, or the header before it; some families have no mask."""
    equal: set[str] = set()
    for name in NAMES:
        chat, told = chat_format(name), dialogue(reasoning=False, two_calls=name not in SINGLE)
        template = chat.training_template()
        if template is None and "{%- generation" not in chat.tokenizer.chat_template:
            continue
        chat = chat if template is None else chat.with_template(template)
        made = tokens(chat, told, return_assistant_tokens_mask=True)
        ids, learned = made["input_ids"], [place for place, kept in enumerate(made["assistant_masks"]) if kept]
        expected = [place for _, reply in replies(name, chat) for place in range(len(reply.prompt_ids), len(reply.ids))]
        whole = [reply.ids == ids[: len(reply.ids)] for _, reply in replies(name, chat)]
        if all(whole[:-1]) and learned and learned == expected[: len(learned)] and len(expected) - len(learned) <= 1:
            equal.add(name)
    assert equal == {"glm4moe"}
