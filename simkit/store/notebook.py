"""What values read from a store show in a notebook: HTML without scripts, at most `LARGEST` bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from simkit.core.html_text import (
    BAD,
    FAINT,
    GOLD,
    GOOD,
    LARGEST,
    LINE,
    MONO,
    SHADE,
    Html,
    details,
    element,
    framed,
    joined,
    one_line,
    shortened,
    table,
    within,
)
from simkit.core.text_table import Column, Table, cut
from simkit.store.reader import QueryResult
from simkit.store.tree_map import all_nodes, kind_of, ordered, tree_map
from simkit.store.tree_view import EpisodeTree, RunRow, Transcript, TranscriptLine, TreeNode

ROWS = 200
"""Maximum number of rows shown of a query's result."""

LONGEST = 4_000
"""Maximum characters shown of one message."""

WAYS = 12
"""Maximum number of other ways shown at a turn."""

_ROOM = LARGEST - 20_000  # for what stands around the messages
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere"
_BOX = f"{_TEXT};{SHADE};border-radius:6px;padding:4px 8px;margin:2px 0"
_CODE = f"{_BOX};{MONO}"


def run_html(run: RunRow) -> Html:
    """A run as a line of numbers."""
    names = ("run", "name", "recipe", "status", "episodes", "reward", "success", "faults", "started (UTC)", "time")
    cells = (
        run.run_id,
        run.name,
        run.recipe,
        run.status,
        run.counted,
        _number(run.average_reward),
        _number(run.success_rate),
        str(run.faults),
        f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        "" if run.seconds is None else f"{run.seconds:.1f} s",
    )
    columns = tuple(Column(name, right=name in ("episodes", "reward", "success", "faults", "time")) for name in names)
    return framed(table(Table(columns, (cells,))), label=f"Run {run.run_id}")


def result_html(result: QueryResult) -> Html:
    """The first rows of a result, and the notes on what it may lack."""
    columns = tuple(
        Column(name, right=kind in _NUMBERS or kind.startswith("DECIMAL"))
        for name, kind in zip(result.columns, result.types, strict=True)
    )
    shown, room = list[tuple[str, ...]](), _ROOM
    for row in result.rows[:ROWS]:
        cells = tuple(shortened(_cell(value), 300) for value in row)
        room -= sum(len(cell.encode(errors="replace")) * 2 + 100 for cell in cells)
        if room < 0:
            break
        shown.append(cells)
    left = len(result.rows) - len(shown)
    total = f"{len(result.rows):,} {'row' if len(result.rows) == 1 else 'rows'}"
    count = f"{total}, the first {len(shown)} shown" if left else total
    notes = joined(element("p", f"note: {one_line(note, 2_000)}", style="margin:2px 0") for note in result.notes[:20])
    return framed(
        element("div", table(Table(columns, tuple(shown))), style="overflow-x:auto"),
        element("p", count, style=f"margin:2px 0;{FAINT}"),
        notes,
        label="Result of a query",
    )


_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "UINTEGER", "FLOAT", "DOUBLE"}


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# --- an episode -------------------------------------------------------------------------------------------------------


def tree_html(tree: EpisodeTree) -> Html:
    """An episode: its reward and goals, a map of the tree, and the turns of its golden (or final) path."""
    reward = "not scored" if tree.reward is None else f"reward {tree.reward:.3f}"
    goals = f"{len(tree.achieved)} of {len(tree.goals)} goals"
    head = [
        element("b", one_line(f"{tree.task_id}/{tree.trial}")),
        element("span", f"  {reward}, {goals}, {one_line(tree.outcome or 'running')}", style=FAINT),
        element("div", joined(_goals(tree)), style="margin:4px 0"),
    ]
    if tree.instructions:
        head.append(
            details("What the user was told to want", element("div", shortened(tree.instructions, LONGEST), style=_BOX))
        )
    if tree.error:
        head.append(element("p", f"✗ {one_line(tree.error, LONGEST)}", style=f"color:{BAD};margin:2px 0"))
    if tree.traceback:
        head.append(details("Traceback", element("div", shortened(tree.traceback, LONGEST), style=_CODE)))
    label = f"Episode {tree.episode_id}"
    if tree.root is None:
        return framed(*head, element("p", "nothing of it has been recorded yet", style=FAINT), label=label)
    path = path_to_end(tree.root, tree.final_branch_id)
    nodes = list(all_nodes(tree.root))
    ends = sum(not node.children for node in nodes)
    size = element("p", f"{len(nodes):,} branches, {ends:,} ends", style=f"margin:2px 0;{FAINT}")
    drawn = joined((size, tree_map(tree.root))) if len(nodes) > len(path) else Html("")
    room = LARGEST - 2_000 - len(joined(head).encode()) - len(drawn.encode())
    name = "Golden path" if path[-1].golden else "Path to the end"
    turns = within(_turns(path), room, "more turns; `simkit show` prints them all")
    return framed(*head, drawn, details(f"{name}, {path[-1].turn} turns", turns), label=label)


def _goals(tree: EpisodeTree) -> Iterator[Html]:
    left = list(tree.achieved)
    for goal in tree.goals[:60]:
        reached = goal in left
        if reached:
            left.remove(goal)
        mark, colour = ("◆", GOLD) if reached else ("✗", BAD)
        sign = element("span", mark, style=f"color:{colour}")
        yield element(
            "span",
            sign,
            f" {one_line(goal, 200)}",
            style=f"{SHADE};border-radius:9px;padding:1px 8px;margin-right:5px",
        )


def path_to_end(root: TreeNode, final: str | None = None) -> list[TreeNode]:
    """The branches from the root to the named end, or else along the golden (first successful, first) children."""
    above: dict[str, TreeNode] = {}
    nodes: dict[str, TreeNode] = {}
    for node in all_nodes(root):
        nodes[node.branch_id] = node
        above.update((child.branch_id, node) for child in node.children)
    path = [nodes[final]] if final in nodes else [root]
    while (parent := above.get(path[0].branch_id)) is not None:
        path.insert(0, parent)
    while path[-1].children:
        path.append(ordered(path[-1].children)[0])
    return path


def _turns(path: Sequence[TreeNode]) -> Iterator[Html]:
    for place, node in enumerate(path):
        if not (node.turn or node.calls or node.said or node.error):
            continue  # the root before the agent's first turn
        others = [each for each in ordered(path[place - 1].children) if each is not node] if place else []
        yield element(
            "div",
            _turn_head(node),
            *(element("div", f"→ {shortened(call, LONGEST)}", style=_CODE) for call in node.calls[:20]),
            element("div", shortened(node.said, LONGEST), style=_BOX) if node.said else "",
            _ways(others) if others else "",
            element("div", f"✗ {one_line(node.error, LONGEST)}", style=f"color:{BAD}") if node.error else "",
            style=f"border-top:1px solid {LINE};padding:3px 0",
        )


def _turn_head(node: TreeNode) -> Html:
    earned = ", ".join(node.credited or node.goals)
    ended = f"  {node.outcome}" if node.outcome else ""
    return element(
        "div",
        element("b", f"turn {node.turn}"),
        element("span", f"  {one_line(node.path)}.{node.turn}", style=FAINT),
        element("span", "  ◆ ", style=f"color:{GOLD}") if earned else "",
        one_line(earned, 300),
        one_line(ended),
    )


def _ways(others: Sequence[TreeNode]) -> Html:
    """What the other branches of a turn did, equal acts as one line."""
    same: dict[tuple[str, str], int] = {}
    for other in others:
        key = (_act(other), kind_of(other))
        same[key] = same.get(key, 0) + 1
    lines = [_way(act, kind, count) for (act, kind), count in [*same.items()][:WAYS]]
    if len(same) > WAYS:
        lines.append(element("div", f"… {len(same) - WAYS} more", style=FAINT))
    return details(f"{len(others)} other {'way' if len(others) == 1 else 'ways'} from here", *lines)


_FATES = {"golden": ("★", GOLD), "successful": ("+", GOOD), "fault": ("✗", BAD), "other": ("·", "inherit")}


def _way(act: str, kind: str, count: int) -> Html:
    mark, colour = _FATES[kind]
    times = f" ×{count}" if count > 1 else ""
    return element("div", element("span", mark, style=f"color:{colour}", title=kind), f"{times} {act}", style=_CODE)


def _act(node: TreeNode) -> str:
    """What a branch did: its calls, or else what it said."""
    return one_line("; ".join(node.calls) or node.said or "(said nothing)", 200)


# --- a conversation ---------------------------------------------------------------------------------------------------


def transcript_html(transcript: Transcript) -> Html:
    """A conversation: messages in order, tool results and system prompts folded."""
    head = element("b", one_line(transcript.branch_id))
    end = [element("p", element("i", f"ended: {one_line(transcript.outcome)}"))] if transcript.outcome else []
    if transcript.error:
        end.append(element("p", f"✗ {one_line(transcript.error, LONGEST)}", style=f"color:{BAD}"))
    if transcript.traceback:
        end.append(details("Traceback", element("div", shortened(transcript.traceback, LONGEST), style=_CODE)))
    rest = "more messages; `lines` holds them all"
    lines = within(map(_message, transcript.lines), _ROOM - len(joined(end).encode()), rest)
    return framed(head, lines, *end, label=f"Conversation {transcript.branch_id}")


def _message(line: TranscriptLine) -> Html:
    content = line.message.get("content")
    said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
    if line.author in ("system", "tool", "user_tool"):
        title = f"{line.author}: {cut(said[:400], 90)}"
        return details(title, element("div", shortened(said, LONGEST), style=_CODE))
    style = f"{_BOX};margin-left:12%" if line.author == "user" else _BOX
    return element(
        "div",
        element(
            "div", f"{one_line(line.author)}, turn {line.turn}", _heard(line, said), style=f"{FAINT};margin-top:6px"
        ),
        element("div", shortened(said, LONGEST), style=style) if said else "",
        *_calls(line),
        *(element("div", f"⚑ {one_line(flag, 300)}", style=f"color:{BAD}") for flag in line.flags[:20]),
    )


def _heard(line: TranscriptLine, said: str) -> str:
    """What the user heard of an agent's message, where it differs."""
    if line.author != "agent" or line.heard == said or not said:
        return ""
    return ", not heard by the user" if line.heard is None else f", heard as: {one_line(line.heard, 300)}"


def _calls(line: TranscriptLine) -> Iterator[Html]:
    for call in (line.message.get("tool_calls") or ())[:50]:
        function = call["function"]
        yield element("div", f"→ {function['name']}({shortened(str(function['arguments']), LONGEST)})", style=_CODE)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
