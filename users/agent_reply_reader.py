"""Reads an agent's reply for the agenda user: questions, offers, confirmations, refusals, facts and mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from simkit.core.ontology import Domain, Slot, Wish
from simkit.rule_based.normalise import same_value
from simkit.rule_based.reader import NEGATIONS, Lexicon, Sentence, values_in


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DONE = frozenset(["booked", "reserved", "confirmed", "reference", "reservation"])
_SUCCESS = frozenset(["successful", "successfully", "succeeded"])
_OFFERING = frozenset(["found", "recommend", "suggest", "offer", "about", "option", "leaves", "departs"])
# A sentence about a booking with one of these reports a failure, even as a question: "it failed, which day ...?".
_FAILED = _set(
    "failed fail fails failure unsuccessful unsuccessfully declined rejected refused denied couldnt wasnt "
    "didnt hasnt havent unable impossible error wrong unavailable cancelled canceled"
)
_FAILURES = re.compile(r"\b(?:fully booked|booked (?:up|out)|sold out|no luck|(?:could|did|was|has|had) not)\b")
_REFUSING = _FAILED | frozenset(
    ("sorry", "unfortunately", "afraid", "regret", "cannot", "cant", "doesnt", "isnt", "wont", "wouldnt", "not")
)
_EXCUSED = re.compile(r"\b(?:no (?:problem|worries|need|trouble)|not only|sorry (?:for|about))\b")
_BOOKING = _set(
    "book booked booking bookings reserve reserved reserving reservation reservations confirm confirmed confirmation"
)
# These announce a future booking: "I need the day for the reservation", "once I have the day, it is booked".
_PENDING = frozenset(["once", "unless", "until", "requires", "require", "required", "pending", "trying", "yet"])
_PENDING_BEFORE = frozenset(["need", "needs", "before", "if", "tried", "attempted"])
_QUESTIONS = frozenset(
    ["can", "could", "shall", "should", "would", "do", "does", "did", "may", "what", "which", "when"]
)


@dataclass(frozen=True, slots=True)
class AgentReply:
    """Content of an agent's reply that concerns the current wish.

    Attributes:
        asked: slots the agent asks for.
        wrong: slots for which the agent gave a value that the user does not want.
        facts: facts about the entity that the agent gave.
        offered, nothing, booked, refused: an entity was offered; none was found; a booking was made; a booking failed.
    """

    asked: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    facts: frozenset[str] = frozenset()
    offered: bool = False
    nothing: bool = False
    booked: bool = False
    refused: bool = False


def read_reply(sentences: tuple[Sentence, ...], lexicon: Lexicon, wish: Wish) -> AgentReply:
    """Read an agent's reply with respect to a wish; `lexicon` is that of the wish's domain."""
    domain = lexicon.domain
    asked: dict[str, None] = {}
    wrong: dict[str, None] = {}
    facts: set[str] = set()
    flags: set[str] = set()
    for sentence in sentences:
        kind = _kind(sentence, lexicon)
        flags.add(kind)
        if sentence.question and kind != "offered":
            asked.update(dict.fromkeys(_asked(sentence, lexicon)))
            continue
        stated = _facts(sentence, domain)
        facts |= stated
        if not _only_facts(sentence, domain):
            wrong.update(dict.fromkeys(_wrong(sentence, lexicon, wish, booking=kind == "booked")))
    return AgentReply(
        asked=tuple(asked),
        wrong=tuple(wrong),
        facts=frozenset(facts),
        offered="offered" in flags,
        nothing="nothing" in flags,
        booked="booked" in flags and "refused" not in flags,
        refused="refused" in flags,
    )


def _kind(sentence: Sentence, lexicon: Lexicon) -> str:
    said = " ".join(sentence.words)
    failed = sentence.has(_FAILED) or _FAILURES.search(said) is not None
    about_booking = sentence.has(_BOOKING)
    if sentence.question and failed and about_booking and sentence.words[0] not in _QUESTIONS:
        return "refused"
    negative = failed or _negative(sentence, said)
    if negative and not sentence.question and about_booking:
        return "refused"
    done = sentence.has(_DONE) or (about_booking and sentence.has(_SUCCESS))
    if done and not sentence.question and not negative and _stands(sentence):
        return "booked"
    if negative and not sentence.question:
        return "nothing" if not _only_facts(sentence, lexicon.domain) and _about_finding(sentence) else ""
    named = any(_names_entity(mention.kind, sentence, lexicon) for mention in sentence.mentions)
    named = named or sentence.says("how about") or sentence.says("what about")
    return "offered" if named or (not sentence.question and sentence.has(_OFFERING)) else ""


def _negative(sentence: Sentence, said: str) -> bool:
    if not (sentence.has(_REFUSING) or sentence.has(NEGATIONS)):
        return False
    words = _EXCUSED.sub("", said).split()
    return not _REFUSING.isdisjoint(words) or not NEGATIONS.isdisjoint(words)


def _stands(sentence: Sentence) -> bool:
    """Whether the booking in a sentence has been made (for example, has a reference) rather than announced."""
    if any(mention.kind == "id" for mention in sentence.mentions):
        return True
    first = next((at for at, word in enumerate(sentence.words) if word in _DONE or word in _SUCCESS), 0)
    return not sentence.has(_PENDING) and _PENDING_BEFORE.isdisjoint(sentence.words[:first])


def _about_finding(sentence: Sentence) -> bool:
    return sentence.has(("find", "found", "there", "available", "match", "matches", "matching", "have", "nothing"))


def _names_entity(kind: str, sentence: Sentence, lexicon: Lexicon) -> bool:
    domain, slots = lexicon.domain, lexicon.slots
    if kind == "id":
        return any(slot.kind == "id" for slot in slots) or domain.id_field not in lexicon.names
    ids = {slot.name for slot in slots if slot.kind in ("name", "id")} | {domain.id_field}
    return any(meaning.name in ids for mention in sentence.mentions for meaning in mention.of("value", domain.name))


def _asked(sentence: Sentence, lexicon: Lexicon) -> list[str]:
    slots, cues = lexicon.slots, lexicon.cues
    named = [m.name for mention in sentence.mentions for m in mention.of("slot", lexicon.domain.name)]
    if sentence.says("how many"):
        named += [slot.name for slot in slots if slot.kind == "number" and sentence.has(cues[slot.name])]
    if sentence.says("what time") or "when" in sentence.words:
        named += [slot.name for slot in slots if slot.kind == "time" and _cued(slot, lexicon, sentence)]
    if "where" in sentence.words:
        named += [name for cue, name in (("from", "departure"), ("to", "destination")) if cue in sentence.words]
    return [name for name in dict.fromkeys(named) if name in lexicon.names]


def _cued(slot: Slot, lexicon: Lexicon, sentence: Sentence) -> bool:
    return sum(other.kind == "time" for other in lexicon.slots) == 1 or sentence.has(lexicon.cues[slot.name])


def _facts(sentence: Sentence, domain: Domain) -> set[str]:
    return {m.name for mention in sentence.mentions for m in mention.of("fact", domain.name)}


def _only_facts(sentence: Sentence, domain: Domain) -> bool:
    """Whether a sentence gives a fact that is not a slot; its other words (such as an address) are then ignored."""
    return any(
        mention.of("fact", domain.name) and not mention.of("slot", domain.name) and not mention.of("value", domain.name)
        for mention in sentence.mentions
    )


def _wrong(sentence: Sentence, lexicon: Lexicon, wish: Wish, booking: bool) -> list[str]:
    said = values_in(sentence, lexicon)
    wanted = {**wish.inform, **(wish.book if booking else {})}
    return [name for name, value in said.items() if name in wanted and not _fits(name, value, wanted, booking)]


def _fits(name: str, value: str, wanted: Mapping[str, str], booking: bool) -> bool:
    if not booking and name in ("leaveAt", "arriveBy"):
        return value >= wanted[name] if name == "leaveAt" else value <= wanted[name]
    return same_value(value, wanted[name])
