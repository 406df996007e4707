"""A judge beside the labels of people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simkit.errors import NothingJudged, UsageError
from simkit.models.config import ModelConfig
from simkit.recipes.judging.judge import judge
from simkit.rewards.calibration import Label, Rating, calibrate, kappa, read_labels
from simkit.rewards.criteria import Rubric
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.planted_faults import Planted, Shop, shop_cast

RUBRIC = Rubric.of("polite: x\nclear [1-5]: y")


def ratings(*pairs: tuple[float, float, int]) -> list[Rating]:
    """Verdict, label and how often, each in a task of its own."""
    found = [(judged, person) for judged, person, times in pairs for _ in range(times)]
    return [Rating(f"t{number}", judged, person) for number, (judged, person) in enumerate(found)]


def test_the_textbook_kappa() -> None:
    """45 and 15 agreements, 25 and 15 disagreements: kappa 0.1304 (Cohen's kappa, the grant example of Wikipedia)."""
    assert kappa(ratings((1, 1, 45), (1, 0, 15), (0, 1, 25), (0, 0, 15))) == pytest.approx(0.1304, abs=1e-4)
    assert kappa(ratings((1, 1, 20), (1, 0, 5), (0, 1, 10), (0, 0, 15))) == pytest.approx(0.4)


def test_agreement_bias_and_their_intervals() -> None:
    found = calibrate(ratings((1, 1, 20), (1, 0, 10), (0, 1, 5), (0, 0, 15)))
    assert found.labels == 50
    assert found.agreement.value == pytest.approx(0.7)
    assert found.bias.value == pytest.approx(0.1)
    assert found.kappa is not None
    for each in (found.agreement, found.kappa, found.bias):
        assert each.low < each.value < each.high
    assert "50 labels: agreement 0.700" in str(found)


def test_a_judge_that_always_says_yes_agrees_often_and_has_no_kappa_to_show() -> None:
    found = calibrate(ratings((1, 1, 45), (1, 0, 5)))
    assert found.agreement.value == 0.9
    assert found.kappa is not None
    assert found.kappa.value == 0.0
    assert found.bias.low > 0
    assert calibrate(ratings((1, 1, 9))).kappa is None
    assert "kappa undefined" in str(calibrate(ratings((1, 1, 9))))


def test_equal_ratings_have_equal_intervals_of_kappa() -> None:
    """Ratings of 12 tasks with 2 to 6 labels each, so that hardly two resamples have the same kappa."""
    groups = [
        Rating(f"t{n}", float((n + k) % 3 > 0), float(n * k % 4 > 0)) for n in range(12) for k in range(2 + n % 5)
    ]
    found = calibrate(groups)
    assert str(found).startswith(
        "45 labels: agreement 0.444 (0.302 to 0.590), kappa -0.056 (-0.266 to 0.096), bias 0.244"
    )
    assert found.kappa is not None
    assert (found.kappa.low, found.kappa.high) == pytest.approx((-0.2664907651715039, 0.09574297188755025))


def test_the_interval_of_the_bias_is_that_of_values_between_minus_one_and_one() -> None:
    found = calibrate(ratings((1, 1, 20), (1, 0, 10), (0, 1, 5), (0, 0, 15))).bias
    assert (found.value, found.low, found.high) == pytest.approx((0.1, -0.05490134482198694, 0.2541445014726511))


def test_one_task_has_no_interval_of_kappa_and_two_have() -> None:
    one = [Rating("a", 1, 1), Rating("a", 0, 0), Rating("a", 1, 0)]
    assert kappa(one) == pytest.approx(0.4)
    assert calibrate(one).kappa is None
    assert str(calibrate(one)).endswith(", kappa undefined, bias 0.333 (-0.984 to 1.000)")
    assert calibrate([*one, Rating("b", 0, 0)]).kappa is not None


def test_values_less_than_a_billionth_apart_agree() -> None:
    near = [Rating("a", 0.9e-9, 0.0), Rating("b", 1e-9, 0.0), Rating("c", 0.0, 0.9e-9), Rating("d", 0.0, 1e-9)]
    assert calibrate(near).agreement.value == 0.5


def test_conversations_of_one_task_count_as_a_group() -> None:
    apart = ratings((1, 1, 20), (1, 0, 20))
    together = [Rating(f"t{number % 4}", each.judge, each.person) for number, each in enumerate(sorted(apart, key=str))]
    assert calibrate(together).agreement.low < calibrate(apart).agreement.low


def test_labels_are_read_as_values(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(
        '{"task_id": "a", "labels": {"polite": "yes", "clear": 5}}\n\n'
        '{"episode_id": "run-1/b/c/2", "labels": {"polite": false}}\n'
    )
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_labels(file, RUBRIC) == (
        Label("a", 0, {"polite": 1.0, "clear": 1.0}),
        Label("b/c", 2, {"polite": 0.0}, "run-1"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no labels"),
        ("{", r"line 1 is not a label"),
        ('{"labels": {}}', r"line 1 is not a label \(KeyError"),
        ('{"task_id": null, "labels": {}}', r"line 1 is not a label \(TypeError: the task None must be a text"),
        ('{"task_id": "a", "trial": 1.5, "labels": {}}', r"line 1 is not a label \(TypeError: .*the trial 1.5"),
        ('{"task_id": "a", "trial": true, "labels": {}}', r"line 1 is not a label \(TypeError: .*the trial True"),
        ('{"task_id": "a", "labels": {"kind": true}}', r"line 1: the rubric has no criterion `kind`; it has: polite"),
        ('{"task_id": "a", "labels": {"clear": 9}}', r"line 1: `9` is no label for - clear"),
        ('{"task_id": "a", "labels": {}}\n{"task_id": "a", "labels": {}}', "twice"),
    ],
)
def test_mistakes_in_labels_are_refused_with_the_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "labels.jsonl").write_text(text)
    with pytest.raises(UsageError, match=told):
        read_labels(tmp_path / "labels.jsonl", RUBRIC)


def test_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the labels .*nowhere\.jsonl cannot be read: .*; give a file of JSON lines"):
        read_labels(tmp_path / "nowhere.jsonl", RUBRIC)


# --- the recipe -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def judged(store: Path, url: str, **options: Any) -> Run:
    models = ModelConfig.of({"model": "openai/judge", "base_url": url})
    async with Run(store=store, recipe="judge", models=models) as run:
        await judge(run, **options)
    return run


async def shop(store: Path, name: str = "shop", seed: int = 0, first: int = 0, words: str = "") -> None:
    planted = Planted(each=2, seed=seed)
    async with Run(store=store, name=name) as run:
        world = Shop(planted)
        tasks = [replace(task, instructions=f"{task.instructions}{words}") for task in world.tasks("test")[first:]]
        await run.play(Rollout(), shop_cast(run, world, planted), tasks)


@pytest.mark.anyio
async def test_a_judge_is_calibrated_on_a_run(tmp_path: Path) -> None:
    await shop(tmp_path)
    rubric, labels = tmp_path / "r.txt", tmp_path / "l.jsonl"
    rubric.write_text("sorry: The agent apologised.")
    rows = [{"task_id": f"order{number:02}", "labels": {"sorry": number < 3}} for number in range(6)]
    labels.write_text("\n".join(map(json.dumps, rows)))

    def reply(body: Any) -> str:
        return json.dumps({"sorry": {"reason": "r", "met": "I am sorry" in body["messages"][0]["content"]}})

    async with serve(Behaviour(reply=reply)) as server:
        run = await judged(tmp_path, server.base_url, of="shop", rubric=rubric, labels=labels)
        with pytest.raises(UsageError, match="the labels name 1 conversations that are not judged, such as order05/0"):
            await judged(tmp_path, server.base_url, of="shop", rubric=rubric, labels=labels, limit=5)
        with pytest.raises(UsageError, match="--limit is -1; it must be at least 1"):
            await judged(tmp_path, server.base_url, of="shop", rubric=rubric, limit=-1)
        labels.write_text('{"episode_id": "rollout-1/order00/0", "labels": {"sorry": true}}')
        with pytest.raises(UsageError, match="the labels are of conversations of the run rollout-1, and those of"):
            await judged(tmp_path, server.base_url, of="shop", rubric=rubric, labels=labels)
    found = run.store.query("select item, value from item_scores where run_id = ? order by item", [run.id]).rows
    labels_of = Planted(each=2).labels
    assert found == [(f"order{n:02}", float(labels_of[n] == "tool")) for n in range(6)]
    (agreement,) = run.store.query(
        "select value from metrics where stage = 'calibration/sorry' and name = 'agreement'"
    ).rows[0]
    assert agreement == pytest.approx(sum((labels_of[n] == "tool") == (n < 3) for n in range(6)) / 6)


@pytest.mark.anyio
async def test_two_runs_are_compared_in_both_orders(tmp_path: Path) -> None:
    await shop(tmp_path, "one", seed=0)
    await shop(tmp_path, "two", seed=1)
    await shop(tmp_path, "fewer", first=2)
    await shop(tmp_path, "other", words=" And more.")

    def reply(body: Any) -> str:
        first, _, second = str(body["messages"][0]["content"]).partition("first>>>")
        one, two = ("I am sorry" in side for side in (first, second))
        return json.dumps({"reason": "r", "better": "neither" if one == two else "second" if one else "first"})

    async with serve(Behaviour(reply=reply)) as server:
        run = await judged(tmp_path, server.base_url, of="one", against="two")
        models = ModelConfig.of({"model": "openai/judge", "base_url": server.base_url})
        async with Run(store=tmp_path, recipe="judge", models=models) as other:
            fewer = await judge(other, of="one", against="fewer")
        with pytest.raises(UsageError, match=r"have other tasks under the same names \(order00\)"):
            await judged(tmp_path, server.base_url, of="one", against="other")
    assert (fewer.extra["pairs"], fewer.extra["without a partner"]) == (4, 2)
    rows = run.store.query(
        "select metric, item, value from item_scores where run_id = ? and metric = 'win' order by item", [run.id]
    ).rows
    one, two = (Planted(each=2, seed=seed).labels for seed in (0, 1))
    value = {(True, False): 0.0, (False, True): 1.0}
    assert [row[2] for row in rows] == [value.get((one[n] == "tool", two[n] == "tool"), 0.5) for n in range(6)]


@pytest.mark.anyio
@pytest.mark.parametrize("against", [False, True])
async def test_answers_that_are_no_verdict_are_stored_and_the_run_fails_without_any(
    against: bool, tmp_path: Path
) -> None:
    await shop(tmp_path, "one")
    await shop(tmp_path, "two")
    rubric = tmp_path / "r.txt"
    rubric.write_text("sorry: The agent apologised.")
    async with serve(Behaviour(reply=lambda body: '{"better": "both"}')) as server:
        other: Any = {"against": "two"} if against else {"rubric": rubric}
        with pytest.raises(NothingJudged, match="no verdict on any of 6 conversations") as raised:
            await judged(tmp_path, server.base_url, of="one", **other)
    query = str(raised.value).partition('simkit sql "')[2].partition('"')[0]
    why = (
        "its `better` is none of first, neither, second"
        if against
        else "it has no verdict in the asked form on `sorry`"
    )
    found = sorted(Store(tmp_path).query(query).rows)
    assert found == [(f"order{n:02}", 0, why, '{"better": "both"}') for n in range(6)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give --rubric FILE to judge each conversation, or --against RUN"),
        ({"against": "x", "labels": Path("l")}, "--labels are those of a rubric's criteria"),
    ],
)
async def test_mistakes_are_refused_before_anything_is_read(tmp_path: Path, options: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        await judged(tmp_path, "http://127.0.0.1:9/v1", of="x", **options)
