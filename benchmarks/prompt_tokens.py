"""Tokens that a small model reads and writes for a call, by the options of the built-in world and of the agent.

    python -m benchmarks.prompt_tokens smollm2 [--tools MODEL]

The rule-based pair plays `--tasks` tasks of `val` without mistakes, and its conversations are written in the form of
each agent. MODEL is what stands after `local/`; `function_calling` needs one whose chat template has tools.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import anyio

from simkit.agents.few_shot import as_played_by
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.model_agent import ModelAgent
from simkit.agents.react import ReactAgent
from simkit.components.agent import StartAgent
from simkit.components.tools import StartTools
from simkit.components.world import WORLD
from simkit.core.messages import AssistantMessage, SystemMessage, UserMessage
from simkit.data.examples import ExampleSet
from simkit.data.selection import Selection, select
from simkit.local.chat import ChatFormat
from simkit.models.providers.scripted import ScriptedModel
from simkit.plugins.loading import load
from simkit.run.run import Run
from simkit.search.rollout import Rollout

USUAL = "builtin,most_goals=2"
COMPACT = f"{USUAL},compact=true"
SMALLEST = f"{COMPACT},domains=restaurant+attraction,facts=false,upkeep=false"


@dataclass(frozen=True, slots=True)
class Cost:
    """Means: tokens before the first word, tokens read and written for a call, calls and tokens of a conversation."""

    before: float
    read: float
    written: float
    calls: float
    conversation: float


async def played(world: str, tasks: int, store: Path) -> ExampleSet:
    """The conversations of the rule-based pair."""
    async with Run(store=store) as run:
        made = run.world(world)
        await run.play(Rollout(), run.cast(made, agent="scripted,error_rate=0"), run.tasks(made, "val", tasks))
    return select(run.store, "sft", Selection(runs=(run.id,), source="episodes"))


def cost(world: str, agent: ModelAgent, form: ChatFormat, conversations: ExampleSet) -> Cost:
    """What the agent's model would read and write in these conversations."""
    made = load(WORLD, world)
    start = made.tools().start(StartTools(made.tasks("val")[0]))
    read: list[int] = []
    learnt: list[int] = []
    lengths: list[int] = []
    written = as_played_by(agent, StartAgent(start.specs, start.policy), conversations).demonstrations
    for each in written:
        whole = form.conversation(each.messages, each.tools)
        learnt.append(sum(whole.trained))
        lengths.append(len(whole.ids))
        places = (place for place, message in enumerate(each.messages) if isinstance(message, AssistantMessage))
        read += [len(form.prompt(each.messages[:place], each.tools)) for place in places]
    system = [message for message in written[0].messages[:1] if isinstance(message, SystemMessage)]
    calls = len(read) / len(lengths)
    return Cost(
        before=len(form.prompt((*system, UserMessage.of("")), written[0].tools)),
        read=mean(read),
        written=mean(learnt) / calls,
        calls=calls,
        conversation=mean(lengths),
    )


def agents(tools: str | None) -> Iterator[tuple[str, str, ModelAgent, bool]]:
    """World, agent in words, the agent, and whether it plays a model with tools."""
    model = ScriptedModel.by_turn(())
    if tools:
        yield USUAL, "function_calling", FunctionCallingAgent(model), True
        yield COMPACT, "function_calling,prompt=compact", FunctionCallingAgent(model, "compact"), True
        yield SMALLEST, "function_calling,prompt=compact", FunctionCallingAgent(model, "compact"), True
    yield USUAL, "react", ReactAgent(model), False
    yield COMPACT, "react,prompt=compact", ReactAgent(model, "compact"), False
    yield SMALLEST, "react,prompt=compact", ReactAgent(model, "compact"), False
    yield SMALLEST, "react,prompt=minimal", ReactAgent(model, "minimal"), False


async def report(model: str, tools: str | None, tasks: int) -> None:
    """Print one line for each choice of options."""
    forms = {False: ChatFormat.of(model), **({True: ChatFormat.of(tools)} if tools else {})}
    print("| world | agent | before the first word | read for a call | written for a call | calls | conversation |")
    print(f"|{' --- |' * 7}")
    with tempfile.TemporaryDirectory() as folder:
        known: dict[str, ExampleSet] = {}
        for world, words, agent, with_tools in agents(tools):
            if world not in known:
                known[world] = await played(world, tasks, Path(folder, str(len(known))))
            found = cost(world, agent, forms[with_tools], known[world])
            numbers = f"{found.before:,.0f} | {found.read:,.0f} | {found.written:.0f} | {found.calls:.1f}"
            print(f"| `{world}` | `{words}` | {numbers} | {found.conversation:,.0f} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the model, as after `local/`")
    parser.add_argument("--tools", help="another model, whose chat template has tools")
    parser.add_argument("--tasks", type=int, default=60)
    chosen = parser.parse_args()
    anyio.run(report, chosen.model, chosen.tools, chosen.tasks)


if __name__ == "__main__":
    main()
