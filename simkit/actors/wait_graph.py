"""Who waits for whom among actors, and whether a new wait would never end.

A `Job` is one message at one actor. A job that asks waits, with every job it is itself part of, at the post it asked.
A post is stuck when each message it is handling waits at a stuck post. A wait that would be stuck is refused before it
begins, so no cycle ever comes to stand; waits that can still end (a free slot, a handler that runs) are never refused.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol

import anyio

from simkit.actors.abandon import Leash
from simkit.errors import AskCycle


class Post(Protocol):
    """What is known of an actor here."""

    name: str
    entered: bool
    """False until the actor's own `__aenter__` is done: whoever waits for that is not stuck."""

    @property
    def tick(self) -> int:
        """How far the clock of its scope is."""
        ...

    deadline: bool
    """Whether its answers are awaited for a limited time only."""

    serving: dict[Job, None]
    """The jobs being handled, oldest first."""


class Job:
    """One message on its way through one actor.

    `parent` is the job whose handler sent it and cannot end before it; `waits` are the waits of this job and of all
    jobs below it; `task` is the id of the task that runs it. The rest is for deadlines (`simkit/actors/deadlines.py`):
    `began` is the tick at which it began, moved on while it is `held` by something that has time limits of its own;
    `overdue` says that its deadline has passed and `stood` where it waited then, `leash` is the handler while it waits.
    """

    __slots__ = ("began", "finished", "held", "leash", "overdue", "parent", "post", "scope", "stood", "task", "waits")

    def __init__(self, post: Post, parent: Job | None, task: int, scope: anyio.CancelScope, began: int = 0) -> None:
        self.post = post
        self.parent = parent
        self.task = task
        self.scope = scope
        self.began = began
        self.finished = False
        self.held = 0
        self.overdue = False
        self.stood = ""
        self.leash: Leash | None = None
        self.waits: list[_Wait] = []

    def restart(self) -> None:
        """Count its time from now on."""
        self.began = self.post.tick

    def lineage(self) -> Iterator[Job]:
        """This job and those it is part of, innermost first."""
        job: Job | None = self
        while job is not None:
            yield job
            job = job.parent


class _Wait:
    __slots__ = ("job", "post")

    def __init__(self, job: Job, post: Post) -> None:
        self.job = job
        self.post = post

    def names_from(self, job: Job) -> list[str]:
        """The actors from `job` down to the one that waits."""
        names: list[str] = []
        for each in self.job.lineage():
            names.append(each.post.name)
            if each is job:
                break
        return names[::-1]


@contextmanager
def waiting(job: Job | None, post: Post) -> Generator[None]:
    """Note that `job` waits at `post`; None is somebody who holds up no actor.

    Raises:
        AskCycle: the wait would never end; names the actors of the cycle.
    """
    if job is None:
        yield
        return
    wait = _Wait(job, post)
    for each in job.lineage():
        each.waits.append(wait)
    try:
        if stuck := _stuck_with(post):
            chain = " -> ".join(_chain(post, stuck))
            raise AskCycle(
                f"asking `{post.name}` would wait for itself: {chain}; "
                "answer from the state at hand, or give one of them a higher `concurrency`"
            )
        yield
    finally:
        for each in job.lineage():
            each.waits.remove(wait)


def runs_within(job: Job) -> bool:
    """Whether the current task belongs to the task of `job`, through task groups that its handler has to leave."""
    info = anyio.get_current_task()
    if info.parent_id is None or info.parent_id == job.task:
        return info.parent_id is not None
    parents = {each.id: each.parent_id for each in anyio.get_running_tasks()}
    above: int | None = info.parent_id
    while above is not None and above != job.task:
        above = parents.get(above)
    return above is not None


def _can_run(post: Post) -> bool:
    return not post.entered or any(not job.waits for job in post.serving)


def _stuck_with(start: Post) -> set[Post]:
    """The posts that can never serve again, when `start` is one of them; else nothing."""
    if _can_run(start):
        return set()
    stuck = _reachable(start)
    while True:
        freed = {post for post in stuck if _may_end(post, stuck)}
        if start in freed:
            return set()
        if not freed:
            return stuck
        stuck -= freed


def _may_end(post: Post, stuck: set[Post]) -> bool:
    return _can_run(post) or any(all(wait.post not in stuck for wait in job.waits) for job in post.serving)


def _reachable(start: Post) -> set[Post]:
    found = {start}
    todo = [start]
    while todo:
        for job in todo.pop().serving:
            new = {wait.post for wait in job.waits} - found
            found |= new
            todo.extend(new)
    return found


def _chain(start: Post, stuck: set[Post]) -> list[str]:
    """The names along one cycle through stuck posts, the first one repeated at the end."""
    names: list[str] = []
    seen: dict[Post, int] = {}
    post: Post = start
    while post not in seen:
        seen[post] = len(names)
        job: Job = next(iter(post.serving))
        wait: _Wait = next(wait for wait in job.waits if wait.post in stuck)
        names += wait.names_from(job)
        post = wait.post
    return [*names[seen[post] :], post.name]
