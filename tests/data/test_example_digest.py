"""Which examples are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_examples import BOOK, FIND, demonstrations, judged, pairs, prompt

from simkit.core.messages import ToolSpec
from simkit.data.checks import check
from simkit.data.examples import ExampleSet, example_digest, prompt_digest
from simkit.data.origins import ExampleOrigin

TOOLS = [(), (FIND,), (BOOK,), (FIND, BOOK), (BOOK, FIND)]


def test_prompts_are_the_same_with_the_same_messages_and_tools_only() -> None:
    digests = {prompt_digest(prompt(number), tools) for number in (1, 2) for tools in TOOLS}
    assert len(digests) == 2 * len(TOOLS)
    assert prompt_digest(prompt(1), (FIND,)) == prompt_digest(list(prompt(1)), [FIND])
    assert prompt_digest(prompt(1)[:1], ()) != prompt_digest(prompt(1), ())


@pytest.mark.parametrize("example", [demonstrations(1), judged(1), pairs(1)], ids=lambda one: one.kind)
def test_an_example_with_other_tools_teaches_something_else_and_from_elsewhere_the_same(example: ExampleSet) -> None:
    [one] = example
    assert len({example_digest(replace(one, tools=tools)) for tools in TOOLS}) == len(TOOLS)
    assert example_digest(replace(one, origin=ExampleOrigin())) == example_digest(one)


def test_what_is_learnt_and_whether_it_is_wanted_make_another_example() -> None:
    [shown], [one], [pair] = demonstrations(1).demonstrations, judged(1).judged, pairs(1).pairs
    others = [
        (shown, replace(shown, context=shown.context + 1)),
        (one, replace(one, label=not one.label)),
        (one, replace(one, prompt=one.prompt[:-1], completion=(one.prompt[-1], *one.completion))),
        (pair, replace(pair, chosen=pair.rejected, rejected=pair.chosen)),
    ]
    for first, second in others:
        assert example_digest(first) != example_digest(second)


@pytest.mark.parametrize(("tools", "found"), [((FIND, BOOK), {"contradiction"}), ((FIND,), set[str]())])
def test_answers_with_other_tools_do_not_contradict_each_other(tools: tuple[ToolSpec, ...], found: set[str]) -> None:
    [one] = judged(1).judged
    report = check(ExampleSet("kto", (one, replace(one, label=not one.label, tools=tools))))
    assert {finding.name for finding in report.findings} & {"contradiction"} == found
