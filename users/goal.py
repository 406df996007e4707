"""A user played by a model: it reveals its goal list step by step, checks the agent's claims, and hangs up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.conversation import Conversation, Utterance
from simkit.core.messages import AssistantMessage, Message, SystemMessage, UserMessage, text_of
from simkit.core.ontology import Ontology
from simkit.core.persistent_list import JsonList
from simkit.errors import UsageError, UserFault
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.plugins.prompts import COMPACT, Prompt, PromptChoice, choose_prompt
from simkit.users.reply_formats import IGNORED, Ending, UserReply, form_of
from simkit.users.selfcheck import SelfCheck, SelfCheckState

CUE = "(You are connected to the agent. Begin.)"
"""Message to the user's model if the user speaks first; only the model sees it."""


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """State of a model-backed user: its messages, the number of entries they cover, and the self-check's memory."""

    messages: JsonList[Message]
    seen: int = 0
    memory: SelfCheckState = field(default_factory=SelfCheckState)

    def hear(self, conversation: Conversation) -> ModelHistory:
        """The history extended by the agent's latest utterances, which have the role `user` for this model."""
        messages = self.messages
        for entry in conversation.tail(self.seen):
            if entry.heard is not None and entry.author != "user":
                messages = messages.append(UserMessage.of(entry.heard))
        return ModelHistory(messages, len(conversation), self.memory)


@dataclass(frozen=True, slots=True)
class _HeardUtterances:
    """The utterances of a conversation, collected only when they are iterated over."""

    conversation: Conversation

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.conversation.heard())


def _as_said(message: AssistantMessage) -> AssistantMessage:
    """The user's own message in its history: text without calls, with the provider's own fields."""
    extra = {name: value for name, value in (message.model_extra or {}).items() if name != "refusal"}
    plain = AssistantMessage.of(text_of(message))
    return plain.model_copy(update=extra) if extra else plain


class GoalUser(User[ModelHistory]):
    """A customer who wants what `task.instructions` lists.

    Its model sees swapped roles: the agent's utterances are user messages, and the user's own are the assistant's. Each
    turn is checked by rules (`simkit.users.selfcheck`), and doubts are recorded with it as flags.

    A subclass needs only a prompt file and the values of its placeholders: see `PersonaUser`.

    Args:
        model: the model that plays the user.
        world: its ontology is the vocabulary of the self-check; without one only the words are checked.
        prompt: `compact` for small models: a shorter prompt, and with `ending=json` a schema in which the first reply
            cannot hang up; or the path of a text file with the placeholder `{{goals}}`.
        ending: the signal that hangs up: `tool` (a tool call), `json` (a field of a JSON object) or `line` (a token on
            a line of its own, for models that can do neither).
        attempts: maximum answers requested until one contains words; after that the user is at fault.

    Raises:
        UsageError: the prompt cannot be used, or attempts is less than 1.
    """

    name: ClassVar[str] = "goal"
    prompt_file: ClassVar[str] = "goal-1.txt"
    advised: ClassVar[bool] = False

    def __init__(
        self,
        model: ChatModel,
        world: World | None = None,
        prompt: PromptChoice = None,
        ending: Ending = "tool",
        attempts: int = 3,
    ) -> None:
        if attempts < 1:
            raise UsageError(f"attempts is {attempts}; the user `{self.name}` needs at least 1 answer")
        self._model = model
        self._prompt = choose_prompt("simkit.users", self.prompt_file, prompt, ("goals",))
        self._form = form_of(ending, advice=self.advised, compact=prompt == COMPACT)
        self._attempts = attempts
        self._check = SelfCheck(world.ontology if world else Ontology(()))

    @property
    def prompt(self) -> Prompt:
        """The prompt of this user."""
        return self._prompt

    def places(self, request: Speak[ModelHistory]) -> dict[str, str]:
        """Values of the prompt's placeholders."""
        return {"goals": request.task.instructions, "ending": self._form.wording}

    async def speak(self, request: Speak[ModelHistory]) -> UserTurn[ModelHistory]:
        """The next utterance, with the self-check's doubts as flags.

        Raises:
            ModelFault: the model call failed.
            UserFault: none of its answers contained words.
        """
        history = (request.state or self._open(request)).hear(request.conversation)
        reply, response, used = await self._reply(history, request)
        flags, memory = self._check.check(request.task, _HeardUtterances(request.conversation), reply, history.memory)
        own = _as_said(response.message)
        state = ModelHistory(history.messages.append(own), history.seen, memory)
        return UserTurn(reply.text, end=reply.end, state=state, flags=flags, tokens=used.tokens, cost=used.cost)

    def _open(self, request: Speak[ModelHistory]) -> ModelHistory:
        messages = JsonList[Message]((SystemMessage.of(self._prompt.fill(**self.places(request))),))
        said = request.conversation.heard()
        for word in said:  # the world's own opening
            own = word.speaker == "user"
            messages = messages.append(AssistantMessage.of(word.text) if own else UserMessage.of(word.text))
        return ModelHistory(messages if said else messages.append(UserMessage.of(CUE)), len(request.conversation))

    async def _reply(
        self, history: ModelHistory, request: Speak[ModelHistory]
    ) -> tuple[UserReply, ChatResponse, Usage]:
        """The first answer with words, and what all of them used."""
        used, ignored, opening = Usage(), False, request.state is None
        for attempt in range(self._attempts):
            key = CallKey(request.key, "user", attempt)
            asked = ChatRequest(messages=history.messages, seed=key.seed)
            response = await self._model.complete(self._form.ask(asked, opening=opening), key)
            used = used.plus(response.usage)
            reply = self._form.read(response)
            if reply is not None:
                missed = ignored and IGNORED not in reply.flags
                return replace(reply, flags=(*reply.flags, IGNORED)) if missed else reply, response, used
            ignored = ignored or self._form.ignored(response)
        why = "; the endpoint seems to ignore `response_format`" if ignored else ""
        raise UserFault(
            f"the user `{self.name}`, played by {self._model.name}, gave {self._attempts} answers without words to"
            f" say (empty, withheld or not in the form asked for){why}; choose another model, or another `ending`"
        )
