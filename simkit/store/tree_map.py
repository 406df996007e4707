"""A drawing of a tree as SVG: the golden path on top, each branch in the row of its first child, no crossing lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simkit.core.html_text import BAD, FAINT, GOLD, GOOD, Html, element, joined
from simkit.store.tree_view import TreeNode

WIDTH, HEIGHT = 760, 230
_LEFT, _TOP, _ROW = 8, 24, 16
DIAMONDS = 200
"""Maximum number of turns that are marked for what they earned."""

_KINDS = ("other", "successful", "fault", "golden")
_LOOKS = {
    "other": {"stroke": "currentColor", "stroke_opacity": 0.35, "stroke_width": 1},
    "successful": {"stroke": GOOD, "stroke_width": 1.4},
    "fault": {"stroke": BAD, "stroke_width": 1.6, "stroke_dasharray": "3 2"},
    "golden": {"stroke": GOLD, "stroke_width": 3},
}


def kind_of(node: TreeNode) -> str:
    """How a branch is drawn: `golden`, `successful`, `fault` or `other`."""
    if node.outcome and node.outcome.endswith("_fault"):
        return "fault"
    return "golden" if node.golden else "successful" if node.successful else "other"


def ordered(children: Sequence[TreeNode]) -> list[TreeNode]:
    """Children as they are drawn: golden ones first, then successful ones, each from left to right."""
    return sorted(children, key=lambda child: (not child.golden, not child.successful))


def all_nodes(root: TreeNode) -> Iterator[TreeNode]:
    """All branches of a tree, parents first."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.children)


def rows(root: TreeNode) -> dict[str, int]:
    """The row of each branch by id. Forks nearest to the end of a row follow it first, so that no lines cross."""
    found: dict[str, int] = {}
    pending, row = [root], 0
    while pending:
        node = pending.pop()
        chain = [node]
        while chain[-1].children:
            chain.append(ordered(chain[-1].children)[0])
        for each in chain:
            found[each.branch_id] = row
            pending.extend(reversed(ordered(each.children)[1:]))
        row += 1
    return found


def tree_map(root: TreeNode) -> Html:
    """The drawing of a tree. Its size in bytes is bounded by its size in pixels, whatever the number of branches."""
    nodes, row = list(all_nodes(root)), rows(root)
    turns = max(1, *(node.turn for node in nodes))
    depth = max(row.values())
    height = min(HEIGHT, max(56, _TOP + depth * _ROW + 12))
    across = (WIDTH - 2 * _LEFT) / turns
    down = min(_ROW, (height - _TOP - 10) / max(1, depth))
    places = {
        node.branch_id: (round(_LEFT + node.turn * across), round(_TOP + row[node.branch_id] * down)) for node in nodes
    }
    lines: dict[str, dict[str, None]] = {kind: {} for kind in _KINDS}  # as sets that keep their order
    for node in nodes:
        for kind, line in _lines(node, places):
            lines[kind][line] = None
    paths = (element("path", d="".join(lines[kind]), fill="none", **_LOOKS[kind]) for kind in _KINDS if lines[kind])
    earned = [node for node in nodes if node.credited][:DIAMONDS]
    label = f"Map of {len(nodes)} branches over {turns} turns, with the golden path on top"
    return element(
        "svg",
        joined(_axis(turns, across)),
        *paths,
        *(_diamond(node, *places[node.branch_id]) for node in earned),
        viewBox=f"0 0 {WIDTH} {height}",
        style=f"width:100%;max-width:{WIDTH}px;height:auto;display:block",
        role="img",
        aria_label=label,
    )


def _lines(node: TreeNode, places: dict[str, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """The lines from a branch to its children: one down for each kind, and one across for each child."""
    x, y = places[node.branch_id]
    lowest: dict[str, int] = {}
    for child in node.children:
        kind, (right, bottom) = kind_of(child), places[child.branch_id]
        lowest[kind] = max(lowest.get(kind, y), bottom)
        yield kind, f"M{x} {bottom}H{right}"
    for kind, bottom in lowest.items():
        if bottom > y:
            yield kind, f"M{x} {y}V{bottom}"


def _axis(turns: int, across: float) -> Iterator[Html]:
    every = max(1, round(34 / across))
    for turn in range(0, turns + 1, every):
        x = round(_LEFT + turn * across)
        anchor = "start" if not turn else "end" if turn == turns else "middle"
        text = str(turn) if turn else "turn 0"
        yield element("text", text, x=x, y=11, fill="currentColor", font_size=10, text_anchor=anchor, style=FAINT)


def _diamond(node: TreeNode, x: int, y: int) -> Html:
    title = element("title", f"{', '.join(node.credited)[:200]}: turn {node.turn}")
    return element("path", title, d=f"M{x} {y - 5}l5 5-5 5-5-5z", fill=GOLD)
