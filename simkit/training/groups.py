"""Groups for GRPO: conversations with a common opening, and their tokens.

A group is the branches of one tree: the user opens once, the root forks into one branch per member, and each is played
to its end. All branches therefore answer the same prompt, and their rewards differ only because of what follows. Trials
of a task would already differ in the user's opening.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from simkit.components.cast import Cast
from simkit.core.ids import child_path
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder
from simkit.errors import Fault
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.run.engine import RunProgress
from simkit.search.base import WorkUnit
from simkit.search.episode import EpisodeContext, prepare_episode, score_ending
from simkit.search.playout import Playout, ending_of, play_out
from simkit.search.tree import Leaf, open_tree, together
from simkit.search.turn import fork_branch


@dataclass(frozen=True, slots=True)
class SampledReply:
    """One reply of the agent's model: its prompt tokens, its sampled tokens, and their log probabilities."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PlayedBranch:
    """One branch of a group: its replies, oldest first, and its reward; None if it has none."""

    replies: tuple[SampledReply, ...]
    reward: float | None


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

    def taken(self, unit: WorkUnit, path: str) -> tuple[SampledReply, ...]:
        """Remove and return the replies of a branch."""
        return tuple(self._replies.pop((unit.task.id, unit.trial, path), ()))


async def play_group(
    cast: Cast, unit: WorkUnit, limits: Limits, size: int, collector: ReplyCollector
) -> tuple[PlayedBranch, ...]:
    """Open a conversation once and play `size` branches of it. Each branch has its own reward.

    Nothing is recorded. If the opening fails, the branches have no replies and no reward.
    """
    recorder = MemoryRecorder()
    prepared = await prepare_episode(EpisodeContext(cast, unit, limits, recorder, RunProgress()), "group")
    unplayed = PlayedBranch((), None)
    if prepared.fault is not None or prepared.limit is not None or not prepared.context.goals:
        return (unplayed,) * size
    root, closed = await open_tree(prepared)
    if closed is not None:
        return (unplayed,) * size
    paths = [child_path("", arm, size) for arm in range(size)]
    rewards = await together([_Branch(prepared.context, root, path).play for path in paths])
    return tuple(PlayedBranch(collector.taken(unit, path), reward) for path, reward in zip(paths, rewards, strict=True))


@dataclass(frozen=True, slots=True)
class _Branch:
    context: EpisodeContext
    root: Leaf
    path: str

    async def play(self) -> float | None:
        """Play the branch and return its reward; None if it has none, as after a fault not caused by the agent."""
        context = self.context
        try:
            state = fork_branch(self.root.state, context.key(self.path, 0))
            playout = await play_out(context, Playout(replace(self.root, path=self.path, state=state), context.goals))
            ending = ending_of(context, playout)
            if ending.outcome == "agent_fault":
                return context.cast.reward_range[0]
            return (await score_ending(context, ending)).value if ending.scored else None
        except Fault:
            return None


@dataclass(slots=True)
class TokenSequence:
    """A branch as one sequence of tokens.

    `mask` is 1 for tokens that the agent sampled, 0 for those of users, tools and template. `logprobs` holds the log
    probabilities of sampled tokens, 0 elsewhere. `drifted` counts replies after which the template rendered earlier
    messages differently from the sampled tokens.
    """

    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list[int])
    mask: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    drifted: int = 0

    def append(self, ids: Sequence[int], *, logprobs: Sequence[float] | None) -> None:
        """Add tokens: sampled ones with their log probabilities, others with None."""
        self.ids += ids
        self.mask += [int(logprobs is not None)] * len(ids)
        self.logprobs += list(logprobs) if logprobs is not None else [0.0] * len(ids)

    def extend_to(self, prompt: Sequence[int]) -> None:
        """Extend the sequence to the prompt of the next reply. New tokens in it are not the agent's.

        If the prompt differs from the sequence, the sequence follows the prompt, because that is what the model read.
        Sampled tokens after the first difference no longer count.
        """
        seen = self.prompt_ids + self.ids
        same = _common(seen, prompt)
        if same < len(seen):
            self.drifted += 1
            keep = max(0, same - len(self.prompt_ids))
            if same < len(self.prompt_ids):
                self.prompt_ids = list(prompt[:same])
            del self.ids[keep:], self.mask[keep:], self.logprobs[keep:]
        self.append(prompt[same:], logprobs=None)


def joined(replies: Sequence[SampledReply]) -> TokenSequence:
    """Join the replies of a branch into one sequence, in which each keeps the context it was sampled in."""
    first = replies[0]
    whole = TokenSequence(list(first.prompt_ids))
    for reply in replies:
        whole.extend_to(reply.prompt_ids)
        whole.append(reply.ids, logprobs=reply.logprobs)
    return whole


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
