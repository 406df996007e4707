"""A rule-based user without a model: works through a structured agenda in templated language.

After Schatzmann et al., "Agenda-based user simulation for bootstrapping a POMDP dialogue system" (NAACL 2007): the goal
is a list of constraints, requests and booking parameters; the user mentions them piece by piece, answers questions,
insists on its wishes, and leaves when everything is done or the conversation makes no progress.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal, TypeAlias, get_args

from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.ontology import Domain, Ontology, Wish
from simkit.core.tasks import Task
from simkit.errors import UsageError, UserFault
from simkit.rule_based.reader import Reader
from simkit.users.agent_reply_reader import AgentReply, read_reply
from simkit.users.people_templates import PeopleTemplates
from simkit.users.templates import UserTemplates

Style: TypeAlias = Literal["plain", "people"]
"""How the user talks: in a few plain sentences, or in the manner of people."""


@dataclass(frozen=True, slots=True)
class AgendaProgress:
    """Progress of the user through the agenda: an immutable value.

    Attributes:
        heard: number of utterances processed so far.
        wish: index of the wish being talked about.
        stated: constraints and booking parameters of this wish that have been said.
        offered: the agent has offered something for this wish.
        booked: the agent has confirmed the booking of this wish.
        asked: requested facts; `answered` are those that the agent gave.
        corrections, failures: for this wish, corrections of the agent, and failed searches or bookings.
        useless: consecutive replies without progress.
    """

    heard: int = 0
    wish: int = 0
    stated: frozenset[str] = frozenset()
    offered: bool = False
    booked: bool = False
    asked: tuple[str, ...] = ()
    answered: frozenset[str] = frozenset()
    corrections: int = 0
    failures: int = 0
    useless: int = 0


@dataclass(frozen=True, slots=True)
class Temperament:
    """Behaviour options of `AgendaUser`."""

    patience: int
    talkative: float
    insistence: float
    style: Style = "plain"

    @property
    def joining(self) -> float:
        """Probability of asking for a booking in the turn that asks for facts."""
        return 0.6 if self.style == "plain" else 0.85


class AgendaUser(User[AgendaProgress]):
    """A user that follows `task.agenda`.

    Args:
        world: its ontology is the user's vocabulary.
        patience: consecutive useless replies after which the user hangs up.
        talkative: probability of giving more constraints than requested.
        insistence: probability of insisting when the agent says something wrong, or finds or books nothing; otherwise
            the user accepts the mistake or moves on to the next wish.
        style: `plain` for a few plain sentences; `people` for many, put together and written in the manner of people
            (docs/user-fidelity.md). Scores of the two are not comparable.

    Raises:
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = "agenda"

    def __init__(
        self,
        world: World,
        patience: int = 3,
        talkative: float = 0.5,
        insistence: float = 0.5,
        style: Style = "plain",
    ) -> None:
        if patience < 1:
            raise UsageError(f"patience is {patience}; it must be at least 1 useless reply")
        for option, value in (("talkative", talkative), ("insistence", insistence)):
            if not 0 <= value <= 1:
                raise UsageError(f"{option} is {value}; it must be a number from 0 to 1")
        if style not in get_args(Style):
            raise UsageError(f"style is `{style}`; choose one of: {', '.join(get_args(Style))}")
        self._ontology: Ontology = world.ontology
        self._reader = Reader(world.ontology)
        self._temperament = Temperament(patience, talkative, insistence, style)

    async def speak(self, request: Speak[AgendaProgress]) -> UserTurn[AgendaProgress]:
        """The next utterance.

        Raises:
            UserFault: the task has no agenda.
        """
        rng = request.key.rng("user")
        if not request.task.agenda:
            raise UserFault(
                f"task {request.task.id} of {request.task.world} has no agenda, so the user `agenda` has nothing to ask"
                " for; choose a user that reads the instructions instead"
            )
        said = request.conversation.heard()
        progress = request.state or AgendaProgress()
        agenda = _Agenda(request.task, self._ontology, rng, self._temperament)
        if request.state is None:
            return agenda.open(replace(progress, heard=len(said) + 1))
        news = " ".join(word.text for word in said[progress.heard :] if word.speaker == "agent")
        progress = replace(progress, heard=len(said) + 1)
        return agenda.answer(progress, self._hear(news, agenda, progress))

    def _hear(self, text: str, agenda: _Agenda, progress: AgendaProgress) -> AgentReply:
        wish = agenda.wish(progress)
        return read_reply(self._reader.read(text), self._reader.lexicon(agenda.domain(wish)), wish)


class _Agenda:
    """Plans one utterance from the task's wishes, with the random generator of this turn."""

    def __init__(self, task: Task, ontology: Ontology, rng: Random, temperament: Temperament) -> None:
        self._task, self._ontology, self._rng, self._temperament = task, ontology, rng, temperament

    def wish(self, progress: AgendaProgress) -> Wish:
        """The wish being talked about."""
        return self._task.agenda[min(progress.wish, len(self._task.agenda) - 1)]

    def domain(self, wish: Wish) -> Domain:
        """The domain of a wish; a minimal one if the ontology does not define it."""
        return self._ontology.domain(wish.domain) or Domain(wish.domain, (wish.domain,), "name", ())

    def words(self, wish: Wish) -> UserTemplates:
        """The sentences for a wish."""
        kind = UserTemplates if self._temperament.style == "plain" else PeopleTemplates
        return kind(self.domain(wish), self._rng)

    def open(self, progress: AgendaProgress) -> UserTurn[AgendaProgress]:
        """The first utterance: a domain and some of its constraints."""
        wish = self.wish(progress)
        values = self._some(wish.inform, 1, 2)
        text = self.words(wish).opening(values)
        return UserTurn(text, state=replace(progress, stated=frozenset(values)))

    def answer(self, progress: AgendaProgress, heard: AgentReply) -> UserTurn[AgendaProgress]:
        """The answer to a reply of the agent."""
        wish = self.wish(progress)
        progress = replace(
            progress,
            offered=(progress.offered or heard.offered or heard.booked) and not heard.nothing,
            booked=progress.booked or (heard.booked and bool(wish.book)),
            answered=progress.answered | (heard.facts & set(progress.asked)),
        )
        if heard.wrong and progress.corrections < 3 and self._insists():
            return self._correct(progress, wish, heard)
        if heard.nothing or heard.refused:
            return self._insist(progress, wish, heard)
        if heard.asked and not progress.booked:
            return self._reply(progress, wish, heard)
        if progress.offered or progress.booked:
            return self._proceed(progress, wish, heard)
        return self._after_useless_reply(progress, wish)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _correct(self, progress: AgendaProgress, wish: Wish, heard: AgentReply) -> UserTurn[AgendaProgress]:
        values = _pick({**wish.inform, **wish.book}, heard.wrong)
        booked = progress.booked and not any(name in wish.book for name in values)
        stated = progress.stated | values.keys()
        state = replace(progress, stated=stated, booked=booked, useless=0, corrections=progress.corrections + 1)
        return UserTurn(self.words(wish).correct(values), state=state)

    def _insist(self, progress: AgendaProgress, wish: Wish, heard: AgentReply) -> UserTurn[AgendaProgress]:
        progress = replace(progress, failures=progress.failures + 1)
        insists = self._insists()
        if progress.failures <= 2 and not insists and self._news(progress, wish, heard):
            return self._reply(progress, wish, heard)  # without repeating itself, the user still answers new questions
        if progress.failures > 2 or not insists:
            return self._next(progress, pleased=False)
        words = self.words(wish)
        values = {**wish.inform}
        text = words.restate(values)
        if heard.refused and wish.book:
            text = f"{text} {words.book(wish.book)}"
            values |= wish.book
        return UserTurn(text, state=replace(progress, stated=progress.stated | values.keys(), useless=0))

    def _reply(self, progress: AgendaProgress, wish: Wish, heard: AgentReply) -> UserTurn[AgendaProgress]:
        words = self.words(wish)
        search = _pick(wish.inform, heard.asked)
        book = _pick(wish.book, (name for name in heard.asked if name not in search))
        unminded = [name for name in heard.asked if name not in search and name not in book]
        if self._rng.random() < self._temperament.talkative or not (search or book):
            search |= self._some(_without(wish.inform, progress.stated | search.keys()), 0, 2)
        if not (search or book) and progress.offered:
            turn = self._proceed(progress, wish, heard)
            return turn if turn.end else replace(turn, text=f"{words.unminded(unminded)} {turn.text}")
        parts = [words.answer(search)] if search else []
        parts += [words.booking_answer(book)] if book else []
        parts += [words.unminded(unminded)] if unminded else []
        stated = progress.stated | search.keys() | book.keys()
        return UserTurn(" ".join(parts), state=replace(progress, stated=stated, useless=0))

    def _proceed(self, progress: AgendaProgress, wish: Wish, heard: AgentReply) -> UserTurn[AgendaProgress]:
        """After an offer: state remaining constraints, ask, book, or move on to the next wish."""
        words = self.words(wish)
        unstated = _without(wish.inform, progress.stated)
        if unstated and not progress.booked:
            stated = progress.stated | unstated.keys()
            return UserTurn(words.add(unstated), state=replace(progress, stated=stated, useless=0))
        facts = tuple(name for name in wish.requests if name not in progress.asked)[:2]
        parts = [words.facts(facts)] if facts else []
        state = replace(progress, asked=progress.asked + facts, useless=0)
        if wish.book and not progress.booked and (not facts or self._rng.random() < self._temperament.joining):
            if wish.book.keys() <= progress.stated and not heard.offered and not facts:
                return self._after_useless_reply(progress, wish)
            parts.append(words.book(wish.book))
            state = replace(state, stated=state.stated | wish.book.keys())
        return UserTurn(" ".join(parts), state=state) if parts else self._next(progress)

    def _after_useless_reply(self, progress: AgendaProgress, wish: Wish) -> UserTurn[AgendaProgress]:
        """After a useless reply: repeat, or hang up."""
        useless = progress.useless + 1
        words = self.words(wish)
        if useless >= self._temperament.patience:
            return UserTurn(words.leave(), end=True, state=replace(progress, useless=useless))
        stated = {**_pick(wish.inform, wish.inform)}
        text = words.book(wish.book) if progress.offered and wish.book else words.restate(stated)
        state = replace(progress, useless=useless, stated=progress.stated | stated.keys())
        return UserTurn(text, state=state)

    def _next(self, progress: AgendaProgress, pleased: bool = True) -> UserTurn[AgendaProgress]:
        """The next wish, or goodbye; without thanks (not pleased) if this wish is given up."""
        if progress.wish + 1 >= len(self._task.agenda):
            return UserTurn(self.words(self.wish(progress)).bye(pleased), end=True, state=progress)
        fresh = AgendaProgress(heard=progress.heard, wish=progress.wish + 1)
        wish = self.wish(fresh)
        values = self._some(wish.inform, 1, 3)
        return UserTurn(self.words(wish).next(values, pleased), state=replace(fresh, stated=frozenset(values)))

    def _news(self, progress: AgendaProgress, wish: Wish, heard: AgentReply) -> bool:
        """Whether the agent asks for something that the user wants and has not said yet."""
        return any(name in {**wish.inform, **wish.book} and name not in progress.stated for name in heard.asked)

    def _insists(self) -> bool:
        return self._rng.random() < self._temperament.insistence

    def _some(self, values: Mapping[str, str], least: int, most: int) -> dict[str, str]:
        count = min(len(values), self._rng.randint(least, most))
        return _pick(values, self._rng.sample(sorted(values), count))


def _pick(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    wanted = set(names)
    return {name: value for name, value in values.items() if name in wanted}


def _without(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    gone = set(names)
    return {name: value for name, value in values.items() if name not in gone}
