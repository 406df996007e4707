"""HTML for notebooks: static, styled inline, without scripts, and of a bounded size.

Colours come from the page around it: text is the notebook's own, lines are shades of it, and the few accents keep a
contrast of 3 to 1 on white and on black. So it is readable in light and dark themes, which it cannot ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from simkit.core.safe_text import visible, visible_line
from simkit.core.text_table import Table

LARGEST = 200_000
"""Maximum size of what an object shows in a notebook, in bytes."""

GOLD, GOOD, BAD, ACCENT = "#b8860b", "#2e8b6f", "#d0453f", "#5b6ee1"
FAINT = "opacity:.7"
MONO = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.92em"
LINE = "rgba(128,128,128,.35)"
SHADE = "background:rgba(128,128,128,.1)"

_CELL = "padding:2px 10px 2px 0;vertical-align:top;background:none;border:0;white-space:nowrap"


class Html(str):
    """Text that is HTML already. Everything else that `element` is given is escaped.

    A notebook gets it as a plain `str`: marimo shows nothing for a text of another class.
    """

    __slots__ = ()


def element(name: str, *content: str, **attributes: str | float) -> Html:
    """An element; text in it is escaped, and characters that are invisible or reorder text are shown as escapes.

    Args:
        name: its tag.
        content: text, or `Html` of other elements.
        attributes: by name, with `_` for `-`, as in `stroke_width=2`.
    """
    named = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(visible(str(value)))}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{named}>{joined(content)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """Parts one after another; those that are no `Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(visible(part)) for part in parts))


def details(title: str, *content: str) -> Html:
    """A part that opens on a click."""
    return element("details", element("summary", title, style="cursor:pointer;margin:4px 0"), *content)


def table(found: Table, *, longest: int = 300) -> Html:
    """A table; cells are cut to `longest` characters."""
    sides = ["text-align:right" if column.right else "text-align:left" for column in found.columns]
    head = joined(
        element("th", one_line(column.name), style=f"{_CELL};{side};font-weight:600;border-bottom:1px solid {LINE}")
        for column, side in zip(found.columns, sides, strict=True)
    )
    body = joined(element("tr", joined(_cells(row, sides, longest)), style="background:none") for row in found.rows)
    style = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:4px 0 8px"
    return element("table", element("thead", element("tr", head)), element("tbody", body), style=style)


def _cells(row: Sequence[str], sides: Sequence[str], longest: int) -> Iterable[Html]:
    for cell, side in zip(row, sides, strict=True):
        yield element("td", one_line(cell, longest), style=f"{_CELL};{side}")


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and the number of characters left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest:,} more characters)"


def one_line(text: str, longest: int = 200) -> str:
    """The text on one line, shortened, with what is invisible as escapes."""
    return visible_line(shortened(text, longest))


def within(parts: Iterable[Html], room: int, rest: str) -> Html:
    """As many of the parts, in order, as fit into `room` bytes, and the number of the others.

    Args:
        parts: the parts.
        room: size in bytes.
        rest: what is said of the others: `more messages`.
    """
    kept: list[Html] = []
    left = 0
    for part in parts:
        size = len(part.encode())
        if left or size > room:
            left += 1
        else:
            kept.append(part)
            room -= size
    if left:
        kept.append(element("p", f"… {left:,} {rest}", style=FAINT))
    return joined(kept)


def framed(*content: str, label: str) -> Html:
    """The whole of what an object shows, with its name for screen readers; a note if that were more than `LARGEST`."""
    style = "color:inherit;font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;max-width:900px"
    whole = element("div", *content, style=style, role="region", aria_label=one_line(label))
    size = len(whole.encode())
    return whole if size <= LARGEST else framed(f"{label[:200]}: too large to show here ({size:,} bytes)", label=label)
