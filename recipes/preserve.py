"""Check that general ability is preserved: benchmarks, judged questions, and the perplexity of held-out text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread

from simkit.errors import UsageError
from simkit.plugins.extras import check_installed
from simkit.preservation.evaluation import evaluate, judged_figures
from simkit.preservation.harness import chat_lm, check_answerable, weights_lm
from simkit.preservation.judged_questions import JudgedQuestions
from simkit.preservation.local_weights import LocalWeights, is_local
from simkit.preservation.perplexity import HeldOutCorpus, corpus_figures, measure_corpus, read_corpus
from simkit.preservation.suites import Benchmarks, load_tasks, play_suites, suite_figures, suite_scores
from simkit.run.run import Run
from simkit.run.summary import Summary


async def preserve(
    run: Run,
    *,
    suites: Annotated[str | None, "Tasks, groups or tags of lm-evaluation-harness: hellaswag,arc_easy,gsm8k."] = None,
    task_files: Annotated[Path | None, "Folder of your own task files (YAML), in addition to lm-eval's."] = None,
    few_shot: Annotated[int | None, "Solved examples before each question; default: that of each task."] = None,
    chat_template: Annotated[bool, "Apply a local model's chat template to benchmark questions."] = False,
    batch_size: Annotated[int, "Benchmark questions that a local model computes at once."] = 8,
    questions: Annotated[Path | None, "Your questions: JSON lines with question_id and turns, as in MT-Bench."] = None,
    trials: Annotated[int, "Samples of answers to each question."] = 1,
    judge_model: Annotated[
        str | None, "Model that judges: openai/NAME, or `none` to store the answers for later."
    ] = None,
    judge_base_url: Annotated[str | None, "Endpoint of the judge; default: --base-url."] = None,
    judge_temperature: Annotated[float, "Sampling temperature of the judge."] = 0.0,
    grade_prompt: Annotated[Path | None, "Your prompt for grades, with {{conversation}} and {{reference}}."] = None,
    pair_prompt: Annotated[Path | None, "Your prompt for pairs, with {{first}}, {{second}} and {{reference}}."] = None,
    against: Annotated[str | None, "Compare with a model (openai/NAME), or with the stored answers of a RUN."] = None,
    against_base_url: Annotated[str | None, "Endpoint of that model; default: --base-url."] = None,
    answers_of: Annotated[str | None, "Judge the stored answers of a RUN instead of asking the model."] = None,
    corpus: Annotated[Path | None, "Held-out text: .jsonl with `text`, a text file or a folder of them."] = None,
    window: Annotated[int | None, "Context for a long text in tokens; default: the model's, at most 2048."] = None,
    stride: Annotated[int | None, "Tokens by which the window advances; default: half of it."] = None,
    limit: Annotated[int | None, "Maximum items of each suite, from its beginning."] = None,
    margin: Annotated[
        float, "Points that a suite may lose and count as preserved; per cent if it has no points."
    ] = 2.0,
    allow_incomplete: Annotated[
        bool, "Use stored answers and scores even if lines of a journal cannot be read."
    ] = False,
) -> Summary:
    """Check that general ability is preserved: benchmarks, judged questions, and the perplexity of held-out text.

    Run it before and after training, with the same flags and another --model, then `simkit compare before after`. The
    scores of all questions are stored, so the comparison is paired, and it tests whether a suite has lost less than the
    margin, which is recorded before anything is measured. A stopped run can be resumed, and repeats no
    answered call. Each of the three parts is optional.

    Examples:

        simkit run preserve --model local/out/before --suites arc_easy --corpus held_out.txt --name before
        simkit run preserve --model local/out/after --suites arc_easy --corpus held_out.txt --name after
        simkit run preserve --model openai/NAME --questions mine.jsonl --judge-model openai/JUDGE --against before
    """
    benchmarks = Benchmarks(
        names=tuple(name.strip() for name in (suites or "").split(",") if name.strip()),
        files=task_files,
        limit=limit,
        few_shot=few_shot,
        chat=chat_template,
    )
    judged = questions and JudgedQuestions(
        file=questions,
        limit=limit,
        trials=trials,
        judge=judge_model,
        judge_url=judge_base_url,
        judge_temperature=judge_temperature,
        grade_prompt=grade_prompt,
        pair_prompt=pair_prompt,
        against=against,
        against_url=against_base_url,
        answers_of=answers_of,
        allow_incomplete=allow_incomplete,
    )
    _check_margin(margin)
    _check_counts(limit, few_shot, batch_size)
    _check_wanted(benchmarks, questions, corpus, run.models.model)
    asked = judged.check(run.models.model) if judged else ()
    held_out = corpus and HeldOutCorpus(corpus.stem, read_corpus(corpus, limit), window, stride)
    figures = await _measured(run, benchmarks, batch_size, held_out, allow_incomplete)
    if judged:
        results = await evaluate(run, await judged.evaluation(run, asked))
        figures |= judged_figures(judged.name, results, max(len(question.turns) for question in asked))
        run.summary(**figures)
        results.check()
    return run.summary(**figures)


def _check_margin(margin: float) -> None:
    if not 0 < margin < 100:
        raise UsageError(f"--margin is {margin:g}; give a loss in points that would not matter, e.g. 2")


def _check_counts(limit: int | None, few_shot: int | None, batch_size: int) -> None:
    for name, number, least in (("limit", limit, 1), ("few-shot", few_shot, 0), ("batch-size", batch_size, 1)):
        if number is not None and number < least:
            raise UsageError(f"--{name} is {number}; give {least} or more, or leave it out")


def _check_wanted(benchmarks: Benchmarks, questions: Path | None, corpus: Path | None, model: str | None) -> None:
    if not (benchmarks.names or questions or corpus):
        named = " (--task-files only adds tasks; choose them with --suites)" if benchmarks.files else ""
        raise UsageError(
            f"there is nothing to evaluate{named}; give --suites NAME,NAME, --questions FILE or --corpus FILE"
        )
    if model is None and (benchmarks.names or corpus):
        raise UsageError("no model is named; give --model local/PATH, or --model openai/NAME for suites and questions")
    if corpus and not is_local(model):
        raise UsageError(
            f"--corpus measures probabilities, which `{model}` does not return; give --model local/PATH, or omit it"
        )
    if benchmarks.names:
        check_installed("preserve", "lm_eval")
    if is_local(model) and (benchmarks.names or corpus):
        check_installed("preserve", "torch", "transformers")


async def _measured(
    run: Run, benchmarks: Benchmarks, batch: int, held_out: HeldOutCorpus | None, allow_incomplete: bool
) -> dict[str, Any]:
    """Figures of benchmarks and perplexity; a local model's weights are released at the end."""
    weights = LocalWeights(run.models.model or "")
    figures: dict[str, Any] = {}
    if benchmarks.names:
        figures |= await _benchmarks(run, benchmarks, weights, batch, allow_incomplete)
    if held_out:
        ready = await anyio.to_thread.run_sync(weights.get)
        figures |= corpus_figures(held_out.name, await measure_corpus(run, ready, held_out))
    return figures


async def _benchmarks(
    run: Run, benchmarks: Benchmarks, weights: LocalWeights, batch: int, allow_incomplete: bool
) -> dict[str, Any]:
    """Figures of the benchmarks. Only local models support tasks that compare probabilities."""

    def report(text: str) -> None:
        run.progress.note = text

    report(f"loading {', '.join(benchmarks.names)}")
    loaded = await anyio.to_thread.run_sync(load_tasks, benchmarks)
    if is_local(run.models.model):
        await play_suites(run, benchmarks, loaded.tasks, lambda: weights_lm(weights.get(), batch, report))
    else:
        check_answerable(loaded.tasks)
        model = await run.open_chat_model(run.models.model or "")
        written = replace(benchmarks, chat=True)
        await play_suites(run, written, loaded.tasks, lambda: chat_lm(model, run.seed, run.concurrency))
    return suite_figures(await suite_scores(run, loaded, allow_incomplete=allow_incomplete))
