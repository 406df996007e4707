"""The user of tau2-bench: its messages to the model, calls of its own tools, markers, and the repaired variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from talking import TASK, Player, WordsWorld, player

from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, UserResult, UserTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolResult, ToolSpec, text_of
from simkit.errors import UsageError, UserFault
from simkit.models import ChatResponse, ScriptedModel
from simkit.testing.conformance import check_user
from simkit.users.goal import CUE
from simkit.users.tau2 import Tau2User

pytestmark = pytest.mark.anyio

PRESS = ToolSpec.of("press", "Press a button.", {"button": {"type": "string"}}, ("button",))
PROMPTS = {
    "user": "Rules.\n\n\n<scenario>\n{{instruction}}\n</scenario>",
    "user_tools": "Rules with tools.\n\n<scenario>\n{{instruction}}\n</scenario>\n",
}


class PhoneServer(ToolServer[None]):
    """Tools of a user that press buttons."""

    def start(self, request: StartTools) -> ToolsStart[None]:
        return ToolsStart((), None, user_specs=(PRESS,))

    async def call(self, request: CallTool[None]) -> ToolReturn[None]:
        raise AssertionError("nobody calls")


@dataclass
class Guided(WordsWorld):
    """A world with guidelines for its users, in one of its variants."""

    variant: str = "paper"
    known: frozenset[str] = frozenset(PROMPTS)

    @property
    def prompts(self) -> Mapping[str, str]:
        return {name: text for name, text in PROMPTS.items() if name in self.known}

    def tools(self) -> ToolServer[None]:
        return PhoneServer()


@dataclass
class Dual:
    """A conversation with a user that may have tools."""

    user: Tau2User
    tools: tuple[ToolSpec, ...] = (PRESS,)
    conversation: Conversation = field(default_factory=lambda: Conversation([Entry.agent("Hello?", 0)]))
    state: Any = None
    turn: int = 0
    step: int = 0

    async def next(self, agent: str | None = None, *results: UserResult) -> UserTurn:
        """What the user decides after words of the agent or results of its own calls."""
        if agent is not None:
            self.turn, self.step = self.turn + 1, 0
            self.conversation = self.conversation.append(Entry.agent(agent, self.turn))
        key = TurnKey(7, TASK.id, 0, "L", self.turn)
        said = await self.user.speak(Speak(key, TASK, self.conversation, self.state, self.tools, results, self.step))
        self.state, self.step = said.state, self.step + 1
        if not said.calls:
            self.conversation = self.conversation.append(Entry.user(said.text, self.turn))
        return said


def dual(played: Player, world: Guided | None = None, tools: tuple[ToolSpec, ...] = (PRESS,), **options: Any) -> Dual:
    return Dual(Tau2User(played.model, world or Guided(), **options), tools)


def press(button: str = "red", text: str | None = None, id: str = "x9") -> ChatResponse:
    return ChatResponse.of(AssistantMessage.of(text, (ToolCall.of(id, "press", {"button": button}),)))


def asked(played: Player, number: int = -1) -> list[tuple[str, str]]:
    return [(message.role, text_of(message)) for message in played.requests[number].messages]


async def test_guidelines_are_the_world_s_word_for_word_and_the_greeting_is_heard_first() -> None:
    played = player("My phone is dead.", "It is red.")
    talk = dual(played, tools=())
    assert (await talk.next()).text == "My phone is dead."
    await talk.next("Which colour?")
    system = ("system", f"Rules.\n\n\n<scenario>\n{TASK.instructions}\n</scenario>")
    assert asked(played, 0) == [system, ("user", "Hello?")]
    assert asked(played, 1) == [
        system,
        ("user", "Hello?"),
        ("assistant", "My phone is dead."),
        ("user", "Which colour?"),
    ]
    assert not played.requests[0].tools


async def test_calls_are_made_before_anything_is_said_and_their_results_are_read() -> None:
    played = player(press(id=""), press("blue", "I will try. ###STOP###"), "Nothing happens.", "###STOP###")
    talk = dual(played)
    first = await talk.next()
    assert (first.text, first.end, [call.id for call in first.calls]) == ("", False, ["u00s00c00"])
    second = await talk.next(None, UserResult(first.calls[0], ToolResult(value="Error: no", error=True)))
    assert (second.text, second.end, [call.id for call in second.calls]) == ("", False, ["u00s01c00"])
    third = await talk.next(None, UserResult(second.calls[0], ToolResult(value={"lit": True})))
    assert (third.text, third.calls) == ("Nothing happens.", ())
    assert (await talk.next("Bye.")).end
    messages = played.requests[2].messages
    assert asked(played, 2)[1:] == [
        ("user", "Hello?"),
        ("assistant", ""),
        ("tool", "Error: no"),
        ("assistant", "I will try. ###STOP###"),
        ("tool", '{"lit": true}'),
    ]
    assert messages[0].to_openai()["content"].startswith("Rules with tools.")
    assert isinstance(messages[3], ToolMessage)
    assert messages[3].tool_call_id == "u00s00c00"
    assert [len(request.tools) for request in played.requests] == [1, 1, 1, 1]
    assert asked(played, 3)[-2:] == [("assistant", "Nothing happens."), ("user", "Bye.")]
    assert len({(key.turn, key.role, key.call) for key in played.keys}) == 4


async def test_earlier_words_and_calls_of_the_user_are_its_own() -> None:
    played = player("It is dark.")
    talk = dual(played)
    call = ToolCall.of("h1", "press", {"button": "red"})
    talk.conversation = Conversation(
        [
            Entry.system("agents only"),
            Entry.agent("Hello?", 0),
            Entry.user("Help!", 0),
            Entry(AssistantMessage.of(None, (ToolCall.of("a1", "look", {}),)), "agent", 0),
            Entry(ToolMessage.of("a1", "seen"), "tool", 0),
            Entry.agent("Press red.", 0),
            Entry(AssistantMessage.of(None, (call,)), "user_tool", 0),
            Entry(ToolMessage.of("h1", "Pressed."), "user_tool", 0),
        ]
    )
    await talk.next()
    assert asked(played)[1:] == [
        ("user", "Hello?"),
        ("assistant", "Help!"),
        ("user", "Press red."),
        ("assistant", ""),
        ("tool", "Pressed."),
    ]


async def test_arguments_that_are_no_json_go_to_the_tools_and_not_back_to_the_model() -> None:
    broken = AssistantMessage.of(None, (ToolCall.of("1", "press", "{oops"),))
    played = player(ChatResponse.of(broken), "I cannot.")
    talk = dual(played)
    made = (await talk.next()).calls[0]
    assert made.arguments == "{oops"
    await talk.next(None, UserResult(made, ToolResult(value="Error", error=True)))
    sent = played.requests[1].messages[2]
    assert isinstance(sent, AssistantMessage)
    assert sent.tool_calls is not None
    assert sent.tool_calls[0].arguments == '{"not_valid_json": "{oops"}'


@pytest.mark.parametrize(
    ("written", "paper", "fixed", "flags"),
    [
        ("###STOP###", ("###STOP###", True), ("Goodbye.", True), ((), ("silent_end",))),
        ("Thanks. ###TRANSFER###", ("Thanks. ###TRANSFER###", True), ("Thanks.", True), (("transfer",),) * 2),
        (
            "So what?\n###OUT-OF-SCOPE###\nBye",
            ("So what?\n###OUT-OF-SCOPE###\nBye", True),
            ("So what?\n\nBye", True),
            (("out_of_scope",),) * 2,
        ),
        (
            "Is ###STOP### a word?",
            ("Is ###STOP### a word?", True),
            ("Is  a word?", False),
            ((), ("marker_inside",)),
        ),
        ("###stop###", ("###stop###", False), ("###stop###", False), ((), ())),
        (" Hello. ", (" Hello. ", False), ("Hello.", False), ((), ())),
    ],
)
async def test_markers_end_the_conversation(
    written: str, paper: tuple[str, bool], fixed: tuple[str, bool], flags: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    for variant, expected, marked in zip(("paper", "fixed"), (paper, fixed), flags, strict=True):
        played = player(written)
        talk = dual(played, Guided(variant))
        said = await talk.next()
        assert (said.text, said.end, said.flags) == (*expected, marked)
        assert text_of(said.state.messages[-1]) == written


@pytest.mark.parametrize("nothing", ["", " \n", ChatResponse(message=AssistantMessage.of("no"), finish="refusal")])
async def test_a_reply_without_words_and_calls_is_a_fault_or_asked_for_again(nothing: Any) -> None:
    with pytest.raises(UserFault, match="the user `tau2`, played by scripted, gave a reply without words or calls"):
        await dual(player(nothing)).next()
    played = player(nothing, "Hello.")
    assert (await dual(played, Guided("fixed")).next()).text == "Hello."
    assert [key.call for key in played.keys] == [0, 1]
    with pytest.raises(UserFault, match="gave 3 replies without"):
        await dual(player(nothing, nothing, nothing), Guided("fixed")).next()


async def test_calls_of_a_reply_that_was_cut_off_are_not_made() -> None:
    message = press(text="Let me").message
    said = await dual(player(ChatResponse(message=message, finish="length"))).next()
    assert (said.text, said.calls, said.flags) == ("Let me", (), ("cut_off",))


async def test_a_call_as_text_is_said_as_in_the_release_or_made() -> None:
    written = 'press({"button": "red"})'
    said = await dual(player(written)).next()
    assert (said.text, said.calls) == (written, ())
    assert said.flags[0].startswith("call_as_text: ")
    made = await dual(player(written), Guided("fixed")).next()
    assert [(call.name, call.parse_arguments()) for call in made.calls] == [("press", {"button": "red"})]
    assert made.flags[0].startswith("call_as_text: ")
    assert (await dual(player(written), tools=()).next()).flags == ()


async def test_a_call_that_the_server_could_not_read_is_flagged_or_asked_for_again() -> None:
    broken = ChatResponse(message=AssistantMessage.of("press(red"), doubts=("unparsed_call: hermes",))
    assert (await dual(player(broken)).next()).flags == ("unparsed_call: hermes",)
    assert (await dual(player(broken, "Hm."), Guided("fixed")).next()).text == "Hm."


async def test_without_guidelines_of_the_world_its_own_are_used_and_flagged_once() -> None:
    played = player("Hello.", "Bye.")
    talk = dual(played, Guided(known=frozenset({"user"})))
    assert (await talk.next()).flags == ("own_prompt: tau2-tools-1.txt",)
    assert (await talk.next("Hm?")).flags == ()
    assert TASK.instructions in asked(played)[0][1]
    alone = player("Hello.")
    said = await Dual(Tau2User(alone.model), ()).next()
    assert said.flags == ()
    assert "tools" not in asked(alone)[0][1]


async def test_a_person_of_few_words_has_guidelines_in_front_of_the_scenario() -> None:
    played = player("Hello.")
    await dual(played, tools=(), verbosity="minimal").next()
    before, _, after = asked(played)[0][1].partition("<scenario>")
    assert before.startswith("Rules.\n\n\nYou are a person of few words:")
    assert after == f"\n{TASK.instructions}\n</scenario>"


async def test_without_an_opening_it_is_cued() -> None:
    played = player("Hello.")
    talk = dual(played)
    talk.conversation = Conversation()
    await talk.next()
    assert asked(played)[1:] == [("user", CUE)]


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="no verbosity `loud`; choose standard or minimal"):
        dual(player(), verbosity="loud")
    with pytest.raises(UsageError, match="no variant `new`; choose paper or fixed"):
        dual(player(), variant="new")


class Wordy(ScriptedModel):
    """A model that cannot be given tools."""

    lacks_for_tools = "its chat template has no tools"


def test_a_model_without_tools_is_refused_where_the_user_has_some() -> None:
    with pytest.raises(UsageError, match="gives its user tools, and `scripted` cannot take them: its chat template"):
        Tau2User(Wordy(lambda request, key: "Hello."), Guided()).check_task(TASK)
    Tau2User(Wordy(lambda request, key: "Hello.")).check_task(TASK)
    Tau2User(ScriptedModel(lambda request, key: "Hello."), Guided()).check_task(TASK)


async def test_it_passes_the_conformance_suite() -> None:
    def answer(request: Any, key: Any) -> str:
        return f"Message {len(request.messages)}, {key.turn.turn}."

    for variant in ("paper", "fixed"):
        await check_user(Tau2User(ScriptedModel(answer), Guided(variant)), [TASK])


async def test_words_of_an_agent_and_repetitions_are_flagged() -> None:
    greeting = "Hello! How can I help you today?"
    talk = dual(player(greeting, greeting, "My phone has no signal."), tools=())
    assert (await talk.next()).flags == ("as_agent",)
    assert (await talk.next("Hm?")).flags == ("as_agent", "repeated")
    assert (await talk.next("Hm?")).flags == ()
