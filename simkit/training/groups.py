"""Groups for GRPO: conversations with a common opening, and their tokens.

A group is the branches of one tree: the user opens once, the root forks into one branch per member, and each is played
to its end. All branches therefore answer the same prompt, and their rewards differ only because of what follows. Trials
of a task would already differ in the user's opening.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from simkit.components.cast import Cast
from simkit.components.reward import EpisodeReward
from simkit.core.events import Episode
from simkit.core.recorder import Recorder
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.search.base import Watch, WorkUnit
from simkit.search.episode import Ending
from simkit.search.playout import Playout
from simkit.search.tree_search import SearchTree, TreeSearch
from simkit.statistics.scores import mean


@dataclass(frozen=True, slots=True)
class SampledReply:
    """One reply of the agent's model: its prompt tokens, its sampled tokens, and their log probabilities."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PlayedBranch:
    """One branch of a group: its replies, oldest first, and its reward; None if it has none.

    `branch_id` is the id of its last turn.
    """

    replies: tuple[SampledReply, ...]
    reward: float | None
    branch_id: str = ""


class ReplyCollector(ModelWrapper):
    """A model wrapper that collects the tokens of replies, by task, trial and branch.

    It collects only the agent's replies. A user played by the same model is part of the environment.
    """

    def __init__(self, model: ChatModel) -> None:
        super().__init__(model)
        self._replies: dict[tuple[str, int, str], list[SampledReply]] = {}

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer; raises what it raises."""
        if key.role != "agent":
            return await self._model.complete(request, key)
        asking = replace(request, sampling=request.sampling.model_copy(update={"logprobs": True}))
        response = await self._model.complete(asking, key)
        if response.tokens is not None and response.logprobs is not None:
            turn, tokens = key.turn, response.tokens
            reply = SampledReply(tokens.prompt_ids, tokens.ids, response.logprobs)
            self._replies.setdefault((turn.task_id, turn.trial, turn.path), []).append(reply)
        return response

    def collect_from(self, model: ChatModel) -> None:
        """Answer with another model from now on: the one in training is served at a new place in each step."""
        self._model = model

    def taken(self, unit: WorkUnit, path: str) -> tuple[SampledReply, ...]:
        """Remove and return the replies of a branch."""
        return tuple(self._replies.pop((unit.task.id, unit.trial, path), ()))


@dataclass(frozen=True, kw_only=True)
class GroupSearch(TreeSearch):
    """Plays `size` branches of each conversation from a common opening. The episode's reward is their mean.

    Attributes:
        size: branches of a group.
        collector: the wrapper of the model in training.
        played: the branches of finished groups, by task and trial; those whose opening failed are missing.
        unit, least: of the group that is played, and the reward of a branch that the agent's fault ended.
    """

    name: ClassVar[str] = "group"
    size: int
    collector: ReplyCollector
    played: dict[tuple[str, int], tuple[PlayedBranch, ...]] = field(
        default_factory=dict[tuple[str, int], "tuple[PlayedBranch, ...]"]
    )
    unit: WorkUnit | None = None
    least: float = 0.0

    @property
    def conversations(self) -> int:
        """Number of concurrent conversations of a task: all its branches."""
        return self.size

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        """Play one group."""
        return await TreeSearch.play(replace(self, unit=unit, least=cast.reward_range[0]), cast, unit, recorder, watch)

    async def explore(self, tree: SearchTree) -> Ending:
        """Play and score all branches."""
        assert self.unit is not None
        arms = await tree.score(*await tree.play_out(*tree.fork(tree.root, self.size)))
        branches = tuple(
            PlayedBranch(self.collector.taken(self.unit, arm.leaf.path), self._reward(arm), arm.leaf.id) for arm in arms
        )
        self.played[self.unit.task.id, self.unit.trial] = branches
        rewards = [branch.reward for branch in branches if branch.reward is not None]
        if not rewards:
            return replace(tree.ending(arms[0]), scored=False)
        return replace(tree.ending(arms[0]), scored=True, reward=EpisodeReward(mean(rewards)))

    def _reward(self, arm: Playout) -> float | None:
        if arm.reward is not None:
            return arm.reward.value
        return self.least if arm.closed is not None and arm.closed.outcome == "agent_fault" else None

    def of(self, task: str, trial: int) -> tuple[PlayedBranch, ...]:
        """The branches of a group; without replies and reward if it could not be opened."""
        return self.played.get((task, trial), (PlayedBranch((), None),) * self.size)


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A branch as one sequence of tokens.

    `mask` is 1 for tokens that the agent sampled, 0 for those of users, tools and template. `logprobs` holds the log
    probabilities of sampled tokens, 0 elsewhere. `drifted` counts replies after which the template rendered earlier
    messages differently from the sampled tokens.
    """

    prompt_ids: list[int]
    ids: list[int]
    mask: list[int]
    logprobs: list[float]
    drifted: int = 0


def joined(replies: Sequence[SampledReply]) -> TokenSequence:
    """Join the replies of a branch into one sequence, in which each keeps the context it was sampled in.

    If the prompt of a reply differs from the sequence, the sequence follows the prompt, because that is what the model
    read. Sampled tokens after the first difference no longer count.
    """
    ids, drifted = list(replies[0].prompt_ids), 0
    start, mask, logprobs = len(ids), [0] * len(ids), [0.0] * len(ids)
    for reply in replies:
        same = _common(ids, reply.prompt_ids)
        drifted += same < len(ids)
        start = min(start, same)
        del ids[same:], mask[same:], logprobs[same:]
        others = reply.prompt_ids[same:]
        ids += (*others, *reply.ids)
        mask += [0] * len(others) + [1] * len(reply.ids)
        logprobs += [0.0] * len(others) + list(reply.logprobs)
    return TokenSequence(ids[:start], ids[start:], mask[start:], logprobs[start:], drifted)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
