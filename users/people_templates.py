"""Sentences of the agenda user in the manner of people: put together from parts, and written with less care.

The parts and their shares follow what people do in MultiWOZ (docs/results/fidelity.md): they greet in one opening of
six, answer with "yes" or "no" first, ask for several things at once, and often leave out the last full stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from simkit.core.ontology import Domain
from simkit.rule_based.reader import join, spoken
from simkit.users.templates import UserTemplates

_GREETINGS = ("Hi, ", "Hello, ", "Hi there, ", "Hello! ", "Hey, ", "Good morning, ", "Hi. ")
_LEADS = (
    *("I need", "I'm looking for", "I am looking for", "I want to find", "I would like to find", "I'd like to find"),
    *("I'm trying to find", "I want", "We need", "I am hoping to find", "I'm in need of", "We are looking for"),
    *("I am interested in", "I was looking for", "Please find me", "Find me", "I would like"),
)
_ASKS = (
    *("Can you help me find", "Could you find me", "Do you have", "Can you find me", "Is there", "Do you know of"),
    *("Would you help me find", "Can you recommend", "Can you suggest", "Are you able to find"),
)
_TAILS = (". Can you help me?", ". Any suggestions?", ". What do you have?", ", please.", ", thanks.", " please.")
_TURNS = (
    *("I also need", "I'm also looking for", "I also want to find", "I am also looking for", "Now I need"),
    *("I will also need", "We also need", "I also would like", "Next I need", "I am looking for"),
)
_THANKS = (
    *("Thanks. ", "Thank you! ", "Great, thanks. ", "Perfect. ", "Great! ", "Wonderful. ", "Ok, thanks. ", "Good. "),
    *("Thank you so much. ", "That works for me, thanks. ", "Great, thank you for your help. ", "Ok, that's perfect. "),
)
_WITHOUT = ("Ok, never mind that. ", "No, that's fine. ", "That's a shame. ", "Oh well. ", "Alright. ", "Too bad. ")
_AGREED = (
    *("Yes, ", "Yes please. ", "Sure, ", "Sounds good. ", "Ok, ", "That sounds great. ", "Yeah, ", "Great, ", "Yes. "),
    *("That would be great. ", "Great, thanks. ", "Thank you. ", "Perfect, ", "That sounds like what I want. "),
)
_PLEASE = (", please", " please", ", thank you", ", thanks", " if possible", " for me please", ", if you can")
_DENIED = ("No, ", "Actually, ", "Sorry, ", "No, sorry, ", "Hmm, no. ", "I meant to say ", "Actually no, ")
_WISHED = (
    *("I want one{w}", "it should be{w}", "I'd like it{w}", "one{w} would be good", "I need it{w}", "something{w}"),
    *("I would prefer one{w}", "make it{w}", "I'd prefer one{w}", "it needs to be{w}", "how about one{w}"),
)
_BOOKED = (
    *("please book it{w}", "can you book it{w}", "I'd like to book it{w}", "could you reserve it{w}", "I need it{w}"),
    *("I want to book it{w}", "let's book that{w}", "book it{w}", "can I get a booking{w}", "please reserve it{w}"),
    *("go ahead and book it{w}", "I would like a booking{w}", "could I book it{w}", "can you make a booking{w}"),
    *("can you go ahead and book it{w}", "would you be able to book it{w}", "I would like for you to book it{w}"),
)
_FACTS = (
    *("what is the {f}", "can I get the {f}", "can I have the {f}", "could you give me the {f}", "I need the {f}"),
    *("what's the {f}", "can you tell me the {f}", "please give me the {f}", "may I have the {f}", "I'd like the {f}"),
    *("could you tell me the {f}", "do you have the {f}", "please tell me the {f}", "can I get the {f} for it"),
    *("can you also tell me the {f}", "what would be the {f}", "before that, can I have the {f}"),
)
_UNMINDED = (
    *("I don't care about the {s}", "I have no preference for the {s}", "the {s} doesn't matter", "any {s} is fine"),
    *("no preference on the {s}", "I do not mind the {s}", "I'm flexible on the {s}"),
)
_RESTATED = (
    *("I am looking for {a}{w}", "I said I need {a}{w}", "I need {a}{w}", "I want {a}{w}"),
    *("let me say it again, {a}{w}", "can you check again for {a}{w}", "is there really not {a}{w}"),
)
_DONE = (
    *("That's all", "That is all I need", "That will be all", "No, that's everything", "No, that is all", "No thanks"),
    *("That was all I needed", "No, that's it", "I think that's all", "That's everything I need today", "I'm all set"),
)
_BYES = (
    *(", thank you", ". Thanks for your help", ", thanks", ". Thank you so much", ". Thanks a lot, bye", ". Goodbye"),
    *(
        ". Have a nice day",
        ". Thank you, goodbye",
        ". Thanks again",
        ". Bye",
        ". You have been very helpful, thank you",
    ),
)
_ASKING = ("can", "could", "what", "do", "is", "would", "are", "may", "how")


class PeopleTemplates(UserTemplates):
    """The user's sentences for one domain, in the manner of people."""

    def __init__(self, domain: Domain, rng: Random) -> None:
        super().__init__(domain, rng)
        self._nouns = domain.nouns[:1] or (domain.name,)

    def opening(self, values: Mapping[str, str]) -> str:
        """The first words of a conversation."""
        return self._written(self._maybe(_GREETINGS, 0.17) + self._searched(_LEADS, values))

    def next(self, values: Mapping[str, str], pleased: bool = True) -> str:
        """The turn to the next wish; pleased when the last one was fulfilled, without thanks when it was given up."""
        before = self._maybe(_THANKS, 0.55) if pleased else self._maybe(_WITHOUT, 0.7)
        return self._written(before + self._searched(_TURNS, values))

    def restate(self, values: Mapping[str, str]) -> str:
        """A repetition of a wish."""
        said = self._pick(_RESTATED).format(a=self._noun(), w=self._after(values))
        return self._sentence(self._maybe(_DENIED, 0.5), said)

    def answer(self, values: Mapping[str, str]) -> str:
        """The constraints that were asked for."""
        return self._sentence(self._maybe(_AGREED, 0.3), self._filled(_WISHED, values))

    def add(self, values: Mapping[str, str]) -> str:
        """Additional constraints that were not requested, often as if the user corrected itself."""
        before = self._maybe(_DENIED, 0.5) or self._maybe(_AGREED, 0.3)
        return self._sentence(before, self._filled(_WISHED, values))

    def correct(self, values: Mapping[str, str]) -> str:
        """A correction of the agent."""
        return self._sentence(self._pick(_DENIED), self._filled(_WISHED, values))

    def unminded(self, names: Iterable[str]) -> str:
        """Slots that do not matter."""
        said = self._pick(_UNMINDED).format(s=join(spoken(self._slot(name)) for name in names))
        return self._sentence("", said)

    def book(self, values: Mapping[str, str]) -> str:
        """The wish for a booking, with its parameters."""
        return self._sentence(self._maybe(_AGREED, 0.55), self._filled(_BOOKED, values))

    def booking_answer(self, values: Mapping[str, str]) -> str:
        """Booking parameters that were asked for."""
        return self._sentence(self._maybe(_AGREED, 0.3), self._filled(("it is{w}", "make it{w}", "that's{w}"), values))

    def facts(self, names: Iterable[str]) -> str:
        """A question for facts of the entity."""
        phrases = (next(iter(self._domain.facts.get(name, ())), name) for name in names)
        said = self._pick(_FACTS).format(f=self._pick((" and the ", " and ")).join(phrases))
        return self._sentence(self._maybe(_AGREED, 0.25), said)

    def bye(self, pleased: bool = True) -> str:
        """The end: with thanks, or without when the last wish was given up."""
        before = "" if pleased else self._pick(_WITHOUT)
        return self._written(f"{before}{self._pick(_DONE)}{self._pick(_BYES)}.")

    def _pick(self, parts: tuple[str, ...]) -> str:
        return self._rng.choice(parts)

    def _maybe(self, parts: tuple[str, ...], share: float) -> str:
        return self._pick(parts) if self._rng.random() < share else ""

    def _noun(self) -> str:
        noun = self._pick(self._nouns)
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

    def _searched(self, leads: tuple[str, ...], values: Mapping[str, str]) -> str:
        """A search as a statement, with or without a question behind it, or as a question."""
        what = f"{self._noun()}{self._after(values)}"
        if self._rng.random() < 0.35:
            return f"{self._pick(_ASKS)} {what}?{self._maybe((' Thanks.', ' Thank you.'), 0.15)}"
        return f"{self._pick(leads)} {what}{self._maybe(_TAILS, 0.35) or '.'}"

    def _filled(self, parts: tuple[str, ...], values: Mapping[str, str]) -> str:
        return self._pick(parts).format(w=self._after(values))

    def _sentence(self, before: str, said: str) -> str:
        end = "?" if said.startswith(_ASKING) else "."
        said += self._maybe(_PLEASE, 0.3)
        if not before or before[-2] in ".!":
            said = said[0].upper() + said[1:]
        return self._written(f"{before}{said}{end}")

    def _written(self, text: str) -> str:
        """The text as people type it: sometimes in lower case, sometimes without its last full stop."""
        careless, open_end = self._rng.random() < 0.05, self._rng.random() < 0.1
        text = text[:-1] if open_end and text.endswith(".") else text
        return text.lower() if careless else text
