"""Reward by comparison: a model says whether a conversation is better than another one of its task."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import orjson

from simkit.components.reward import EpisodeReward, Reward, RewardPart, ScoreEpisode
from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import AssistantMessage, Message, ToolMessage, ToolSpec, UserMessage, parse_message, text_of
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError, reason
from simkit.models.base import ChatModel
from simkit.plugins.prompts import PromptChoice, choose_prompt
from simkit.rewards.judge import Form, Judge
from simkit.rewards.pairs import PairJudge


class PairwiseReward(Reward[Any]):
    """Judges a conversation against another one of the same task: 1 if it is better, 0.5 if neither is, 0 if worse.

    The other one is the human dialogue that the task was made from, or that of a file. Each vote compares the two in
    both orders; only a preference that holds in both counts. A judge that does not answer, or not in the asked form, is
    a fault and never a score. There are no sparse goals.

    Args:
        judge: the model that judges (`--judge-model`).
        against: a file of JSON lines with `task_id` and `messages` (in the OpenAI chat form), such as
            `simkit export sft` writes with its origins; None for the human dialogues of the tasks.
        votes: verdicts on each pair in each order; an odd number, and above 1 only with a judge at a temperature
            above 0.
        criteria: what counts, in words ("Politeness counts more than speed.").
        form: `schema` to ask for JSON by `response_format` too, `text` to ask in words alone.
        prompt: a prompt file of your own, with {{first}}, {{second}}, {{task}}, {{criteria}} and {{form}}.

    Raises:
        UsageError: an option is invalid, or the file has no conversations.
    """

    name: ClassVar[str] = "pairwise"
    final: bool = True

    def __init__(
        self,
        judge: ChatModel,
        against: Path | None = None,
        *,
        votes: int = 1,
        criteria: str = "",
        form: Form = "schema",
        prompt: PromptChoice = None,
    ) -> None:
        chosen = choose_prompt("simkit.rewards", "pair-1.txt", prompt, ("first", "second"))
        self._judge = PairJudge(Judge(judge, votes, form), chosen, criteria)
        self._others = None if against is None else read_conversations(against)

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """None."""
        return ()

    def check_task(self, task: Task, tools: Sequence[ToolSpec]) -> None:
        """Check that there is a conversation to compare with.

        Raises:
            UsageError: there is none for this task.
        """
        self._other(task)

    def _other(self, task: Task) -> Conversation:
        if self._others is not None:
            if task.id not in self._others:
                raise UsageError(
                    f"the file of `{self.name}` has no conversation of the task {task.id} to compare with; play the "
                    "tasks that it has, or add one"
                )
            return self._others[task.id]
        if not task.reference:
            raise UsageError(
                f"the task {task.id} has no human dialogue to compare with; give `{self.name}` a file of conversations "
                "(--reward pairwise,against=FILE)"
            )
        made = {"user": Entry.user, "agent": Entry.agent}
        return Conversation(made[each.speaker](each.text, 1) for each in task.reference)

    async def score_episode(self, request: ScoreEpisode[Any]) -> EpisodeReward:
        """1, 0.5 or 0; with several votes their mean.

        Raises:
            ModelFault, RewardFault: the judge gave no verdict.
        """
        other = self._other(request.task)
        verdict = await self._judge.ask(request.task.instructions, request.conversation, other, request.key)
        parts = (
            RewardPart("better", verdict.value, 1.0, verdict.reason),
            RewardPart("consistent", verdict.consistent, 0.0, "share of votes with the same winner in both orders"),
        )
        return EpisodeReward(verdict.value, parts)


def read_conversations(file: Path, speaker: Literal["agent"] | None = "agent") -> dict[str, Conversation]:
    """The first conversation of each task in a file of JSON lines with `task_id` and `messages`.

    The agent says something in each of them, unless `speaker` is None.

    Raises:
        UsageError: the file cannot be read, a line has another form, or there are none.
    """
    try:
        lines = file.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        raise UsageError(
            f"the conversations {file} cannot be read: {reason(error)}; give a file of JSON lines"
        ) from error
    found: dict[str, Conversation] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            task, conversation = _conversation(line, speaker, f"{file}, line {number}")
            found.setdefault(task, conversation)
    if not found:
        raise UsageError(f'{file} has no conversations; a line is {{"task_id": "...", "messages": [...]}}')
    return found


def _conversation(line: bytes, speaker: str | None, where: str) -> tuple[str, Conversation]:
    try:
        fields = cast("Mapping[str, Any]", orjson.loads(line))
        entries = [entry for each in fields["messages"] if (entry := entry_of(parse_message(each)))]
        if speaker is not None and not any(entry.author == speaker for entry in entries):
            raise ValueError(f"the {speaker} says nothing in it")
        return str(fields["task_id"]), Conversation(entries)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{where} is not a conversation ({type(error).__name__}: {error}); a line is "
            '{"task_id": "...", "messages": [...]} with messages in the OpenAI chat form'
        ) from error


def entry_of(message: Message) -> Entry | None:
    """The entry of a message of the agent's view; None for a system prompt."""
    match message:
        case UserMessage():
            return Entry.user(text_of(message), 1)
        case AssistantMessage():
            return Entry(message, "agent", turn=1, heard=None if message.tool_calls else text_of(message))
        case ToolMessage():
            return Entry(message, "tool", turn=1)
        case _:
            return None
