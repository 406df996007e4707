"""The fixtures of the pytest plugin, in a test session of their own, and what the plugin costs other sessions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simkit import Rollout
from simkit.errors import UsageError
from simkit.testing import ConformanceError, check, fixed_agent, fixed_user, play
from simkit.tools.builtin import BuiltinWorld

TESTS = '''
import pytest

from simkit import Act, Agent, Decision
from simkit.errors import AgentFault
from simkit.testing import ConformanceError, fixed_agent


class Forgetful(Agent):
    """Counts its calls in itself, so that branches see each other."""

    count = 0

    async def act(self, request: Act) -> Decision:
        self.count += 1
        return Decision.speak(f"That was answer {self.count}.")


class Broken(Agent):
    async def act(self, request: Act) -> Decision:
        raise RuntimeError("no idea")


def test_play(simkit_play, simkit_store):
    played = simkit_play(fixed_agent(["Hello!", "Goodbye!"]), tasks=2)
    assert len(played.episodes) == 2
    assert played.rewards == [0.0, 0.0]
    assert played.said()[0] == "Hello!"
    assert played.said("user")
    assert simkit_store.query("select count(*) from episodes").rows == [(2,)]


def test_a_fault_fails_the_test(simkit_play):
    with pytest.raises(AgentFault) as raised:
        simkit_play(Broken(), tasks=1)
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert simkit_play(Broken(), tasks=1, faults=True).rewards == [None]


def test_check(simkit_check):
    simkit_check(fixed_agent(["Hello!"]))
    with pytest.raises(ConformanceError, match="same_key_same_decision"):
        simkit_check(Forgetful())
'''

pytestmark = pytest.mark.anyio


def session(folder: Path, tests: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_mine.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags, "test_mine.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def plugin(folder: Path) -> tuple[str, ...]:
    """Flags that load the plugin in a checkout whose entry points are older than it."""
    done = session(folder, "def test_nothing(simkit_store):\n    pass\n")
    return () if done.returncode == 0 else ("-p", "simkit.pytest_plugin")


def test_fixtures(tmp_path: Path) -> None:
    done = session(tmp_path, TESTS, *plugin(tmp_path))
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_imports_nothing_before_a_fixture_is_used(tmp_path: Path) -> None:
    heavy = ("anyio", "duckdb", "pydantic", "simkit.store", "simkit.testing")
    code = f"import sys, simkit.pytest_plugin; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_check_finds_the_suite_of_each_kind() -> None:
    world = BuiltinWorld()
    tasks = world.tasks("test")[:1]
    await check(fixed_agent(["Hello!"]), tasks)
    await check(fixed_user(["Hello", "Bye"]), tasks)
    await check(world, most=5, called=1)
    await check(world.tools(), tasks)
    with pytest.raises(UsageError, match="checked by tasks"):
        await check(world.tools())
    with pytest.raises(UsageError, match="no conformance suite for 'scripted'"):
        await check("scripted")  # type: ignore[arg-type]


async def test_users_and_rewards_have_tasks_of_their_own() -> None:
    await check(fixed_user(["Hello", "Bye"]))
    user = fixed_user(["Hello", "Bye"])
    user.concurrency = 0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConformanceError, match="task test-00000"):
        await check(user)


async def test_play_takes_names_tasks_and_a_search(tmp_path: Path) -> None:
    world = BuiltinWorld()
    played = await play(store=tmp_path, world=world, tasks=world.tasks("train")[:2], search=Rollout(), trials=2, seed=3)
    assert [episode.episode_id.split("/", 1)[1] for episode in played.episodes] == [
        "train-00000/0",
        "train-00001/0",
        "train-00000/1",
        "train-00001/1",
    ]
    assert played.summary.episodes == 4
