"""An agent behind a plain HTTP chat endpoint that keeps the conversation itself: `HttpChatAgent`.

    simkit run rollout --agent "http_chat,url=https://bots.example/chat,key=$BOT_TOKEN" --tasks 20

What the user says is posted to the endpoint, and what it answers is spoken. The endpoint may ask for tool calls, whose
results are then posted to it. Its state belongs to a session. Each branch of a search has its own: a copy, if the
endpoint can make one, or a new one to which everything is said again. The endpoint then has to answer the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from simkit.apis.client import HttpPlace, HttpRequest
from simkit.apis.sessions import BranchSessions, BranchState, HttpSession, WithSessions, check_sessions
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, text_of
from simkit.errors import AgentFault, UsageError
from simkit.models.usage import read_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFields:
    """Names of the fields in requests and answers.

    Attributes:
        session: the session, in requests; empty if the address names it, or a cookie.
        message: what the user says, in requests.
        policy: the world's rules, in the first request; empty to leave them out.
        tools: the world's tools in the OpenAI form, in the first request; empty to leave them out.
        results: results of calls, in requests: a list of objects with `id`, `name` and `content`.
        reply: what the agent says, in answers.
        calls: tool calls, in answers: a list of objects with `name`, `arguments` (an object or JSON text), maybe `id`.
        end: true if the agent ends the conversation, in answers.
        usage: tokens that the answer took, in answers: an object with `prompt_tokens` and `completion_tokens`.
    """

    session: str = "session"
    message: str = "message"
    policy: str = "policy"
    tools: str = "tools"
    results: str = "results"
    reply: str = "reply"
    calls: str = "calls"
    end: str = "end"
    usage: str = "usage"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that waits for its result: its id here, its id at the endpoint, and its tool."""

    own: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ChatState:
    """The state of a branch: its session, how much of the conversation the endpoint knows, and its open calls."""

    branch: BranchState = field(default_factory=BranchState)
    seen: int = 0
    policy: str = ""
    asked: tuple[Asked, ...] = ()

    def fork(self) -> ChatState:
        """The same state for one more branch."""
        self.branch.fork()
        return self


class HttpChatAgent(WithSessions, Agent[ChatState]):
    """An agent behind an HTTP endpoint that keeps the conversation.

    Args:
        url: address of the endpoint; it may hold `{session}`.
        path: what follows the address where the conversation is posted (`/chat`).
        key: value of the header `authorization` after `Bearer`, as a reference to a variable (`$BOT_TOKEN`).
        headers: further headers, whose values may refer to variables.
        fields: names of the fields in requests and answers.
        session: how the endpoint keeps sessions. By default simkit draws an id, and a session begins with the first
            request of that id.
        copy: instead of `session`, the path of a call that copies one: `/sessions/{session}/copy`.
        volatile: fields of answers that may differ when requests are made again.
        place: bounds of requests; its address counts if no `url` is given.
        at_once: requests at once.

    Raises:
        UsageError: the options contradict each other.
    """

    name: ClassVar[str] = "http_chat"
    uncounted: ClassVar[str] = (
        "what its endpoint asks models is not known here; bound it there, or by limits of a conversation "
        "(`Limits(tokens=...)`), which count the `usage` of its answers"
    )

    def __init__(
        self,
        url: str = "",
        path: str = "",
        key: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        fields: ChatFields | None = None,
        session: HttpSession | None = None,
        copy: str = "",
        volatile: Sequence[str] = (),
        place: HttpPlace | None = None,
        at_once: int = 32,
    ) -> None:
        if key and not key.startswith("$"):
            raise UsageError(
                "the key of an HTTP chat endpoint is named by a variable, so that it is not recorded: key=$NAME"
            )
        if session is not None and copy:
            raise UsageError("`copy` is part of `session`; give one of them")
        self._fields = fields or ChatFields()
        rules = session or HttpSession(copy=f"POST {copy}" if copy else "")
        given = place or HttpPlace(url=url)
        bearer = {"authorization": f"Bearer {key}"} if key else {}
        bounds = replace(
            given,
            url=url or given.url,
            headers={**given.headers, **bearer, **(headers or {})},
            session_field="" if rules.cookies else self._fields.session,
        )
        check_sessions(bounds, rules, stateless=False)
        self._name = bounds.name
        self._path = path
        volatile = (*volatile, self._fields.usage)
        self._sessions = BranchSessions(bounds, rules, AgentFault, volatile=volatile, at_once=at_once)

    def start(self, request: StartAgent) -> AgentStart[ChatState]:
        """The world's rules as system prompt, which the endpoint gets with its first request."""
        return AgentStart(request.policy or None, ChatState(policy=request.policy))

    async def act(self, request: Act[ChatState]) -> Decision[ChatState]:
        """What the endpoint answers to the user's words, or to the results of its calls.

        Raises:
            AgentFault: the endpoint gave no usable answer, or another one than before.
        """
        state, fields = request.state, self._fields
        new = request.conversation.tail(state.seen)
        said = _said(new)
        body: dict[str, Any] = {fields.message: said} if said or not state.asked else {}
        if state.asked:
            body[fields.results] = _results(new, state.asked)
        if not state.branch.done:
            body |= {fields.policy: state.policy} if fields.policy and state.policy else {}
            body |= (
                {fields.tools: [tool.to_openai() for tool in request.tools]} if fields.tools and request.tools else {}
            )
        asked = HttpRequest(method="POST", path=self._path, json=body, has_body=True)
        answer, branch = await self._sessions.ask(asked, state.branch)
        value: Any = answer.value
        if answer.error or not isinstance(value, dict):
            raise AgentFault(f"{self._name} answered with no JSON object: {answer.text:.300}")
        found = cast("Mapping[str, Any]", value)
        usage, _ = read_usage(found.get(fields.usage))
        return replace(self._decision(found, branch, request), tokens=usage.tokens)

    def _decision(self, answer: Mapping[str, Any], branch: BranchState, request: Act[ChatState]) -> Decision[ChatState]:
        fields = self._fields
        text, calls, end = answer.get(fields.reply), answer.get(fields.calls), answer.get(fields.end) is True
        made, asked = self._calls(calls, request) if calls else ((), ())
        state = ChatState(branch, len(request.conversation), request.state.policy, asked)
        if made:
            said = text if isinstance(text, str) and text else None
            return Decision(AssistantMessage.of(said, made), calls=made, end=end, state=state)
        if isinstance(text, str) and text.strip():
            return Decision.speak(text, state=state, end=end)
        if end:
            return Decision(AssistantMessage.of(None), end=True, state=state)
        raise AgentFault(
            f"the answer of {self._name} has neither `{fields.reply}` with words nor `{fields.calls}`; it has "
            f"{', '.join(answer) or 'no field'}"
        )

    def _calls(self, calls: Any, request: Act[ChatState]) -> tuple[tuple[ToolCall, ...], tuple[Asked, ...]]:
        """The calls of an answer, and the ids of each here and there."""
        made: list[ToolCall] = []
        asked: list[Asked] = []
        for number, each in enumerate(cast("list[Any]", calls) if isinstance(calls, list) else [calls]):
            call: Mapping[str, Any] = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
            name: Any = call.get("name")
            arguments: Any = call.get("arguments", {})
            if not isinstance(name, str) or not isinstance(arguments, dict | str):
                raise AgentFault(f"{self._name} asked for a call without a name or with other arguments: {each!r:.200}")
            own = f"t{request.key.turn:02}s{request.step:02}c{number:02}"
            made.append(ToolCall.of(own, name, cast("dict[str, Any] | str", arguments)))
            asked.append(Asked(own, str(call.get("id", own)), name))
        return tuple(made), tuple(asked)


def _said(new: Sequence[Entry]) -> str:
    return "\n".join(entry.heard for entry in new if entry.author == "user" and entry.heard)


def _results(new: Sequence[Entry], asked: Sequence[Asked]) -> list[dict[str, str]]:
    """Results of the calls, under the endpoint's own ids."""
    calls = {call.own: call for call in asked}
    results = [entry.message for entry in new if isinstance(entry.message, ToolMessage)]
    return [
        {"id": calls[each.tool_call_id].id, "name": calls[each.tool_call_id].name, "content": text_of(each)}
        for each in results
        if each.tool_call_id in calls
    ]
