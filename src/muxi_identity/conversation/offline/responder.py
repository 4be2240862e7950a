"""The default responder: rules of the English language, no network, no model, the same answer every time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from muxi_identity.context.memories.facts import Fact
from muxi_identity.conversation.offline.clauses import ALSO_ASKED, ASIDE, clauses
from muxi_identity.conversation.offline.corrections import (
    amend,
    forgets_everything,
    read_change,
    read_introduction,
    read_note,
    replaced,
)
from muxi_identity.conversation.offline.leads import without_lead
from muxi_identity.conversation.offline.questions import Answer, read_question
from muxi_identity.conversation.offline.recall import NOTE
from muxi_identity.conversation.offline.statements import read_statement
from muxi_identity.conversation.offline.wording import MAX_KEY, Sentence, as_sentence, fold, second_person, sentences
from muxi_identity.conversation.responder import Response, Turn
from muxi_identity.conversation.secrecy import REFUSED

UNKNOWN = "I don't have that information."
GREETING = "Hello! How can I help?"
THANKS = "You're welcome."
NEUTRAL = "You can tell me things about yourself and ask me about them later."
NOTHING_TO_CHANGE = "There is nothing to change."
FORGOTTEN = "Okay, I have forgotten everything."
MAX_FACTS = 50
MAX_TOPICS = 5
MAX_TOPIC = 60  # characters
# How far back "it" may reach, in messages of the user.
MAX_LOOKBACK = 10
_GREETS = re.compile(r"(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings|howdy)\b[\w ,]{0,20}", re.I)
_THANKS = re.compile(
    r"(?:many |ok,? |okay,? |great,? )?(?:thanks|thank you|thx|"
    r"cheers)\b[\w ,]{0,30}",
    re.I,
)
_NODS = re.compile(
    r"(?:ok|okay|yes|no|yeah|sure|great|cool|nice|perfect|fine|good|right|got it|wait|no wait|sorry|"
    r"oops|hmm+)",
    re.I,
)
# What comes behind these is supposed, wished or told by somebody else; nothing in the sentence is the user's statement.
_SUPPOSED = re.compile(
    r"(?:(?:and|but|so|well|then|also),? )?(?:if|when|whenever|whether|unless|suppose|supposing|imagine|"
    r"assume|assuming|pretend|"
    r"let's (?:say|pretend|assume|imagine)|say|maybe|perhaps|might|should|would|could|i wish|i hope|"
    r"i doubt|i wonder|what if|"
    r"even if|in case|once|until|ignore|disregard|act as|according to|(?:do not|don't|"
    r"never) (?:remember|note|save|store))\b",
    re.I,
)
_REPORTS = re.compile(
    r"\b(?:sa(?:id|ys?|ying)|t(?:old|ells?|hinks?|hought)|claim(?:s|ed)|wrote|writes|ask(?:s|ed)|"
    r"replied|insists?|believes|mentioned|"
    r"if|pretend|ignore|suppose|whether|unless)\b",
    re.I,
)
_REQUEST = re.compile(
    r"(?:(?:hi|hey|hello|so|and|also)[, ]+)?(?:please |(?:can|could|would|will) you (?:please |kindly )?)",
    re.I,
)
# "my mother's birthday is in May and my father's is in June"
_ELIDED_NOUN = re.compile(r"((?:my|our) (?:[\w-]+ ){0,3}[\w-]+'s) ((?:is|are|was|were) .+)", re.I)
_OWNED = re.compile(r"(?:My|Our) (?:.{1,80}?'s )?(.{1,80}?) (?:is|are|was|were) ")


def _anything(statement: str) -> bool:
    return True


@dataclass(slots=True)
class _Reading:
    """What one message says and asks, read against what is known."""

    known: dict[str, Fact]
    focus: tuple[tuple[Fact, ...], ...]
    keeps: Callable[[str], bool]
    learned: dict[str, Fact] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    unchanged: bool = False
    forget_all: bool = False
    refused: bool = False
    other: list[str] = field(default_factory=list)

    def learn(self, facts: Sequence[Fact]) -> None:
        """Take in facts; the last word on a key counts. What must not be kept is not learned."""
        self.unchanged = self.unchanged or not facts
        told = len(facts)
        facts = [fact for fact in facts if fact.value is None or self.keeps(fact.content)]
        self.refused = self.refused or len(facts) < told
        for fact in facts:
            # "Forget everything" must not stop at the bound.
            if fact.value is not None and len(self.learned) >= MAX_FACTS and fact.key not in self.learned:
                continue
            bounded = Fact(fact.key[: 2 * MAX_KEY], fact.content, fact.value)
            self.learned.pop(bounded.key, None)
            self.learned[bounded.key] = bounded
            self.known.pop(bounded.key, None)
            if bounded.value is not None:
                self.known = {bounded.key: bounded, **self.known}
        self.speak_of([fact for fact in facts if fact.value is not None], {fact.key for fact in facts})

    def speak_of(self, facts: Sequence[Fact], keys: Iterable[str] = ()) -> None:
        """Put facts in focus, in the place of what older ones of the same keys said."""
        stale = {*keys, *(fact.key for fact in facts)}
        older = (tuple(fact for fact in group if fact.key not in stale) for group in self.focus)
        self.focus = tuple(group for group in (tuple(facts), *older) if group)[:MAX_LOOKBACK]

    def answer(self, answer: Answer) -> None:
        """Take in the answer to a question, which also says what "it" may mean from here on."""
        self.answers.append(answer)
        if about := _asked_about(answer):
            self.speak_of(about)


class OfflineResponder:
    """Answer by rules of language from the person's facts alone.

    It learns what a person says of themselves ("my <thing> is <value>", "I live in ..."), lets a later statement
    replace an earlier one, and answers questions about it; what it does not know it says so in one fixed sentence.
    No message makes it raise, take longer than its length explains, or say anything but what the facts say.

    ``keeps`` tells of a statement whether it may be remembered; it says so where one may not.
    """

    restartable = True

    def __init__(self, keeps: Callable[[str], bool] = _anything) -> None:
        self._keeps = keeps

    async def respond(self, turn: Turn) -> Response:
        """Return the reply to the message and the facts to remember or, with a value of None, to forget."""
        known = {fact.key: fact for fact in reversed(turn.facts) if fact.value is not None}
        known = dict(reversed(known.items()))
        reading = _read(turn.message, known, _focus(turn, known), self._keeps)
        return Response(
            _reply(reading),
            tuple(reading.learned.values()),
            topics=_topics(reading),
            forget_all=reading.forget_all,
        )


def _topics(reading: _Reading) -> tuple[str, ...]:
    """Return what was spoken of, by attribute: "budget", "live in"."""
    said = [fact for fact in reading.learned.values() if fact.value is not None]
    asked = [fact for answer in reading.answers for fact in _asked_about(answer)]
    keys = dict.fromkeys(fact.key.removeprefix(f"{NOTE}: ").replace(": ", " ") for fact in (*said, *asked))
    return tuple(key[:MAX_TOPIC] for key in keys)[:MAX_TOPICS]


def _focus(turn: Turn, known: Mapping[str, Fact]) -> tuple[tuple[Fact, ...], ...]:
    """Return what "it" may mean: what this session spoke of since it last spoke of something else."""
    focus: tuple[tuple[Fact, ...], ...] = ()
    said = [message.content for message in turn.messages if message.role == "user"]
    for content in said[-MAX_LOOKBACK:]:
        reading = _read(content[:5_000], dict(known), focus, _anything)
        # Several facts of one message stand together: which of them "it" means must be clear from the value.
        reading.speak_of([fact for fact in reading.learned.values() if fact.value is not None])
        focus = reading.focus if _keeps_the_subject(reading) else ()
    return focus


def _keeps_the_subject(reading: _Reading) -> bool:
    if reading.learned:
        return True
    if reading.answers:
        return bool(_asked_about(reading.answers[-1]))
    return bool(reading.other) and all(map(_is_small_talk, reading.other))


def _is_small_talk(text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in (_GREETS, _THANKS, _NODS))


def _asked_about(answer: Answer) -> tuple[Fact, ...]:
    if len(answer.facts) == 1:
        return answer.facts
    if answer.facts or not answer.topic:
        return ()
    topic = re.sub(r"^(?:my|our|the) ", "", answer.topic, flags=re.I)
    return (Fact(fold(topic), f"My {topic} is ", ""),)


def _read(
    message: str, known: dict[str, Fact], focus: tuple[tuple[Fact, ...], ...], keeps: Callable[[str], bool]
) -> _Reading:
    reading = _Reading(known, focus, keeps)
    for sentence in sentences(message):
        _read_sentence(sentence, reading)
    return reading


def _read_sentence(sentence: Sentence, reading: _Reading) -> None:
    if sentence.asked:
        request = _REQUEST.match(sentence.text)
        facts = _commanded(sentence.text[request.end() :], reading) if request else None
        if request is not None and facts is not None:
            reading.forget_all |= forgets_everything(without_lead(sentence.text[request.end() :]))
            reading.learn(facts)
            return
    if aside := ASIDE.search(sentence.text):
        before, after = sentence.text[: aside.start()], Sentence(sentence.text[aside.end() :], sentence.asked)
        answer = read_question(after, reading.known)
        if (
            answer is not None
            and not _SUPPOSED.match(before)
            and not read_question(Sentence(before, False), reading.known)
        ):
            _read_clauses(before, reading)
            answer = read_question(after, reading.known)
            reading.answer(answer or Answer())
            return
    if (both := ALSO_ASKED.search(sentence.text)) and sentence.asked:
        halves = [Sentence(half, True) for half in (sentence.text[: both.start()], sentence.text[both.end() :])]
        answers = [read_question(half, reading.known) for half in halves]
        for answer in answers:
            reading.answer(answer or Answer())
        return
    answer = None if not sentence.asked and _states(sentence.text, reading) else read_question(sentence, reading.known)
    if answer is not None:
        reading.answer(answer)
    else:
        _read_clauses(sentence.text, reading)


def _states(clause: str, reading: _Reading) -> bool:
    lead = without_lead(clause)
    return bool(re.match(r"(?:my|our)\b", lead.text, re.I)) and read_statement(lead.text, reading.known) is not None


def _commanded(text: str, reading: _Reading) -> list[Fact] | None:
    lead = without_lead(text)
    facts = read_change(lead, reading.known, reading.focus)
    if facts is None and (lead.noted or re.match(r"call me ", lead.text, re.I)):
        facts = read_statement(lead.text, reading.known)
    if facts is None and lead.noted:
        facts = read_note(lead.text, reading.known)
    return (
        amend(lead, reading.focus)
        if facts is None and re.match(r"(?:make|set|change|update)\b", lead.text, re.I)
        else facts
    )


def _read_clauses(text: str, reading: _Reading) -> None:
    if _SUPPOSED.match(without_lead(text).text):
        reading.other.append(text)
        return
    understood = False
    for clause in clauses(text, lambda clause: _read_clause(clause, reading) is not None):
        facts = _read_clause(clause, reading)
        if facts is not None:
            reading.forget_all |= forgets_everything(without_lead(clause.strip(" ,")))
            reading.learn(facts)
            understood = True
        elif not understood and _REPORTS.search(clause):
            break
    if not understood:
        reading.other.append(text)


def _read_clause(clause: str, reading: _Reading) -> list[Fact] | None:
    lead = without_lead(clause.strip(" ,"))
    if _SUPPOSED.match(lead.text):
        return None
    facts = read_change(lead, reading.known, reading.focus)
    if facts is None:
        facts = read_introduction(lead) or read_statement(_completed(lead.text, reading), reading.known)
        if facts:
            return [*facts, *replaced(facts, reading.known, lead)]
    if facts is None:
        facts = amend(lead, reading.focus)
    if facts is None and lead.noted:
        facts = read_note(lead.text, reading.known)
    return facts


def _completed(clause: str, reading: _Reading) -> str:
    if (
        (elided := _ELIDED_NOUN.fullmatch(clause))
        and reading.focus
        and (owned := _OWNED.match(reading.focus[0][-1].content))
    ):
        return f"{elided[1]} {owned[1]} {elided[2]}"
    return clause


def _reply(reading: _Reading) -> str:
    parts = []
    stated = [second_person(fact.content) for fact in reading.learned.values() if fact.value is not None]
    if stated:
        shown = stated[:10]
        parts.append(as_sentence(f"Got it: {'; '.join(shown)}"))
    elif reading.forget_all:
        parts.append(FORGOTTEN)
    elif reading.learned:
        parts.append("Okay, I have forgotten that.")
    if reading.refused:
        parts.append(REFUSED)
    for answer in [answer for answer in reading.answers if not _overtaken(answer, reading)][:10]:
        text = _worded(answer)
        if text not in parts:
            parts.append(text)
    if parts:
        return " ".join(parts)
    if reading.unchanged:
        return NOTHING_TO_CHANGE
    texts = [text.strip(" ,!") for text in reading.other]
    if texts and all(_GREETS.fullmatch(text) for text in texts):
        return GREETING
    return THANKS if texts and _THANKS.fullmatch(texts[-1]) else NEUTRAL


def _overtaken(answer: Answer, reading: _Reading) -> bool:
    # "My locker? It's 15.": what was asked has been told in the same breath.
    if answer.facts:
        return any(fact.key in reading.learned and fact not in reading.learned.values() for fact in answer.facts)
    return bool(answer.topic) and fold(answer.topic) in reading.learned


def _worded(answer: Answer) -> str:
    if not answer.facts:
        return UNKNOWN
    statements = [second_person(fact.content) for fact in answer.facts]
    if answer.agrees is not None:
        statements[0] = f"{'Yes' if answer.agrees else 'No'}, {statements[0]}"
    return " ".join(as_sentence(statement) for statement in statements)
