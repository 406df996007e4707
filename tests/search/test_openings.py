"""Openings of worlds, and episodes without a user."""

from __future__ import annotations

import pytest
from phones import PhoneTools, SetReward, phones, says, tool
from players import Players, play, say, use

from simkit.components.agent import Act, AgentStart, Decision, StartAgent
from simkit.components.user import Speak, UserTurn
from simkit.core.conversation import Entry
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio

GREETING = Entry.agent("Hi! How can I help you today?", 0)


def with_opening(*entries: Entry) -> Players:
    return phones(says(), tools=PhoneTools(opening=entries))


async def test_a_greeting_is_heard_before_the_user_speaks() -> None:
    heard: list[tuple[str, ...]] = []
    views: list[list[object]] = []

    def answer(request: Speak) -> UserTurn:
        heard.append(tuple(word.text for word in request.conversation.heard()))
        assert (request.state is None) == (not request.key.turn)
        return UserTurn("hello", state=1)

    def plan(request: Act) -> Decision:
        views.append([message.content for message in request.conversation.messages()])
        return say("What is it?")

    users = with_opening(GREETING).with_(answer=answer, plan=plan)
    played = await play(Rollout(Limits(turns=1)), users)
    assert heard[0] == ("Hi! How can I help you today?",)
    assert views == [["You are an agent.", "Hi! How can I help you today?", "hello"]]
    assert played.authors(".0") == ["system", "agent", "user"]
    assert [row.heard for row in played.branches[".0"].messages] == [None, "Hi! How can I help you today?", "hello"]


async def test_a_conversation_that_the_user_spoke_last_in_goes_on_with_the_agent() -> None:
    asked: list[int] = []

    def answer(request: Speak) -> UserTurn:
        asked.append(request.key.turn)
        return UserTurn("bye", end=True)

    call = ToolCall.of("c1", "look", {})
    entries = (
        GREETING,
        Entry.user("My phone is dead.", 0),
        Entry(AssistantMessage.of(None, (call,)), "agent", 0),
        Entry(ToolMessage.of("c1", "[]"), "tool", 0),
    )
    played = await play(Rollout(), with_opening(*entries).with_(answer=answer))
    assert asked == [1]
    assert played.authors(".0") == ["system", "agent", "user", "agent", "tool"]
    assert played.authors(".1") == ["agent", "user"]
    assert played.episode.outcome == "user_ended"


async def test_an_opening_may_be_the_users_words_alone() -> None:
    asked: list[int] = []

    def answer(request: Speak) -> UserTurn:
        asked.append(request.key.turn)
        return UserTurn("bye", end=True)

    def start(request: StartAgent) -> AgentStart:
        return AgentStart()

    users = with_opening(Entry.user("My phone is dead.", 0)).with_(answer=answer, start=start)
    played = await play(Rollout(), users)
    assert asked == [1]
    assert played.authors(".0") == ["user"]


async def test_the_users_calls_in_an_opening_stay_hidden() -> None:
    call = ToolCall.of("u1", "look", {})
    entries = (
        GREETING,
        Entry(AssistantMessage.of(None, (call,)), "user_tool", 0),
        Entry(ToolMessage.of("u1", "[]"), "user_tool", 0),
    )
    views: list[list[object]] = []

    def plan(request: Act) -> Decision:
        views.append([message.role for message in request.conversation.messages()])
        return say(end=True)

    await play(Rollout(), with_opening(*entries).with_(plan=plan))
    assert views == [["system", "assistant", "user"]]


async def test_a_tree_grows_from_an_opening() -> None:
    users = phones(says([("set", "u1")]), tools=PhoneTools(opening=(GREETING, Entry.user("It is dead.", 0))))
    played = await play(Josh(BeamSearch(beam=2)), users)
    assert played.episode.reward == 1.0
    assert played.authors(".0") == ["system", "agent", "user"]


# --- alone ------------------------------------------------------------------------------------------------------------


def never(request: Speak) -> UserTurn:
    raise AssertionError("nobody is asked")


def alone(*names: str) -> PhoneTools:
    return PhoneTools(solo=True, user_specs=(), specs=tuple(tool(name) for name in names))


async def test_an_agent_alone_works_until_a_tool_ends_the_conversation() -> None:
    def plan(request: Act) -> Decision:
        return use(request, ("set", "a")) if request.step < 5 else use(request, ("hang_up", ""))

    reward = SetReward()
    users = phones(never, plan, goals=("a",), tools=alone("set", "hang_up"), reward=reward)
    played = await play(Rollout(), users)
    assert (played.episode.outcome, played.episode.calls, played.episode.reward) == ("agent_ended", 6, 1.0)
    assert played.authors(".0") == ["system"]


@pytest.mark.parametrize(("messages", "calls"), [(1, 1), (2, 2), (3, 2), (4, 3)])
async def test_the_first_decision_of_an_agent_alone_does_not_count_as_a_message(messages: int, calls: int) -> None:
    users = phones(never, lambda request: use(request, ("set", "a")), goals=(), tools=alone("set"))
    played = await play(Rollout(Limits(messages=messages)), users.with_(goals=("b",)))
    assert (played.episode.outcome, played.episode.calls) == ("message_limit", calls)


@pytest.mark.parametrize(("messages", "outcome"), [(2, "message_limit"), (3, "agent_ended")])
async def test_nobody_waits_for_the_result_of_a_call_that_ends(messages: int, outcome: str) -> None:
    users = phones(never, lambda request: use(request, ("hang_up" if request.step else "set", "a")), goals=("b",))
    played = await play(Rollout(Limits(messages=messages)), users.with_(tools=alone("set", "hang_up")))
    assert (played.episode.outcome, played.episode.calls) == (outcome, 2)


@pytest.mark.parametrize(
    ("names", "says_"), [(("set", "done"), ", or `done` if everything is finished.)"), (("set",), ".)"), ((), ".)")]
)
async def test_words_are_answered_with_a_note_that_nobody_is_there(names: tuple[str, ...], says_: str) -> None:
    played = await play(Rollout(Limits(steps=2)), phones(never, lambda request: say(), tools=alone(*names)))
    assert played.episode.outcome == "decision_limit"
    rows = played.branches[".1"].messages
    assert [(row.author, row.heard) for row in rows] == [("agent", None), ("tool", None)] * 2
    note = "(There is no user in this conversation: nobody reads this text. Call a tool" + says_
    assert rows[1].message == {"role": "user", "content": note}


async def test_an_agent_alone_may_end_with_words_and_has_45_decisions() -> None:
    ended = await play(Rollout(), phones(never, lambda request: say(end=True), tools=alone("set")))
    assert (ended.episode.outcome, len(ended.branches[".1"].messages)) == ("agent_ended", 1)
    played = await play(Rollout(), phones(never, lambda request: use(request, ("look", "")), tools=alone("look")))
    assert (played.episode.outcome, played.episode.calls) == ("decision_limit", 45)
    limited = phones(never, lambda request: use(request, ("look", "")), tools=alone("look"), limits=Limits(messages=6))
    assert (await play(Rollout(), limited)).episode.outcome == "message_limit"


async def test_a_tree_of_an_agent_alone_branches_by_action() -> None:
    def plan(request: Act) -> Decision:
        found = request.key.path.endswith("R") and request.step == 1
        return use(request, ("set", "a" if found else "x"))

    users = phones(never, plan, goals=("a",), tools=alone("set"))
    played = await play(Josh(BeamSearch(beam=4, branch_by="action")), users)
    assert (played.episode.outcome, played.episode.reward) == ("goals_done", 1.0)
