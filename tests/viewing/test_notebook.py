"""What values show in a notebook: no script, nothing loaded, bounded, and hostile text as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

import simkit
from simkit.comparison import Comparison
from simkit.comparison.results import ArmScores, Difference
from simkit.core.html_text import LARGEST, Html, element, within
from simkit.errors import UsageError
from simkit.run.run import Run
from simkit.run.summary import summarise
from simkit.statistics.scores import Estimate
from simkit.store import EpisodeTree, QueryResult, ReadState, RunRow, Store, Transcript, TranscriptLine, TreeNode
from simkit.store.notebook import path_to_end
from simkit.store.tree_map import rows, tree_map
from simkit.viewing import notebook
from simkit.viewing.export import Choice, page_of

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror='alert(2)'>\"><a href=javascript:alert(3)>"
    "\x1b[31m\u202emoc.live\ud800&"
)


def html_of(value: object) -> str:
    """What a notebook shows of a value: a plain `str`, since marimo shows nothing for a text of another class."""
    html: str = methodcaller("_repr_html_")(value)
    assert type(html) is str
    return html


class Parsed(HTMLParser):
    """The tags, attributes and text of HTML; every element must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


TEXT_TAGS = {"b", "details", "div", "i", "p", "span", "summary", "table", "tbody", "td", "th", "thead", "tr"}
ALLOWED = {*TEXT_TAGS, "circle", "line", "path", "svg", "text", "title"}


def checked(html: str) -> Parsed:
    """The parsed HTML, of allowed elements and attributes only, within the size limit."""
    found = Parsed(html)
    assert {*found.tags} <= ALLOWED
    for name, value in found.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href", "class", "id")
        assert "url(" not in value
    assert len(html.encode()) <= LARGEST
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    return found


def node(
    number: int, turn: int, children: tuple[TreeNode, ...] = (), *, text: str = "yes", golden: bool = False
) -> TreeNode:
    calls = (f"find {text}",)
    goals = ("book",) if golden else ()
    return TreeNode(
        f"r/t/0/{number}.{turn}",
        str(number),
        turn,
        None,
        None,
        golden,
        golden,
        False,
        text,
        calls,
        goals,
        goals,
        children,
    )


def tree(root: TreeNode | None, *, text: str = "text") -> EpisodeTree:
    return EpisodeTree("r/t/0", "r", text, 0, 0.5, text, (text, "book"), ("book",), None, text, text, root, text)


def bushy(branches: int, wide: int) -> TreeNode:
    """A tree of many branches, whose first path is golden."""
    level = [node(number, 60, golden=number == 0) for number in range(wide)]
    made, turn = wide, 59
    while made < branches:
        above = [node(made + number, turn) for number in range(wide - 1)]
        level = [node(made + wide, turn, tuple(level), golden=True), *above]
        made, turn = made + wide, turn - 1
    return node(made + wide, turn, tuple(level), golden=True)


def line(text: str, author: str = "agent", heard: str | None = None) -> TranscriptLine:
    call = {"id": "1", "function": {"name": text[:90], "arguments": text}}
    return TranscriptLine("r/t/0/L.1", 1, 1, 0, author, heard, {"content": text, "tool_calls": [call]}, (text,))


def run_row(text: str) -> RunRow:
    return RunRow(text, text, text, text, 3, 0.5, None, 1, datetime(2026, 1, 2, tzinfo=UTC), 4.0)


def compared(text: str, differences: int = 2) -> Comparison:
    arms = tuple(
        ArmScores(
            name=text,
            runs=(text,),
            tasks=3,
            elsewhere=0,
            episodes=3,
            scored=3,
            faulted=0,
            scores=(),
            outcomes={text: 3, "b": 1},
        )
        for _ in range(2)
    )
    found = Difference(
        kind="overall", name=text, label=text, unit="points", reference=text, arm=text, tasks=3, pairs=3, left_out=0,
        before=0.1, after=0.3, estimate=Estimate(0.2, -0.1, 0.4), p=0.2, corrected=0.4, family=2, effect=0.1,
        effect_name="h", detectable=0.1, by_run=(), noise=None, guarded=False, outcomes=None, alpha=0.05,
    )  # fmt: skip
    many = (found,) * differences
    return Comparison(
        level=0.95, tasks=3, arms=arms, differences=many, places=many, groups=(), curves=(), noise=(),
        notes=(text,) * 9, claims=(text,) * differences,
    )  # fmt: skip


def result(text: str, rows: int = 1) -> QueryResult:
    return QueryResult(
        (text, "n"), ("VARCHAR", "DOUBLE"), [(text, 0.123456789)] * rows, ReadState(store=Path("s"), events=(text,))
    )


def shown(text: str) -> Iterator[tuple[str, str]]:
    talk = Transcript(
        text, tuple(line(text, author) for author in ("system", "user", "agent", "tool")), text, text, text
    )
    yield "tree", html_of(tree(node(1, 0, (node(2, 1, text=text), node(3, 1, text=text)), text=text), text=text))
    yield "empty", html_of(tree(None, text=text))
    yield "transcript", html_of(talk)
    yield "run", html_of(run_row(text))
    yield "comparison", html_of(compared(text))
    yield "result", html_of(result(text))
    yield "summary", html_of(summarise((), **{text: text}))


@pytest.mark.parametrize(("kind", "html"), [*shown(HOSTILE)], ids=lambda value: value if len(value) < 20 else "")
def test_hostile_text_is_shown_as_text(kind: str, html: str) -> None:
    text = checked(html).text
    assert "<script>alert(1)</script>" in text
    assert "\\x1b[31m\\u202emoc" in text


@pytest.mark.parametrize("html", [html for _, html in shown("x <" * 7_000_000)], ids=lambda _: "")
def test_long_text_is_cut(html: str) -> None:
    checked(html)


def test_many_messages_and_rows_are_cut_and_counted() -> None:
    talk = Transcript("b", tuple(line("word " * 500) for _ in range(300)))
    assert re.search(r"… \d+ more messages", checked(html_of(talk)).text)
    found = checked(html_of(result("a" * 290, 5_000))).text
    assert "5,000 rows, the first 200 shown" in found
    assert "2 more claims" not in checked(html_of(compared("word", 3))).text
    assert re.search(r"… \d+ more claims", checked(html_of(compared("word " * 300, 90))).text)


def test_parts_that_do_not_fit_are_counted_and_none_follows_them() -> None:
    parts = [element("b", "1"), element("b", "2" * 90), element("b", "3")]
    found = within(parts, 30, "more parts")
    assert Parsed(found).text == "1… 2 more parts"
    assert within(parts, 1_000, "more parts") == Html("".join(parts))


@pytest.mark.parametrize("branches", [1, 3, 900, 20_000])
def test_a_map_has_a_bounded_size_and_shows_the_golden_path_on_top(branches: int) -> None:
    root = bushy(branches, min(branches, 400))
    drawn = tree_map(root)
    assert len(drawn) < 100_000
    assert f"Map of {sum(1 for _ in every(root)):d} branches" in drawn
    golden = re.findall(r'd="([^"]+)" fill="none" stroke="#b8860b"', drawn)
    ends = re.findall(r"M\d+ (\d+)H\d+", golden[0]) if golden else []
    assert {*ends} <= {"24"}
    assert golden or branches == 1
    checked(html_of(tree(root)))


def every(root: TreeNode) -> Iterator[TreeNode]:
    pending = [root]
    while pending:
        yield pending[-1]
        pending.extend(pending.pop().children)


def test_equal_ways_are_one_line_and_goals_are_marked() -> None:
    children = (node(1, 1, golden=True), node(2, 1, text="no"), node(3, 1, text="no"), node(4, 1, text="else"))
    text = checked(html_of(tree(node(0, 0, children)))).text
    assert "3 other ways from here" in text
    assert "· ×2 find no" in text
    assert "· find else" in text
    assert "◆ book" in text
    assert "✗ text" in text
    assert "Golden path, 1 turns" in text


def test_what_the_user_did_not_hear_is_said() -> None:
    lines = (line("secret"), line("loud", heard="quiet"), line("same", heard="same"))
    text = checked(html_of(Transcript("b", lines))).text
    assert "agent, turn 1, not heard by the user" in text
    assert "heard as: quiet" in text
    assert text.count("heard") == 2


def test_a_run_shows_its_state_and_its_scores(tmp_path: Path) -> None:
    html = html_of(Run(store=tmp_path / "store", name="mine"))
    assert "mine" in html
    assert "0 of 0 planned" in checked(html).text


# --- pages in a frame -------------------------------------------------------------------------------------------------


def test_a_frame_holds_the_exported_page_and_runs_apart(played: Path) -> None:
    store = Store(played)
    tree = store.tree("trees", "train-00001")
    frame = simkit.view(tree, store=store, height=500)
    with store.reading() as reader:
        assert frame.page == page_of(reader, Choice(run=tree.run_id, episodes=("train-00001/0",)))
    found = Parsed(html_of(frame))
    assert found.tags == ["iframe"]
    attributes = dict(found.attributes)
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == frame.page
    assert "height:500px" in attributes["style"]
    assert "<" not in repr(frame)


def test_what_a_frame_opens(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(played)
    run = store.resolve("trees")
    root = store.tree("trees", "train-00001").root
    assert root is not None
    branch = next(each for each in every(root) if not each.children)

    def start(*what: Any, **options: Any) -> str:
        (found,) = re.findall(r'"start":"([^"]+)"', simkit.view(*what, **options).page)
        return found

    one = f"/runs/{run.run_id}/train-00001/0"
    assert start(run, store=played) == f"/runs/{run.run_id}"
    assert start("trees", "train-00001/0", store=str(played)) == one
    tail = branch.branch_id.rpartition("/")[2]
    assert start(store.transcript(branch.branch_id), store=store) == f"{one}?at={tail}"
    monkeypatch.setenv("SIMKIT_STORE", str(played))
    assert start("before", "test-00001", compare="after").startswith("/compare?")
    monkeypatch.setattr(notebook, "LARGEST_FRAME", 1_000)
    with pytest.raises(UsageError, match="too much for a notebook"):
        simkit.view("trees")


def test_attributes_cannot_be_left() -> None:
    assert element("p", title='"><b>') == '<p title="&quot;&gt;&lt;b&gt;"></p>'


def test_the_golden_branch_is_on_top_wherever_it_stands() -> None:
    first, second = node(1, 1, (node(2, 2),)), node(3, 1, (node(4, 2, golden=True), node(5, 2)), golden=True)
    found = rows(node(0, 0, (first, second), golden=True))
    assert [found[f"r/t/0/{name}"] for name in ("0.0", "3.1", "4.2", "5.2", "1.1", "2.2")] == [0, 0, 0, 1, 2, 2]
    assert path_to_end(node(0, 0, (first, second)))[-1].branch_id == "r/t/0/4.2"
    assert path_to_end(node(0, 0, (first, second)), "r/t/0/1.1")[-1].branch_id == "r/t/0/2.2"
