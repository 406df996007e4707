"""Demonstrations for a model-backed agent: sent before each conversation (few-shot prompting), or trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.components.agent import Act, StartAgent
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.messages import Message, SystemMessage
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.agents.model_agent import ModelAgent
    from simkit.data.examples import ExampleSet


def demonstrated_messages(path: Path) -> tuple[Message, ...]:
    """The messages of the demonstrations in a file, one conversation after the other, without system messages.

    The file may have any form of `simkit check` for SFT. A demonstration that another one continues, as in a file with
    a row for each answer, is left out.

    Raises:
        DataMissing, DataCorrupt: the file cannot be read.
        UsageError: it holds no demonstrations.
    """
    from simkit.data.reading import read_examples  # imports what start-up does not need

    found = [tuple(_spoken(example.messages)) for example in read_examples(path).demonstrations]
    if not any(found):
        raise UsageError(
            f"{path} holds no demonstrations, so an agent cannot be shown any; write them with `simkit export sft`"
        )
    whole = (one for one, after in zip(found, [*found[1:], ()], strict=True) if after[: len(one)] != one)
    return tuple(message for one in whole for message in one)


def as_played_by(agent: ModelAgent, start: StartAgent, examples: ExampleSet) -> ExampleSet:
    """SFT examples as the agent would have written them: with its system prompt, and calls and speech in its form.

    A model can thus be taught an agent's protocol with conversations of any other agent, such as the rule-based one.

    Args:
        agent: the agent that the model will play; `react` writes tools into its prompt, and the examples have none.
        start: the world's tools and rules.
        examples: SFT examples of the same world.
    """
    system = agent.start(start).system
    opening = () if system is None else (SystemMessage.of(system),)
    first = Act(TurnKey(0, "", 0, "", 1), Conversation(), start.tools, None)
    return replace(
        examples,
        examples=tuple(
            replace(
                each,
                messages=(*opening, *agent.as_written(tuple(_spoken(each.messages)))),
                tools=agent.tools(first),
                context=0,
            )
            for each in examples.demonstrations
        ),
    )


def _spoken(messages: tuple[Message, ...]) -> Iterator[Message]:
    return (message for message in messages if not isinstance(message, SystemMessage))
