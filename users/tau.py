"""The simulated user of tau-bench, with its four strategies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar, Literal, TypeAlias, get_args

from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.messages import AssistantMessage, Message, SystemMessage, UserMessage
from simkit.core.ontology import Ontology
from simkit.core.persistent_list import JsonList
from simkit.core.reasoning import leaks_reasoning
from simkit.errors import UsageError, UserFault
from simkit.models.base import ChatModel
from simkit.plugins.prompts import Prompt, shipped_prompt
from simkit.users.goal import CUE, ModelHistory
from simkit.users.reply_formats import GOODBYE, UserReply
from simkit.users.selfcheck import SelfCheck
from simkit.users.tau_replies import PROPOSAL, PaperReplies, Questions, RepairedReplies, Replies, TauReply, Variant

Strategy: TypeAlias = Literal["llm", "react", "verify", "reflection"]
Answer: TypeAlias = Callable[[ModelHistory, Questions], Awaitable[tuple[ModelHistory, TauReply]]]

_OWN_PROMPTS: dict[str, str] = {
    "user": "tau-1.txt",
    "user_react": "tau-react-1.txt",
    "user_verify": "tau-verify-1.txt",
    "user_reflection": "tau-reflection-1.txt",
}
_VERDICTS = 3


class TauUser(User[ModelHistory]):
    """A customer played by a model as in tau-bench: it has the task's instruction, and ends with `###STOP###`.

    The words of each turn are checked by rules (`simkit.users.selfcheck`), and doubts are recorded as flags.

    The prompts are those of the world's data, word for word. A strategy whose prompt is not among them (the release
    `josh` of tau-bench has the plain user only) uses simkit's own, and the first message has the flag `own_prompt`.

    Strategies:

    - `llm`: one call of the model for each message;
    - `react`: the model writes a thought first;
    - `verify`: a second call judges the message; it is written again until it passes, three times at most;
    - `reflection`: a message that does not pass is criticised by a third call and written once more.

    Variants: `paper` does what the release does, with its defects. `fixed` repairs them:

    - the model is cued by a stage direction instead of words of an agent who never said them;
    - the marker ends the conversation only alone on its line or at the end of a message, and it is not heard;
    - of `react`, the agent hears the response without the thought; an unreadable reply is asked for again;
    - the judge sees the message instead of the notation of an object, and a transcript that does not confuse customer
      and agent; of his answer, the first `true` or `false` counts;
    - what was said is what is remembered, also where no message passed, which has the flag `unverified`;
    - of `reflection`, the second message is said instead of the first.

    Args:
        model: the model that plays the user and judges its messages.
        world: the world, which may bring prompts; None for simkit's own.
        strategy: `llm`, `react`, `verify` or `reflection`.
        variant: `paper` or `fixed`; by default that of the world.

    Raises:
        UsageError: there is no such strategy or variant.
    """

    name: ClassVar[str] = "tau"

    def __init__(
        self, model: ChatModel, world: World | None = None, strategy: Strategy = "llm", variant: Variant | None = None
    ) -> None:
        if strategy not in get_args(Strategy):
            raise UsageError(
                f"the user `tau` has no strategy `{strategy}`; choose one of: {', '.join(get_args(Strategy))}"
            )
        if variant is not None and variant not in get_args(Variant):
            raise UsageError(f"the user `tau` has no variant `{variant}`; choose paper or fixed")
        self._model = model
        self._world = world
        self._strategy: Strategy = strategy
        self._check = SelfCheck(Ontology(()))
        chosen: Variant = variant or ("fixed" if getattr(world, "variant", None) == "fixed" else "paper")
        self._replies: Replies = RepairedReplies() if chosen == "fixed" else PaperReplies()
        answers: dict[Strategy, Answer] = {
            "llm": self._plain,
            "react": self._plain,
            "verify": self._verified,
            "reflection": self._reflected,
        }
        self._answer = answers[strategy]

    def prompt(self, name: str) -> Prompt:
        """A prompt of the world, otherwise simkit's own."""
        text = None if self._world is None else self._world.prompts.get(name)
        return shipped_prompt("simkit.users", _OWN_PROMPTS[name]) if text is None else Prompt(name, text, exact=True)

    async def speak(self, request: Speak[ModelHistory]) -> UserTurn[ModelHistory]:
        """The next message.

        Raises:
            ModelFault: a model call failed.
            UserFault: the model's reply has no words, or not the form of the strategy.
        """
        opening = request.state is None
        history = (request.state or self._open(request)).hear(request.conversation)
        questions = Questions(self._model, request.key)
        history, reply = await self._answer(history, questions)
        text, flags = reply.text, (*self._own_prompts(opening), *reply.flags)
        if reply.end and not text:
            text, flags = GOODBYE, (*flags, "silent_end")
        if not text.strip():
            raise self._fault("without words to say")
        if leaks_reasoning(text):
            flags = (*flags, "leaked_reasoning")
        checked = UserReply(text, end=reply.end, flags=flags)
        flags, memory = self._check.check(request.task, (), checked, history.memory)
        used, state = questions.used, replace(history, memory=memory)
        return UserTurn(text, end=reply.end, state=state, flags=flags, tokens=used.tokens, cost=used.cost)

    def _fault(self, what: str) -> UserFault:
        return UserFault(
            f"the user `{self.name}` with strategy={self._strategy}, played by {self._model.name}, gave a reply {what};"
            " choose another model or another strategy"
        )

    def _open(self, request: Speak[ModelHistory]) -> ModelHistory:
        prompt = self.prompt("user_react" if self._strategy == "react" else "user")
        rules = prompt.fill(instruction=request.task.instructions)
        history = ModelHistory(JsonList[Message]((SystemMessage.of(rules),)))
        if request.conversation.heard():
            return history
        return replace(history, messages=history.messages.append(UserMessage.of(self._cue())))

    def _cue(self) -> str:
        return CUE if self._world is None or self._replies.cued else self._world.prompts.get("cue", CUE)

    def _own_prompts(self, opening: bool) -> tuple[str, ...]:
        """The flag of a first message that simkit's own prompts led to."""
        if not opening or self._world is None:
            return ()
        used = {"llm": ["user"], "react": ["user_react"], "verify": ["user", "user_verify"]}
        names = used.get(self._strategy, ["user", "user_verify", "user_reflection"])
        return tuple(f"own_prompt: {_OWN_PROMPTS[name]}" for name in names if name not in self._world.prompts)

    async def _plain(self, history: ModelHistory, questions: Questions) -> tuple[ModelHistory, TauReply]:
        for _ in range(self._replies.attempts):
            written = await questions.ask(history.messages)
            said = self._replies.response(written) if self._strategy == "react" else written
            if said is not None and said.strip():
                return _remember(history, written), self._replies.reply(said)
        raise self._fault("without words to say, or without the form `Thought: ... User Response: ...`")

    async def _verified(self, history: ModelHistory, questions: Questions) -> tuple[ModelHistory, TauReply]:
        written = ""
        for _ in range(_VERDICTS):
            written = await questions.ask(history.messages)
            if await self._passes(self._replies.shown(written), history.messages, questions):
                return _remember(history, written), self._replies.reply(written)
        kept = _remember(history, written) if self._replies.remembers else history
        return kept, self._replies.reply(written, ("unverified",))

    async def _reflected(self, history: ModelHistory, questions: Questions) -> tuple[ModelHistory, TauReply]:
        first = await questions.ask(history.messages)
        if await self._passes(first, history.messages, questions):
            return _remember(history, first), self._replies.reply(first)
        reflection = await questions.ask(self._judged("user_reflection", first, history.messages))
        proposed = self._replies.proposal(reflection)
        if proposed is None:
            raise self._fault(f"without the form `Reflection: ... {PROPOSAL} ...`")
        tried = history.messages.append(UserMessage.of(proposed))
        second = await questions.ask(tried)
        passed = await self._passes(second, tried, questions)
        flags = () if passed else ("unverified",)
        if self._replies.remembers:
            return _remember(history, second), self._replies.reply(second, flags)
        said = second if passed else first
        return _remember(_remember(history, first), second), self._replies.reply(said, flags)

    async def _passes(self, shown: str, messages: JsonList[Message], questions: Questions) -> bool:
        verdict = await questions.ask(self._judged("user_verify", shown, messages))
        return self._replies.is_true(verdict)

    def _judged(self, name: str, shown: str, messages: JsonList[Message]) -> JsonList[Message]:
        transcript = self._replies.transcript(messages)
        text = self.prompt(name).fill(transcript=transcript, response=shown)
        return JsonList[Message]((UserMessage.of(text),))


def _remember(history: ModelHistory, written: str) -> ModelHistory:
    return replace(history, messages=history.messages.append(AssistantMessage.of(written)))
