"""A librarian made with LangGraph, and a model that plays it without a key."""

from __future__ import annotations

import random
import re

from langchain.agents import create_agent

from simkit.agents.frameworks import langchain_model, langchain_tools
from simkit.agents.loop import AgentLoop, Dialogue
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, text_of
from simkit.models import CallKey, ChatRequest, ChatResponse


class Librarian(AgentLoop):
    """An agent of LangGraph; the model and the tools come from the dialogue."""

    async def converse(self, dialogue: Dialogue) -> None:
        """One conversation."""
        agent = create_agent(langchain_model(dialogue), langchain_tools(dialogue), system_prompt=dialogue.policy)
        messages, said = [], dialogue.user
        while True:
            messages = (await agent.ainvoke({"messages": [*messages, ("user", said)]}))["messages"]
            said = await dialogue.reply(messages[-1].text)


class Absent:
    """A model that is not quite there: it forgets to reserve in a third of its turns. In the place of a real one."""

    name = "absent"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """A tool call if the reader asked for something, else words."""
        last = request.messages[-1]
        asked = re.search(r"books by ([\w ]+)\?", text_of(last))
        taken = re.search(r"I take ([\w ]+)\. My name is (\w+)", text_of(last))
        if isinstance(last, ToolMessage):
            message = AssistantMessage.of(f"This is what I found: {text_of(last)}")
        elif asked:
            message = AssistantMessage.of(None, (ToolCall.of("c1", "find_books", {"author": asked[1]}),))
        elif taken and random.Random(key.seed).random() < 2 / 3:
            arguments = {"title": taken[1], "reader": taken[2]}
            message = AssistantMessage.of(None, (ToolCall.of("c2", "reserve_book", arguments),))
        else:
            message = AssistantMessage.of("I will see to it.")
        return ChatResponse.of(message, self.name)
