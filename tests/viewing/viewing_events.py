"""Episodes of given messages, written into a store without being played."""

from __future__ import annotations

from collections.abc import Sequence

from simkit.core.conversation import Conversation, Entry
from simkit.core.events import (
    BranchAdded,
    Episode,
    EpisodeStarted,
    Event,
    RunFinished,
    RunStarted,
    TaskSeen,
    ToolsetSeen,
)
from simkit.core.ids import branch_id, episode_id
from simkit.core.records import MessageRow
from simkit.store import Store
from simkit.store.encoding import encode


def told(store: Store, run: str, entries: Sequence[Entry], task: str = "t") -> None:
    """A finished run with one episode: a branch for each entry after the user's first words."""
    episode = episode_id(run, task, 0)
    conversation = Conversation([Entry.user("Hello", 0)])
    events: list[Event] = [
        RunStarted(run, run, "rollout", 7, {}, "0.1.0", 1000.0, 0),
        TaskSeen(run, task, "builtin", "test", "Do it.", ()),
        ToolsetSeen("tools-1", ()),
        EpisodeStarted(episode, run, task, 0, "rollout", "tools-1", (), 1000.0, 0),
        BranchAdded(
            branch_id(episode, "", 0), episode, None, "", 0, _rows(conversation, 0), (), (), None, None, 1000.0
        ),
    ]
    for turn, entry in enumerate(entries, 1):
        start, conversation = len(conversation), conversation.append(entry)
        above, own = branch_id(episode, "", turn - 1), branch_id(episode, "", turn)
        rows = _rows(conversation, start)
        events.append(BranchAdded(own, episode, above, "", turn, rows, (), (), None, None, 1000.0))
    end = branch_id(episode, "", len(entries))
    events.append(
        Episode(
            episode_id=episode,
            reward=1.0,
            outcome="user_ended",
            achieved=(),
            final_branch_id=end,
            turns=len(entries),
            branches=len(entries) + 1,
            faults=0,
            at=1005.0,
        )
    )
    events.append(RunFinished(run, "done", {"episodes": 1}, 1010.0))
    path = store.path / "journals" / run / "w0.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(encode, events)))


def _rows(conversation: Conversation, start: int) -> tuple[MessageRow, ...]:
    return tuple(
        MessageRow(seq, each.turn, each.step, each.author, each.message.to_openai(), each.heard, "")
        for seq, each in enumerate(conversation.tail(start), start)
    )
