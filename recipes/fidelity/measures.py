"""Measures of how a user talks, one value for each dialogue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from simkit.core.ontology import Ontology
from simkit.recipes.fidelity.dialogues import Dialogue
from simkit.rule_based.normalise import NUMBERS, spoken_form

_WORD = re.compile(r"[\w']+")
_ASKING = re.compile(
    r"\?|^(?:what|which|who|where|when|how|can|could|do|does|is|are|will|would)\b(?! be\b)|\b(?:can|could|would) you\b",
    re.IGNORECASE,
)
_POLITE = re.compile(r"\b(?:please|thanks?|thank|appreciate|kindly|sorry|great|wonderful|perfect)\b", re.IGNORECASE)
_CORRECTING = re.compile(
    r"\b(?:actually|instead|i meant?|i said|my mistake|not what|wrong|rather|misheard|change (?:that|it|my)|"
    r"wait|on second thought|let me say)\b|^no\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure by its name, what it counts, and whether its values lie between 0 and 1."""

    name: str
    about: str
    share: bool = False


MEASURES = (
    Measure("turns", "turns of the user"),
    Measure("words", "words in a turn"),
    Measure("wishes_per_turn", "wishes revealed in a turn, on average"),
    Measure("wishes_at_first", "wishes revealed in the first turn"),
    Measure("order", "pairs of wishes that are revealed in the order of the goal", share=True),
    Measure("questions", "turns with a question", share=True),
    Measure("corrections", "turns that correct something", share=True),
    Measure("politeness", "turns with thanks, please or praise", share=True),
    Measure("novelty", "pairs of words that no other dialogue of the side has", share=True),
    Measure("left_early", "dialogues that end with a wish never mentioned", share=True),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of all measures, by measure and in the order of the dialogues; of some there may be none."""

    values: Mapping[str, Mapping[str, float]]

    def of(self, measure: Measure) -> list[float]:
        """The values of a measure, one for each dialogue that has one."""
        return list(self.values.get(measure.name, {}).values())

    def with_novelty(self, other: Measured) -> Measured:
        """These values, with the novelty of others."""
        return Measured({**self.values, "novelty": other.values.get("novelty", {})})


def measured(dialogues: Sequence[Dialogue], ontology: Ontology) -> Measured:
    """The measures of some dialogues of one side; `ontology` names the kinds of wishes."""
    kinds = {
        (domain.name, slot.name): slot.kind for domain in ontology.domains for slot in (*domain.search, *domain.book)
    }
    novelty = _novelty(dialogues)
    found: dict[str, dict[str, float]] = {}
    for each in dialogues:
        values = {**_of_words(each), "novelty": novelty[each.id], **_of_wishes(each, kinds)}
        for name, value in values.items():
            found.setdefault(name, {})[each.id] = value
    return Measured(found)


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.casefold())


def _of_words(dialogue: Dialogue) -> dict[str, float]:
    turns = dialogue.turns

    def share(pattern: re.Pattern[str]) -> float:
        return fmean(bool(pattern.search(turn)) for turn in turns)

    return {
        "turns": float(len(turns)),
        "words": fmean(len(words(turn)) for turn in turns),
        "questions": share(_ASKING),
        "corrections": share(_CORRECTING),
        "politeness": share(_POLITE),
    }


def _novelty(dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """By dialogue, the share of its pairs of neighbouring words that are in no other of the dialogues."""
    pairs = {each.id: _pairs(each) for each in dialogues}
    known = Counter(pair for found in pairs.values() for pair in found)
    return {name: fmean(known[pair] == 1 for pair in found) if found else 0.0 for name, found in pairs.items()}


def _pairs(dialogue: Dialogue) -> frozenset[tuple[str, str]]:
    said = (words(turn) for turn in dialogue.turns)
    return frozenset(pair for turn in said for pair in pairwise(turn))


def _of_wishes(dialogue: Dialogue, kinds: Mapping[tuple[str, str], str]) -> dict[str, float]:
    """The measures of what is revealed; none without a task that has wishes."""
    if dialogue.task is None or not dialogue.task.agenda:
        return {}
    wishes = tuple(_wishes(dialogue, kinds))
    texts = [f" {spoken_form(turn)} " for turn in dialogue.turns]
    first = [next((n for n, text in enumerate(texts) if said(text)), None) for said in wishes]
    known = [turn for turn in first if turn is not None]
    found = {
        "wishes_per_turn": len(known) / len(texts),
        "wishes_at_first": float(known.count(0)),
        "left_early": float(len(known) < len(first)),
    }
    pairs = [(one, two) for place, one in enumerate(known) for two in known[place + 1 :] if one != two]
    return {**found, "order": fmean(one < two for one, two in pairs)} if pairs else found


def _wishes(dialogue: Dialogue, kinds: Mapping[tuple[str, str], str]) -> Iterator[Callable[[str], bool]]:
    """Tests for each wish that is recognised by its value, in the order of the goal."""
    assert dialogue.task is not None
    for wish in dialogue.task.agenda:
        for slot, value in {**wish.inform, **wish.book}.items():
            kind = kinds.get((wish.domain, slot))
            if kind == "flag" or (kind == "number" and value in ("0", "1")):
                continue  # "with parking", "just for me": the value itself is rarely said
            spelled = NUMBERS[int(value)] if value.isdecimal() and int(value) < len(NUMBERS) else value
            forms = frozenset(f" {spoken_form(form)}" for form in (value, spelled))
            yield lambda text, forms=forms: any(form in text for form in forms)
