"""Loading of a local model: in a thread, before the run plays, cancellable; and what a template without tools means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import pytest

from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.local.engine import LocalEngine
from simkit.local.model import LocalModel, LocalProvider
from simkit.local.worker import Worker
from simkit.models.base import lacks_for_tools
from simkit.models.config import ModelConfig
from simkit.models.provider import Resources
from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.training.scratch import TEMPLATE
from support.tiny_llama import HERMES, PLAIN, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.anyio


class Loads:
    """Stands for `Worker.open`: notes the threads that call it, and waits in them if told so."""

    def __init__(self, opened: Callable[..., Worker]) -> None:
        self._opened = opened
        self.threads: list[int] = []
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.ended = threading.Event()

    def __call__(self, *args: Any) -> Worker:
        self.threads.append(threading.get_ident())
        self.begun.set()
        self.may_end.wait()
        try:
            return self._opened(*args)
        finally:
            self.ended.set()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Generator[Loads]:
    found = Loads(Worker.open)
    monkeypatch.setattr(Worker, "open", found)
    yield found
    found.may_end.set()


def models_of(folder: Path) -> ModelConfig:
    return ModelConfig(model=f"local/{folder},context=400", max_tokens=5)


async def test_a_run_loads_its_model_in_a_thread_and_once(folder: Path, loads: Loads, tmp_path: Path) -> None:
    async with Run(store=tmp_path, models=models_of(folder)) as run:
        players = CastChoice(agent="react", user="goal,ending=line")
        await TaskChoice(tasks="1", max_turns=1).play(run, Rollout(), players)
    assert len(loads.threads) == 1, "agent and user share it"
    assert loads.threads[0] != threading.get_ident()


async def test_a_direct_model_is_loaded_in_a_thread_too(folder: Path, loads: Loads, tmp_path: Path) -> None:
    async with Run(store=tmp_path, models=models_of(folder)) as run:
        model = await run.open_chat_model(f"local/{folder}")
        assert lacks_for_tools(model) is None
    assert loads.threads == [thread for thread in loads.threads if thread != threading.get_ident()] != []


async def test_nothing_is_loaded_for_players_without_a_model_or_for_a_replay(
    folder: Path, loads: Loads, tmp_path: Path
) -> None:
    choice = TaskChoice(tasks="1", max_turns=1)
    async with Run(store=tmp_path, models=ModelConfig(model="scripted/SPEAK: Which day?")) as run:
        await choice.play(run, Rollout(), CastChoice(agent="react"))
    async with Run(replay=run.id, store=tmp_path, models=models_of(folder)) as again:
        await again.open_cast(again.world(), agent="react")
    assert not loads.threads


async def test_a_run_stopped_while_it_loads_ends_at_once(folder: Path, loads: Loads, tmp_path: Path) -> None:
    loads.may_end.clear()
    run = Run(store=tmp_path, models=models_of(folder))

    async def stop() -> None:
        await anyio.to_thread.run_sync(loads.begun.wait)
        run.stop()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, run:
            group.start_soon(stop)
            await TaskChoice(tasks="1").play(run, Rollout(), CastChoice(agent="react"))
    assert run.status == "interrupted"
    assert run.abandoned, "the thread is still loading, so the process does not wait for it"
    assert not loads.ended.is_set()
    loads.may_end.set()
    await anyio.to_thread.run_sync(loads.ended.wait)


async def test_errors_of_loading_are_as_they_were(tmp_path: Path) -> None:
    for spec, told in ((f"local/{tmp_path}", "no model can be loaded"), ("local/x,window=soon", "`window` is `soon`")):
        with pytest.raises(UsageError, match=told):
            async with Run(store=tmp_path / "store", models=ModelConfig(model=spec)) as run:
                await TaskChoice(tasks="1").play(run, Rollout(), CastChoice())
    assert not list((tmp_path / "store").glob("journals/*")), "no run is left"


async def test_a_misspelt_folder_is_not_looked_for_on_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text("{}")
    with pytest.raises(
        UsageError, match=r"there is no model `tunde` in .* \(did you mean `tuned`\?\); give the folder"
    ):
        async with Run(store=tmp_path / "store", models=ModelConfig(model="local/tunde")) as run:
            await TaskChoice(tasks="1").play(run, Rollout(), CastChoice())


async def test_what_was_loaded_is_what_is_opened(folder: Path, loads: Loads) -> None:
    resources, provider = Resources(), LocalProvider(f"local/{folder}", ModelConfig())
    await provider.load(resources)
    await provider.load(resources)
    provider.open(resources)
    assert (len(resources), len(loads.threads)) == (1, 1)
    await resources.aclose()


async def test_the_template_says_whether_the_model_can_be_given_tools(engine: LocalEngine, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(PLAIN)
    toolless = LocalEngine(tiny_model(tokenizer), tokenizer)
    assert lacks_for_tools(LocalModel(Worker(engine), "local/tiny")) is None
    assert lacks_for_tools(LocalModel(Worker(toolless), "local/tiny")) == "its chat template does not render tools"

    folder = tmp_path / "toolless"
    toolless.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    async with Run(store=tmp_path / "store", models=models_of(folder)) as run:
        cast = await run.open_cast(run.world())
        assert cast.agent.name == "react"
    assert any("cannot be given tools" in note for note in run.notes)


def test_a_model_of_one_world_needs_no_tools_in_its_template() -> None:
    """It has learned them. Its template has calls, but neither tools nor the system prompt that `react` needs."""
    without_tools = HERMES.partition("{% endif %}")[2]
    without_instructions = without_tools.replace(
        "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
    )
    assert ChatFormat(tiny_tokenizer(without_tools)).lacks_for_tools == "its chat template does not render tools"
    assert ChatFormat(tiny_tokenizer(without_instructions)).lacks_for_tools is None
    assert ChatFormat(tiny_tokenizer(TEMPLATE)).lacks_for_tools is None, "that of models trained by `bootstrap`"
