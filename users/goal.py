"""A user played by a model: it has the goal list, reveals it piece by piece, checks what it is told, and hangs up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.conversation import Conversation, Utterance
from simkit.core.messages import AssistantMessage, Message, SystemMessage, UserMessage, text_of
from simkit.core.ontology import Ontology
from simkit.core.persistent_list import JsonList
from simkit.errors import UsageError, UserFault
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.plugins.prompts import Prompt, read_prompt, shipped_prompt
from simkit.users.reply_formats import Ending, Reply, form_of
from simkit.users.selfcheck import Memory, SelfCheck

CUE = "(You are connected to the agent. Begin.)"
"""What the user's model is told when nobody has spoken yet; only it sees this."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the user's model has seen and written: its messages, how many entries are in them, and the memory."""

    messages: JsonList[Message]
    seen: int = 0
    memory: Memory = field(default_factory=Memory)

    def hear(self, conversation: Conversation) -> Part:
        """The part with the agent's latest words, which for this model are a user's."""
        messages = self.messages
        for entry in conversation.tail(self.seen):
            if entry.heard is not None and entry.author != "user":
                messages = messages.append(UserMessage.of(entry.heard))
        return Part(messages, len(conversation), self.memory)


@dataclass(frozen=True, slots=True)
class _Words:
    """What was said aloud in a conversation, for whoever wants to know: it is put together when somebody looks."""

    conversation: Conversation

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.conversation.heard())


class GoalUser(User):
    """A customer who wants what `task.instructions` lists.

    Its model sees the roles swapped: what the agent said aloud comes as user messages, the user's own words are the
    assistant's. Each turn is checked by rules (`simkit.users.selfcheck`), and the doubts are recorded with it as flags.

    To write another simulator on top, give it a prompt file and say what its places hold: see `PersonaUser`.

    Attributes of the constructor:
        model: plays the user.
        world: its ontology is the vocabulary of the self-check; without one only the words are checked.
        prompt: path of a text file to use instead of the shipped prompt; it needs the place `{{goals}}`.
        ending: the signal that hangs up: `tool` (a tool call), `json` (a field of a JSON object) or `line` (a token on
            a line of its own, for models that can do neither).
        attempts: answers asked for until one holds words; then the user is at fault.

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
        prompt: Path | None = None,
        ending: Ending = "tool",
        attempts: int = 3,
    ) -> None:
        if attempts < 1:
            raise UsageError(f"attempts is {attempts}; the user `{self.name}` needs at least 1 answer")
        self._model = model
        self._prompt = read_prompt(prompt, ("goals",)) if prompt else shipped_prompt("simkit.users", self.prompt_file)
        self._form = form_of(ending, advice=self.advised)
        self._attempts = attempts
        self._check = SelfCheck(world.ontology if world else Ontology(()))

    @property
    def prompt(self) -> Prompt:
        """The prompt it starts from."""
        return self._prompt

    def places(self, request: Speak) -> dict[str, str]:
        """What the places of the prompt hold."""
        return {"goals": request.task.instructions, "ending": self._form.wording}

    async def speak(self, request: Speak) -> UserTurn:
        """The next utterance, with the self-check's doubts as flags.

        Raises:
            ModelFault: the model has no answer.
            UserFault: none of its answers held words.
        """
        part = (request.state if isinstance(request.state, Part) else self._open(request)).hear(request.conversation)
        reply, response, used = await self._reply(part, request)
        flags, memory = self._check.check(request.task, _Words(request.conversation), reply, part.memory)
        own = AssistantMessage.of(text_of(response.message))
        state = Part(part.messages.append(own), part.seen, memory)
        return UserTurn(reply.text, end=reply.end, state=state, flags=flags, tokens=used.tokens, cost=used.cost)

    def _open(self, request: Speak) -> Part:
        system = JsonList[Message]((SystemMessage.of(self._prompt.fill(**self.places(request))),))
        return Part(system if request.conversation.heard() else system.append(UserMessage.of(CUE)))

    async def _reply(self, part: Part, request: Speak) -> tuple[Reply, ChatResponse, Usage]:
        """The first answer with words, and what all of them used."""
        used = Usage()
        for attempt in range(self._attempts):
            key = CallKey(request.key, "user", attempt)
            asked = ChatRequest(messages=part.messages, seed=key.seed)
            response = await self._model.complete(self._form.ask(asked), key)
            used = used.plus(response.usage)
            reply = self._form.read(response)
            if reply is not None:
                return reply, response, used
        raise UserFault(
            f"the user `{self.name}`, played by {self._model.name}, gave {self._attempts} answers without words to"
            " say (empty, withheld or not in the form asked for); choose another model, or another `ending`"
        )
