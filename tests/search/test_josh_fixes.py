"""The list of design/josh.md, "Where the release is wrong and this project is right": one test (or more) per number."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest
from players import NoteTools, Played, Players, play, reach, say, shorts, talkative, use

from simkit.components.agent import Act, Decision
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.core.limits import Limits
from simkit.core.messages import ToolResult
from simkit.errors import ModelFault
from simkit.search.josh import BeamSearch, Josh

pytestmark = pytest.mark.anyio


def josh(beam: int = 8, **limits: int) -> Josh:
    return Josh(BeamSearch(beam=beam), Limits(**limits))


class Rendezvous:
    """Lets nobody pass before `expected` have arrived."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._all = anyio.Event()
        self.arrived = 0

    async def wait(self) -> None:
        self.arrived += 1
        if self.arrived == self._expected:
            self._all.set()
        with anyio.fail_after(5):
            await self._all.wait()


async def test_1_all_live_agents_and_users_run_at_the_same_time() -> None:
    widths = (2, 4, 8, 8)
    agents = {turn: Rendezvous(width) for turn, width in enumerate(widths, 1)}
    users = {turn: Rendezvous(width) for turn, width in enumerate((1, *widths))}

    async def plan(request: Act) -> Decision:
        await agents[request.key.turn].wait()
        return say()

    async def answer(request: Speak) -> UserTurn:
        await users[request.key.turn].wait()
        return talkative(request)

    played = await play(josh(turns=4), Players(plan, answer))
    assert played.episode.branches == sum(widths)
    assert played.episode.outcome == "turn_limit"


async def test_2_siblings_have_seeds_of_their_own_and_a_rerun_has_the_same() -> None:
    runs: list[dict[tuple[str, int, int], int]] = []
    for _ in range(2):
        seeds: dict[tuple[str, int, int], int] = {}

        def plan(request: Act, seeds: dict[tuple[str, int, int], int] = seeds) -> Decision:
            seeds[request.key.path, request.key.turn, request.step] = request.key.seed("agent", request.step)
            return use(request, ("read", "")) if request.step == 0 else say()

        await play(josh(turns=4), Players(plan))
        runs.append(seeds)
    assert runs[0] == runs[1]
    assert len(set(runs[0].values())) == len(runs[0]) == 2 * (2 + 4 + 8 + 8)


async def test_3_a_second_goal_of_the_winning_turn_is_credited() -> None:
    def plan(request: Act) -> Decision:
        wanted = {0: "a", 1: "b"}.get(request.step) if request.key.path == "R" else None
        return reach(request, wanted) if wanted else say()

    played = await play(josh(), Players(plan, goals=("a", "b")))
    assert played.episode.achieved == ("a", "b")
    assert (played.episode.outcome, played.episode.reward, played.episode.turns) == ("goals_done", 1.0, 1)
    assert [(row.goal, row.step, row.credited) for row in played.branches["R.1"].rewards] == [
        ("a", 0, True),
        ("b", 1, True),
    ]


@pytest.mark.parametrize(("error", "outcome"), [(ValueError("x"), "agent_fault"), (ModelFault("429"), "model_fault")])
async def test_4_a_fault_is_never_rewarded_and_never_harvested(error: Exception, outcome: str) -> None:
    def plan(request: Act) -> Decision:
        if request.step == 0:
            return reach(request, "a")
        if request.key.path == "L":
            raise error
        return say()

    played = await play(josh(), Players(plan))
    crashed = played.branches["L.1"]
    assert (crashed.outcome, crashed.rewards) == (outcome, ())
    assert str(error) in str(crashed.error)
    assert [call.name for call in crashed.tool_calls] == ["reach"], "what came before the fault is kept"
    harvest = played.harvests[0]
    assert (shorts([harvest.winner_id]), shorts(harvest.successful)) == (["R.1"], [".0", "R.1"])
    assert (played.episode.reward, played.episode.faults) == (1.0, 1)


async def test_4_a_search_that_the_agent_crashed_out_of_keeps_its_reward() -> None:
    def plan(request: Act) -> Decision:
        if request.key.turn == 1:
            return reach(request, "a") if request.step == 0 else say()
        raise ValueError("no more")

    played = await play(josh(), Players(plan, goals=("a", "b")))
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("agent_fault", 0.5, 2)


async def test_4_a_search_that_only_the_models_failed_is_not_scored() -> None:
    def plan(request: Act) -> Decision:
        raise ModelFault("the endpoint is gone")

    played = await play(josh(), Players(plan))
    assert (played.episode.outcome, played.episode.reward) == ("model_fault", None)
    assert played.episode.error == "the endpoint is gone"


async def test_4_one_orderly_ending_is_enough_to_be_scored() -> None:
    def plan(request: Act) -> Decision:
        if request.key.path == "L":
            return say(end=True)
        raise ModelFault("the endpoint is gone")

    played = await play(josh(), Players(plan))
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("agent_ended", 0.0, 1)


async def test_5_the_runtimes_words_go_only_where_a_turn_ran_out() -> None:
    def plan(request: Act) -> Decision:
        return say() if request.key.path == "L" else use(request, ("read", ""))

    played = await play(josh(beam=2, turns=1, steps=2), Players(plan))
    assert played.authors("L.1") == ["agent", "user"]
    assert played.authors("R.1") == ["agent", "tool", "agent", "tool", "runtime", "user"]


async def test_6_every_turn_is_a_node_when_the_beam_is_full() -> None:
    played = await play(josh(beam=2, turns=3), Players(lambda request: say()))
    assert list(played.branches) == [".0", "L.1", "R.1", "L.2", "R.2", "L.3", "R.3"]
    parents = [branch.parent_id for branch in played.branches.values()]
    assert shorts([parent for parent in parents if parent]) == [".0", ".0", "L.1", "R.1", "L.2", "R.2"]


@pytest.mark.parametrize(("goals", "achieved"), [(("a", "b"), ("a",)), (("a", "a"), ("a", "a"))])
async def test_7_a_goal_hit_twice_is_credited_once_per_copy(goals: tuple[str, ...], achieved: tuple[str, ...]) -> None:
    def plan(request: Act) -> Decision:
        return reach(request, "a", "a") if request.key.turn == 1 and request.step == 0 else say()

    played = await play(josh(turns=2), Players(plan, goals=goals))
    assert played.episode.achieved == achieved
    assert played.episode.reward == len(achieved) / 2


async def test_8_the_tree_after_the_last_reward_is_recorded() -> None:
    def plan(request: Act) -> Decision:
        return reach(request, "a") if request.key.turn == 1 and request.step == 0 else say()

    played = await play(josh(turns=3), Players(plan, goals=("a", "b")))
    assert len(played.harvests) == 1
    assert [name for name in played.branches if name.endswith(".3")] == ["LLL.3", "LLR.3", "LRL.3", "LRR.3"]


async def test_9_an_episode_without_goals_is_recorded_as_such() -> None:
    played = await play(josh(), Players(lambda request: say(), goals=()))
    assert (played.episode.outcome, played.episode.reward, played.episode.branches) == ("no_goals", None, 0)


def write_then_read(request: Act) -> Decision:
    match request.step:
        case 0:
            return use(request, ("write", f"{request.key.path}.{request.key.turn}"))
        case 1:
            return use(request, ("read", ""))
        case _:
            return say()


def own_writes(played: Played) -> None:
    """Every branch reads the notes of its own line of ancestors, and no other."""
    assert len(played.branches) > 8
    for name, branch in played.branches.items():
        expected: list[str] = []
        line: str | None = branch.branch_id
        by_id = {one.branch_id: one for one in played.branches.values()}
        while line is not None and by_id[line].turn:
            expected.insert(0, f"{by_id[line].path}.{by_id[line].turn}")
            line = by_id[line].parent_id
        if branch.turn:
            assert branch.tool_calls[1].result == expected, name


async def test_10_no_branch_sees_the_writes_of_another() -> None:
    own_writes(await play(josh(turns=4), Players(write_then_read)))


@dataclass
class Notebook:
    """A world that is changed in place and can only be copied by forking."""

    notes: list[str]
    forks: int = 0

    def fork(self) -> Notebook:
        self.forks += 1
        return Notebook(list(self.notes))


class NotebookTools(NoteTools):
    """`NoteTools` over an opaque state."""

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart(super().start(request).specs, state=Notebook([]))

    async def call(self, request: CallTool) -> ToolReturn:
        book: Notebook = request.state
        if request.call.name == "write":
            book.notes.append(str(request.call.parse_arguments()["x"]))
        return ToolReturn(ToolResult(value=list(book.notes)), book)


async def test_10_an_opaque_world_is_forked_for_every_child() -> None:
    own_writes(await play(josh(turns=4), Players(write_then_read, tools=NotebookTools())))


async def test_11_the_crash_of_one_user_ends_that_leaf_alone() -> None:
    def answer(request: Speak) -> UserTurn:
        if request.key.path == "L":
            raise RuntimeError("the user fell asleep")
        return talkative(request)

    played = await play(josh(beam=2, turns=3), Players(lambda request: say(), answer))
    assert played.outcomes["L.1"] == "user_fault"
    assert [name for name in played.branches if name.endswith(".3")] == ["RL.3", "RR.3"]
    assert (played.episode.outcome, played.episode.reward, played.episode.faults) == ("turn_limit", 0.0, 1)
