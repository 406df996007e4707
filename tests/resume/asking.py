"""An agent that asks its model whether to be of use in this turn: real trees and rewards, whatever the model says."""

from __future__ import annotations

from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Decision
from simkit.components.world import World
from simkit.core.messages import AssistantMessage, UserMessage, text_of
from simkit.models.base import CallKey, ChatModel, ChatRequest


class AskingAgent(ScriptedAgent):
    """Says something useless when the last letter of the model's answer is one of a few."""

    name = "asking"

    def __init__(self, world: World, model: ChatModel) -> None:
        super().__init__(world)
        self._model = model

    async def act(self, request: Act) -> Decision:
        key = CallKey(request.key, "agent", request.step)
        asked = f"What now? {len(request.conversation)} messages so far."
        response = await self._model.complete(ChatRequest(messages=(UserMessage.of(asked),), seed=key.seed), key)
        if text_of(response.message)[-2:-1] in "0123":
            return Decision(AssistantMessage.of("Let me see."), say="Let me see.", state=request.state)
        return await super().act(request)
