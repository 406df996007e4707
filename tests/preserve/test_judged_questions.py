"""The judged evaluation through the recipe, as its user runs it: answers, grades, pairs, and what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.errors import BudgetExhausted, ModelFault, UsageError
from simkit.models.config import ModelConfig
from simkit.preservation.judge import JudgePrompts, dialogue
from simkit.recipes.preserve import preserve
from simkit.run.run import Run
from simkit.run.summary import Summary

pytestmark = pytest.mark.anyio

JUDGES = Path(__file__).with_name("judges.py")


def model(name: str) -> str:
    return f"{JUDGES}:{name}"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"question_id": n, "category": "c", "turns": [f"Is {n} odd?", "Why?"]} for n in (1, 2, 3)]
    file = tmp_path / "mine.jsonl"
    changed(file, *rows)
    return file


def changed(file: Path, *rows: dict[str, Any]) -> None:
    file.write_text("\n".join(json.dumps(row) for row in rows))


async def played(store: Path, answers: str | None, name: str = "", **flags: Any) -> tuple[Run, Summary]:
    choices = ModelConfig(model=model(answers)) if answers else None
    async with Run(store=store, name=name, recipe="preserve", models=choices, seed=3) as run:
        summary = await preserve(run, **flags)
    return run, summary


def scores(run: Run, suite: str, metric: str) -> dict[tuple[str, int], float]:
    found = run.store.query(
        "select item, trial, value from item_scores where run_id = ? and suite = ? and metric = ? order by all",
        [run.id, suite, metric],
    )
    return {(item, trial): value for item, trial, value in found.rows}


def details(run: Run, suite: str, metric: str) -> dict[str, Any]:
    found = run.store.query(
        "select item, detail from item_scores where run_id = ? and suite = ? and metric = ? order by all",
        [run.id, suite, metric],
    )
    return {item: json.loads(detail) for item, detail in found.rows}


async def test_answers_are_graded_turn_by_turn(tmp_path: Path, questions: Path) -> None:
    run, summary = await played(tmp_path / "s", "Wordy", questions=questions, judge_model=model("Fair"), trials=2)
    both = {(name, trial): 8.0 for name in "123" for trial in (0, 1)}
    assert scores(run, "mine/grades", "score") == scores(run, "mine/grades", "score_turn_2") == both
    assert scores(run, "mine/answers", "words") == dict.fromkeys(both, 12.0)
    grade = summary.extra["mine grade of 10"]  # three equal questions do not prove that all are
    assert grade["value"] == 8.0
    assert 3 < grade["low"] < 5
    assert 9 < grade["high"] < 10
    kept = details(run, "mine/grades", "judged")["1"]
    assert (kept["judge"], kept["prompts"]) == ("fair", ["grade-1.txt", "pair-1.txt"])
    assert kept["verdicts"][0] == {"score": 8.0, "problem": "", "text": "It says something.\n\nSCORE: 8"}
    calls = run.store.query("select role, count(*) from model_calls group by role order by role").rows
    assert calls == [("agent", 12), ("judge", 12)]


async def test_another_model_is_beaten_in_both_orders(tmp_path: Path, questions: Path) -> None:
    run, summary = await played(
        tmp_path / "s", "Wordy", questions=questions, judge_model=model("Fair"), against=model("Terse")
    )
    assert scores(run, "mine/pairs", "win") == {(name, 0): 1.0 for name in "123"}
    assert summary.extra["mine win rate"]["value"] == 1.0
    assert summary.extra["mine pairs"] == "6 wins, 0 ties, 0 losses"
    assert summary.extra["mine judge agrees"]["value"] == 1.0
    assert "mine judge kappa" not in summary.extra, "not defined where every verdict is the same"
    assert summary.extra["mine judge prefers the first"] == 0.5


async def test_a_judge_that_prefers_the_first_place_decides_nothing(tmp_path: Path, questions: Path) -> None:
    _, summary = await played(
        tmp_path / "s", "Wordy", questions=questions, judge_model=model("Biased"), against=model("Terse")
    )
    assert summary.extra["mine pairs"] == "0 wins, 6 ties, 0 losses"
    assert summary.extra["mine win rate"]["value"] == 0.5
    assert summary.extra["mine judge agrees"]["value"] == 0.0
    assert summary.extra["mine judge prefers the first"] == 1.0


async def test_stored_answers_are_judged_again_and_compared_with(tmp_path: Path, questions: Path) -> None:
    store = tmp_path / "s"
    before, kept = await played(store, "Terse", "before", questions=questions, judge_model="none")
    assert kept.extra == {"mine answered": 3}
    assert details(before, "mine/answers", "answered")["2"]["answers"] == ["Yes.", "Yes."]
    again, summary = await played(
        store, None, "again", questions=questions, judge_model=model("Fair"), answers_of="before"
    )
    assert summary.extra["mine grade of 10"]["value"] == 4.0
    roles = again.store.query("select distinct role from model_calls where episode_id like ?", [f"{again.id}/%"]).rows
    assert roles == [("judge",)]
    _, after = await played(
        store, "Wordy", "after", questions=questions, judge_model=model("Fair"), against="before", trials=2
    )
    assert after.extra["mine pairs"] == "12 wins, 0 ties, 0 losses"


async def test_a_verdict_that_is_not_given_is_missing(tmp_path: Path, questions: Path) -> None:
    run, summary = await played(
        tmp_path / "s", "Wordy", questions=questions, judge_model=model("Mumbling"), against=model("Terse")
    )
    assert scores(run, "mine/grades", "judged") == {("1", 0): 0.0, ("2", 0): 1.0, ("3", 0): 1.0}
    assert scores(run, "mine/grades", "score") == {("2", 0): 8.0, ("3", 0): 8.0}
    assert scores(run, "mine/pairs", "win") == {("2", 0): 1.0, ("3", 0): 1.0}
    verdict = details(run, "mine/grades", "judged")["1"]["verdicts"][0]
    assert (verdict["score"], verdict["problem"]) == (None, "the judge wrote no verdict")
    assert summary.extra["mine answers without a grade"] == 2
    assert summary.extra["mine pairs without a verdict"] == 2


async def test_an_answer_that_failed_is_counted_and_not_judged(tmp_path: Path, questions: Path) -> None:
    run, summary = await played(tmp_path / "s", "Refusing", questions=questions, judge_model=model("Fair"))
    assert scores(run, "mine/answers", "answered") == {("1", 0): 1.0, ("2", 0): 0.0, ("3", 0): 1.0}
    assert "this question is refused" in details(run, "mine/answers", "answered")["2"]["problem"]
    assert (summary.extra["mine answered"], summary.extra["mine not answered"]) == (2, 1)
    assert set(scores(run, "mine/grades", "score")) == {("1", 0), ("3", 0)}
    _, other = await played(
        tmp_path / "s", "Terse", questions=questions, judge_model=model("Fair"), against=model("Refusing")
    )
    assert other.extra["mine answers without an opponent"] == 1


async def test_nothing_answered_or_judged_is_a_failure_with_its_cause(tmp_path: Path, questions: Path) -> None:
    with pytest.raises(ModelFault, match=r"the judge gave no verdict on any of 6 answers.*wrote no verdict"):
        await played(tmp_path / "s", "Terse", questions=questions, judge_model="scripted/Lovely.")
    with pytest.raises(ModelFault, match=r"none of the questions was answered.*has no answer left"):
        async with Run(store=tmp_path / "s", models=ModelConfig(model="scripted/Once.")) as run:
            await preserve(run, questions=questions, judge_model=model("Fair"))


async def test_a_stopped_run_asks_nothing_twice(
    tmp_path: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    monkeypatch.setenv("STOP_FILE", str(stop))
    flags: dict[str, Any] = {"questions": questions, "judge_model": model("Stopping"), "against": model("Terse")}
    with pytest.raises(BudgetExhausted):
        await played(tmp_path / "s", "Wordy", "stopped", **flags)
    stop.unlink()
    async with Run(store=tmp_path / "s", resume="stopped") as run:
        resumed = await preserve(run, **flags)
    _, whole = await played(tmp_path / "w", "Wordy", **flags)
    assert resumed.extra == whole.extra
    answered = run.store.query(
        "select count(*), count(distinct (branch_id, role, step)) from model_calls where response is not null"
    )
    assert answered.rows == [(30, 30)]  # 6 answers a side, 6 grades, 12 preferences


async def test_prompts_can_be_replaced(tmp_path: Path, questions: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("Grade this: {{conversation}} {{reference}}")
    run, _ = await played(
        tmp_path / "s", "Wordy", questions=questions, judge_model=model("Fair"), grade_prompt=mine, limit=1
    )
    assert details(run, "mine/grades", "judged")["1"]["prompts"][0] == str(mine)
    mine.write_text("Grade this!")
    with pytest.raises(UsageError, match=r"has no place \{\{conversation\}\}"):
        JudgePrompts.choose(mine)


def test_a_judge_reads_the_conversation_up_to_the_turn() -> None:
    turns, answers = ("One?", "Two?"), ("First.", "Second.")
    assert dialogue(turns, answers, 0) == "User:\nOne?\n\nAssistant:\nFirst."
    assert dialogue(turns, answers, 1).endswith("User:\nTwo?\n\nAssistant:\nSecond.")


@pytest.mark.parametrize(
    ("answers", "flags", "message"),
    [
        (None, {}, "there is nothing to evaluate"),
        (None, {"questions": True, "judge_model": "scripted/x"}, "no model is given to answer the questions"),
        ("Terse", {"questions": True}, "no judge is given"),
        ("Terse", {"questions": True, "judge_model": "none", "against": "x"}, "a comparison needs a judge"),
        ("Terse", {"questions": True, "judge_model": "scripted/x", "trials": 0}, "--trials is 0"),
        ("Terse", {"questions": True, "judge_model": "scripted/x", "limit": -1}, "--limit is -1; give 1 or more"),
        ("Terse", {"questions": True, "judge_model": "scripted/x", "limit": 0}, "--limit is 0"),
        ("Terse", {"suites": "a", "few_shot": -1}, "--few-shot is -1; give 0 or more"),
        ("Terse", {"suites": "a", "batch_size": 0}, "--batch-size is 0"),
        (
            "Terse",
            {"questions": True, "judge_model": "scripted/x", "against": "nobody"},
            r"there (is no run 'nobody'|are no runs)",
        ),
        ("Terse", {"corpus": True}, "--corpus measures probabilities"),
        (None, {"suites": "a"}, "no model is named"),
    ],
)
async def test_what_is_missing_is_said_before_any_model_is_asked(
    tmp_path: Path, questions: Path, answers: str | None, flags: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {name: questions if value is True else value for name, value in flags.items()}
    with pytest.raises(UsageError, match=message):
        await played(tmp_path / "s", answers, "", **given)


async def test_other_questions_under_the_same_ids_are_refused(tmp_path: Path, questions: Path) -> None:
    await played(tmp_path / "s", "Terse", "before", questions=questions, judge_model="none")
    changed(questions, {"question_id": 3, "turns": ["Is 3 even?", "Why?"]})
    with pytest.raises(UsageError, match="the question 3 has changed since"):
        await played(tmp_path / "s", None, questions=questions, judge_model=model("Fair"), answers_of="before")
    changed(questions, {"question_id": 9, "turns": ["New?"]})
    with pytest.raises(UsageError, match="has no answers to 1 of 1 questions"):
        await played(tmp_path / "s", None, questions=questions, judge_model=model("Fair"), answers_of="before")


def test_the_command_shows_figures_with_intervals_and_leaves_episodes_out(tmp_path: Path, questions: Path) -> None:
    flags = ("--model", model("Wordy"), "--questions", str(questions), "--judge-model", model("Mumbling"))
    store = ("--store", str(tmp_path / "s"))
    done = CliRunner().invoke(app, ["run", "preserve", *flags, *store, "--name", "before"])
    assert done.exit_code == 0, done.output
    assert re.search(r"mine grade of 10 +8\.000 +95% interval 2\.\d+ to 9\.\d+", done.output)
    assert re.search(r"mine first problem +the judge wrote no verdict", done.output)
    assert re.search(r"model calls +12 answered", done.output)
    assert "episodes" not in done.output.split("Results:")[0]
    flags = ("--model", model("Terse"), *flags[2:])
    assert CliRunner().invoke(app, ["run", "preserve", *flags, *store, "--name", "after"]).exit_code == 0
    compared = CliRunner().invoke(app, ["compare", "before", "after", *store])
    assert compared.exit_code == 0, compared.output
    assert "mine/grades" in compared.output
