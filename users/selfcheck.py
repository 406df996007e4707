"""Self-check of a simulated user by rules: up to 30% of the failures in such benchmarks are the simulator's own.

A turn is compared with the goal list and with earlier turns. Three flags concern the goal. They are raised only where
the rules understand the turn with certainty, and need a world with an ontology and a task with an agenda:

- `unknown_value: south`: a value that is not in the list and that the agent did not mention;
- `contradiction: hotel area north, now south`: the user stated its wish and now says something else;
- `ended_early: train day`: the user left as if everything was done, but this was never mentioned.

Two concern only the words: `as_agent` (it talks as if it were the agent) and `repeated` (it repeats itself).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from simkit.core.conversation import Utterance
from simkit.core.ontology import Ontology, Slot, Wish
from simkit.core.tasks import Task
from simkit.rule_based.normalise import NUMBERS, spoken_form
from simkit.rule_based.reader import Lexicon, Mention, Reader, Sentence, values_in
from simkit.users.reply_formats import UserReply

_AS_AGENT = re.compile(
    "|".join(
        (
            r"\bhow (?:can|may) i (?:help|assist) you\b",
            r"\b(?:anything|what) else (?:can i|i can) (?:help|do|assist)\b",
            r"\b(?:here|glad|happy|pleased|ready|pleasure) to (?:help|assist)\b",
            r"\byour (?:travel |virtual |personal )?assistant\b",
            r"\bi(?: can't| cannot|'m unable to| am unable to) (?:help|assist) (?:you\b|with (?:that|this|your)\b)",
            r"\bfeel free to (?:ask|contact|reach)\b",
            r"\bdo(?: not|n't) hesitate to\b",
            r"\blet me know if you (?:need|have) any (?:\w+ )?(?:questions|assistance|help|requests)\b",
            r"\bif you (?:need|have) any (?:further|other|additional|more) (?:questions|assistance|help|requests)\b",
            r"\bso (?:that )?i can (?:better )?assist you\b",
            r"\bi(?: have|'ve|'ll| will) (?:also )?(?:booked?|arranged?|reserved?) (?:it|that|this|an? \w+) for you\b",
            r"\bwould you like (?:me to|to (?:book|confirm|have|proceed))\b",
            r"\bdo you need help with\b",
            r"\bi(?: can't| cannot|'m unable to) find any \w+ that (?:meet|match)\b",
            r"\byour (?:booking )?reference (?:number )?is\b",
        )
    ).replace("'", "['\u2019]"),
    re.IGNORECASE,
)
"""What an agent says, and simulated customers whose models forget that they are no agents."""
_BOOKING_WORDS = frozenset(
    ["book", "booked", "booking", "reserve", "reserved", "reservation", "table", "room", "ticket", "tickets", "seat"]
)
_PROBING = frozenset(["it", "they", "that", "there", "those", "its"])


@dataclass(frozen=True, slots=True)
class SelfCheckState:
    """State of the self-check: stated values as (domain, slot, value), the last utterance, the current domain.

    `wanted` holds the normalised values of the task's wishes, computed at the first turn.
    """

    stated: frozenset[tuple[str, str, str]] = frozenset()
    last: str = ""
    domain: str = ""
    wanted: frozenset[str] | None = None


class SelfCheck:
    """The rules for an ontology; with an empty ontology only those about the words apply."""

    def __init__(self, ontology: Ontology) -> None:
        self._reader = Reader(ontology)
        self._lexicons = {domain.name: self._reader.lexicon(domain) for domain in ontology.domains}

    def check(
        self, task: Task, heard: Iterable[Utterance], reply: UserReply, memory: SelfCheckState
    ) -> tuple[tuple[str, ...], SelfCheckState]:
        """The flags of a reply, and the memory for the next one."""
        flags = [*reply.flags]
        if _AS_AGENT.search(reply.text):
            flags.append("as_agent")
        if memory.last and reply.text == memory.last:
            flags.append("repeated")
        if task.agenda and self._lexicons:
            if (wanted := memory.wanted) is None:
                wanted = _wanted(task)
                memory = replace(memory, wanted=wanted)
            turn = _Turn(task, heard, self._lexicons, wanted)
            for sentence in self._reader.read(reply.text):
                memory = turn.hear(sentence, memory)
            flags += turn.flags
            if reply.end and reply.reason == "done":
                flags += turn.left_open(reply.text)
        return tuple(dict.fromkeys(flags)), replace(memory, last=reply.text)


class _Turn:
    """One reply being checked."""

    def __init__(
        self, task: Task, heard: Iterable[Utterance], lexicons: dict[str, Lexicon], wanted: frozenset[str]
    ) -> None:
        self._task, self._heard, self._lexicons, self._wanted = task, heard, lexicons, wanted
        self._wishes = {wish.domain: wish for wish in task.agenda}
        self._background = ""
        self.flags: list[str] = []

    def hear(self, sentence: Sentence, memory: SelfCheckState) -> SelfCheckState:
        """Read one sentence; the memory after it."""
        named = {each.domain for mention in sentence.mentions for each in mention.meanings if each.kind == "noun"}
        if len(named) == 1 and memory.domain not in named:
            memory = replace(memory, domain=next(iter(named)))
        if sentence.indifferent or (sentence.question and sentence.has(_PROBING)):
            return memory  # "is it in the south?" does not state a wish
        for mention in sentence.mentions:
            if unknown := self._unknown(mention):
                self.flags.append(f"unknown_value: {unknown}")
        return memory if len(named) > 1 else self._compare_wishes(sentence, memory)

    def _unknown(self, mention: Mention) -> str:
        """The value of a mention that can only be a value and has not come up before."""
        if mention.kind == "time":
            return "" if self._known(mention.text) else spoken_form(mention.text)
        if mention.kind != "term" or any(meaning.kind != "value" for meaning in mention.meanings):
            return ""
        values = [meaning.value for meaning in mention.meanings]
        if any(value.startswith("the ") and value.count(" ") == 1 for value in values):
            return ""  # some restaurants are called `the place`
        return "" if any(self._known(value) for value in values) else values[0]

    def _compare_wishes(self, sentence: Sentence, memory: SelfCheckState) -> SelfCheckState:
        lexicon, wish = self._lexicons.get(memory.domain), self._wishes.get(memory.domain)
        if lexicon is None or wish is None:
            return memory
        kinds = {slot.name: slot.kind for slot in lexicon.slots}
        wanted = {**wish.inform, **wish.book}
        found: list[tuple[str, str, str]] = []
        for slot, value in values_in(sentence, lexicon).items():
            if kinds[slot] == "number" and not self._known(value):
                self.flags.append(f"unknown_value: {value} {slot}")
            stated = (wish.domain, slot, spoken_form(value))
            if slot in wanted and kinds[slot] in ("category", "day", "time", "number"):
                self._compare(stated, spoken_form(wanted[slot]), memory)
            found.append(stated)
        return replace(memory, stated=memory.stated.union(found)) if found else memory

    def _compare(self, stated: tuple[str, str, str], wanted: str, memory: SelfCheckState) -> None:
        """Flag a contradiction: the wish was stated before, and the new value does not belong to a wish."""
        domain, slot, value = stated
        if value not in self._wanted and (domain, slot, wanted) in memory.stated and not self._offered(value):
            self.flags.append(f"contradiction: {domain} {slot} {wanted}, now {value}")

    def _known(self, value: str) -> bool:
        return spoken_form(value) in self._wanted or _holds(self._known_text(), spoken_form(value))

    def _offered(self, value: str) -> bool:
        return _holds(_text(word.text for word in self._heard if word.speaker == "agent"), value)

    def _known_text(self) -> str:
        """The goal list and the agent's utterances as words, joined only when a value is in doubt."""
        if not self._background:
            said = (word.text for word in self._heard if word.speaker == "agent")
            self._background = _text((self._task.instructions, *said))
        return self._background

    def left_open(self, last: str) -> Iterable[str]:
        """The wishes that were never mentioned, slot by slot."""
        said = _text((*(word.text for word in self._heard), last))
        for wish in self._task.agenda:
            lexicon = self._lexicons.get(wish.domain)
            if lexicon is not None and (missing := _missing(wish, lexicon, said)):
                yield f"ended_early: {wish.domain} {', '.join(missing)}"


def _wanted(task: Task) -> frozenset[str]:
    values = (value for wish in task.agenda for value in (*wish.inform.values(), *wish.book.values()))
    return frozenset(map(spoken_form, values))


def _missing(wish: Wish, lexicon: Lexicon, said: str) -> list[str]:
    slots = {slot.name: slot for slot in lexicon.slots}
    wanted = {**wish.inform, **wish.book}
    open_slots = [name for name, value in wanted.items() if not _spoken_of(slots.get(name), value, said)]
    if wish.book and not _BOOKING_WORDS.intersection(said.split()):
        return [*open_slots, "booking"]
    return open_slots


def _spoken_of(slot: Slot | None, value: str, said: str) -> bool:
    if slot is not None and slot.kind == "flag":
        return any(_holds(said, spoken_form(phrase)) for phrase in (slot.name, *slot.phrases))
    if slot is not None and slot.kind == "number" and value in ("0", "1"):
        return True  # "a table for me", "just tonight": the number one is rarely spoken
    spelled = NUMBERS[int(value)] if value.isdecimal() and int(value) < len(NUMBERS) else value
    return _holds(said, spoken_form(value)) or _holds(said, spoken_form(spelled))


def _text(parts: Iterable[str]) -> str:
    return f" {' '.join(spoken_form(part) for part in parts)} "


def _holds(text: str, phrase: str) -> bool:
    """Whether a text holds a phrase from the start of a word on: `museum` is in `museums`."""
    return f" {phrase}" in text
