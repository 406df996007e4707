"""What LLM agents and users cost beside their model's answer, and how far the users' self-check can be trusted.

    python -m benchmarks.simulators [--repeat N] [--dialogues N]

The first table is CPU time of one decision or turn around a model that answers at once, in a conversation of 7 turns,
beside the time it takes to write such a request down as JSON once. The second table reads the human dialogues of
ToolWOZ (`simkit data toolwoz`) as if a simulator had said what the people said: how many of their turns are doubted,
and how many errors are found that were put in on purpose (a wished value replaced by another one; a dialogue left
half-way). People stray from their goals too, so the first figure is more than the
share of false alarms.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import anyio

from simkit.agents.commands import CallCommand, PlanCommand, render
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.react import ReactAgent
from simkit.components.agent import Act
from simkit.components.tools import StartTools
from simkit.components.user import Speak
from simkit.components.world import World
from simkit.core.conversation import Conversation, Entry, Utterance
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.core.ontology import Slot
from simkit.core.tasks import Task
from simkit.errors import DataMissing
from simkit.models import ChatRequest, ChatResponse, ScriptedModel
from simkit.rule_based.reader import slots_of
from simkit.tools.builtin import BuiltinWorld
from simkit.tools.toolwoz import ToolwozWorld
from simkit.users.goal import GoalUser
from simkit.users.reply_formats import UserReply
from simkit.users.selfcheck import SelfCheck, SelfCheckState

KEY = TurnKey(1, "T1", 0, "LR", 8)
REACT = render([PlanCommand("I know the area."), CallCommand("search_hotel", {"area": "old town"})])
ELSEWHERE = {"time": ("03:10", "05:50"), "number": ("14", "17"), "day": ("monday", "tuesday", "friday", "sunday")}


def conversation(task: Task) -> Conversation:
    """Seven turns: a call, its return, a question, an answer from the task's wishes."""
    call = ToolCall.of("t01s00c00", "search_hotel", {"area": "old town"})
    wish = task.agenda[0]
    entries = [Entry.system("Rules. " * 300), Entry.user(f"Hello, I am looking for a {wish.domain}.", 0)]
    for turn in range(1, 8):
        entries += [
            Entry(AssistantMessage.of(None, (call,)), "agent", turn),
            Entry(ToolMessage.of(call.id, '[{"name": "alpha lodge", "stars": "3"}]'), "tool", turn),
            Entry.agent("There is one. Which part of town would you like, and for how many people?", turn, 1),
            Entry.user(f"{', '.join(wish.inform.values())}, please.", turn),
        ]
    return Conversation(entries)


async def cpu(work: Callable[[], Awaitable[object]], repeat: int, times: int = 400) -> float:
    """Median CPU seconds of one call."""
    found: list[float] = []
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(times):
            await work()
        found.append((time.process_time() - start) / times)
    return statistics.median(found)


def answering(answer: AssistantMessage) -> ScriptedModel:
    response = ChatResponse.of(answer)
    return ScriptedModel(lambda request, key: response)


async def costs(repeat: int) -> None:
    world = BuiltinWorld()
    task = world.tasks("test")[0]
    talk = conversation(task)
    act = Act(KEY, talk, world.tools().start(StartTools(task)).specs, None)
    call = AssistantMessage.of(None, (ToolCall.of("x", "search_hotel", {"area": "old town"}),))
    said = AssistantMessage.of(f"{', '.join(task.agenda[0].inform.values())}, please.")
    calling, reacting = FunctionCallingAgent(answering(call)), ReactAgent(answering(AssistantMessage.of(REACT)))

    async def written() -> object:
        return json.dumps(ChatRequest(messages=talk.messages(), tools=act.tools).to_openai())

    base = await cpu(written, repeat)
    rows = [("the request as JSON, once", base)]
    rows.append(("function_calling, a decision", await cpu(lambda: calling.act(act), repeat)))
    rows.append(("react, a decision", await cpu(lambda: reacting.act(act), repeat)))
    for label, known in (("goal, a turn, words checked", None), ("goal, a turn, goals checked", world)):
        rows.append((label, await turn_cost(GoalUser(answering(said), known), task, talk, repeat)))
    print(f"{'CPU of one call':32} {'microseconds':>12} {'of the request':>15}")
    for label, seconds in rows:
        print(f"{label:32} {seconds * 1e6:12.1f} {seconds / base:14.2f}x")


async def turn_cost(user: GoalUser, task: Task, talk: Conversation, repeat: int) -> float:
    """CPU of one answer to the last thing the agent said, all earlier turns having been heard."""
    state = (await user.speak(Speak(KEY, task, Conversation(talk[:-2]), None))).state
    speak = Speak(KEY, task, Conversation(talk[:-1]), state)
    return await cpu(lambda: user.speak(speak), repeat)


# --- the self-check on people -----------------------------------------------------------------------------------------


def doubts(check: SelfCheck, task: Task, words: Sequence[Utterance], *, left: bool) -> list[tuple[str, ...]]:
    """The flags of each user turn of a dialogue; `left` when its last one hangs up."""
    heard, memory, found = list[Utterance](), SelfCheckState(), list[tuple[str, ...]]()
    last = max(place for place, word in enumerate(words) if word.speaker == "user")
    for place, word in enumerate(words):
        if word.speaker == "user":
            flags, memory = check.check(task, heard, UserReply(word.text, end=left and place == last), memory)
            found.append(flags)
        heard.append(word)
    return found


def swapped(task: Task, world: World, rng: Random) -> tuple[Utterance, ...] | None:
    """A dialogue up to a turn in which a wished value was replaced by one that is not in the list."""
    slots = {(domain.name, slot.name): slot for domain in world.ontology.domains for slot in slots_of(domain)}
    places: list[tuple[int, str, str]] = []
    for wish in task.agenda:
        for name, value in {**wish.inform, **wish.book}.items():
            others = elsewhere(task, slots.get((wish.domain, name)), value)
            said = (place for place, word in enumerate(task.reference) if word.speaker == "user" and holds(word, value))
            if others and (place := next(said, None)) is not None:
                places.append((place, value, rng.choice(others)))
    if not places:
        return None
    place, value, other = rng.choice(places)
    wrong = re.sub(rf"\b{re.escape(value)}\b", other, task.reference[place].text, flags=re.IGNORECASE)
    return (*task.reference[:place], Utterance("user", wrong))


def elsewhere(task: Task, slot: Slot | None, value: str) -> list[str]:
    """Values of a slot that the goal list does not hold."""
    if slot is None or slot.kind not in ("category", "day", "time", "number"):
        return []
    known = task.instructions.lower()
    return [other for other in ELSEWHERE.get(slot.kind, slot.values) if other != value and other not in known]


def holds(word: Utterance, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", word.text, re.IGNORECASE) is not None


def trust(world: World, tasks: Sequence[Task]) -> None:
    check, rng = SelfCheck(world.ontology), Random(1)
    counts: Counter[str] = Counter()
    for task in tasks:
        found = doubts(check, task, task.reference, left=True)
        counts["turns"] += len(found)
        counts["doubted"] += sum(bool(flags) for flags in found)
        for flags in found:
            counts.update({flag.partition(":")[0] for flag in flags})
        if (wrong := swapped(task, world, rng)) is not None:
            counts["swapped"] += 1
            counts["swap found"] += bool(doubts(check, task, wrong, left=False)[-1])
        users = [place for place, word in enumerate(task.reference) if word.speaker == "user"]
        half = (*task.reference[: users[len(users) // 2]], Utterance("user", "Thanks, that is all. Goodbye."))
        counts["halved"] += 1
        counts["half found"] += any(flag.startswith("ended_early") for flag in doubts(check, task, half, left=True)[-1])
    print(f"\n{'self-check, ' + str(len(tasks)) + ' human dialogues':42} {'flagged':>8} {'of':>6} {'share':>7}")
    for kind in ("doubted", "unknown_value", "contradiction", "ended_early", "as_agent", "repeated"):
        label = "human turns" if kind == "doubted" else f"  {kind}"
        print_share(label, counts[kind], counts["turns"])
    print_share("errors put in: a wrong value", counts["swap found"], counts["swapped"])
    print_share("errors put in: left half-way", counts["half found"], counts["halved"])


def print_share(label: str, part: int, whole: int) -> None:
    print(f"{label:42} {part:8,} {whole:6,} {part / max(whole, 1):7.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5, help="measurements, of which the median counts")
    parser.add_argument("--dialogues", type=int, default=793, help="human dialogues of ToolWOZ val to read")
    options = parser.parse_args()
    anyio.run(costs, options.repeat)
    world = ToolwozWorld()
    try:
        trust(world, world.tasks("val")[: options.dialogues])
    except DataMissing as error:
        print(f"\nthe self-check was not measured: {error}")


if __name__ == "__main__":
    main()
