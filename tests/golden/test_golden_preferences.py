"""The harvest: the conversations and the desirable messages of the release's scripts, and its undesirable ones too."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from differences_search import CONTRADICTIONS, NO_ERROR_FILTER, RETRIES_DROP, dropped_for_an_error
from retold import RETRIES, comparable, record_search
from stub import DIED, Trace, available, recorded, traces

from simkit.search.turn import OUT_OF_STEPS
from simkit.store import Store

Json = dict[str, Any]
Example = tuple[list[Json], list[Json], bool]


@dataclass
class Harvest:
    """Examples of one trace."""

    sft: list[list[Json]] = field(default_factory=list[list[Json]])
    kto: list[Example] = field(default_factory=list[Example])


def told(messages: list[Json]) -> list[Json]:
    """Messages in comparable words, without those of any runtime and without the system prompt."""
    hidden = {DIED, OUT_OF_STEPS, RETRIES}
    return [comparable(message) for message in messages if message.get("content") not in hidden]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """All searches in one store, each a run of its own."""
    store = Store(tmp_path_factory.mktemp("harvest"))
    anyio.run(_search_all, store)
    store.load()
    return store


@pytest.fixture(scope="module")
def ours(store: Store) -> dict[str, Harvest]:
    found: dict[str, Harvest] = defaultdict(Harvest)
    for row in store.query("SELECT run_id, messages FROM sft_examples").dicts():
        found[row["run_id"]].sft.append(told(json.loads(row["messages"])))
    for row in store.query("SELECT run_id, prompt, completion, label FROM kto_examples").dicts():
        example = (told(json.loads(row["prompt"])), told(json.loads(row["completion"])), row["label"])
        found[row["run_id"]].kto.append(example)
    return found


async def _search_all(store: Store) -> None:
    async with store.journal("harvest") as journal:
        for trace in traces():
            await record_search(trace, journal)


@pytest.fixture(scope="module")
def tables() -> dict[str, list[Json]]:
    """The messages of each trace."""
    return {trace.name: trace.messages for trace in traces()}


@pytest.fixture(scope="module")
def released_sft(tables: dict[str, list[Json]]) -> dict[tuple[str, str], list[list[Json]]]:
    found: dict[tuple[str, str], list[list[Json]]] = defaultdict(list)
    for row in recorded("preferences_sft.jsonl.gz"):
        table = tables[row["trace"]]
        found[row["trace"], row["script"]].append(told([table[index] for index in row["messages"] if index != "S"]))
    return found


@pytest.fixture(scope="module")
def released_kto(tables: dict[str, list[Json]]) -> dict[tuple[str, str], list[Example]]:
    found: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for row in recorded("preferences_kto.jsonl.gz"):
        table = tables[row["trace"]]
        prompt = told([table[index] for index in row["prompt"] if index != "S"])
        completion = told([table[index] for index in row["completion"]])
        found[row["trace"], row["script"]].append((prompt, completion, row["label"]))
    return found


WITHOUT_FUNCTION_CALLS = {"final_file_push", "final_file_push_kto", "final_file_push_taubench_kto"}
"""Scripts that crash on messages without content, so that they have no rows for such traces."""

each_trace = pytest.mark.parametrize("trace", available(), ids=lambda trace: getattr(trace, "name", "none"))


def scripts(trace: Trace, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if trace.style != "fc" or name not in WITHOUT_FUNCTION_CALLS]


def keys(examples: list[Example], label: bool) -> set[str]:
    """Examples of one label, as text; one whose completion was the runtime's words is none."""
    found = [(prompt, completion) for prompt, completion, labelled in examples if labelled is label and completion]
    return {json.dumps(example, sort_keys=True) for example in found}


@each_trace
def test_sft_conversations_are_those_of_the_release(
    trace: Trace, ours: dict[str, Harvest], released_sft: dict[tuple[str, str], list[list[Json]]]
) -> None:
    for script in scripts(trace, ("final_file_push", "final_file_push_taubench")):
        released = released_sft[trace.name, script]
        if RETRIES_DROP.applies(trace) and not released:
            assert len(ours[trace.name].sft) == (trace.data["final_reward"] == 1 and not dropped_for_an_error(trace))
        else:
            assert ours[trace.name].sft == released, script


@each_trace
def test_kto_desirables_are_those_of_the_release_and_its_undesirables_are_among_ours(
    trace: Trace, ours: dict[str, Harvest], released_kto: dict[tuple[str, str], list[Example]]
) -> None:
    good, bad = keys(ours[trace.name].kto, True), keys(ours[trace.name].kto, False)
    assert not good & bad
    compared = 0
    for script in scripts(trace, ("final_file_push_kto", "final_file_push_taubench_kto")):
        released = released_kto[trace.name, script]
        if RETRIES_DROP.applies(trace) and not released:
            continue
        compared += 1
        if NO_ERROR_FILTER.applies(trace) and "taubench" in script:
            assert not good, "one filter for all kinds of examples"
            continue
        assert good == keys(released, True), script
        contradicting = keys(released, True) & keys(released, False)
        assert contradicting <= good - bad, CONTRADICTIONS.ours
        assert keys(released, False) - contradicting <= bad, script
    if not compared:
        pytest.skip(f"the release's scripts have no rows to compare: function calls, or {RETRIES_DROP.release}")
