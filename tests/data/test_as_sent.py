"""Examples are what the agent's model was sent: compared with the requests that real runs recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simkit.core.limits import Limits
from simkit.core.messages import UserMessage
from simkit.data.checks import check
from simkit.data.examples import Kind
from simkit.data.prompt_comparison import compare_with_requests
from simkit.data.selection import Selection, select
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store

pytestmark = pytest.mark.anyio

MODELS = Path(__file__).parent / "slipping.py"


async def played(store: Store, supervisor: Search, model: str, agent: str) -> None:
    async with Run(store=store, concurrency=2) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=agent, user="agenda", model=f"{MODELS}:{model}")
        await run.play(supervisor, cast, run.tasks(world, "test", 4))


@pytest.mark.parametrize("kind", ["sft", "kto", "dpo"])
async def test_a_harvest_is_as_sent(tmp_path: Path, kind: Kind) -> None:
    store = Store(tmp_path)
    await played(store, Josh(BeamSearch(beam=2), Limits(steps=12)), "Knowing", "function_calling")
    examples = select(store, kind)
    seen = compare_with_requests(examples, store)
    assert len(examples) >= 4
    assert (dict(seen.different), seen.unrecorded) == ({}, 0)
    assert seen.equal >= len(examples)
    assert all(example.tools for example in examples)
    report = check(examples, store=store)
    assert report.as_sent == seen.equal
    assert report.ok


async def test_rollouts_with_empty_answers_and_broken_calls_are_as_sent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await played(store, Rollout(Limits(turns=3, steps=6)), "Slipping", "function_calling")
    examples = select(store, "sft", Selection(source="episodes"))
    assert examples.removed["broken_calls"] == 2
    seen = compare_with_requests(examples, store)
    assert (dict(seen.different), seen.unrecorded) == ({}, 0)
    assert seen.equal == sum(3 for _ in examples)


async def test_an_answer_that_holds_only_some_of_the_calls_that_were_written_is_no_example(tmp_path: Path) -> None:
    lost, golden = Store(tmp_path / "lost"), Store(tmp_path / "golden")
    josh = Josh(BeamSearch(beam=2), Limits(steps=12))
    await played(lost, josh, "PartlyRead", "function_calling")
    await played(golden, josh, "PartlyReadOnTheWay", "function_calling")
    for store in (lost, golden):
        assert store.query("FROM messages WHERE list_contains(flags, 'unparsed_call: hermes')").dicts()
        assert store.query("FROM messages WHERE author = 'tool' AND contains(content, 'ERROR: another')").dicts()
        for kind in ("kto", "dpo"):
            for view in (f"{kind}_examples" if kind == "kto" else "dpo_pairs",):
                assert not [row for row in store.query(f"FROM {view}").dicts() if "<tool_call>" in str(row)]
    judged = select(lost, "kto")
    assert judged.removed["unread_calls"] >= 4
    assert {example.label for example in judged.judged} == {True}
    assert len(select(lost, "sft")) >= 4
    assert not select(golden, "kto").examples
    kept = Selection(errors="keep")
    assert select(golden, "sft", kept).removed["unread_calls"] >= 4
    judged = select(golden, "kto", kept)
    assert judged.removed["unread_calls"] >= 4
    assert not [each for example in judged.judged for each in example.completion if "<tool_call>" in str(each.content)]
    rollouts = Selection(source="episodes")
    assert select(golden, "sft", rollouts).removed["unread_calls"] >= 4


async def test_an_agent_that_is_told_of_tools_in_words_is_as_sent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await played(store, Rollout(Limits(turns=2, steps=3)), "Slipping", "react")
    examples = select(store, "sft", Selection(source="episodes"))
    assert {example.tools for example in examples} == {()}
    seen = compare_with_requests(examples, store)
    assert (dict(seen.different), seen.unrecorded) == ({}, 0)
    assert seen.equal > 0


async def test_replies_in_json_are_exported_as_the_model_wrote_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await played(store, Rollout(Limits(turns=2, steps=3)), "Formed", "react,constrained=true")
    examples = select(store, "sft", Selection(source="episodes"))
    assert {example.tools for example in examples} == {()}
    written = {str(m.content) for example in examples.demonstrations for m in example.messages if m.role == "assistant"}
    assert written == {
        '{"plan": "Go on.", "act": {"call": "search_train", "parameters": {}}}',
        '{"plan": "Go on.", "act": {"speak": "Anything else?"}}',
    }
    seen = compare_with_requests(examples, store)
    assert (dict(seen.different), seen.unrecorded) == ({}, 0)
    assert seen.equal > 0


async def test_other_prompts_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await played(store, Josh(BeamSearch(beam=2), Limits(steps=12)), "Knowing", "function_calling")
    examples = select(store, "kto")
    first, second = examples.judged[:2]
    changed = replace(first, prompt=(*first.prompt[:-1], UserMessage.of("Something else.")))
    without_tools = replace(second, tools=())
    report = check(replace(examples, examples=(changed, without_tools, *examples.judged[2:])), store=store)
    assert not report.ok
    [finding] = [each for each in report.findings if each.name == "not_as_sent"]
    assert finding.examples == (0, 1)
    assert finding.detail.startswith(f"message {len(first.prompt) - 1} (counted from 0) differs from")
