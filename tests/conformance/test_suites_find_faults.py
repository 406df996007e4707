"""A suite is worth what it catches: each promise is broken on purpose here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from simkit.components.agent import Act, Agent, Decision
from simkit.components.reward import EpisodeReward, Hit, Reward, ScoreEpisode, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.errors import InvalidArguments
from simkit.testing import (
    ConformanceError,
    check_agent,
    check_reward,
    check_tool_server,
    check_user,
    fixed_agent,
    fixed_user,
)

pytestmark = pytest.mark.anyio

TASK = Task(
    id="t",
    world="shelf",
    split="val",
    instructions="Put two books on the shelf.",
    goals=tuple(Goal(f"put_{n}", {"tool": "put", "parameters": {"book": n}}) for n in "ab"),
)


class Shelf(ToolServer):
    """A world of one shelf, kept as a tuple."""

    name = "shelf"

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart((ToolSpec.of("put", "Put a book.", {"book": {"type": "string"}}, ("book",)),), ())

    async def call(self, request: CallTool) -> ToolReturn:
        try:
            book: object = request.call.parse_arguments().get("book")
        except InvalidArguments as error:
            return ToolReturn(ToolResult(value=str(error), error=True), request.state)
        if request.call.name != "put" or not isinstance(book, str) or len(book) > 10:
            return ToolReturn(ToolResult(value="no", error=True), request.state)
        return self.put(book, request.state)

    def put(self, book: str, shelf: Any) -> ToolReturn:
        return ToolReturn(ToolResult(value={"put": [book]}), (*shelf, book), ({"book": book},))


class SharedShelf(Shelf):
    """Every branch puts into one list."""

    def __init__(self) -> None:
        self.books: list[str] = []

    def put(self, book: str, shelf: Any) -> ToolReturn:
        self.books.append(book)
        return ToolReturn(ToolResult(value={"put": list(self.books)}), shelf, ({"book": book},))


class MutatedState(Shelf):
    """The state is a list that is changed in place."""

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart((), [])

    def put(self, book: str, shelf: Any) -> ToolReturn:
        shelf.append(book)
        return ToolReturn(ToolResult(value="put"), shelf, ({"book": book},))


class AliasedRow(Shelf):
    """Results are pieces of the base."""

    def __init__(self) -> None:
        self.row = {"shelf": "oak"}

    def put(self, book: str, shelf: Any) -> ToolReturn:
        return ToolReturn(ToolResult.model_construct(value=self.row, error=False), shelf)


class SilentWrite(Shelf):
    """Writes without saying so."""

    def put(self, book: str, shelf: Any) -> ToolReturn:
        return ToolReturn(ToolResult(value="put"), (*shelf, book))


class Raising(Shelf):
    """Raises at arguments that do not parse."""

    async def call(self, request: CallTool) -> ToolReturn:
        request.call.parse_arguments()
        return await super().call(request)


class QuietGrowth(Shelf):
    """The base grows with every call, though no answer shows it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def put(self, book: str, shelf: Any) -> ToolReturn:
        self.log.append(book)
        return super().put(book, shelf)


class Raw(Shelf):
    """Answers with what is no JSON."""

    def put(self, book: str, shelf: Any) -> ToolReturn:
        return ToolReturn(ToolResult(value={"put": {book}}), (*shelf, book), ({"book": book},))


class RawWrite(Shelf):
    """Writes what is no JSON."""

    def put(self, book: str, shelf: Any) -> ToolReturn:
        return ToolReturn(ToolResult(value="put"), (*shelf, book), ({"book": book.encode()},))


class UsedUp(Shelf):
    """Keeps its books in an iterator."""

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart((), iter(()))


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Raw, "the call of `put` was answered with a ToolResult that holds a set of 1 at `.put`, which is not JSON"),
        (RawWrite, "the call of `put` was answered with a ToolReturn with the writes 1 bytes at `.book`"),
        (UsedUp, "start was answered with the state a tuple_iterator"),
    ],
)
async def test_a_value_that_a_run_would_refuse_is_named(server: type[ToolServer], words: str) -> None:
    with pytest.raises(ConformanceError, match=words):
        await check_tool_server(server(), [TASK])


async def test_a_good_server_passes() -> None:
    await check_tool_server(Shelf(), [TASK])


@pytest.mark.parametrize(
    ("server", "promise"),
    [
        (SharedShelf, "calls_are_pure"),
        (MutatedState, "calls_are_pure"),
        (SilentWrite, "changes_are_logged"),
        (AliasedRow, "results_are_the_callers"),
        (Raising, "mistakes_are_answered"),
        (QuietGrowth, "base_never_changes"),
    ],
)
async def test_a_broken_promise_of_a_server_is_named(server: type[ToolServer], promise: str) -> None:
    with pytest.raises(ConformanceError, match=f"shelf.*{promise}"):
        await check_tool_server(server(), [TASK])


class Counting(Agent):
    """Remembers outside the state."""

    def __init__(self) -> None:
        self.calls = 0

    async def act(self, request: Act) -> Decision:
        self.calls += 1
        return Decision(AssistantMessage.of(str(self.calls)), say=str(self.calls))


class SameIds(Agent):
    """Gives every call the same id."""

    async def act(self, request: Act) -> Decision:
        call = ToolCall.of("call", "put", {"book": "a"})
        return Decision(AssistantMessage.of(None, (call,)), calls=(call,))


class Fragile(Agent):
    """Cannot read an empty text."""

    async def act(self, request: Act) -> Decision:
        last = request.conversation.last
        text = last.heard if last is not None else None
        first = (text or "")[0]
        return Decision(AssistantMessage.of(first), say=first)


@pytest.mark.parametrize(
    ("agent", "promise"),
    [(Counting, "same_key_same_decision"), (SameIds, "calls_are_well_formed"), (Fragile, "reads_any_text")],
)
async def test_a_broken_promise_of_an_agent_is_named(agent: type[Agent], promise: str) -> None:
    with pytest.raises(ConformanceError, match=promise):
        await check_agent(agent())


class Overhearing(User):
    """Reads what is not said aloud."""

    async def speak(self, request: Speak) -> UserTurn:
        return UserTurn(f"I counted {len(request.conversation)} messages")


class Forgetful(User):
    """Counts its words outside the state."""

    def __init__(self) -> None:
        self.words = 0

    async def speak(self, request: Speak) -> UserTurn:
        self.words += 1
        return UserTurn("word " * self.words)


@pytest.mark.parametrize(
    ("user", "promise"),
    [(Overhearing, "hears_only_what_is_said"), (Forgetful, "same_key_same_words")],
)
async def test_a_broken_promise_of_a_user_is_named(user: type[User], promise: str) -> None:
    with pytest.raises(ConformanceError, match=promise):
        await check_user(user(), [TASK])


class Generous(Reward):
    """Credits a goal for every call."""

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        return tuple(Hit("put_a", record.call_id) for record in request.calls)


class Overflowing(Reward):
    """Gives more than there is."""

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        return EpisodeReward(float(len(request.achieved)))


class Wordy(Reward):
    """Gives a text for a number."""

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        return EpisodeReward(cast("Any", "0.5"))


class Unproven(Reward):
    """Says who reached a goal in a number."""

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        return tuple(Hit(goal.key, cast("Any", 7)) for goal in request.remaining[:1])


class Overweight(Reward):
    """Weighs a goal with infinity."""

    def goals(self, task: Task) -> tuple[Goal, ...]:
        return (Goal("g", {}, float("inf")),)


class Ranged(Overflowing):
    """Gives up to two, and says so."""

    range = (0.0, 2.0)


async def test_a_reward_with_a_range_of_its_own_passes() -> None:
    await check_reward(Ranged(), [TASK])


@pytest.mark.parametrize(
    ("reward", "promise"),
    [
        (Generous, "credits_each_copy_once"),
        (Overflowing, "value_is_a_share.*an EpisodeReward of 2.0"),
        (Wordy, "was answered with an EpisodeReward of '0.5'"),
        (Unproven, "was answered with a hit with the evidence 7"),
        (Overweight, "lists_goals.*the goal `g` with the weight inf"),
    ],
)
async def test_a_broken_promise_of_a_reward_is_named(reward: type[Reward], promise: str) -> None:
    with pytest.raises(ConformanceError, match=promise):
        await check_reward(reward(), [TASK])


async def test_the_fixed_agent_and_user_keep_the_promises() -> None:
    lines: Sequence[str | tuple[str, dict[str, Any]]] = [("put", {"book": "a"}), "Done."]
    await check_agent(fixed_agent(lines))
    await check_user(fixed_user(["Hello", "Put it there.", "Bye"]), [TASK])


@pytest.mark.parametrize("attribute", ["concurrency", "sessions"])
async def test_a_limit_that_a_run_cannot_keep_to_is_named(attribute: str) -> None:
    components: dict[str, Any] = {
        "agent": fixed_agent(["Hello."]),
        "user": fixed_user(["Hello", "Bye"]),
        "tools": Shelf(),
        "reward": Reward(),
    }
    checks: dict[str, Any] = {
        "agent": lambda: check_agent(components["agent"]),
        "user": lambda: check_user(components["user"], [TASK]),
        "tools": lambda: check_tool_server(components["tools"], [TASK]),
        "reward": lambda: check_reward(components["reward"], [TASK]),
    }
    for role, check in checks.items():
        setattr(components[role], attribute, 0)
        with pytest.raises(ConformanceError, match=f"declares_limits.*`{attribute} = 0`"):
            await check()
        setattr(components[role], attribute, 2)
        await check()


# --- tools of the user ------------------------------------------------------------------------------------------------


class UsersShelf(Shelf):
    """A shelf to which the user may put books, too; `wrong` breaks a promise for the calls of the user alone."""

    def __init__(self, wrong: bool) -> None:
        self._wrong = wrong

    def start(self, request: StartTools) -> ToolsStart:
        start = super().start(request)
        return ToolsStart(start.specs, (), user_specs=start.specs)

    async def call(self, request: CallTool) -> ToolReturn:
        reply = await super().call(request)
        if self._wrong and request.by == "user":
            return ToolReturn(reply.result, reply.state)
        return reply


async def test_the_tools_of_the_user_are_checked_with_the_calls_of_its_goals() -> None:
    goals = (*TASK.goals, Goal("own", {"tool": "put", "parameters": {"book": "c"}, "by": "user"}))
    task = Task(id="t", world="shelf", split="val", instructions="", goals=goals)
    await check_tool_server(UsersShelf(wrong=False), [task])
    with pytest.raises(ConformanceError, match=r"the user's tools of `shelf`, task t, .*reports no writes"):
        await check_tool_server(UsersShelf(wrong=True), [task])
