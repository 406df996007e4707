"""`simkit review`: whose fault each failure was, on conversations with planted faults."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.components.results import RecordedEpisode
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.errors import NothingJudged, NoVerdict, UsageError
from simkit.models.base import CallKey, ChatRequest
from simkit.models.config import ModelConfig
from simkit.models.providers.scripted import ScriptedModel
from simkit.plugins.prompts import shipped_prompt
from simkit.recipes.judging.recorded import Recorded, RecordedEpisodes
from simkit.recipes.judging.review import failed, failure_of, review
from simkit.rewards.judge import Judge
from simkit.rewards.numbered import Line
from simkit.rewards.reviewer import Failure, Review, Reviewer
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.planted_faults import LABELS, Planted, Shop, shop_cast, wanted

pytestmark = pytest.mark.anyio

PLANTED = Planted(each=20, seed=3)
_MARKED = re.compile(r"<<<conversation\n(.*)\nconversation>>>", re.DOTALL)
_WANTED = re.compile(r"You want \d+ bicycles on (\w+)")


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def played(store: Path, planted: Planted = PLANTED) -> Run:
    async with Run(store=store, name="shop") as run:
        world = Shop(planted)
        await run.play(Rollout(), shop_cast(run, world, planted), world.tasks("test"))
    return run


async def prompts(store: Path, planted: Planted) -> dict[str, str]:
    """The prompt about each failure, by task."""
    seen: dict[str, str] = {}

    def answer(request: ChatRequest, key: CallKey) -> str:
        seen[key.turn.task_id] = str(request.messages[0].content)
        return json.dumps({"reason": "", "at_fault": "agent", "quote": "Hello! I would like to rent bicycles."})

    reviewer = Reviewer(Judge(ScriptedModel(answer)), shipped_prompt("simkit.rewards", "review-1.txt"))
    async with Run(store=store) as run:
        recorded = await RecordedEpisodes.of(run, "shop")
        for each in recorded.episodes:
            assert failed(each)
            await reviewer.ask(failure_of(each), each.key(0))
    return seen


async def test_the_evidence_is_in_the_prompt_and_the_label_is_not(tmp_path: Path) -> None:
    """Apart from the conversation, prompts for the same task are equal whoever is at fault."""
    await played(tmp_path / "s")
    seen = await prompts(tmp_path / "s", PLANTED)
    assert Counter(PLANTED.labels) == dict.fromkeys(LABELS, 20)
    assert len(seen) == 60
    other = Planted(each=20, seed=4)
    await played(tmp_path / "t", other)
    turned = await prompts(tmp_path / "t", other)
    changed = 0
    for task in Shop(PLANTED).tasks("test"):
        (talk,) = _MARKED.findall(seen[task.id])
        assert PLANTED.evidence(task) in talk
        assert f'"day": "{wanted(task)[0]}"' in seen[task.id]
        assert "planted" not in seen[task.id].lower()
        assert _MARKED.sub("", seen[task.id]) == _MARKED.sub("", turned[task.id])
        changed += PLANTED.of(task) != other.of(task)
    assert changed > 20


class Attentive:
    """Reviews by comparing the day that was wanted, said and called: it sees only the prompt."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, body: Any) -> str:
        prompt = str(body["messages"][0]["content"])
        self.asked[prompt] += 1
        (talk,), (day,) = _MARKED.findall(prompt), _WANTED.findall(prompt)
        lines = [line.partition(": ")[2] for line in talk.splitlines()]
        said = next(line for line in lines if line.startswith("Please reserve"))
        call = next(line for line in lines if line.startswith("{"))
        result = next(line for line in lines if "ERROR" in line or ("order" in line and line.startswith("{")))
        party, quote = ("user", said) if day not in said else ("agent", call) if day not in call else ("tool", result)
        return json.dumps({"reason": f"{day} was wanted", "at_fault": party, "quote": quote})


async def reviewed(run: Run, of: str = "shop", **options: Any) -> None:
    async with run:
        await review(run, of=of, **options)


async def test_reviews_are_stored_with_their_evidence_and_resumed_without_a_call(tmp_path: Path) -> None:
    source = await played(tmp_path)
    judge = Attentive()
    async with serve(Behaviour(reply=judge)) as server:
        models = ModelConfig.of({"model": "openai/judge", "base_url": server.base_url})
        run = Run(store=tmp_path, recipe="review", models=models)
        await reviewed(run)
        assert set(judge.asked.values()) == {1}
        assert 40 < len(judge.asked) < 60  # some failures are the same conversation about the same wish
        await reviewed(Run(store=tmp_path, resume=run.id))
        assert set(judge.asked.values()) == {1}
    rows = run.store.query("select task_id, at_fault, quote, reviewed_run, line from reviews order by task_id").rows
    tasks = Shop(PLANTED).tasks("test")
    assert [(row[0], row[1]) for row in rows] == [(task.id, PLANTED.of(task)) for task in tasks]
    for task, row in zip(tasks, rows, strict=True):
        assert PLANTED.evidence(task) in row[2]
        assert row[3] == source.id
        assert row[4] > 1
    (counts,) = run.store.query("select summary from runs where run_id = ?", [run.id]).rows[0]
    assert json.loads(counts)["failed"] == 60
    assert json.loads(counts)["fault of the agent"].startswith("20, share 0.333")


async def test_an_invented_quote_is_no_verdict(tmp_path: Path) -> None:
    planted = Planted(each=1)
    await played(tmp_path, planted)
    answers = iter(["He never said Friday.", "Hello! I would like to rent bicycles."])
    script = ScriptedModel(
        lambda request, key: json.dumps({"reason": "r", "at_fault": "agent", "quote": next(answers, "Invented.")})
    )
    reviewer = Reviewer(Judge(script), shipped_prompt("simkit.rewards", "review-1.txt"))
    async with Run(store=tmp_path) as run:
        recorded = await RecordedEpisodes.of(run, "shop")
        first, second, _ = recorded.episodes
        found = await reviewer.ask(failure_of(first), first.key(0))
        assert isinstance(found, Review)
        assert (found.line and found.line.number) == 1
        with pytest.raises(NoVerdict, match=r"gave no verdict.*its quote is not in the conversation") as raised:
            await reviewer.ask(failure_of(second), second.key(0))
    assert raised.value.why == "its quote is not in the conversation"
    assert json.loads(raised.value.answer)["quote"] == "Invented."


async def test_the_party_with_the_most_votes_is_at_fault_and_its_first_reason_is_kept() -> None:
    answers = iter([("agent", "a"), ("user", "b"), ("user", "c")])
    names: list[str] = []

    def answer(request: ChatRequest, key: CallKey) -> str:
        party, why = next(answers)
        names.append((request.response_format or {})["json_schema"]["name"])
        return json.dumps({"reason": why, "at_fault": party, "quote": "On Friday."})

    failure = Failure("You want a bicycle.", Conversation([Entry.user("On Friday.", 0)]), "user_ended")
    reviewer = Reviewer(Judge(ScriptedModel(answer), votes=3), shipped_prompt("simkit.rewards", "review-1.txt"))
    found = await reviewer.ask(failure, TurnKey(7, "t", 0, "", 1))
    assert found == Review("user", "b", "On Friday.", Line(1, "user", "user", "On Friday."))
    assert names == ["review"] * 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("It was the agent.", "it has no JSON object"),
        ('{"at_fault": "nobody", "quote": "Hello!"}', "its `at_fault` is none of agent, user, tool, reward"),
        ('{"at_fault": "agent"}', "it quotes nothing"),
        ('{"at_fault": "agent", "quote": "Invented."}', "its quote is not in the conversation"),
    ],
)
async def test_answers_that_are_no_verdict_are_stored_and_the_run_fails_without_any(
    answer: str, why: str, tmp_path: Path
) -> None:
    await played(tmp_path, Planted(each=1))
    async with serve(Behaviour(reply=lambda body: answer)) as server:
        models = ModelConfig.of({"model": "openai/judge", "base_url": server.base_url})
        run = Run(store=tmp_path, recipe="review", models=models)
        with pytest.raises(NothingJudged, match="no verdict on any of 3 conversations") as raised:
            await reviewed(run)
    assert why in str(raised.value)
    assert (query := str(raised.value).partition('simkit sql "')[2].partition('"')[0])
    tasks = [task.id for task in Shop(Planted(each=1)).tasks("test")]
    assert run.store.query(query).rows == [(task, why, answer) for task in tasks]
    rows = run.store.query("select at_fault, judge, r.status from reviews join runs r using (run_id)").rows
    assert rows == [(None, "judge", "failed")] * 3


def test_the_command_fails_and_says_where_the_answers_are(tmp_path: Path) -> None:
    anyio.run(played, tmp_path, Planted(each=1))
    args = ("review", "shop", "--model", "scripted/It was the agent.", "--store", str(tmp_path))
    done = CliRunner().invoke(app, [*args])
    assert done.exit_code == 1
    assert "it has no JSON object (it answered: It was the agent.)" in " ".join(done.output.split())
    assert "File " not in done.output
    stored = Store(tmp_path).query("select problem, answer from reviews").rows
    assert stored == [("it has no JSON object", "It was the agent.")] * 3


async def test_one_answer_that_is_no_verdict_is_counted_and_does_not_fail_the_run(tmp_path: Path) -> None:
    await played(tmp_path, Planted(each=1))
    judge = Attentive()
    broken = iter([True] * 3)

    def reply(body: Any) -> str:
        return "No." if next(broken, False) else judge(body)

    async with serve(Behaviour(reply=reply)) as server:
        models = ModelConfig.of({"model": "openai/judge", "base_url": server.base_url})
        run = Run(store=tmp_path, recipe="review", models=models, concurrency=1)
        await reviewed(run)
    rows = run.store.query("select at_fault is null, problem, answer from reviews order by at_fault nulls first").rows
    assert rows == [(True, "it has no JSON object", "No."), (False, "", ""), (False, "", "")]


def episode(reward: float | None, outcome: str = "user_ended") -> Recorded:
    played = RecordedEpisode(
        episode_id="r/t/0", task_id="t", split="", trial=0, outcome=outcome, messages=(), reward=reward
    )
    return Recorded(played, Conversation(), missed=("book",))


def test_what_is_reviewed() -> None:
    assert failed(episode(reward=0.5))
    assert not failed(episode(reward=1.0))
    assert failed(episode(reward=None, outcome="tool_fault"))
    assert not failed(episode(reward=None, outcome="no_goals"))
    assert "- goal not reached: book" in str(failure_of(episode(reward=0.5)))


@pytest.mark.parametrize(("of", "told"), [("nowhere", "nowhere"), ("last", "is the run that judges")])
async def test_a_run_that_cannot_be_reviewed_is_refused(tmp_path: Path, of: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        await reviewed(Run(store=tmp_path, models=ModelConfig(model="scripted/x")), of)
    with pytest.raises(UsageError, match="no reviewer is named; give --model"):
        await reviewed(Run(store=tmp_path), of)
