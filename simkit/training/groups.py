"""Groups for GRPO: conversations that begin alike and go their own ways, and the tokens they are made of.

A group is the branches of one tree: the user opens once, the root forks into as many branches as the group has, and
each is played to its end. So all branches answer the very same prompt, and what sets their rewards apart is what the
agent did; trials of a task would differ in the user's opening already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from simkit.components.cast import Cast
from simkit.core.events import MemoryRecorder
from simkit.core.ids import child_path
from simkit.core.limits import Limits
from simkit.errors import Fault
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.run.engine import Tally
from simkit.search.base import WorkUnit
from simkit.search.episode import Stage, score_ending, set_stage
from simkit.search.playout import Playout, ending_of, play_out
from simkit.search.tree import Leaf, open_tree, together
from simkit.search.turn import fork_branch


@dataclass(frozen=True, slots=True)
class Sampled:
    """One reply of the agent's model: the tokens it read, those it sampled, and their log probabilities."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One branch of a group: its replies, oldest first, and its reward; None when something raised."""

    replies: tuple[Sampled, ...]
    reward: float | None


class Listener(ModelWrapper):
    """A model that keeps the tokens of its replies, by task, trial and branch.

    Only the agent's replies are kept; a user that the same model plays is part of the world.
    """

    def __init__(self, model: ChatModel) -> None:
        super().__init__(model)
        self._heard: dict[tuple[str, int, str], list[Sampled]] = {}

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer; raises what it raises."""
        if key.role != "agent":
            return await self._model.complete(request, key)
        asking = replace(request, sampling=request.sampling.model_copy(update={"logprobs": True}))
        response = await self._model.complete(asking, key)
        if response.tokens is not None and response.logprobs is not None:
            turn, tokens = key.turn, response.tokens
            reply = Sampled(tokens.prompt_ids, tokens.ids, response.logprobs)
            self._heard.setdefault((turn.task_id, turn.trial, turn.path), []).append(reply)
        return response

    def taken(self, unit: WorkUnit, path: str) -> tuple[Sampled, ...]:
        """The replies of a branch, which are then forgotten."""
        return tuple(self._heard.pop((unit.task.id, unit.trial, path), ()))


async def play_group(cast: Cast, unit: WorkUnit, limits: Limits, size: int, listener: Listener) -> tuple[Told, ...]:
    """Open a conversation once and play `size` branches of it; each is scored by itself.

    Nothing is recorded. A group that could not begin has branches without replies and reward.
    """
    recorder = MemoryRecorder()
    scene = await set_stage(Stage(cast, unit, limits, recorder, Tally()), "group")
    unheard = Told((), None)
    if scene.fault is not None or scene.limit is not None or not scene.stage.goals:
        return (unheard,) * size
    root, closed = await open_tree(scene)
    if closed is not None:
        return (unheard,) * size
    paths = [child_path("", arm, size) for arm in range(size)]
    rewards = await together([_Branch(scene.stage, root, path).play for path in paths])
    return tuple(Told(listener.taken(unit, path), reward) for path, reward in zip(paths, rewards, strict=True))


@dataclass(frozen=True, slots=True)
class _Branch:
    stage: Stage
    root: Leaf
    path: str

    async def play(self) -> float | None:
        """Its reward, None when something raised that is not the agent's doing."""
        stage = self.stage
        try:
            state = fork_branch(self.root.state, stage.key(self.path, 0))
            playout = await play_out(stage, Playout(replace(self.root, path=self.path, state=state), stage.goals))
            ending = ending_of(stage, playout)
            if ending.outcome == "agent_fault":
                return stage.cast.reward_range[0]
            return (await score_ending(stage, ending)).value if ending.scored else None
        except Fault:
            return None


@dataclass(slots=True)
class Strand:
    """A branch as one sequence of tokens.

    `mask` is 1 for the tokens that the agent sampled, 0 for those of users, tools and template; `logprobs` are those
    they were sampled with, 0 elsewhere. `drifted` counts replies after which the template wrote the past otherwise
    than it was sampled.
    """

    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list[int])
    mask: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    drifted: int = 0

    def hear(self, ids: Sequence[int], *, logprobs: Sequence[float] | None) -> None:
        """Add tokens: sampled ones with their log probabilities, others with None."""
        self.ids += ids
        self.mask += [int(logprobs is not None)] * len(ids)
        self.logprobs += list(logprobs) if logprobs is not None else [0.0] * len(ids)

    def show(self, prompt: Sequence[int]) -> None:
        """Go on to the prompt of the next reply: what is new in it, the agent did not write.

        Where the prompt differs from what was sampled, the sequence follows the prompt, because that is what the model
        saw when it went on; sampled tokens from there on do not count any more.
        """
        seen = self.prompt_ids + self.ids
        same = _common(seen, prompt)
        if same < len(seen):
            self.drifted += 1
            keep = max(0, same - len(self.prompt_ids))
            if same < len(self.prompt_ids):
                self.prompt_ids = list(prompt[:same])
            del self.ids[keep:], self.mask[keep:], self.logprobs[keep:]
        self.hear(prompt[same:], logprobs=None)


def joined(replies: Sequence[Sampled]) -> Strand:
    """The replies of a branch as one sequence: each is trained in the very context it was sampled in."""
    first = replies[0]
    whole = Strand(list(first.prompt_ids))
    for reply in replies:
        whole.show(reply.prompt_ids)
        whole.hear(reply.ids, logprobs=reply.logprobs)
    return whole


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
