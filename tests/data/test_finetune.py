from __future__ import annotations

import json
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from made_examples import demonstrations, judged, pairs
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.data.export import write
from simkit.errors import AuthFailed, UsageError
from simkit.models.config import ModelConfig
from simkit.recipes.finetune import finetune
from simkit.run.run import Run
from simkit.store import Store
from simkit.testing.fine_tuning import FineTuningServer
from simkit.training.fine_tuning import FineTuning, JobRequest

pytest.importorskip("openai", reason="the extra `finetune` is not installed")
pytestmark = pytest.mark.anyio

POLL = 0.01


def a_run(store: Path, server: FineTuningServer, resume: str | None = None) -> Run:
    return Run(store=store, recipe="finetune", seed=7, models=ModelConfig(base_url=server.base_url), resume=resume)


async def test_a_job_is_uploaded_started_followed_and_recorded(
    tmp_path: Path, server: FineTuningServer, sft_file: Path
) -> None:
    async with a_run(tmp_path / "s", server) as run:
        summary = await finetune(run, base="gpt-x", data=sft_file, epochs=2, suffix="josh", poll=POLL)
    [job] = server.jobs.values()
    assert job.request["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    assert (job.request["seed"], job.request["metadata"]) == (7, {"simkit_run": run.id})
    rows = [json.loads(line) for line in server.files["file-1"].splitlines()]
    assert [row.keys() for row in rows] == [{"messages", "tools", "parallel_tool_calls"}] * 12
    assert summary.extra["model"] == job.model == "ft:gpt-x:fake:josh:000001"
    assert summary.extra["job"] == "ftjob-000001"
    assert summary.extra["trained_tokens"] > 0
    store = Store(tmp_path / "s")
    losses = store.query("select step, value from metrics where name = 'train_loss' order by step").rows
    assert losses == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    kept = store.query("select item, detail ->> 'id' from item_scores where metric = 'made' order by item").rows
    assert kept == [("file", "file-1"), ("job", "ftjob-000001")]
    assert json.loads(store.query("select summary from runs").rows[0][0])["model"] == job.model


async def test_preferences_are_started_as_dpo(tmp_path: Path, server: FineTuningServer) -> None:
    data = write(pairs(10), tmp_path / "dpo.parquet")
    async with a_run(tmp_path / "s", server) as run:
        summary = await finetune(run, base="gpt-x", method="dpo", data=data, beta=0.1, poll=POLL)
    assert summary.extra["job_status"] == "succeeded"
    [job] = server.jobs.values()
    assert job.request["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}


async def test_a_stopped_run_leaves_its_job_and_finds_it_again(
    tmp_path: Path, server: FineTuningServer, sft_file: Path
) -> None:
    async with a_run(tmp_path / "s", server) as run, anyio.create_task_group() as group:
        group.start_soon(_stop_when_followed, run, server)
        await finetune(run, base="gpt-x", data=sft_file, poll=POLL)
    assert run.status == "interrupted"
    told = Store(tmp_path / "s").query("select summary ->> 'job_status' from runs").rows[0][0]
    assert "goes on at the service; simkit resume" in told
    assert server.jobs["ftjob-000001"].status != "cancelled"
    await anyio.Path(sft_file).unlink()  # a job that is there needs no data
    async with a_run(tmp_path / "s", server, resume=run.id) as again:
        summary = await finetune(again, base="gpt-x", data=sft_file, poll=POLL)
    assert summary.extra["job_status"] == "succeeded"
    assert (len(server.jobs), len(server.files)) == (1, 1)


async def _stop_when_followed(run: Run, server: FineTuningServer) -> None:
    while not any(job.status == "running" for job in server.jobs.values()):
        await anyio.lowlevel.checkpoint()
    run.stop()


async def test_a_job_can_be_cancelled_with_its_run(tmp_path: Path, server: FineTuningServer, sft_file: Path) -> None:
    async with a_run(tmp_path / "s", server) as run, anyio.create_task_group() as group:
        group.start_soon(_stop_when_followed, run, server)
        await finetune(run, base="gpt-x", data=sft_file, poll=POLL, cancel_on_stop=True)
    assert server.jobs["ftjob-000001"].status == "cancelled"
    assert Store(tmp_path / "s").query("select summary ->> 'job_status' from runs").rows == [("cancelled",)]


async def test_a_lost_answer_starts_no_second_job(tmp_path: Path, server: FineTuningServer, sft_file: Path) -> None:
    server.fail("POST /fine_tuning/jobs", 0)
    async with a_run(tmp_path / "s", server) as run:
        summary = await finetune(run, base="gpt-x", data=sft_file, poll=POLL)
    assert (len(server.jobs), summary.extra["job"]) == (1, "ftjob-000001")


async def test_a_killed_run_finds_the_job_that_it_had_not_written_down(
    tmp_path: Path, server: FineTuningServer, sft_file: Path
) -> None:
    """As if the process had died between the service's answer and the journal."""
    async with a_run(tmp_path / "s", server) as run, FineTuning(server.base_url) as service:
        file = await service.upload(b"\n".join([b"{}"] * 10), "t.jsonl")
        await service.start(JobRequest(run_id=run.id, model="gpt-x", method="supervised"), file)
    assert len(server.jobs) == 1
    async with a_run(tmp_path / "s", server, resume=run.id) as again:
        with pytest.raises(UsageError, match="ftjob-000001 failed"):  # its file was no training data
            await finetune(again, base="gpt-x", data=sft_file, poll=POLL)
    assert len(server.jobs) == 1


@pytest.mark.parametrize(
    ("route", "codes"), [("POST /files", (500, 500)), ("GET /fine_tuning/jobs/ftjob-000001", (503,))]
)
async def test_short_outages_are_waited_for(
    tmp_path: Path, server: FineTuningServer, sft_file: Path, route: str, codes: tuple[int, ...]
) -> None:
    server.fail(route, *codes)
    async with a_run(tmp_path / "s", server) as run:
        summary = await finetune(run, base="gpt-x", data=sft_file, poll=POLL)
    assert summary.extra["job_status"] == "succeeded"
    assert len(server.jobs) == 1


async def test_the_key_is_recorded_nowhere(tmp_path: Path, server: FineTuningServer, sft_file: Path) -> None:
    async with a_run(tmp_path / "s", server) as run:
        await finetune(run, base="gpt-x", data=sft_file, poll=POLL)
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert [path for path in files if server.key.encode() in path.read_bytes()] == []


async def test_a_wrong_key_stops_the_run_before_anything_is_sent(
    tmp_path: Path, server: FineTuningServer, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(AuthFailed, match="OPENAI_API_KEY"):
        async with a_run(tmp_path / "s", server) as run:
            await finetune(run, base="gpt-x", data=sft_file, poll=POLL)
    assert not server.files


async def test_data_that_cannot_be_used_is_refused_before_the_upload(tmp_path: Path, server: FineTuningServer) -> None:
    few = write(demonstrations(3), tmp_path / "few.jsonl")
    kto = write(judged(12), tmp_path / "kto.jsonl")
    for data, message in ((few, "3 examples are too few"), (kto, "holds kto examples")):
        with pytest.raises(UsageError, match=message):
            async with a_run(tmp_path / "s", server) as run:
                await finetune(run, base="gpt-x", data=data, poll=POLL)
    assert not server.files


def test_choices_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="epochs is 0"):
        JobRequest(run_id="r", model="m", method="dpo", n_epochs=0)
    with pytest.raises(UsageError, match="beta applies only to the method dpo"):
        JobRequest(run_id="r", model="m", method="supervised", beta=0.1)


def test_the_command_takes_the_harvest_of_the_last_run(
    tmp_path: Path, server: FineTuningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMKIT_STORE", str(tmp_path / "s"))
    harvest = CliRunner().invoke(app, ["run", "josh", "--tasks", "12", "--beam", "2", "--quiet"])
    assert harvest.exit_code == 0, harvest.output
    flags = ["--base", "gpt-x", "--base-url", server.base_url, "--poll", "0.01", "--clean-of", "builtin:test"]
    done = CliRunner().invoke(app, ["run", "finetune", *flags, "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["model"].startswith("ft:gpt-x")
    assert len(server.files["file-1"].splitlines()) >= 10
