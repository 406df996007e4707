from __future__ import annotations

from pathlib import Path

import pytest

from simkit.components.cast import Cast
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, UserMessage
from simkit.core.recorder import MemoryRecorder
from simkit.models.base import CallKey, ChatRequest, ChatResponse, Tokens
from simkit.run.run import Run
from simkit.search.base import NoWatch, WorkUnit
from simkit.training.dev import ConversationSetup
from simkit.training.groups import GroupSearch, ReplyCollector, SampledReply, joined
from support.training_runs import practised

pytestmark = pytest.mark.anyio


def sampled(prompt: list[int], ids: list[int]) -> SampledReply:
    return SampledReply(tuple(prompt), tuple(ids), tuple(-0.1 * token for token in ids))


def test_users_and_tools_are_in_the_sequence_and_masked() -> None:
    sequence = joined([sampled([1, 2], [3, 4]), sampled([1, 2, 3, 4, 5, 6], [7, 8])])
    assert sequence.prompt_ids == [1, 2]
    assert sequence.ids == [3, 4, 5, 6, 7, 8]
    assert sequence.mask == [1, 1, 0, 0, 1, 1]
    assert sequence.logprobs == pytest.approx([-0.3, -0.4, 0, 0, -0.7, -0.8])
    assert sequence.drifted == 0


def test_where_the_template_rewrites_a_reply_the_sequence_is_what_the_model_saw_next() -> None:
    sequence = joined([sampled([1, 2], [3, 4, 9]), sampled([1, 2, 3, 5, 9, 6], [7])])
    assert sequence.prompt_ids + sequence.ids == [1, 2, 3, 5, 9, 6, 7]
    assert sequence.mask == [1, 0, 0, 0, 1]
    assert sequence.drifted == 1


def test_a_rewritten_prompt_trains_only_on_what_was_sampled_after_it() -> None:
    sequence = joined([sampled([1, 2], [3]), sampled([1, 8, 3], [7])])
    assert sequence.prompt_ids + sequence.ids == [1, 8, 3, 7]
    assert [token for token, learn in zip(sequence.ids, sequence.mask, strict=True) if learn] == [7]


class Talker:
    """Says which branch it is in, in tokens: as many as the branch's name is long."""

    name = "talker"

    def __init__(self) -> None:
        self.asked: list[tuple[ChatRequest, CallKey]] = []

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.asked.append((request, key))
        ids = tuple(range(len(str(key.turn.path))))
        message = AssistantMessage.of(f"I am {key.turn.path}.")
        tokens = Tokens((100 + key.turn.turn,), ids)
        return ChatResponse(message=message, tokens=tokens, logprobs=(-1.0,) * len(ids))


async def test_branches_of_a_group_share_their_opening_and_go_their_own_ways(tmp_path: Path) -> None:
    model = Talker()
    branches = await practised(tmp_path, ConversationSetup(tasks="1", max_turns=2), model, 3)
    assert [(one.reward, len(one.replies)) for one in branches] == [(0.0, 2)] * 3
    openings = [request.messages[-1] for request, key in model.asked if key.turn.turn == 1]
    assert isinstance(openings[0], UserMessage)
    assert openings == [openings[0]] * 3
    assert len({key.turn.path for _, key in model.asked}) == 3
    assert len({key.seed for _, key in model.asked}) == 6


async def test_the_listener_asks_for_log_probabilities_and_keeps_the_agents_tokens_once() -> None:
    model = Talker()
    collector = ReplyCollector(model)
    unit = WorkUnit("r", 1, ConversationSetup(tasks="1").chosen()[0])
    key = CallKey(TurnKey(1, unit.task.id, unit.trial, "ab", 1), "agent")
    request = ChatRequest(messages=(UserMessage.of("hello"),))
    await collector.complete(request, key)
    await collector.complete(request, CallKey(key.turn, "user"))
    assert [asked.sampling.logprobs for asked, _ in model.asked] == [True, False]
    assert collector.taken(unit, "ab") == (SampledReply((101,), (0, 1), (-1.0, -1.0)),)
    assert collector.taken(unit, "ab") == ()


async def test_a_group_that_cannot_begin_has_no_rewards(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        world = run.world("builtin")
        cast, task = run.cast(world, agent="scripted,error_rate=0.5"), run.tasks(world, "val", "1")[0]
        mute = Cast(agent=cast.agent, user=cast.tools, tools=cast.tools, reward=cast.reward)
        search = GroupSearch(size=2, collector=ReplyCollector(Talker()))
        await search.play(mute, WorkUnit("r", 3, task), MemoryRecorder(), NoWatch())
    assert [(one.reward, one.replies) for one in search.of(task.id, 0)] == [(None, ()), (None, ())]
