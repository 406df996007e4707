"""Marks by which the notations of tool calls are recognized in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_MARKS: Mapping[str, str] = {
    "atem": r"(?:(?:\A|<\|start\|>assistant)\s*+to=[\w.-]++<\|message\|>\s*+)?<atem:(?:function_calls>|invoke name=)",
    "harmony": r"(?:<\|channel\|>|assistant)?commentary to=(?=[\w.]+)"
    r"|(?:\A|<\|start\|>assistant)\s*+to=(?=[\w.-]++\s*+<\|)",
    "deepseek": r"<[|｜]tool[▁_]calls?[▁_]begin[|｜]>|<[|｜]DSML[|｜](?:function_calls|tool_calls|invoke)",
    "kimi": r"<\|tool_calls?_(?:section_)?begin\|>",
    "gemma": r"<\|tool_call>|<start_function_call>|```tool_code\b",
    "mistral": r"\[TOOL_CALLS\]",
    "llama": r"<\|python_tag\|>",
    "cohere": r"<\|START_ACTION\|>",
    "internlm": r"<\|action_start\|>",
    "apertus": r"<\|tools_prefix\|>",
    "lfm": r"<\|tool_call_start\|>",
    "granite": r"<\|tool_call\|>|<function_call>|<functioncall>",
    "phi": r"functools(?=\[)",
    "minimax": r"<minimax:tool_call>|<(?:\w+:)?function_calls>|<(?:\w+:)?invoke name=",
    "xml": r"<(?:\w+:)?tool_call>\s*(?=<function[= ])|<function[= ](?=[\w.\"'-]+)",
    "glm": r"<tool_call>(?=\s*[\w.-]+\s*(?:<arg_key>|</tool_call>))",
    "hermes": r"<(?:\w+[:_])?tool_calls?>|<TOOLCALL>|<tool_use>",
}
"""Marks of notations. The first that fits decides the name; the calls are read in the same way for all of them."""

_MARK = re.compile("|".join(f"(?P<{name}>{mark})" for name, mark in _MARKS.items()))
MAY_BE_MARK = re.compile(
    r"<(?:[|｜](?:tool|python_tag|START_ACTION|action_start|channel\|>commentary|start\|>assistant|DSML)|start_function"
    r"|(?:\w{1,20}[:_])?(?:tool|function|TOOLCALL|invoke))|\[TOOL_CALLS|```tool_code|functools\[|\A\s*+to="
    r"|(?:assistant)?commentary to="
)
"""Where a mark may begin. It looks at each character once, so that a long text is searched in a millisecond."""


def marks(text: str, at: int = 0) -> Iterator[re.Match[str]]:
    """The marks of notations from a position on; `lastgroup` names the notation."""
    for place in MAY_BE_MARK.finditer(text, at):
        if mark := _MARK.match(text, place.start()):
            yield mark


class MarkScan:
    """The next mark after a position, for positions that mostly grow: each mark is looked for once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._from, self._next = 0, -1

    def next(self, at: int) -> int:
        """Where the first mark at or after a position begins; the length of the text if there is none."""
        if not self._from <= at <= self._next:
            found = next(marks(self._text, at), None)
            self._from, self._next = at, len(self._text) if found is None else found.start()
        return self._next
