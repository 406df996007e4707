from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.components.state import BranchState
from simkit.core.conversation import Conversation, Entry, Utterance
from simkit.core.limits import Spent
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, parse_message


def tool_entry(text: str, turn: int) -> Entry:
    return Entry(ToolMessage.of("c1", text), "tool", turn)


texts = st.text(max_size=5)
turns = st.integers(min_value=0, max_value=4)
entries = st.one_of(
    st.builds(Entry.system, texts),
    st.builds(Entry.user, texts, turns),
    st.builds(Entry.agent, texts, turns, turns),
    st.builds(tool_entry, texts, turns),
)
histories = st.lists(entries, max_size=8)


@given(histories, st.integers(-10, 10), st.integers(-10, 10), st.integers(1, 3))
def test_it_reads_as_the_tuple_of_its_entries(history: list[Entry], start: int, stop: int, stride: int) -> None:
    conversation = Conversation(history)
    assert len(conversation) == len(history)
    assert bool(conversation) == bool(history)
    assert list(conversation) == history
    assert list(reversed(conversation)) == history[::-1]
    assert [conversation[index] for index in range(-len(history), len(history))] == history * 2
    assert conversation[start:stop:stride] == tuple(history[start:stop:stride])
    assert conversation.tail(max(start, 0)) == tuple(history[max(start, 0) :])
    assert conversation.last == (history[-1] if history else None)
    assert conversation.messages() == tuple(entry.message for entry in history)


@pytest.mark.parametrize("index", [1, -2])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match="a conversation of 1"):
        Conversation([Entry.user("hello", 0)])[index]


@given(histories, st.integers(0, 8))
def test_however_it_was_built_it_is_equal(history: list[Entry], cut: int) -> None:
    whole = Conversation(history)
    grown = Conversation(history[:cut]).extend(history[cut:])
    single = Conversation()
    for entry in history:
        single = single.append(entry)
    for other in (grown, single, pickle.loads(pickle.dumps(whole))):
        assert other == whole
        assert hash(other) == hash(whole)
        assert other.digest == whole.digest


@given(histories, histories)
def test_digests_are_equal_exactly_when_the_agents_views_are(one: list[Entry], other: list[Entry]) -> None:
    left, right = Conversation(one), Conversation(other)
    assert (left.digest == right.digest) == (left.messages() == right.messages())
    assert (left == right) == (one == other)


@given(histories, entries)
def test_a_digest_is_of_the_order_and_of_everything_before(history: list[Entry], entry: Entry) -> None:
    conversation = Conversation(history)
    longer = conversation.append(entry)
    assert len(longer.digest) == 16
    assert longer.digest != conversation.digest
    assert conversation.append(entry).digest == longer.digest


def test_a_digest_tells_absent_from_null_and_takes_any_json() -> None:
    absent: dict[str, Any] = {"role": "assistant"}
    datas: list[dict[str, Any]] = [absent, {**absent, "content": None}, {**absent, "x_big": 2**70}]
    digests = {Conversation([Entry(parse_message(data), "agent", 1)]).digest for data in datas}
    assert len(digests) == 3
    one, two = ({**absent, "x_a": 1, "x_b": 2}, {**absent, "x_b": 2, "x_a": 1})
    same = {Conversation([Entry(parse_message(data), "agent", 1)]).digest for data in (one, two)}
    assert len(same) == 1


@given(histories, histories, histories)
def test_forks_are_independent_and_leave_their_parent_as_it_was(
    history: list[Entry], left: list[Entry], right: list[Entry]
) -> None:
    parent = Conversation(history)
    before = parent.digest
    one, other = parent.extend(left), parent.extend(right)
    assert list(one) == history + left
    assert list(other) == history + right
    assert (list(parent), parent.digest) == (history, before)


def test_a_fork_shares_its_history() -> None:
    parent = Conversation(Entry.user(str(index), index) for index in range(50))
    one, other = parent.append(Entry.user("a", 50)), parent.append(Entry.user("b", 50))
    assert [mine is yours for mine, yours in zip(one, other, strict=True)] == [True] * 50 + [False]


def test_a_long_conversation_needs_no_deep_recursion() -> None:
    conversation = Conversation(Entry.user("again", index) for index in range(20_000))
    assert len(conversation.digest) == 16
    assert pickle.loads(pickle.dumps(conversation)) == conversation
    del conversation  # freeing a chain of cells must not overflow the stack either


def test_the_user_hears_what_was_said_aloud() -> None:
    call = ToolCall.of("c1", "search_hotel", {})
    conversation = Conversation(
        [
            Entry.system("You are a clerk."),
            Entry.user("hello", 0),
            Entry(AssistantMessage.of(None, (call,)), "agent", 1),
            Entry(ToolMessage.of("c1", "[]"), "tool", 1),
            Entry(AssistantMessage.of("SPEAK hi"), "agent", 1, 1, heard="hi"),
            Entry(AssistantMessage.of("…"), "runtime", 2, heard="(no answer)"),
        ]
    )
    assert conversation.heard() == (
        Utterance("user", "hello"),
        Utterance("agent", "hi"),
        Utterance("agent", "(no answer)"),
    )
    assert repr(conversation) == "Conversation(6 entries)"


def test_the_agent_does_not_see_the_runtimes_words() -> None:
    before = Conversation([Entry.user("hello", 0)])
    after = before.append(Entry(AssistantMessage.of("…"), "runtime", 1, heard="(no answer)"))
    assert after.messages() == before.messages()
    assert after.digest == before.digest
    again = Entry.user("hello?", 1)
    assert after.append(again).digest == before.append(again).digest
    assert after.append(again).messages() == before.append(again).messages()


def test_it_equals_nothing_else() -> None:
    assert Conversation() != ()
    assert Conversation() == Conversation([])


# --- the state of a branch --------------------------------------------------------------------------------------------


@dataclass
class Notebook:
    """A state that is no value: it forks itself."""

    lines: list[str] = field(default_factory=list[str])

    def fork(self) -> Notebook:
        return Notebook(list(self.lines))


def test_a_state_of_values_forks_to_itself() -> None:
    state = BranchState(Conversation(), agent=("plan",), user=3, world=frozenset({"booked"}))
    assert state.fork() is state


@pytest.mark.parametrize("part", ["agent", "user", "world"])
def test_an_opaque_part_is_asked_to_fork_itself(part: str) -> None:
    notebook = Notebook(["one"])
    parts: dict[str, Any] = {"agent": ("a",), "user": ("u",), "world": ("w",), part: notebook}
    state = BranchState(Conversation([Entry.user("hello", 0)]), spent=Spent(2, 30, 0.5), **parts)
    forked = state.fork()
    assert forked == state
    assert forked is not state
    getattr(forked, part).lines.append("two")
    assert notebook.lines == ["one"]
    for other in {"agent", "user", "world"} - {part}:
        assert getattr(forked, other) is getattr(state, other)
    assert forked.conversation is state.conversation


@pytest.mark.parametrize("value", [BranchState(Conversation()), Entry.user("a", 0), Spent(), Utterance("user", "a")])
def test_values_are_frozen(value: Any) -> None:
    name = next(iter(value.__slots__))
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)
