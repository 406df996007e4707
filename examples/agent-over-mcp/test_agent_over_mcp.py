"""The librarian over the MCP server, in conversations and in trees: `pytest` here."""

from __future__ import annotations

from librarian import Absent, Librarian
from library import WISHES, Library, Reader

from simkit import BeamSearch, Josh, Limits

FOUND = "select distinct result from tool_calls where name = 'find_books'"


def test_the_model_forgets_some_readers(simkit_play) -> None:
    """Each conversation begins with an empty file, so that the readers get their book unless the model forgets them."""
    played = simkit_play(Librarian(Absent()), world=Library(), user=Reader(), tasks=4, seed=1)
    assert set(played.rewards) == {0.0, 1.0}
    assert played.said("user")[0] == f"Hello, do you have books by {WISHES[0][0]}?"


def test_a_tree_finds_a_way_and_no_branch_sees_another(simkit_play, simkit_store) -> None:
    """Branches fork within turns; every one of them finds both books of the author on the shelf."""
    search = Josh(BeamSearch(beam=4), Limits(turns=3))
    played = simkit_play(Librarian(Absent()), world=Library(), user=Reader(), tasks=1, search=search, seed=1)
    assert played.rewards == [1.0]
    assert played.episodes[0].branches > 4
    assert simkit_store.query(FOUND).rows == [('{"result":["The Dispossessed","The Left Hand of Darkness"]}',)]
