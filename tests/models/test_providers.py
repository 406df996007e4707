from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from players_models import HELLO, KEY

from simkit.core.events import ModelCall
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder
from simkit.errors import ModelFault, UsageError
from simkit.models import factory
from simkit.models.base import ChatModel, is_deterministic
from simkit.models.config import ModelConfig
from simkit.models.factory import Endpoints, ModelContext, build_model, open_model
from simkit.models.middleware.budget import Allowances, Budget
from simkit.models.middleware.replay import Recording
from simkit.models.provider import Resources, names_code
from simkit.models.run_models import RecordedCalls, RunModels
from simkit.run.run import Run
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo-model"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages with the example, as `pip install` leaves it: the module and its entry point."""
    folder = tmp_path / "site"
    about = folder / "simkit_echo_model-1.dist-info"
    about.mkdir(parents=True)
    (folder / "simkit_echo_model.py").write_text((EXAMPLE / "simkit_echo_model.py").read_text())
    points = re.search(r'\[project\.entry-points\."(.*)"\]\n(\w+) = "(.*)"', (EXAMPLE / "pyproject.toml").read_text())
    assert points is not None
    (about / "entry_points.txt").write_text(f"[{points[1]}]\n{points[2]} = {points[3]}\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: simkit-echo-model\nVersion: 1\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, "simkit_echo_model", raising=False)
    yield folder
    sys.modules.pop("simkit_echo_model", None)


async def test_a_model_of_an_installed_package_plays_and_is_recorded(installed: Path, tmp_path: Path) -> None:
    async with Run(store=tmp_path / "s", models=ModelConfig(model="echo/You said", rpm=100_000.0)) as run:
        world = run.world("builtin")
        await run.play(Rollout(Limits(turns=2)), run.cast(world), run.tasks(world, "test", 1))
        found = await run.query("select distinct role, model, response ->> '$.message.content' from model_calls")
    assert {row[:2] for row in found.rows} == {("agent", "echo/You said")}
    assert all(row[2].startswith("You said: ") for row in found.rows)


async def test_a_recording_of_it_is_replayed_without_opening_it(installed: Path, tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    async with open_model("echo/a", context=ModelContext(recorder=recorder, run_id="r")) as model:
        answer = await model.complete(HELLO, KEY)
    recording = Recording.of("r", [event for event in recorder.events if isinstance(event, ModelCall)])
    (installed / "simkit_echo_model.py").write_text(
        "from simkit.models.provider import Provider\n\nclass EchoProvider(Provider):\n"
        "    def open(self, resources):\n        1 / 0\n"
    )
    sys.modules.pop("simkit_echo_model")
    async with open_model("echo/a", context=ModelContext(run_id="r", recording=recording, strict=True)) as model:
        assert (await model.complete(HELLO, KEY)).message == answer.message


async def test_what_a_packaged_model_raises_is_its_fault(installed: Path) -> None:
    path = installed / "simkit_echo_model.py"
    path.write_text(path.read_text().replace("        text = ", "        raise KeyError('gone')\n        text = "))
    sys.modules.pop("simkit_echo_model", None)
    async with open_model("echo/a") as model:
        with pytest.raises(ModelFault, match="gone"):
            await model.complete(HELLO, KEY)


def test_components_lists_the_models_of_installed_packages(installed: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); from simkit.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "components"], capture_output=True, text=True, check=True)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "model echo/WORDS Repeats what it hears behind the words that it is named with." in lines
    assert "model openai/NAME A model behind an OpenAI-compatible endpoint (--base-url, OPENAI_API_KEY)." in lines


def test_an_unknown_provider_is_refused_with_those_that_are_installed(installed: Path) -> None:
    with pytest.raises(
        UsageError, match="Installed providers: anthropic, echo, local, openai, openai-responses, scripted"
    ):
        build_model("acme/large", endpoints=Endpoints())
    assert not names_code("echo/a:b")
    assert names_code("mine.py:Model")


async def test_resources_are_opened_once_and_closed_at_the_end() -> None:
    closed: list[str] = []

    class Line:
        async def aclose(self) -> None:
            closed.append("line")

    async with Endpoints() as endpoints:
        resources: Resources = endpoints.resources
        assert resources.shared("a", Line) is resources.shared("a", Line)
        assert len(resources) == 1
    assert closed == ["line"]
    assert len(resources) == 0


def layers(model: ChatModel) -> list[str]:
    found: list[str] = []
    inner: object = model
    while inner is not None:
        found.append(type(inner).__name__)
        inner = getattr(inner, "_model", None)
        inner = None if isinstance(inner, str) else inner
    return found


async def test_the_map_of_the_layers_names_each_in_its_order(tmp_path: Path) -> None:
    mapped = re.findall(r"^    (\w+Model)  ", factory.__doc__ or "", re.MULTILINE)
    own = tmp_path / "own.py"
    own.write_text("class Mine:\n    name = 'mine'\n    async def complete(self, request, key): ...\n")
    config = ModelConfig(temperature=1.0, rpm=60.0)
    models = RunModels("r", MemoryRecorder(), Allowances(), RecordedCalls(Recording("r")))
    named = [name for name in mapped if name != "MeteredModel"]  # only without an endpoint
    assert layers(models.model(str(own), config)) == [*named, "Mine"]
    replaying = RunModels("r", MemoryRecorder(), Allowances(), RecordedCalls(Recording("r"), strict=True))
    last = re.search(r"Its layers are (.*)\.", factory.__doc__ or "")
    assert last is not None
    assert layers(replaying.model(str(own), config)) == re.findall(r"\w+Model", last[1])


async def test_a_model_is_deterministic_at_temperature_0_or_when_it_says_so(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "class Same:\n    name, deterministic = 'same', True\n    async def complete(self, request, key): 1\n"
    )
    budget = Budget(Allowances())
    for spec, temperature, expected in (("scripted/x", 0.0, True), ("scripted/x", 0.5, False), (str(own), 0.5, True)):
        config = ModelConfig(temperature=temperature)
        async with open_model(spec, config, ModelContext(budget=budget)) as model:
            assert is_deterministic(model) is expected
