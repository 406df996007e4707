"""Reasoning of models: text that a model wrote for itself, which is never spoken.

A message holds it once, as its extra field `reasoning_content`. Servers without a reasoning parser leave it at the
beginning of the text, between marks that depend on the model. Marks in code, in quotation marks, or in the middle of an
answer are ordinary words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from simkit.core.call_arguments import objects
from simkit.core.messages import AssistantMessage, Message

FIELD = "reasoning_content"
"""Extra field of an assistant message that holds its reasoning, as text."""

_NAME = r"(?:[a-z]+:|[a-z]+_|ant)?(?:think(?:ing)?|thoughts?|reasoning|scratch_?pad|inner_monologue|analysis)"
_PAIRS = (
    (rf"<[ \t]*(?P<name>{_NAME})(?:[ \t\n][^<>\n]*)?>", rf"<[ \t]*/[ \t]*{_NAME}[ \t]*>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"<\|channel>(?:thought|analysis)?", r"<channel\|>"),
    (r"Here(?: is|'s) my thought process:", r"Here(?: is|'s) my response:"),
)
"""Marks before and after reasoning, by family of models."""

_OPENING = re.compile(
    r"\s*(?:" + "|".join(f"(?P<f{i}>{pair[0]})" for i, pair in enumerate(_PAIRS)) + ")", re.IGNORECASE
)
_CLOSING = tuple(re.compile(closing, re.IGNORECASE) for _, closing in _PAIRS)
_MARK = re.compile(
    "|".join(
        f"(?P<open{i}>{opening})|(?P<close{i}>{closing})" for i, (opening, closing) in enumerate(_PAIRS[:-1])
    ).replace("?P<name>", "?:"),
    re.IGNORECASE,
)
_EMPTY = re.compile(rf"\s*<[ \t]*{_NAME}[ \t]*/>", re.IGNORECASE)
_ANSWER = re.compile(
    r"<(?:(?P<tag>answer|response|final|output)>|\|START_RESPONSE\|>|\|begin_of_solution\|>)(?P<text>.*?)"
    r"(?:</(?P=tag)>|<\|END_RESPONSE\|>|<\|end_of_solution\|>)?",
    re.DOTALL | re.IGNORECASE,
)
_PLAIN_STARTS = ("analysis", "Here is my thought", "Here's my thought")
_LONGEST_MARK = 40
_MENTION = re.compile(r" [a-z]|[.,;:!?)]")
_QUOTES = "`'\"“”‘’«»"
_OPEN_QUOTES = "“‘«"
_MOST_UNCLOSED = 8  # names of marks whose own closing mark is looked for in vain; then any of the family closes

_HARMONY = re.compile(
    r"(?:\A\s*|(?:(?P<recipient>(?:\A|<\|start\|>assistant)\s*to=[\w.-]+)\s*)?<\|channel\|>\s*)"
    r"(?P<channel>analysis|commentary|final)(?P<to>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?P<end><\|(?:end|return|call)\|>|(?=<\|(?:start|channel)\|>)|\Z)",
    re.DOTALL,
)
_RECIPIENT = re.compile(
    r"(?:\A|<\|start\|>assistant)\s*to=(?P<to>[\w.-]+)<\|message\|>(?P<text>.*?)(?:<\|(?:eom|eot)\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)
_BARE_HARMONY = re.compile(
    r"\A\s*analysis(?P<thought>.*?)assistant(?:final|(?=commentary to=))(?P<rest>.*)\Z", re.DOTALL
)
_HARMONY_ROLE = re.compile(r"(?:<\|end\|>\s*)?(?:<\|start\|>\s*assistant\s*)?\Z")
_HARMONY_MARKS = re.compile(r"<\|(?:start|channel|message|end|return)\|>")


def reasoning_of(message: Message) -> str | None:
    """The reasoning of a message; None if it has none."""
    extra = message.model_extra
    found = extra.get(FIELD) if extra else None
    return found if isinstance(found, str) and found else None


def with_reasoning(message: AssistantMessage, reasoning: str) -> AssistantMessage:
    """The message with this reasoning."""
    return message.model_copy(update={FIELD: reasoning})


def separated(message: AssistantMessage) -> AssistantMessage:
    """The message with reasoning from the beginning of its text moved to `reasoning_content`."""
    text = message.content
    if not isinstance(text, str):
        return message
    thought, words = split_reasoning(text)
    if words is text:
        return message
    message = message.model_copy(update={"content": words or None})
    known = reasoning_of(message)
    if thought is None or thought == known:
        return message
    return with_reasoning(message, thought if known is None else f"{known}\n\n{thought}")


def without_reasoning(text: str) -> str:
    """A model's text without the reasoning at its beginning."""
    return split_reasoning(text)[1]


def split_reasoning(text: str) -> tuple[str | None, str]:
    """The reasoning at the beginning of a model's text, and the words after it.

    The opening mark may be missing, because some chat templates put it into the prompt. Without a closing mark all of
    the text is reasoning that was cut off. A text without reasoning is returned as it is.
    """
    if "<" not in text and "[" not in text and "◁" not in text and not text.startswith(_PLAIN_STARTS):
        return None, text
    if "<|message|>" in text or "assistant" in text:
        found = _split_harmony(text)
        if found is not None:
            return found
    parts, at = _leading_parts(text)
    if not at:
        return None, text
    words = text[at:].strip()
    answer = _ANSWER.fullmatch(words)
    words = (answer["text"] if answer else words).strip()
    return "\n\n".join(part for part in (each.strip() for each in parts) if part) or None, words


def opens_reasoning(prompt: str) -> bool:
    """Whether a prompt ends with an opening mark, so that the reply begins with reasoning."""
    ending = prompt[-_LONGEST_MARK:]
    return any((mark := _OPENING.match(ending, at)) and not ending[mark.end() :].strip() for at in range(len(ending)))


def may_open_reasoning(text: str) -> bool:
    """Whether the beginning of a reply may turn out to be reasoning when more of it is known."""
    start = text.lstrip()
    if start.startswith(("<", "[", "◁")):
        return len(start) < _LONGEST_MARK and not any(each in start for each in ">]▷")
    return start.startswith("analysis") or any(each.startswith(start) for each in _PLAIN_STARTS)


def leaks_reasoning(text: str) -> bool:
    """Whether spoken text still holds marks of reasoning, outside of code and quotation marks."""
    if "<" not in text and "[" not in text and "◁" not in text:
        return False
    opened = False
    quotes = QuoteScan(text)
    for mark in _plain_marks(text, 0, quotes):
        if mark.lastgroup is not None and mark.lastgroup.startswith("close"):
            return True
        if quotes.at_line_start:
            return True
        opened = True
    return (opened and "</" in text) or _HARMONY_MARKS.search(text) is not None


def _leading_parts(text: str) -> tuple[list[str], int]:
    """The pieces of reasoning at the beginning of a text, and the position after them; 0 if there are none."""
    parts: list[str] = []
    unclosed = set[str]()
    at = 0
    while at < len(text):
        if empty := _EMPTY.match(text, at):
            at = empty.end()
            continue
        if opening := _OPENING.match(text, at):
            start, end, at = _closed(text, opening, unclosed)
            parts.append(text[start:end])
            continue
        mark = next(_plain_marks(text, at, QuoteScan(text, at)), None)
        if mark is None or mark.lastgroup is None or mark.lastgroup.startswith("open"):
            break
        parts.append(text[at : mark.start()])  # the opening mark is missing
        at = mark.end()
    return parts, at


def _closed(text: str, opening: re.Match[str], unclosed: set[str]) -> tuple[int, int, int]:
    """Start and end of the reasoning after an opening mark, and the position after its closing mark.

    `unclosed` collects the names that no later mark closes, so that a text of many marks is read in linear time.
    """
    family = next(index for index in range(len(_PAIRS)) if opening[f"f{index}"] is not None)
    closing = None
    name = (opening["name"] or "").lower()
    if name and name not in unclosed and len(unclosed) < _MOST_UNCLOSED:
        closing = re.compile(rf"<[ \t]*/[ \t]*{re.escape(name)}[ \t]*>", re.IGNORECASE).search(text, opening.end())
        if closing is None:
            unclosed.add(name)
    closing = closing or _CLOSING[family].search(text, opening.end())
    if closing is None:
        return opening.end(), len(text), len(text)
    return opening.end(), closing.start(), closing.end()


def _plain_marks(text: str, start: int, quotes: QuoteScan) -> Iterator[re.Match[str]]:
    """The marks from a position on that are neither code, nor quoted, nor words of a sentence."""
    for mark in _MARK.finditer(text, start):
        if not is_mention(text, *mark.span()) and not quotes.covers(*mark.span()):
            yield mark


def is_mention(text: str, start: int, end: int) -> bool:
    """Whether a mark is a word of a sentence: between a space, and a word in lower case or punctuation."""
    return start > 0 and text[start - 1] == " " and _MENTION.match(text, end) is not None


class QuoteScan:
    """Scan of a text from a position on for code and quotation marks; it only moves forward, so it takes linear time.

    Args:
        text: the text.
        start: where to begin; what is before it does not count.
    """

    def __init__(self, text: str, start: int = 0) -> None:
        self._text = text
        self._at = start
        self._fences = 0
        self._in_line = dict.fromkeys(_QUOTES, 0)
        self._fences_in_line = 0
        self.at_line_start = True
        """Whether only white space precedes the last piece on its line."""

    def covers(self, start: int, end: int) -> bool:
        """Whether a piece of the text, which begins after all pieces before it, is code or in quotation marks."""
        self._advance(start)
        count = self._in_line
        if self._fences % 2 or (count["`"] - 3 * self._fences_in_line) % 2:
            return True
        before, after = self._text[start - 1 : start] if any(count.values()) else "", self._text[end : end + 1]
        if before and before in _QUOTES and (count[before] % 2 or before in _OPEN_QUOTES):
            return True
        if not after or after not in _QUOTES:
            return False
        return count[after] % 2 == 1 or (after in "”’»" and any(count[each] for each in _OPEN_QUOTES))

    def _advance(self, to: int) -> None:
        """Count the marks up to a position, which is not inside a run of backticks."""
        passed = _with_empty_objects(self._text[self._at : to])
        self._at = to
        if "`" in passed:
            self._fences += passed.count("```")
        _, newline, line = passed.rpartition("\n")
        if newline:
            self._in_line = dict.fromkeys(_QUOTES, 0)
            self._fences_in_line = 0
        for each in _QUOTES:
            self._in_line[each] += line.count(each)
        self._fences_in_line += line.count("```")
        self.at_line_start = (bool(newline) or self.at_line_start) and not line.strip()


def _with_empty_objects(text: str) -> str:
    """A text in which JSON objects are empty: quotation marks and fences in their strings quote nothing outside."""
    parts, at = list[str](), 0
    for start, end in objects(text):
        parts += text[at:start], "{\n}" if "\n" in text[start:end] else "{}"
        at = end
    return "".join([*parts, text[at:]]) if parts else text


def _split_harmony(text: str) -> tuple[str | None, str] | None:
    """The analysis and the final text of a reply in OpenAI's harmony format; None if it is in another one.

    The messages of such a reply have channels or, in Muse's form of it, recipients (`to=self`). Calls of tools stay as
    written, to be found by `simkit.core.text_calls`.
    """
    if "<|message|>" not in text:
        bare = _BARE_HARMONY.match(text)  # a server dropped the special tokens
        return None if bare is None else (bare["thought"].strip() or None, bare["rest"].strip())
    thoughts: list[str] = []
    words: list[str] = []
    for part in _RECIPIENT.finditer(text) if _RECIPIENT.match(text) else ():
        to, said = part["to"], part["text"].strip()
        (thoughts if to == "self" else words).append(said if to in ("self", "user") else part[0].strip())
    for part in () if thoughts or words else _HARMONY.finditer(text):
        if not thoughts and not words and part.start():  # the opening marks are in the prompt
            thoughts.append(_HARMONY_ROLE.sub("", text[: part.start()]).strip())
        if part["channel"] == "analysis" and " to=" not in part["to"]:
            thoughts.append(part["text"].strip())
        else:
            words.append(part[0].strip() if part["recipient"] or "to=" in part["to"] else part["text"].strip())
    if not thoughts and not words:
        return None
    return "\n\n".join(filter(None, thoughts)) or None, "\n".join(filter(None, words))
