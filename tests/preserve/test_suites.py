"""Benchmarks of lm-evaluation-harness on local task files, offline: on weights and on a chat model."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tiny_weights import CONTEXT

if find_spec("lm_eval") is None:  # importing it takes seconds, which collecting need not
    pytest.skip("needs lm-eval: pip install '.[preserve]'", allow_module_level=True)

from simkit.core.messages import text_of
from simkit.errors import BudgetExhausted, ModelFault, UsageError
from simkit.models.base import CallKey, ChatRequest
from simkit.models.config import ModelConfig
from simkit.models.providers.scripted import Answer, ScriptedModel
from simkit.preservation.harness import chat_lm, weights_lm
from simkit.preservation.local_weights import load_weights
from simkit.preservation.perplexity import Document, WindowOptions, score_documents
from simkit.preservation.suites import Benchmarks, load_tasks, play_suites, suite_scores
from simkit.recipes.preserve import preserve
from simkit.run.run import Run
from simkit.store import Store

pytestmark = pytest.mark.anyio

CHOOSING = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: colours.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "the cat ? Answer :"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
WRITING = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
READING = """
task: held
dataset_path: json
dataset_kwargs: {data_files: {test: text.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""
TEXTS = ("the cat sat on a mat", "a dog ran")
BOTH = """
group: both
task: [one, two]
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(CHOOSING.format(name=name))
    (folder / "sums.yaml").write_text(WRITING)
    (folder / "held.yaml").write_text(READING)
    (folder / "both.yaml").write_text(BOTH)
    rows(folder / "colours.jsonl", [{"choices": ["red", "green"], "answer": n % 2} for n in range(8)])
    rows(folder / "sums.jsonl", [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(6)])
    rows(folder / "text.jsonl", [{"text": text} for text in TEXTS])
    return folder


def rows(file: Path, values: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(value) + "\n" for value in values))


def kept(store: Store, run: Run, suite: str, metric: str) -> dict[str, float]:
    found = store.query(
        "select item, value from item_scores where run_id = ? and suite = ? and metric = ?", [run.id, suite, metric]
    )
    return dict(found.rows)


async def test_weights_are_scored_question_by_question(tmp_path: Path, files: Path, weights_folder: Path) -> None:
    choices = ModelConfig(model=f"local/{weights_folder},device=cpu")
    async with Run(store=tmp_path / "s", models=choices) as run:
        summary = await preserve(run, suites="both,held", task_files=files)
    scores = kept(run.store, run, "one", "acc")
    assert sorted(scores.values()) == [0.0] * 4 + [1.0] * 4, "a model that reads only the same words says the same"
    assert summary.extra["both acc"]["value"] == 0.5
    assert summary.extra["both questions"] == 16
    nats = kept(run.store, run, "held", "nll_per_word")
    weights = load_weights(str(choices.model))
    ours = score_documents(weights, [Document.of(text) for text in TEXTS], WindowOptions(CONTEXT, 1))
    assert sorted(nats.values()) == pytest.approx(sorted(each.nll_per_token for each in ours), rel=1e-4)
    assert summary.extra["held word_perplexity"] > 1
    lower = run.store.query("select distinct detail -> 'better' ->> metric from item_scores where suite = 'held'").rows
    assert lower == [("lower",)]


async def test_a_task_that_is_done_is_not_played_again(tmp_path: Path, files: Path, weights_folder: Path) -> None:
    benchmarks = Benchmarks(names=("both",), files=files, limit=3)
    loaded = load_tasks(benchmarks)
    weights = load_weights(f"local/{weights_folder},device=cpu")
    assert weights.context == CONTEXT
    async with Run(store=tmp_path / "s", name="stopped") as run:
        await play_suites(run, benchmarks, {"one": loaded.tasks["one"]}, lambda: weights_lm(weights, 2))
    opened: list[str] = []

    def opening() -> Any:
        opened.append("again")
        return weights_lm(weights, 2)

    async with Run(store=tmp_path / "s", resume="stopped") as run:
        await play_suites(run, benchmarks, {"one": loaded.tasks["one"]}, opening)
        assert not opened
        await play_suites(run, benchmarks, loaded.tasks, opening)
        (score,) = await suite_scores(run, loaded)
    assert opened == ["again"]
    assert len(score.items) == 6
    assert score.metrics == ("acc", "acc_norm")


async def test_a_chat_model_writes_its_answers(tmp_path: Path, files: Path) -> None:
    def answer(request: ChatRequest, key: CallKey) -> Answer:
        assert (request.sampling.temperature, request.sampling.stop) == (0.0, ("\n",))
        number = int(text_of(request.messages[-1]).split("+")[0])
        return ModelFault("no") if number == 4 else f"{number + (number < 3)}\nand so on"

    loaded = load_tasks(Benchmarks(names=("sums",), files=files))
    async with Run(store=tmp_path / "s", seed=2) as run:
        model = ScriptedModel(answer)
        benchmarks = Benchmarks(names=("sums",), files=files, chat=True)
        await play_suites(run, benchmarks, loaded.tasks, lambda: chat_lm(model, run.seed, 4))
        (score,) = await suite_scores(run, loaded)
    estimate = score.estimate("exact_match")
    assert estimate is not None
    assert (estimate.value, score.failed, len(score.items)) == (0.5, 1, 6)


async def test_a_served_model_is_recorded_and_never_asked_twice(tmp_path: Path, files: Path) -> None:
    flags: dict[str, Any] = {"suites": "sums", "task_files": files, "limit": 4}
    async with Run(store=tmp_path / "s", name="first", models=ModelConfig(model="scripted/2")) as run:
        first = await preserve(run, **flags)
    assert first.extra["sums exact_match"]["value"] == 0.25
    async with Run(store=tmp_path / "s", replay="first") as again:
        assert (await preserve(again, **flags)).extra == first.extra
    calls = run.store.query("select count(*) from model_calls where episode_id like ?", [f"{run.id}/%"]).rows
    assert calls == [(4,)]


async def test_a_model_that_fails_most_of_the_time_has_no_score(tmp_path: Path, files: Path) -> None:
    loaded = load_tasks(benchmarks := Benchmarks(names=("sums",), files=files, chat=True))
    model = ScriptedModel(lambda request, key: ModelFault("the dog ate it"))
    async with Run(store=tmp_path / "s") as run:
        with pytest.raises(ModelFault, match=r"6 answers to the 6 questions .* the dog ate it"):
            await play_suites(run, benchmarks, loaded.tasks, lambda: chat_lm(model, 0, 4))


async def test_what_ends_a_run_ends_it_from_inside_a_suite(tmp_path: Path, files: Path) -> None:
    loaded = load_tasks(benchmarks := Benchmarks(names=("sums",), files=files, chat=True))
    model = ScriptedModel(lambda request, key: BudgetExhausted("no more"))
    run = Run(store=tmp_path / "s")
    with pytest.raises(BudgetExhausted):
        async with run:
            await play_suites(run, benchmarks, loaded.tasks, lambda: chat_lm(model, 0, 4))
    assert run.status == "stopped"


async def test_a_run_can_be_stopped_in_the_middle_of_a_suite(tmp_path: Path, files: Path) -> None:
    loaded = load_tasks(benchmarks := Benchmarks(names=("sums",), files=files, chat=True))
    async with Run(store=tmp_path / "s") as run:

        def answer(request: ChatRequest, key: CallKey) -> Answer:
            run.stop()
            return "2"

        await play_suites(run, benchmarks, loaded.tasks, lambda: chat_lm(ScriptedModel(answer), 0, 1))
        pytest.fail("the run went on")
    assert run.status == "interrupted"


async def test_suites_that_cannot_be_played_are_named(tmp_path: Path, files: Path) -> None:
    async with Run(store=tmp_path / "s", models=ModelConfig(model="scripted/x")) as run:
        with pytest.raises(UsageError, match="the suite `one` compares probabilities"):
            await preserve(run, suites="sums,both", task_files=files)
    (files / "text.jsonl").unlink()
    with pytest.raises(UsageError, match="the suite `held` cannot be loaded"):
        load_tasks(Benchmarks(names=("held",), files=files))
    (files / "broken.yaml").write_text("task: [")
    with pytest.raises(UsageError, match=r"the task file .*broken.yaml cannot be read"):
        load_tasks(Benchmarks(names=("one",), files=files))
    with pytest.raises(UsageError, match="holds no task files"):
        load_tasks(Benchmarks(names=("one",), files=tmp_path / "nowhere"))
