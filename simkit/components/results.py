"""A recorded run as plain values, for worlds that write the result file of the benchmark they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simkit.components.reward import RewardPart
from simkit.core.conversation import Author
from simkit.core.messages import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedMessage:
    """One message of a conversation, in the OpenAI chat form.

    Attributes:
        author: who wrote it; see `simkit.core.conversation.Entry`.
        heard: the text that the other party heard, if any.
        call: the call of which it is the result: `id`, `name`, `arguments` (text) and the `text` of the result.
        error: the result is an error.
    """

    author: Author
    message: JsonObject
    heard: str | None = None
    call: JsonObject | None = None
    error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEpisode:
    """One finished episode, with the conversation of its final branch.

    Attributes:
        instructions: the text of its task, as the run recorded it.
        reward: None if it was not scored.
        outcome: see `simkit.core.events.Outcome`.
        started, finished: seconds since the epoch.
    """

    episode_id: str
    task_id: str
    split: str
    trial: int
    outcome: str
    messages: tuple[RecordedMessage, ...]
    instructions: str = ""
    reward: float | None = None
    parts: tuple[RewardPart, ...] = ()
    error: str | None = None
    started: float = 0.0
    finished: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """One run with its finished episodes, by task and trial.

    Attributes:
        config: its configuration, as the view `runs` has it.
        agent, user: names of the components; `model`, `user_model` those of their models, if any.
    """

    run_id: str
    name: str
    seed: int
    config: Mapping[str, Any]
    version: str
    started: float
    episodes: tuple[RecordedEpisode, ...]
    agent: str = ""
    user: str = ""
    model: str | None = None
    user_model: str | None = None
