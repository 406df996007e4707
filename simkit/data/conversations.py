"""Conversations in a store, read back as the agent's model saw them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias

import orjson

from simkit.components.model_view import and_send, says_nothing, with_valid_calls
from simkit.core.conversation import HIDDEN_FROM_AGENT
from simkit.core.messages import AssistantMessage, Message, ToolSpec, parse_message, text_of
from simkit.core.persistent_list import JsonList
from simkit.core.text_calls import UNPARSED
from simkit.data.origins import UNKNOWN, ExampleOrigin, TaskContent
from simkit.errors import UsageError
from simkit.store.reader import Reader

Row: TypeAlias = Mapping[str, Any]

_TOLD = ("run_id", "episode_id", "task_id", "trial", "world", "split", "agent", "model", "reward", "simkit")
"""Columns of an episode that belong to the origin of its examples."""

MARKERS = ("ERROR:", "Error:", "FAILURE")


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """One message of the agent; `prompt` is the digest of all messages before it.

    `partial` is true if the model wrote another call beside those of the message, which could not be read. The message
    then is not what the model wrote, and no example. `shown` messages of its `RecordedConversation` precede it.
    """

    branch_id: str
    seq: int
    prompt: str
    message: AssistantMessage
    partial: bool
    shown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedConversation:
    """One path of a tree from the root to its end, without the runtime's messages and trailing user messages.

    Attributes:
        seen: its messages as they are sent to the agent's model.
        steps: the agent's messages as it wrote them.
        tools: the tools in the agent's requests; those of the world if it asked no model.
        broken_calls: the agent wrote invalid calls, and saw repaired ones in later prompts.
        erroneous: it contains an error marker that the agent caused.
        content: content of its task.
    """

    episode: Row
    seen: tuple[Message, ...]
    steps: tuple[AgentMessage, ...]
    tools: tuple[ToolSpec, ...]
    broken_calls: bool
    erroneous: bool
    content: TaskContent = UNKNOWN

    @property
    def episode_id(self) -> str:
        """Id of its episode."""
        return str(self.episode["episode_id"])

    def before(self, step: AgentMessage) -> tuple[Message, ...]:
        """Messages that the model saw before it wrote this one."""
        return self.seen[: step.shown]

    def point(self, prompt: str) -> str:
        """Key of a prompt: equal if the model saw the same tools and messages."""
        return f"{self.episode['toolset_id'] if self.tools else ''}/{prompt}"

    def origin(self, step: AgentMessage) -> ExampleOrigin:
        """Origin of a message of its episode."""
        given = {name: self.episode[name] for name in _TOLD if self.episode[name] is not None}
        return ExampleOrigin(**given, branch_id=step.branch_id, seq=step.seq, content=self.content)


class ConversationReader:
    """Reader of conversations; equal messages are parsed once and shared.

    Args:
        reader: it holds the runs whose conversations are read.
        whole: the reader that conditions are asked, since a subquery in one may concern any run; None for the same.
    """

    def __init__(self, reader: Reader, *, whole: Reader | None = None) -> None:
        self._reader = reader
        self._whole = whole or reader
        self._messages: dict[str, Message] = {}

    def conversations(
        self, runs: Sequence[str], source: Literal["golden", "episodes"], condition: str, removed: Counter[str]
    ) -> list[RecordedConversation]:
        """The conversations of the episodes of these runs that meet the condition, by run, task and trial.

        Raises:
            UsageError: the condition is wrong.
            StoreError: the store cannot be read.
        """
        episodes = self._episodes(runs, source, condition)
        scored = [episode for episode in episodes if episode["reward"] is not None]
        removed["unscored"] += len(episodes) - len(scored)
        rows = self._reader.rows(_PATHS, [[episode["end_branch"] for episode in scored if episode["end_branch"]]])
        paths = {end: list(path) for end, path in groupby(rows, key=lambda row: row["end_branch"])}
        tools = self._tools(scored)
        contents = contents_of(self._reader, runs)
        return [
            self._conversation(
                episode,
                paths[episode["end_branch"]],
                tools.get(episode["episode_id"], ()),
                contents.get((episode["run_id"], episode["task_id"]), UNKNOWN),
            )
            for episode in scored
            if episode["end_branch"] in paths
        ]

    def failed_messages(self, episodes: Iterable[str]) -> dict[str, list[AgentMessage]]:
        """Messages of agents on failed branches by episode, without those of branches that ended in a fault."""
        found: dict[str, list[AgentMessage]] = {}
        for row in self._reader.rows(_LOST, [list(dict.fromkeys(episodes))]):
            if (message := self._written(row)) is not None:
                found.setdefault(row["episode_id"], []).append(message)
        return found

    def _conversation(
        self, episode: Row, rows: Sequence[Row], tools: tuple[ToolSpec, ...], content: TaskContent
    ) -> RecordedConversation:
        seen = JsonList[Message]()
        steps: list[AgentMessage] = []
        broken = erroneous = False
        for row in _trimmed(rows):
            message = self._message(row["message"])
            shown = with_valid_calls(message)
            broken |= shown is not message
            erroneous |= has_error_marker(row["author"], text_of(message))
            in_turn = row["author"] == "agent" and row["turn"] > 0  # the world writes what is said in the opening
            if in_turn and (step := self._written(row, len(seen))) is not None:
                steps.append(step)
            seen = and_send(seen, shown)
        return RecordedConversation(
            episode=episode,
            seen=tuple(seen),
            steps=tuple(steps),
            tools=tools,
            broken_calls=broken,
            erroneous=erroneous,
            content=content,
        )

    def _written(self, row: Row, shown: int = 0) -> AgentMessage | None:
        """What the agent's model wrote; None if it is empty."""
        message = self._message(row["message"])
        if not isinstance(message, AssistantMessage) or says_nothing(message):
            return None
        partial = bool(message.tool_calls) and any(flag.partition(":")[0] == UNPARSED for flag in row["flags"])
        return AgentMessage(row["branch_id"], row["seq"], row["prompt"], message, partial, shown)

    def _message(self, text: str) -> Message:
        known = self._messages.get(text)
        if known is None:
            known = self._messages[text] = parse_message(orjson.loads(text))
        return known

    def _episodes(self, runs: Sequence[str], source: Literal["golden", "episodes"], condition: str) -> Sequence[Row]:
        golden = source == "golden"
        query = _EPISODES.format(
            end="end_branch" if golden else "final_branch_id",
            ends="JOIN golden_ends USING (episode_id)" if golden else "",
            source="success" if golden else "finished",
            condition=condition,
        )
        try:
            reader = self._reader if condition == "true" else self._whole
            return reader.rows(query, {"runs": list(runs)})
        except UsageError as error:
            raise UsageError(
                f"episodes cannot be selected by {condition!r}: {error}; `from episode_facts` lists the columns"
            ) from error

    def _tools(self, episodes: Sequence[Row]) -> dict[str, tuple[ToolSpec, ...]]:
        """The tools of episodes in whose requests they were."""
        toolsets = {
            row["toolset_id"]: tuple(ToolSpec.model_validate(tool) for tool in orjson.loads(row["tools"]))
            for row in self._reader.rows(_TOOLSETS, [list({episode["toolset_id"] for episode in episodes})])
        }
        asked = list({episode["episode_id"] for episode in episodes})
        without = {row["episode_id"] for row in self._reader.rows(_WITHOUT_TOOLS, [asked])}
        return {
            episode["episode_id"]: toolsets.get(episode["toolset_id"], ())
            for episode in episodes
            if episode["episode_id"] not in without
        }


def contents_of(reader: Reader, runs: Sequence[str]) -> dict[tuple[str, str], TaskContent]:
    """Contents of the tasks of some runs, by run and task.

    Raises:
        StoreError: the store cannot be read.
    """
    rows = reader.rows(_CONTENTS, [list(runs)])
    return {
        (row["run_id"], row["task_id"]): TaskContent.of(row["instructions"], orjson.loads(row["goals"] or "[]"))
        for row in rows
    }


def _trimmed(rows: Sequence[Row]) -> Sequence[Row]:
    """Rows that the agent's model sees, without trailing user messages, which have no answer."""
    kept = [row for row in rows if row["author"] not in HIDDEN_FROM_AGENT]
    last = max((place for place, row in enumerate(kept) if row["role"] != "user"), default=-1)
    return kept[: last + 1]


def has_error_marker(author: str, text: str) -> bool:
    """Whether a text shows an error that the agent caused, by the rule of the view `golden_messages`."""
    if author not in ("agent", "tool"):
        return False
    return any(marker in text for marker in MARKERS) or (author == "agent" and "APIRETURN" in text)


_EPISODES = """
SELECT
    episode_id, run_id, task_id, trial, world, split, agent, model, reward, version AS simkit, toolset_id,
    {end} AS end_branch
FROM (
    SELECT *, outcome IS NOT NULL AS finished FROM episode_facts {ends} WHERE list_contains($runs, run_id)
) JOIN (SELECT run_id, version FROM runs) USING (run_id)
WHERE {source} AND (
{condition}
)
ORDER BY list_position($runs, run_id), task_id, trial, episode_id, end_branch
"""

_CONTENTS = "SELECT run_id, task_id, instructions, goals FROM tasks WHERE list_contains(?::VARCHAR[], run_id)"

_PATHS = """
WITH RECURSIVE ends AS (SELECT unnest(?::VARCHAR[]) AS branch_id),
walk AS (
    SELECT branch_id AS end_branch, branch_id, parent_id FROM branches SEMI JOIN ends USING (branch_id)
    UNION ALL
    SELECT w.end_branch, b.branch_id, b.parent_id FROM walk w JOIN branches b ON b.branch_id = w.parent_id
)
SELECT w.end_branch, m.branch_id, m.seq, m.turn, m.author, m.role, m.message, m.prompt, m.flags
FROM messages m JOIN walk w ON m.branch_id = w.branch_id
ORDER BY w.end_branch, m.seq
"""

_LOST = """
SELECT b.episode_id, b.branch_id, m.seq, m.prompt, m.message, m.flags
FROM branches b SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS episode_id) USING (episode_id)
JOIN messages m ON m.branch_id = b.branch_id
WHERE NOT b.successful AND NOT b.golden AND m.author = 'agent' AND coalesce(b.outcome, '') NOT IN (
    'agent_fault', 'user_fault', 'tool_fault', 'model_fault', 'reward_fault', 'cancelled'
)
ORDER BY b.episode_id, m.seq, b.path, CAST(m.message AS VARCHAR)
"""

_TOOLSETS = (
    "SELECT toolset_id, tools FROM toolsets SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS toolset_id) USING (toolset_id)"
)

_WITHOUT_TOOLS = """
SELECT c.episode_id FROM model_calls c SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS episode_id) USING (episode_id)
WHERE c.role = 'agent' AND c.step = 0 AND c.attempt = 0
GROUP BY ALL
HAVING NOT coalesce(
    bool_or(coalesce(json_array_length(c.request -> 'tools'), 0) > 0 OR (c.request ->> '$.digest.tools') <> ''), false
)
"""
"""Episodes whose agent asked a model without tools; agents without a model are missing."""
