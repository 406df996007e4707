"""A model that cannot be given tools plays by `react`: chosen, noted, recorded, resumed and replayed, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from typer.testing import CliRunner, Result

from simkit.agents.function_calling import FunctionCallingAgent
from simkit.cli.app import app
from simkit.core.events import EndpointAdjusted, ModelCall, RunStarted
from simkit.core.messages import AssistantMessage
from simkit.core.recorder import MemoryRecorder
from simkit.errors import UsageError
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling, ScriptedModel
from simkit.models.base import ChatModel, ModelWrapper, SampledModel, lacks_for_tools
from simkit.models.middleware.metrics import CallMetrics, MeteredModel
from simkit.models.middleware.replay import Recording, ReplayedModel
from simkit.models.run_models import AcknowledgedModel
from simkit.monitoring.doctor import diagnose
from simkit.run.observers import DeferredRecorder
from simkit.store import Store
from simkit.training.dev import ConversationSetup
from support.training_runs import looked

pytestmark = pytest.mark.anyio

LACK = "its chat template does not render tools"
NOTE = f"note: the agent is `react`, because `toolless` cannot be given tools ({LACK})"

FILE = f"""
from anyio.lowlevel import checkpoint
from simkit.core.messages import AssistantMessage
from simkit.models import ChatResponse

class Toolless:
    name = "toolless"
    lacks_for_tools = {LACK!r}

    async def complete(self, request, key):
        await checkpoint()
        assert not request.tools
        return ChatResponse.of(AssistantMessage.of("SPEAK: Which day?"), self.name)

class Forgotten(Toolless):  # the same model before it said so
    lacks_for_tools = None

    async def complete(self, request, key):
        await checkpoint()
        return ChatResponse.of(AssistantMessage.of("Which day?"), self.name)
"""

WORLD = """
from simkit.tools.builtin.world import BuiltinWorld

class Town(BuiltinWorld):
    default_agent = "function_calling,text_calls=read"
"""

SHORT = ("--tasks", "2", "--max-turns", "2", "--quiet")


class Toolless:
    """The model for tests in this process."""

    name = "toolless"
    lacks_for_tools: str | None = LACK

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        await checkpoint()
        return ChatResponse.of(AssistantMessage.of("SPEAK: Which day?"), self.name)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The path of the model's file."""
    file = tmp_path / "toolless.py"
    file.write_text(FILE)
    return str(file)


def command(store: Path, *args: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*args, "--store", str(store / "store")])


def agents(store: Path) -> list[tuple[Any, ...]]:
    """The agent of each run, in the order of their starts."""
    found = Store(store / "store").query("select any_value(agent) from episode_facts group by run_id order by run_id")
    return found.rows


# --- what models say of themselves ------------------------------------------------------------------------------------


def wrappers() -> list[Callable[[ChatModel], ChatModel]]:
    return [
        ModelWrapper,  # pyright: ignore[reportReturnType]  # retries, limits, budgets and the like inherit from it
        lambda model: SampledModel(model, Sampling()),
        lambda model: MeteredModel(model, CallMetrics()),
        lambda model: AcknowledgedModel(model, MemoryRecorder()),
        lambda model: ReplayedModel(Recording("r"), model),
    ]


@pytest.mark.parametrize("place", range(len(wrappers())))
def test_wrappers_pass_on_what_their_model_lacks(place: int) -> None:
    assert lacks_for_tools(wrappers()[place](Toolless())) == LACK


def test_a_model_that_says_nothing_can_be_given_tools() -> None:
    model = ScriptedModel.by_turn(["Hello."])
    assert lacks_for_tools(model) is None
    assert lacks_for_tools(ModelWrapper(model)) is None  # pyright: ignore[reportArgumentType]


def test_the_agent_refuses_such_a_model() -> None:
    with pytest.raises(UsageError, match=rf"gives its model tools.*{LACK}; choose the agent `react`"):
        FunctionCallingAgent(Toolless())


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["rollout", "josh", "best_of_n"])
def test_an_unnamed_agent_is_react_and_a_note_says_so(recipe: str, model: str, tmp_path: Path) -> None:
    done = command(tmp_path, "run", recipe, "--model", f"{model}:Toolless", *SHORT)
    assert done.exit_code == 0, done.output
    assert done.stderr.count(NOTE) == 1
    assert agents(tmp_path) == [("react",)]
    advice = diagnose(Store(tmp_path / "store"), "last").advice
    assert any(f"`toolless` cannot be given tools ({LACK}): the agent is `react`" in line for line in advice)


def test_a_named_agent_that_needs_tools_is_refused_before_anything_is_played(model: str, tmp_path: Path) -> None:
    done = command(tmp_path, "run", "rollout", "--model", f"{model}:Toolless", "--agent", "function_calling", *SHORT)
    assert done.exit_code == 2
    assert "--agent react" in done.stderr
    assert not list((tmp_path / "store").glob("journals/*")), "no run is left"


def test_the_default_agent_of_a_world_gives_way_too(model: str, tmp_path: Path) -> None:
    (tmp_path / "town.py").write_text(WORLD)
    world = ("--world", f"{tmp_path / 'town.py'}:Town")
    done = command(tmp_path, "run", "rollout", "--model", f"{model}:Toolless", *world, *SHORT)
    assert done.exit_code == 0, done.output
    assert agents(tmp_path) == [("react",)]


def test_a_user_needs_no_tools(model: str, tmp_path: Path) -> None:
    players = ("--agent", "scripted", "--user", "goal,ending=line", "--user-model", f"{model}:Toolless")
    assert command(tmp_path, "run", "rollout", *players, *SHORT).exit_code == 0


def test_resume_and_replay_play_the_recorded_choice(model: str, tmp_path: Path) -> None:
    first = command(tmp_path, "run", "rollout", "--model", f"{model}:Toolless", "--name", "first", *SHORT)
    assert first.exit_code == 0
    resumed = command(tmp_path, "resume", "first", "--quiet")
    assert resumed.exit_code == 0, resumed.output
    assert "the agent is `react`" in resumed.stderr
    replayed = command(tmp_path, "run", "rollout", "--replay", "first", *SHORT)
    assert replayed.exit_code == 0, replayed.output
    assert "0 answered" in replayed.stdout
    assert agents(tmp_path) == [("react",), ("react",)]


def test_a_run_that_began_with_tools_goes_on_with_them(model: str, tmp_path: Path) -> None:
    """As recordings of earlier versions do, which gave tools to any model."""
    named = ("--model", f"{model}:Forgotten")
    before = command(tmp_path, "run", "rollout", *named, "--name", "before", *SHORT)
    assert before.exit_code == 0, before.output
    replayed = command(tmp_path, "run", "rollout", "--replay", "before", *SHORT)
    assert replayed.exit_code == 0, replayed.output
    assert agents(tmp_path) == [("function_calling",), ("function_calling",)]
    assert "cannot be given tools" not in replayed.stderr


def test_a_model_that_was_asked_before_is_not_judged_again() -> None:
    """Its run began before models said what they lack."""
    call = ModelCall(
        episode_id="r/t/0",
        branch_id="r/t/0/.1",
        role="agent",
        step=0,
        attempt=0,
        model="toolless",
        request_hash="0" * 32,
        request=None,
        response=ChatResponse.of(AssistantMessage.of("Which day?"), "toolless").to_json(),
        error=None,
        prompt_tokens=1,
        completion_tokens=1,
        cost=0.0,
        seconds=0.1,
        at=0.0,
    )
    assert lacks_for_tools(ReplayedModel(Recording.of("r", [call]), Toolless())) is None


async def test_trainings_refuse_such_a_model_and_may_name_another_agent(tmp_path: Path) -> None:
    """Their agent has a default that is recorded like a named one, and data for one agent does not suit the other."""
    with pytest.raises(UsageError, match="--agent react"):
        await looked(tmp_path / "refused", ConversationSetup(tasks="1"), Toolless())
    score = await looked(tmp_path / "store", ConversationSetup(tasks="1", agent="react", max_turns=2), Toolless())
    assert score.turns == 2


async def test_a_refused_cast_leaves_no_run_behind() -> None:
    """The choice of the agent is known before anything is played; alone it does not make a run."""
    kept = MemoryRecorder()
    recorder = DeferredRecorder(kept)
    start = RunStarted("r", "", "rollout", 0, {}, "1", 0.0)
    chosen = EndpointAdjusted("r", "toolless", "toolless", "agent", "function_calling", "react", LACK, 0.0)
    recorder.record(start)
    recorder.record(chosen)
    assert recorder.forget()
    assert kept.events == []

    recorder = DeferredRecorder(kept)
    recorder.record(start)
    recorder.record(chosen)
    await recorder.commit()
    assert kept.events == [start, chosen]
    recorder.record(chosen)
    assert kept.events == [start, chosen, chosen], "nothing is held back once a run has begun"
    assert not recorder.forget()
