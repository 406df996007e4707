"""Checks of training data before a training is paid for: contents, problems, and lengths in tokens.

With a tokenizer every example is rendered as the model will see it (`simkit.local.chat.ChatFormat`, which plays and
trains too) and its answers are parsed back from their tokens: an answer that changes on the way cannot be learned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from simkit.components.model_view import says_nothing
from simkit.core.messages import AssistantMessage, Message, ToolCall, text_of
from simkit.data.conversations import has_error_marker
from simkit.data.examples import (
    Demonstration,
    Example,
    ExampleSet,
    Judged,
    Pair,
    answers_of,
    example_digest,
    prompt_digest,
)
from simkit.data.prompt_comparison import compare_with_requests
from simkit.data.rendering import Lengths
from simkit.errors import InvalidArguments

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.store import Reader, Store

Severity: TypeAlias = Literal["error", "warning"]

FINDINGS: Mapping[str, tuple[Severity, str]] = {
    "empty": ("error", "an answer to learn is empty"),
    "nothing_to_learn": ("error", "it contains no answer of the assistant"),
    "broken_arguments": ("error", "a call to learn has arguments that are not a JSON object"),
    "nulls": (
        "error",
        "an argument is null, which the tool's schema does not allow (another program may have filled it in)",
    ),
    "contradiction": ("error", "the same answer to the same prompt is both desirable and undesirable"),
    "one_label": ("error", "all labels are the same; KTO needs both"),
    "unreadable": (
        "error",
        "the chat template refuses it, or its answers change when they are parsed back from their tokens",
    ),
    "not_as_sent": ("error", "its prompt differs from the request that the agent's model answered"),
    "unknown_tool": ("warning", "an answer to learn calls a tool that is not among its tools"),
    "error_marker": (
        "warning",
        "an answer to learn, or the result of a tool in it, contains ERROR:, Error: or FAILURE",
    ),
    "duplicate": ("warning", "it occurs more than once"),
    "too_long": ("warning", "it exceeds the maximum length; a trainer will truncate or skip it"),
    "imbalance": (
        "warning",
        "one label is more than four times as frequent as the other; set weights (desirable_weight)",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem: severity, description, and the indices of its examples (empty: the whole set)."""

    name: str
    severity: Severity
    text: str
    examples: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Report of a check.

    Attributes:
        kind: `sft`, `kto` or `dpo`.
        examples: number of examples.
        tasks: number of tasks that they come from, as far as known.
        tools: number of different tools.
        calls: tool calls in answers to learn (desirable and preferred ones).
        labels: numbers of desirable and undesirable examples; None unless the kind is KTO.
        findings: problems, errors first.
        lengths: tokens of whole examples; None without a tokenizer.
        learnt: tokens of the answers alone.
        removed: numbers of examples removed before the check, by reason.
        as_sent: answers whose prompt equals the recorded request; None when no requests were compared.
    """

    kind: str
    examples: int
    tasks: int
    tools: int
    calls: int
    labels: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()
    lengths: Lengths | None = None
    learnt: Lengths | None = None
    removed: Mapping[str, int] = field(default_factory=dict[str, int])
    as_sent: int | None = None

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON; lengths as quantiles in tokens."""
        plain = {
            name: getattr(self, name) for name in ("kind", "examples", "tasks", "tools", "calls", "labels", "as_sent")
        }
        lengths = {
            name: value.to_json() for name, value in (("tokens", self.lengths), ("learnt", self.learnt)) if value
        }
        findings = [asdict(finding) for finding in self.findings]
        return {**plain, **lengths, "removed": dict(self.removed), "ok": self.ok, "findings": findings}

    def to_text(self) -> str:
        """The report as text."""
        lines = [f"{self.examples} {self.kind.upper()} examples of {self.tasks} tasks, {self.tools} tools"]
        if self.labels is not None:
            lines.append(f"labels: {self.labels[0]} desirable, {self.labels[1]} undesirable")
        lines.append(f"tool calls to learn: {self.calls}")
        if self.as_sent:
            lines.append(f"prompts equal to the request that was sent: {self.as_sent}")
        if self.removed:
            lines.append("removed before: " + ", ".join(f"{n} {reason}" for reason, n in self.removed.items()))
        for name, lengths in (("tokens", self.lengths), ("tokens learnt", self.learnt)):
            if lengths is not None:
                lines += [f"{name}: {lengths}", *(lengths.histogram() if name == "tokens" else ())]
        lines += [_line(finding) for finding in self.findings] or ["no problems found"]
        return "\n".join(lines)


def _line(finding: Finding) -> str:
    many = len(finding.examples)
    first = ", ".join(map(str, finding.examples[:5])) + (", ..." if many > 5 else "")
    place = f" [{many} examples: {first}]" if many else ""
    detail = f" ({finding.detail})" if finding.detail else ""
    return f"{finding.severity}: {finding.name}: {finding.text}{place}{detail}"


def check(
    examples: ExampleSet,
    chat: ChatFormat | str | None = None,
    *,
    max_tokens: int | None = None,
    store: Store | Reader | None = None,
) -> Report:
    """Check a set and report its contents and problems.

    Args:
        examples: the set.
        chat: a `ChatFormat`, or the folder or name of a model whose tokenizer and chat template are used; with None,
            examples are not rendered and have no lengths.
        max_tokens: examples longer than this are reported.
        store: the store of the examples; their prompts are compared with the requests recorded in it.

    Raises:
        UsageError: there is no such tokenizer, or the extra `local` is missing.
        StoreError: the store cannot be read.
    """
    found = _Findings()
    for index, example in enumerate(examples):
        for name, detail in _problems(example):
            found.add(name, index, detail)
    _repetitions(examples, found)
    labels = _labels(examples, found)
    seen = None if store is None else compare_with_requests(examples, store)
    for index, detail in () if seen is None else seen.different.items():
        found.add("not_as_sent", index, detail)
    lengths = learnt = None
    if chat is not None:
        lengths, learnt = _rendered(examples, _format(chat), max_tokens, found)
    return Report(
        kind=examples.kind,
        examples=len(examples),
        tasks=len(examples.task_ids),
        tools=len({tool.name for example in examples for tool in example.tools}),
        calls=sum(len(answer.tool_calls or ()) for example in examples for answer in good_answers(example)),
        labels=labels,
        findings=found.all(),
        lengths=lengths,
        learnt=learnt,
        removed=examples.removed,
        as_sent=None if seen is None else seen.equal,
    )


def _format(chat: ChatFormat | str) -> ChatFormat:
    from simkit.local.chat import ChatFormat

    return ChatFormat.of(chat) if isinstance(chat, str) else chat


class _Findings:
    """Collector of findings during a check."""

    def __init__(self) -> None:
        self._where: defaultdict[str, list[int]] = defaultdict(list)
        self._details: dict[str, str] = {}

    def add(self, name: str, index: int | None = None, detail: str = "") -> None:
        """Add one; the first detail of each kind is kept."""
        where = self._where[name]
        if index is not None and (not where or where[-1] != index):
            where.append(index)
        if detail:
            self._details.setdefault(name, detail)

    def all(self) -> tuple[Finding, ...]:
        """All findings, in the order of `FINDINGS`."""
        return tuple(
            Finding(name, severity, text, tuple(self._where[name]), self._details.get(name, ""))
            for name, (severity, text) in FINDINGS.items()
            if name in self._where
        )


def good_answers(example: Example) -> tuple[AssistantMessage, ...]:
    """Answers for a model to imitate; an undesirable example has none."""
    match example:
        case Demonstration():
            return answers_of(example.messages[example.context :])
        case Judged():
            return answers_of(example.completion) if example.label else ()
        case Pair():
            return answers_of(example.chosen)


def _learnt(example: Example) -> tuple[Sequence[Message], ...]:
    """Answers that a training reinforces or discourages."""
    match example:
        case Demonstration():
            return (example.messages[example.context :],)
        case Judged():
            return (example.completion,)
        case Pair():
            return (example.chosen, example.rejected)


def _problems(example: Example) -> Iterator[tuple[str, str]]:
    for part in _learnt(example):
        answers = answers_of(part)
        if not answers:
            yield "nothing_to_learn", ""
        if any(says_nothing(answer) for answer in answers):
            yield "empty", ""
    known = {tool.name: tool.properties for tool in example.tools}
    for answer in good_answers(example):
        yield from _call_problems(answer.tool_calls or (), known)
    yield from _error_markers(example)


def _call_problems(calls: Iterable[ToolCall], known: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for call in calls:
        if known and call.name not in known:
            yield "unknown_tool", call.name
        try:
            arguments = call.parse_arguments()
        except InvalidArguments as error:
            yield "broken_arguments", str(error)
            continue
        for name, value in arguments.items():
            if value is None and not _may_be_null(known.get(call.name, {}).get(name)):
                yield "nulls", f"{call.name}: {name}"


def _may_be_null(schema: Any) -> bool:
    """Whether a parameter's schema allows null."""
    if not isinstance(schema, dict):
        return False
    known = cast("dict[str, Any]", schema)
    kinds: list[Any] = [known.get("type"), *(each.get("type") for each in known.get("anyOf", ()))]
    return any(kind == "null" or (isinstance(kind, list) and "null" in kind) for kind in kinds)


def _error_markers(example: Example) -> Iterator[tuple[str, str]]:
    if isinstance(example, Judged) and not example.label:
        return
    part = _learnt(example)[0]
    for message in part:
        author = {"assistant": "agent", "tool": "tool"}.get(message.role, "user")
        if has_error_marker(author, text_of(message)):
            yield "error_marker", text_of(message)[:60]
            return


def _repetitions(examples: ExampleSet, found: _Findings) -> None:
    seen: set[bytes] = set()
    labels: dict[bytes, bool] = {}
    for index, example in enumerate(examples):
        digest = example_digest(example)
        if digest in seen:
            found.add("duplicate", index)
        seen.add(digest)
        for answer, good in _labelled(example):
            if labels.setdefault(answer, good) is not good:
                found.add("contradiction", index)


def _labelled(example: Example) -> Iterator[tuple[bytes, bool]]:
    """Digest of every labelled answer with its prompt, and its label."""
    match example:
        case Demonstration():
            return
        case Judged():
            yield prompt_digest((*example.prompt, *example.completion), example.tools), example.label
        case Pair():
            yield prompt_digest((*example.prompt, *example.chosen), example.tools), True
            yield prompt_digest((*example.prompt, *example.rejected), example.tools), False


def _labels(examples: ExampleSet, found: _Findings) -> tuple[int, int] | None:
    if examples.kind != "kto":
        return None
    counts = Counter(example.label for example in examples.judged)
    good, bad = counts[True], counts[False]
    if examples and not min(good, bad):
        found.add("one_label")
    elif max(good, bad) > 4 * min(good, bad):
        found.add("imbalance", detail=f"{good} desirable, {bad} undesirable")
    return good, bad


def _rendered(
    examples: ExampleSet, chat: ChatFormat, max_tokens: int | None, found: _Findings
) -> tuple[Lengths, Lengths]:
    from simkit.data.rendering import rendered

    lengths: list[int] = []
    learnt: list[int] = []
    for index, example in enumerate(examples):
        for part in rendered(example, chat):
            if part.problem:
                found.add("unreadable", index, part.problem)
                continue
            lengths.append(part.tokens)
            learnt.append(part.learnt)
            if max_tokens is not None and part.tokens > max_tokens:
                found.add("too_long", index, f"the maximum is {max_tokens} tokens")
    return Lengths.of(lengths), Lengths.of(learnt)
