"""The user of tau-bench: its four strategies as released, and what the repaired variant does instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from talking import TASK, Player, Talk, WordsWorld, player

from simkit import Run
from simkit.components.user import UserTurn
from simkit.core.messages import text_of
from simkit.errors import UsageError, UserFault
from simkit.models import ScriptedModel
from simkit.models.config import ModelConfig
from simkit.search.rollout import Rollout
from simkit.testing.conformance import check_user
from simkit.testing.fixed import fixed_agent
from simkit.users.goal import CUE
from simkit.users.tau import TauUser
from simkit.users.tau_replies import PaperReplies, RepairedReplies

pytestmark = pytest.mark.anyio

GREETING = "What is it?"
PROMPTS = {
    "user": "You want:\n\n\n{{instruction}}\n",
    "user_react": "Think. {{instruction}}",
    "user_verify": "Good?\n{{transcript}}\n---\n{{response}}",
    "user_reflection": "Better?\n{{transcript}}\n---\n{{response}}",
    "cue": GREETING,
}


@dataclass
class TauWords(WordsWorld):
    """A world with the prompts of a release, in one of its variants."""

    variant: str = "paper"
    known: frozenset[str] = frozenset(PROMPTS)

    @property
    def prompts(self) -> Mapping[str, str]:
        return {name: text for name, text in PROMPTS.items() if name in self.known}


def talk(played: Player, strategy: Any = "llm", variant: str = "paper") -> Talk:
    return Talk(cast("Any", TauUser(played.model, TauWords(variant), strategy)), task=TASK)


def asked(played: Player) -> list[list[tuple[str, str]]]:
    return [[(message.role, text_of(message)) for message in request.messages] for request in played.requests]


def remembered(said: UserTurn) -> list[str]:
    return [text_of(message) for message in said.state.messages if message.role == "assistant"]


@pytest.mark.parametrize(("variant", "cue"), [("paper", GREETING), ("fixed", CUE)])
async def test_its_model_gets_the_world_s_prompt_word_for_word(variant: str, cue: str) -> None:
    played = player("A hotel.", "North.")
    talking = talk(played, variant=variant)
    assert (await talking.next()).text == "A hotel."
    await talking.next("Where?")
    system = ("system", f"You want:\n\n\n{TASK.instructions}\n")
    assert asked(played) == [
        [system, ("user", cue)],
        [system, ("user", cue), ("assistant", "A hotel."), ("user", "Where?")],
    ]


@pytest.mark.parametrize(
    ("written", "paper", "fixed", "flags"),
    [
        ("###STOP###", ("###STOP###", True), ("Goodbye.", True), ("silent_end",)),
        ("Thanks. ###STOP###", ("Thanks. ###STOP###", True), ("Thanks.", True), ()),
        ("Bye.\n**###STOP###**\n", ("Bye.\n**###STOP###**\n", True), ("Bye.\n****", True), ()),
        (
            "I will say ###STOP### then.",
            ("I will say ###STOP### then.", True),
            ("I will say  then.", False),
            ("marker_inside",),
        ),
        (" Hello. ", (" Hello. ", False), ("Hello.", False), ()),
    ],
)
async def test_the_marker_ends_the_conversation(
    written: str, paper: tuple[str, bool], fixed: tuple[str, bool], flags: tuple[str, ...]
) -> None:
    said = await talk(player(written)).next()
    assert (said.text, said.end, said.flags) == (*paper, ())
    repaired = await talk(player(written), variant="fixed").next()
    assert (repaired.text, repaired.end, repaired.flags) == (*fixed, flags)


@pytest.mark.parametrize(
    ("written", "paper", "fixed"),
    [
        ("Thought:\nt\n\nUser Response:\nhello", "t\n\nUser Response:\nhello", "hello"),
        ("User Response: hello", "hello", "hello"),
        ("Thought: hello", "hello", None),
        ("Thought: a Thought: b\nUser Response: c", None, "c"),
        ("hello", None, None),
        ("Thought: I could say ###STOP### soon.\nUser Response: hello", "###STOP###", "hello"),
        ("User Response:", None, None),
    ],
)
async def test_the_agent_hears_the_response_only_in_the_repaired_variant(
    written: str, paper: str | None, fixed: str | None
) -> None:
    for variant, expected in (("paper", paper), ("fixed", fixed)):
        played = player(written, written, written)
        if expected is None:
            with pytest.raises(UserFault, match="strategy=react, played by scripted, gave a reply without"):
                await talk(played, "react", variant).next()
            assert len(played.keys) == (1 if variant == "paper" else 3)
        else:
            said = await talk(played, "react", variant).next()
            assert (said.text, remembered(said)) == (expected, [written])


async def test_a_readable_reply_is_asked_for_again_in_the_repaired_variant() -> None:
    played = player("hello", "User Response: hello")
    said = await talk(played, "react", "fixed").next()
    assert (said.text, remembered(said)) == ("hello", ["User Response: hello"])
    assert [key.call for key in played.keys] == [0, 1]
    assert len({key.seed for key in played.keys}) == 2


@pytest.mark.parametrize(
    ("variant", "verdicts", "calls", "text", "memory"),
    [
        ("paper", ("It is True.",), 2, "one", ["one"]),
        ("paper", ("false", "untrue"), 4, "two", ["two"]),
        ("paper", ("false", "no", ""), 6, "three", []),
        ("fixed", ("It is True.",), 2, "one", ["one"]),
        ("fixed", ("untrue", "False, not true", "true or false"), 6, "three", ["three"]),
        ("fixed", ("false", "no", ""), 6, "three", ["three"]),
    ],
)
async def test_a_message_is_written_until_it_passes(
    variant: str, verdicts: tuple[str, ...], calls: int, text: str, memory: list[str]
) -> None:
    written = ("one", "two", "three")
    played = player(*(answer for pair in zip(written, verdicts, strict=False) for answer in pair))
    said = await talk(played, "verify", variant).next()
    assert (said.text, remembered(said), [key.call for key in played.keys]) == (text, memory, list(range(calls)))
    assert said.flags == (("unverified",) if calls == 6 and "true or false" not in verdicts else ())


@pytest.mark.parametrize(
    ("variant", "seen"),
    [
        (
            "paper",
            (
                "Customer: What is it?",
                "Message(content='A hotel.', role='assistant', tool_calls=None, function_call=None)",
            ),
        ),
        ("fixed", (f"Agent: {CUE}", "A hotel.")),
    ],
)
async def test_the_judge_sees_the_conversation_and_the_message(variant: str, seen: tuple[str, str]) -> None:
    played = player("A hotel.", "true")
    await talk(played, "verify", variant).next()
    system = f"System: You want:\n\n\n{TASK.instructions}\n"
    assert asked(played)[1] == [("user", f"Good?\n{system}\n{seen[0]}\n---\n{seen[1]}")]


async def test_labels_are_those_of_who_spoke_in_the_repaired_variant_only() -> None:
    for variant, label in (
        ("paper", "Agent: A hotel.\nCustomer: Where?"),
        ("fixed", "Customer: A hotel.\nAgent: Where?"),
    ):
        played = player("A hotel.", "true", "North.", "true")
        talking = talk(played, "verify", variant)
        await talking.next()
        await talking.next("Where?")
        assert label in asked(played)[3][0][1]


@pytest.mark.parametrize(
    ("variant", "verdicts", "text", "memory", "flags"),
    [
        ("paper", ("false", "true"), "two", ["one", "two"], ()),
        ("paper", ("false", "false"), "one", ["one", "two"], ("unverified",)),
        ("fixed", ("false", "true"), "two", ["two"], ()),
        ("fixed", ("false", "false"), "two", ["two"], ("unverified",)),
    ],
)
async def test_a_message_that_does_not_pass_is_reflected_on_and_written_once_more(
    variant: str, verdicts: tuple[str, str], text: str, memory: list[str], flags: tuple[str, ...]
) -> None:
    played = player("one", verdicts[0], "Reflection: bad\nResponse: better ", "two", verdicts[1])
    said = await talk(played, "reflection", variant).next()
    assert (said.text, remembered(said), said.flags) == (text, memory, flags)
    first, judged, reflected, second, last = asked(played)
    assert second == [*first, ("user", "better")]
    assert judged[0][1].endswith("---\none")
    assert reflected[0][1] == judged[0][1].replace("Good?", "Better?")
    assert last[0][1].endswith(": better\n---\ntwo")


async def test_a_message_that_passes_is_not_reflected_on() -> None:
    for variant in ("paper", "fixed"):
        played = player("one", "true")
        said = await talk(played, "reflection", variant).next()
        assert (said.text, remembered(said), len(played.keys)) == ("one", ["one"], 2)


@pytest.mark.parametrize("reflection", ["no form", "Response: a Response: b"])
async def test_a_reflection_without_its_form_stops_the_released_user(reflection: str) -> None:
    with pytest.raises(UserFault, match="without the form `Reflection"):
        await talk(player("one", "false", reflection), "reflection").next()
    assert (await talk(player("one", "false", reflection, "two", "true"), "reflection", "fixed").next()).text == "two"


async def test_a_reply_without_words_is_a_fault_or_asked_for_again() -> None:
    with pytest.raises(UserFault, match="without words to say"):
        await talk(player(" ")).next()
    assert (await talk(player(" ", "A hotel."), variant="fixed").next()).text == "A hotel."


@pytest.mark.parametrize(
    ("strategy", "own"),
    [
        ("llm", ()),
        ("react", ("own_prompt: tau-react-1.txt",)),
        ("verify", ("own_prompt: tau-verify-1.txt",)),
        ("reflection", ("own_prompt: tau-verify-1.txt", "own_prompt: tau-reflection-1.txt")),
    ],
)
async def test_prompts_that_the_world_lacks_are_simkit_s_own_and_on_record(strategy: Any, own: tuple[str, ...]) -> None:
    played = Player(["User Response: It is true."] * 4)
    world = TauWords(known=frozenset({"user", "cue"}))
    talking = Talk(cast("Any", TauUser(played.model, world, strategy)), task=TASK)
    assert (await talking.next()).flags == own
    assert (await talking.next("Where?")).flags == ("repeated",)
    assert all(TASK.instructions in text for _, text in [request[0] for request in asked(played)])


async def test_it_plays_in_worlds_without_prompts_and_keeps_the_promises_of_a_user() -> None:
    def answer(request: object, key: object) -> str:
        return "Thought: t User Response: true"

    for strategy in ("llm", "react", "verify", "reflection"):
        for chosen in ("paper", "fixed"):
            await check_user(TauUser(ScriptedModel(answer), WordsWorld(), strategy, chosen), [TASK])
            assert (await Talk(cast("Any", TauUser(ScriptedModel(answer), None, strategy, chosen))).next()).text


def test_options_that_do_not_exist_are_refused() -> None:
    wrong: Any = "best"
    with pytest.raises(UsageError, match="has no strategy `best`; choose one of: llm, react, verify, reflection"):
        TauUser(player().model, strategy=wrong)
    with pytest.raises(UsageError, match="has no variant `best`; choose paper or fixed"):
        TauUser(player().model, variant=wrong)


def test_the_variants_differ_in_what_is_listed() -> None:
    paper, fixed = PaperReplies(), RepairedReplies()
    assert (paper.attempts, paper.remembers, paper.cued) == (1, False, False)
    assert (fixed.attempts, fixed.remembers, fixed.cued) == (3, True, True)


_STEPS = "SELECT step FROM model_calls JOIN episodes USING (episode_id) WHERE run_id = ? ORDER BY ALL"


async def test_a_run_records_each_call_under_its_own_key_and_replays_them(tmp_path: Path) -> None:
    choices = ModelConfig(user_model="scripted/It is true.|Truely.|###STOP### true")
    chosen = Run(store=tmp_path, models=choices, seed=5)
    again = Run.replay(chosen.id, store=tmp_path)
    for run in (chosen, again):
        async with run:
            world = run.world("builtin")
            cast_ = run.cast(world, agent=fixed_agent("Where?"), user="tau,strategy=verify")
            (episode,) = await run.play(Rollout(), cast_, run.tasks(world, "test", 1))
            steps = await run.query(_STEPS, run.id)
        assert (episode.outcome, episode.turns) == ("user_ended", 2)
        assert steps.rows == [(0,), (0,), (0,), (1,), (1,), (1,)]
    assert again.summary() == chosen.summary()
    assert again.progress.metrics is not None
    assert (again.progress.metrics.calls, again.progress.metrics.replayed) == (0, 6)
