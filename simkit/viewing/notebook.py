"""The viewer's pages inside a notebook: an exported page in a frame that reaches nothing outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from simkit.errors import UsageError
from simkit.run.run import Run
from simkit.run.settings import read_settings
from simkit.store import EpisodeTree, RunRow, Store, Transcript
from simkit.viewing.export import Choice, page_of

LARGEST_FRAME = 20_000_000
"""Maximum bytes of a page in a notebook, whose file holds it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Pages of the viewer, which a notebook shows where this is the value of a cell.

    Attributes:
        page: the whole page as HTML.
        height: height of the frame in pixels.
    """

    page: str = field(repr=False)
    height: int = 640

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{self.height}px;border:1px solid rgba(128,128,128,.35);border-radius:8px"
        frame = f'<iframe title="simkit view" sandbox="allow-scripts" style="{style}"'
        return f'{frame} srcdoc="{escape(self.page)}"></iframe>'


def view(
    what: Run | RunRow | EpisodeTree | Transcript | str = "last",
    *episodes: str,
    store: Store | Path | str | None = None,
    compare: str | None = None,
    all_branches: bool = False,
    redact: Sequence[str] = (),
    height: int = 640,
) -> Frame:
    """Pages of a run, an episode or a conversation, for a notebook. What they show is stored in the notebook's file.

    Args:
        what: a run (or its id, its name, the beginning of either, `last`), an episode's tree, or a conversation.
        episodes: of a run, the episodes to show, as task/trial; none for all.
        store: the store that it is read from; by default that of the run, or SIMKIT_STORE.
        compare: another run, to compare with.
        all_branches: every conversation of a tree, not only golden and final ones.
        redact: regular expressions whose matches are left out of all texts.
        height: height in pixels.

    Raises:
        UsageError: there is no such run or episode, an expression is wrong, or the pages have more than 20 MB.
        StoreError: the store cannot be read.
    """
    with _store_of(what, store).reading(allow_incomplete=True) as reader:
        run, named, at = _place(what)
        choice = Choice(
            run=reader.resolve(run).run_id,
            episodes=named or episodes,
            compare=None if compare is None else reader.resolve(compare).run_id,
            all_branches=all_branches or bool(at),
            redact=tuple(redact),
            at=at,
        )
        page = page_of(reader, choice)
    if len(page) > LARGEST_FRAME:
        raise UsageError(
            f"the pages of {run} have {len(page) / 1e6:.0f} MB, too much for a notebook; name episodes, as in "
            "simkit.view(run, 'TASK/TRIAL'), or write them with `simkit view RUN --export FILE`"
        )
    return Frame(page, height)


def _store_of(what: object, store: Store | Path | str | None) -> Store:
    if store is None:
        store = what.store if isinstance(what, Run) else read_settings().store
    return store if isinstance(store, Store) else Store(store)


def _place(what: Run | RunRow | EpisodeTree | Transcript | str) -> tuple[str, tuple[str, ...], str]:
    """The run, the episode, and the branch as path.turn, as far as there is one."""
    match what:
        case str():
            return what, (), ""
        case Run():
            return what.id, (), ""
        case RunRow():
            return what.run_id, (), ""
        case EpisodeTree():
            return what.run_id, (f"{what.task_id}/{what.trial}",), ""
        case Transcript():
            run, _, rest = what.branch_id.partition("/")
            episode, _, branch = rest.rpartition("/")
            return run, (episode,), branch
