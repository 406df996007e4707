"""Reader of plain English with an ontology, shared by rule-based agents and users.

A `Reader` is built once from an ontology. It splits any text into sentences and marks what they mention (nouns, slots,
facts, known values, times, numbers, identifiers). Known values are found with one dictionary lookup per word, so the
cost does not grow with their number. `values_in` says which slot each value is for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from simkit.core.ontology import Domain, Ontology, Slot
from simkit.rule_based.normalise import (
    NUMBERS,
    SENTENCE_ENDS,
    WEEKDAYS,
    read_time,
    spelled,
    tokenize,
    words_of,
)

MeaningKind: TypeAlias = Literal["value", "slot", "fact", "noun"]
MentionKind: TypeAlias = Literal["term", "time", "number", "id"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEGATIONS = _set("no not none without dont doesnt isnt wont never nor neither cannot cant couldnt wasnt unable")

_DIGITS = frozenset("0123456789")
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(NUMBERS)}
_SPOKEN = frozenset((*NUMBERS, "noon"))  # numbers and times without a digit
_INDIFFERENT = (
    *("any", "anything", "whatever", "either", "dont care", "do not care", "doesnt matter", "does not matter"),
    *("no preference", "no preferences", "dont mind", "do not mind", "not important", "not particular"),
    *("dont have a preference", "do not have a preference", "flexible", "all the same"),
)
_INDIFFERENT_STARTS = frozenset(phrase.partition(" ")[0] for phrase in _INDIFFERENT)
_ASKING = _set("what which how when where who could can may do does would will is are shall should please tell give")
# Words too common to identify a slot alone; they still distinguish two slots of one sentence.
_FUNCTION_WORDS = _set(
    "to from by after before at in on for of and leave leaves leaving depart departing arrive arrives arriving go going"
    " called named starting travel ask"
)
_PHRASE_STARTS = _set("and but or with")
_CUES: Mapping[str, tuple[str, ...]] = {
    "departure": ("from", "leaving", "departing", "departs"),
    "destination": ("to", "into", "towards", "for"),
    "leaveAt": ("leave", "leaves", "leaving", "depart", "departs", "departing", "after"),
    "arriveBy": ("arrive", "arrives", "arriving", "by", "before", "there"),
    "people": ("people", "person", "persons", "guests", "guest", "party", "us", "tickets", "ticket", "seats", "seat"),
    "stay": ("nights", "night", "days"),
    "stars": ("star", "stars"),
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """One meaning of a phrase; `name` is the slot or fact, `value` the world's own spelling of a value."""

    kind: MeaningKind
    domain: str
    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Mention:
    """A phrase of a sentence, words `start` to `end`; `text` is a time, number or identifier as written."""

    kind: MentionKind
    start: int
    end: int
    text: str = ""
    meanings: tuple[Meaning, ...] = ()

    def of(self, kind: MeaningKind, domain: str) -> tuple[Meaning, ...]:
        """The meanings of one kind in one domain."""
        return tuple([found for found in self.meanings if found.kind == kind and found.domain == domain])


@dataclass(frozen=True, slots=True)
class Sentence:
    """The words of a sentence in lower case, what they mention, and whether it asks for something."""

    words: tuple[str, ...]
    question: bool
    mentions: tuple[Mention, ...]

    def has(self, words: Collection[str]) -> bool:
        """Whether any of the words occurs."""
        return any(map(words.__contains__, self.words))

    def says(self, phrase: str) -> bool:
        """Whether the phrase occurs as whole words."""
        return f" {phrase} " in f" {' '.join(self.words)} "

    @property
    def indifferent(self) -> bool:
        """Whether it says that something does not matter."""
        return self.has(_INDIFFERENT_STARTS) and any(self.says(phrase) for phrase in _INDIFFERENT)


class Lexicon:
    """A domain with precomputed lookups for reading text about it; immutable once built.

    Attributes:
        domain: the domain.
        slots: its slots, from `slots_of`; `names` are their names.
        cues: by slot name, the words next to a value that assign it to this slot.
    """

    __slots__ = ("cues", "domain", "names", "slots")

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.slots = slots_of(domain)
        self.names = frozenset(slot.name for slot in self.slots)
        self.cues: Mapping[str, frozenset[str]] = {slot.name: _cues_of(slot) for slot in self.slots}


class Reader:
    """Reads text in the vocabulary of an ontology; immutable once built, so it can be shared."""

    def __init__(self, ontology: Ontology) -> None:
        self._lexicons = {domain.name: Lexicon(domain) for domain in ontology.domains}
        table: dict[tuple[str, ...], dict[Meaning, None]] = {}
        for domain in ontology.domains:
            for phrase, meaning in _vocabulary(domain):
                table.setdefault(phrase, {})[meaning] = None
        self._phrases: dict[tuple[str, ...], tuple[Meaning, ...]] = {key: tuple(found) for key, found in table.items()}
        self._words = {phrase[0]: found for phrase, found in self._phrases.items() if len(phrase) == 1}
        lengths: dict[str, set[int]] = {}
        for phrase in table:
            lengths.setdefault(phrase[0], set()).add(len(phrase))
        self._lengths = {word: tuple(sorted(found, reverse=True)) for word, found in lengths.items()}
        halves = (word[:end] for word in self._words for end in range(1, len(word)))
        self._starts = frozenset((*self._lengths, *halves))

    def lexicon(self, domain: Domain) -> Lexicon:
        """The lexicon of a domain; built on demand for a domain that is not in the ontology."""
        known = self._lexicons.get(domain.name)
        return known if known is not None and known.domain is domain else Lexicon(domain)

    def read(self, text: str) -> tuple[Sentence, ...]:
        """The sentences of a text; every text is accepted."""
        sentences: list[Sentence] = []
        tokens: list[str] = []
        for token in tokenize(text):
            if token not in SENTENCE_ENDS:
                tokens.append(token)
            elif tokens:
                sentences.append(self._sentence(tokens, asked=token == "?"))
                tokens = []
        if tokens:
            sentences.append(self._sentence(tokens, asked=False))
        return tuple(sentences)

    def _sentence(self, tokens: list[str], asked: bool) -> Sentence:
        words = tuple([spelled(token) for token in tokens])
        question = asked or words[0] in _ASKING or (len(words) > 1 and words[:2] == ("let", "me") and "know" in words)
        return Sentence(words, question, self._mentions(words, tokens))

    def _mentions(self, words: tuple[str, ...], tokens: list[str]) -> tuple[Mention, ...]:
        mentions: list[Mention] = []
        starts, at = self._starts, 0
        while at < len(words):
            word = words[at]
            found = self._term(words, at) if word in starts or word[-1] == "s" else None
            if found is None and (word in _SPOKEN or not word.isalpha()):
                found = _open_mention(word, tokens[at], at)
            if found is None:
                at += 1
            else:
                mentions.append(found)
                at = found.end
        return tuple(mentions)

    def _term(self, words: tuple[str, ...], at: int) -> Mention | None:
        word = words[at]
        for length in self._lengths.get(word, ()):
            meanings = self._phrases.get(words[at : at + length])
            if meanings is not None:
                return Mention("term", at, at + length, meanings=meanings)
        joined = self._words.get(word + words[at + 1]) if at + 1 < len(words) else None
        if joined is not None:
            return Mention("term", at, at + 2, meanings=joined)
        singular = self._words.get(word[:-1]) if word.endswith("s") else None
        return Mention("term", at, at + 1, meanings=singular) if singular is not None else None


def _open_mention(word: str, token: str, at: int) -> Mention | None:
    if word in _NUMBER_WORDS:
        return Mention("number", at, at + 1, _NUMBER_WORDS[word])
    if word == "noon":
        return Mention("time", at, at + 1, "12:00")
    if _DIGITS.isdisjoint(word):
        return None
    time = read_time(token)
    if time is not None:
        return Mention("time", at, at + 1, time)
    if word.isdecimal() and word.isascii():
        return Mention("number", at, at + 1, word) if len(word) <= 2 else None
    return Mention("id", at, at + 1, token) if len(word) >= 4 and word[0].isalpha() else None


def _vocabulary(domain: Domain) -> Iterable[tuple[tuple[str, ...], Meaning]]:
    for noun in domain.nouns:
        yield from _entry(noun, Meaning("noun", domain.name))
    for fact, phrases in domain.facts.items():
        for phrase in (*phrases, fact):
            yield from _entry(phrase, Meaning("fact", domain.name, fact))
    for slot in slots_of(domain):
        for phrase in (*slot.phrases, *((slot.name,) if slot.kind != "name" else ())):
            yield from _entry(phrase, Meaning("slot", domain.name, slot.name))
        for value in closed_values(slot):
            meaning = Meaning("value", domain.name, slot.name, value)
            yield from _entry(value, meaning)
            if slot.kind == "name" and value.lower().startswith("the ") and value.count(" ") > 1:
                yield from _entry(value[4:], meaning)


def _entry(phrase: str, meaning: Meaning) -> Iterable[tuple[tuple[str, ...], Meaning]]:
    words = words_of(phrase)
    if words and not all(word in _FUNCTION_WORDS or word in _ASKING for word in words):
        yield words, meaning


def slots_of(domain: Domain) -> tuple[Slot, ...]:
    """The slots of a domain, each name once: those of its search, then the other slots of its booking."""
    names = {slot.name for slot in domain.search}
    return (*domain.search, *(slot for slot in domain.book if slot.name not in names))


def closed_values(slot: Slot) -> tuple[str, ...]:
    """The values that are recognized by their words alone; times, numbers, ids and flags depend on the context."""
    match slot.kind:
        case "category" | "name":
            return tuple(value for value in slot.values if not value.isdecimal())
        case "day":
            return slot.values or WEEKDAYS
        case "time" | "number" | "id" | "flag":
            return ()


def spoken(slot: Slot) -> str:
    """A phrase for a slot that a `Reader` recognises."""
    usable = (phrase for phrase in slot.phrases if not set(words_of(phrase)) <= _FUNCTION_WORDS)
    phrase = next(usable, slot.name)
    return f"number of {phrase}" if slot.kind == "number" and not phrase.startswith("number") else phrase


# --- which slot a value is for ----------------------------------------------------------------------------------------


def values_in(sentence: Sentence, lexicon: Lexicon, expecting: Collection[str] = ()) -> dict[str, str]:
    """The values that a sentence gives to slots of one domain. `expecting` names the slots requested just before."""
    found: dict[str, str] = {}
    for mention in sentence.mentions:
        value, names = _candidates(sentence, mention, lexicon)
        if not names:
            continue
        near = MentionContext(sentence, mention, [slot for slot in lexicon.slots if slot.name in names], lexicon.cues)
        chosen = _choose(near, expecting, found)
        if chosen is not None:
            found[chosen.name] = next((m.value for m in mention.meanings if m.name == chosen.name and m.value), value)
    found.update(_flags(sentence, lexicon))
    return found


@dataclass(frozen=True, slots=True)
class MentionContext:
    """A mention in its sentence, its possible slots, and the cues that distinguish them."""

    sentence: Sentence
    mention: Mention
    slots: list[Slot]
    cues: Mapping[str, frozenset[str]]

    def before(self, count: int) -> tuple[str, ...]:
        """The words before the mention, nearest first."""
        return self.sentence.words[max(0, self.mention.start - count) : self.mention.start][::-1]


def _candidates(sentence: Sentence, mention: Mention, lexicon: Lexicon) -> tuple[str, set[str]]:
    domain = lexicon.domain
    if mention.kind == "term":
        names = {meaning.name for meaning in mention.of("value", domain.name)}
        if names and mention.of("noun", domain.name):  # only "of the type hotel" names a type, not "a hotel"
            near = sentence.words[max(0, mention.start - 3) : mention.start] + sentence.words[mention.end :][:1]
            names = {name for name in names & lexicon.names if not lexicon.cues[name].isdisjoint(near)}
        return "", names
    kinds = {mention.kind} if mention.kind != "number" else {"number", "category"}
    return mention.text, {slot.name for slot in lexicon.slots if slot.kind in kinds and _accepts(slot, mention)}


def _accepts(slot: Slot, mention: Mention) -> bool:
    return mention.kind != "number" or slot.kind == "number" or mention.text in slot.values


def _choose(near: MentionContext, expecting: Collection[str], taken: Mapping[str, str]) -> Slot | None:
    if near.mention.kind == "number":
        return _by_unit(near, expecting)
    if len(near.slots) == 1:
        return near.slots[0]
    cued = _by_cue(near)
    if cued is not None:
        return cued
    free = [slot for slot in near.slots if slot.name not in taken]
    return next((slot for slot in free if slot.name in expecting), free[0] if free else None)


def _by_cue(near: MentionContext) -> Slot | None:
    for word in near.before(5):
        cued = [slot for slot in near.slots if word in near.cues[slot.name]]
        if len(cued) == 1:
            return cued[0]
    return None


def _by_unit(near: MentionContext, expecting: Collection[str]) -> Slot | None:
    words, mention, before = near.sentence.words, near.mention, near.before(3)
    for word in (*words[mention.end : mention.end + 2], *before):
        for slot in near.slots:
            if word in near.cues[slot.name]:
                return slot
    if before[:1] == ("for",) and words[mention.start].isdecimal():  # "book it for 6"
        return next((slot for slot in near.slots if slot.name == "people"), None)
    asked = [slot for slot in near.slots if slot.name in expecting]
    return asked[0] if len(asked) == 1 and len(words) <= 6 else None


def _cues_of(slot: Slot) -> frozenset[str]:
    phrases = (word for phrase in slot.phrases for word in words_of(phrase))
    return frozenset((*_CUES.get(slot.name, ()), *phrases)) - {"of", "the", "number", "time", "at"}


def _flags(sentence: Sentence, lexicon: Lexicon) -> dict[str, str]:
    flags = {slot.name for slot in lexicon.slots if slot.kind == "flag"}
    if not flags or sentence.indifferent or (sentence.question and sentence.has(("it", "they"))):
        return {}
    return {
        meaning.name: "no" if _negated(sentence, mention) else "yes"
        for mention in sentence.mentions
        for meaning in mention.of("slot", lexicon.domain.name)
        if meaning.name in flags
    }


def _negated(sentence: Sentence, mention: Mention) -> bool:
    """Whether a negation stands before the mention in the same phrase, or right after it."""
    for word in reversed(sentence.words[max(0, mention.start - 5) : mention.start]):
        if word in _PHRASE_STARTS:
            break
        if word in NEGATIONS:
            return True
    return any(word in NEGATIONS for word in sentence.words[mention.end : mention.end + 2])


# --- saying it --------------------------------------------------------------------------------------------------------


def phrase_value(slot: Slot, value: str) -> str:
    """A constraint in words that a `Reader` understands: `in the north`, `with parking`, `leaving after 09:45`."""
    match slot.kind:
        case "flag":
            return f"{'with' if value.lower() in ('yes', 'free', 'true') else 'with no'} {spoken(slot)}"
        case "name":
            return f"called {value}"
        case "day":
            return f"on {value}"
        case "time" | "number" | "category" | "id":
            return _WORDINGS.get(slot.name, f"with the {spoken(slot)} {{}}").format(value)


_WORDINGS: Mapping[str, str] = {
    "area": "in the {}",
    "food": "serving {} food",
    "pricerange": "in the {} price range",
    "type": "of the type {}",
    "stars": "with {} stars",
    "departure": "from {}",
    "destination": "to {}",
    "leaveAt": "leaving after {}",
    "arriveBy": "arriving by {}",
    "people": "for {} people",
    "stay": "for {} nights",
    "time": "at {}",
}


def join(parts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(parts)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
