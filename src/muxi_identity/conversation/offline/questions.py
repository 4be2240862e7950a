"""Read questions about what is known of a person, and find the facts that answer them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from muxi_identity.context.memories.facts import Fact
from muxi_identity.conversation.offline.leads import ABOUT_ME, without_courtesy, without_wrapping
from muxi_identity.conversation.offline.recall import NAME, NOTE, find_thing, held, mentions, relation_key
from muxi_identity.conversation.offline.statements import MEASURES, is_thing, read_statement, tidy
from muxi_identity.conversation.offline.verbs import Relation, read_relation
from muxi_identity.conversation.offline.wording import Sentence, fold, same_value, shape, vocabulary

MAX_LISTED = 20

Known = Mapping[str, Fact]
_WH = r"(?:what|which|who|whom|whose|when|where|how)"
_SIZE = rf"(?: (much|many|often|{'|'.join(MEASURES)}))?"
_IS = r"(?:'s|'re| is| are| was| were| will be)(?: currently| now| again| actually| still| exactly)?"
_OPENS = re.compile(
    rf"{_WH}(?:'s|'re|'m)\b|{_WH}(?: \w+){{0,3}} (?:is|are|was|were|am|do|does|did|have|has|will|can|"
    rf"should|would|could)\b|why\b|"
    r"(?:do|did|does|am|is|are|was|were|have|has|can|could|would|will|should|shall|may|isn't|aren't|"
    r"don't|doesn't) (?:i|my|our|the|you|we|it|there|he|she|they)\b",
    re.I,
)
_THING = re.compile(rf"({_WH}){_SIZE}{_IS} (.+)", re.I)
_THING_IS = re.compile(rf"(?:({_WH}){_SIZE} )?((?:my|our|the) .+?) (?:is|are|was|were)(?: called| named)?", re.I)
_FRAGMENT = re.compile(r"(?:the |a )?(?:value of )?((?:my|our|the) [\w'&/ -]{1,120})", re.I)
_KIND_OF = re.compile(
    r"(?:what|which) ((?:kind of |type of |sort of )?\w+(?: \w+)?) (?:is|are|was|were) ((?:my|our|the) .+)",
    re.I,
)
_MINE = re.compile(r"(?:what|which|whose) ((?:\w+ ){0,3}\w+) is mine", re.I)
_WHICH_I = re.compile(
    r"(?:what|which|how many|how much) ((?:\w+ ){0,3}\w+) (?:do|did|am|"
    r"have) i(?: (.+))?",
    re.I,
)
_VERB = re.compile(rf"({_WH}){_SIZE}(?: (?:else|exactly))? ?(do|did|am|was|have|'m) i(?: (.+))?", re.I)
_EMBEDDED = re.compile(rf"({_WH}){_SIZE} i(?:(?: |')(am|was|m))?(?: (.+))?", re.I)
_CHECK_I = re.compile(r"(?:do|did|(am|was|have)|don't|didn't|aren't) i (.+)", re.I)
_CHECK = re.compile(r"(?:is|are|was|were|isn't|aren't|wasn't|will) ((?:my|our|the) .+)", re.I)
_CHECK_INVERTED = re.compile(r"(?:is|are|was|were) (.+?) ((?:my|our) [\w' &-]+)", re.I)
_OF_THEIRS = re.compile(rf"(?:({_WH})(?: (?:time|day|date))? )?(?:does|do|did|will|has) (?:my|our) (.+)", re.I)
_COMPARED = re.compile(
    r"\b(?:over|under|more|less|above|below|at least|at most|between|enough|or|bigger|smaller|higher|"
    r"lower|than|set|known)\b",
    re.I,
)
_PLACES = ("in", "at", "on", "near", "from", "to")
_COMMON = vocabulary(
    """what which who whom whose when where how why is are was were do does did the a an of to you i know tell
    me can s"""
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The facts that answer a question, none if they are unknown.

    ``agrees`` answers yes or no where that was asked and can be told; ``topic`` is the thing asked about.
    """

    facts: tuple[Fact, ...] = ()
    agrees: bool | None = None
    topic: str = ""


def read_question(sentence: Sentence, known: Known) -> Answer | None:
    """Return the answer to a question; None if the sentence asks nothing.

    A question that is not about anything known has an answer without facts.
    """
    core, wrapped = without_wrapping(sentence.text)
    if ABOUT_ME.fullmatch(core) or (wrapped and ABOUT_ME.fullmatch(without_courtesy(sentence.text))):
        return _all_about(core, known)
    opens = wrapped or sentence.asked or bool(_OPENS.match(core))
    if not opens and not _FRAGMENT.fullmatch(core):
        return None
    if not opens and not re.match(r"(?:my|our) ", core, re.I):
        return None
    for rule in _RULES:
        answer = rule(core, known)
        if answer is not None:
            return answer
    if not opens:
        return None
    if is_thing(core) and len(core.split()) <= 4:
        return Answer(find_thing(core, known))
    return _noted(core, known)


def _all_about(core: str, known: Known) -> Answer:
    if re.fullmatch(r"who (?:i am|am i)", core, re.I):
        named = find_thing(NAME, known)
        others = tuple(fact for key, fact in known.items() if key.startswith("am: ") and fact not in named)
        return Answer((*named, *others)[:MAX_LISTED])
    return Answer(tuple(known.values())[:MAX_LISTED])


def _first(phrases: Sequence[str], known: Known) -> Answer:
    for phrase in phrases:
        if facts := find_thing(phrase, known):
            return Answer(facts)
    parts = [find_thing(part, known) for part in re.split(r",? and (?:my )?|, (?:my )?", phrases[0])[:MAX_LISTED]]
    if len(parts) > 1:
        return Answer(tuple(fact for part in parts for fact in part) if all(parts) else ())
    return Answer(topic=phrases[0] if is_thing(phrases[0]) else "")


def _sized(size: str | None, thing: str, wh: str | None) -> list[str]:
    thing = re.sub(r"^(?:the |a )?(?:value|amount) of ", "", thing, flags=re.I)
    if found := re.fullmatch(r"(.+?) (?:called|named)", thing, re.I):
        return [f"{found[1]}'s {NAME}", found[1]]
    if size and size.lower() in MEASURES:
        return [f"{thing} {MEASURES[size.lower()]}", thing]
    return [thing, f"{thing}'s {NAME}"] if (wh or "").lower() in ("who", "whom") else [thing]


def _thing(core: str, known: Known) -> Answer | None:
    if found := _THING.fullmatch(core):
        if re.match(r"i\b|am i\b", found[3], re.I):
            return None
        phrases = _sized(found[2], found[3], found[1])
        if re.match(r"(?:my|our|the) |.+'s ", found[3], re.I) or held(phrases[0], known) in known:
            answer = _first(phrases, known)
            return answer if answer.facts or re.match(r"(?:my|our) ", found[3], re.I) else None
        return None
    if found := _MINE.fullmatch(core):
        return _first([found[1]], known)
    if found := _KIND_OF.fullmatch(core):
        kind = re.sub(r"^(?:kind|type|sort) of ", "", found[1], flags=re.I)
        return _first([f"{found[2]} {kind}", found[2]], known)
    if found := _THING_IS.fullmatch(core):
        return _first(_sized(found[2], found[3], found[1]), known)
    if (found := _FRAGMENT.fullmatch(core)) and not re.search(r" (?:is|are|was|were) ", core, re.I):
        if not is_thing(found[1].replace(" and ", " ")):
            return None
        answer = _first([found[1]], known)
        return answer if answer.facts or found[1].lower().startswith(("my ", "our ")) else None
    return None


def _predicate(helper: str | None, rest: str | None) -> str:
    predicate = f"{(helper or '').lower().replace(chr(39), '')} {rest or ''}".strip()
    predicate = re.sub(r"^(?:do|did) ", "", predicate)
    predicate = re.sub(r"^m ", "am ", predicate)
    predicate = re.sub(r"^am (?:based|living|located|residing)$", "live", predicate)
    predicate = re.sub(r"^am (?:working|employed)(?= |$)", "work", predicate)
    predicate = re.sub(r"^do (?:for (?:a living|work)|at work)$", "work", predicate)
    return re.sub(r"^(?:was|am) born(?= |$)", "born", predicate)


def _verb(core: str, known: Known) -> Answer | None:
    if found := _WHICH_I.fullmatch(core):
        kind, helper = found[1], re.search(r" (do|did|am|have) i\b", core, re.I)
        if (facts := find_thing(kind, known)) or not found[2]:
            return Answer(facts)
        relation = read_relation(_predicate(helper[1] if helper else "", found[2]), asked=True)
        listed = _related("what", relation, known) if relation else ()
        exact = tuple(fact for fact in listed if fold(kind) in fact.key)
        return Answer(exact or (() if relation and relation.base == "have" else listed), topic="")
    found = _VERB.fullmatch(core) or _EMBEDDED.fullmatch(core)
    if not found:
        return None
    wh, size, helper_word, rest = found[1].lower(), found[2], found[3], found[4]
    if size and size.lower() in MEASURES and not rest:
        return _first([MEASURES[size.lower()]], known)
    if re.fullmatch(r"(?:called|named)", rest or "", re.I):
        return _first([NAME], known)
    relation = read_relation(_predicate(helper_word, rest), asked=True)
    return Answer(_related(wh, relation, known)) if relation else Answer()


def _related(wh: str, relation: Relation, known: Known) -> tuple[Fact, ...]:
    wanted = frozenset(fold(relation.object).split()) if relation.object else frozenset()
    found = []
    for key, fact in known.items():
        base, _, _ = key.partition(": ")
        if not fact.content.startswith("I ") or not (base == relation.base or base.startswith(f"{relation.base} ")):
            continue
        last = base.split()[-1]
        if wh == "where" and base != relation.base and (last not in _PLACES or base == "born on"):
            continue
        if (
            wh == "when"
            and base != relation.base
            and (last not in ("at", "on", "in", "from") or shape(fact.value or "") == "proper")
        ):
            continue
        negative = (fact.value or "").startswith("not ")
        if negative == relation.negative and wanted <= frozenset(fold(fact.content).split()) | frozenset(
            fold(key).split()
        ):
            found.append(fact)
    return tuple(found[:MAX_LISTED])


def _judged(fact: Fact, asked: str) -> Answer:
    if _COMPARED.search(asked):
        return Answer((fact,))
    return Answer((fact,), same_value(asked, fact.value or ""))


def _check(core: str, known: Known) -> Answer | None:
    if found := _CHECK_I.fullmatch(core):
        return _check_verb(_predicate(found[1], found[2]), known)
    if found := _CHECK.fullmatch(core):
        words = found[1].split()
        for at in range(len(words), 1, -1):
            if facts := find_thing(" ".join(words[:at]), known) if at < 9 else ():
                return _judged(facts[0], " ".join(words[at:])) if at < len(words) else Answer(facts)
        return Answer()
    if (found := _CHECK_INVERTED.fullmatch(core)) and (facts := find_thing(found[2], known)):
        return _judged(facts[0], found[1])
    said = read_statement(core, {})
    if not said:
        return None
    if re.match(r"i\b|i'm\b", core, re.I):
        return _check_verb(
            re.sub(
                r"^(?:i'm|"
                r"i am)\b",
                "am",
                re.sub(r"^i (?!am\b)", "", core, flags=re.I),
                flags=re.I,
            ),
            known,
        )
    facts = find_thing(said[0].key, known)
    return _judged(facts[0], said[0].value or "") if facts else Answer()


def _check_verb(predicate: str, known: Known) -> Answer:
    relation = read_relation(predicate, asked=True)
    if relation is None:
        return Answer()
    if relation.single and relation.base in known and relation.object:
        return _judged(known[relation.base], tidy(relation.object))
    options = re.split(r",? or |, ", relation.object)
    facts = [known[key] for option in options if (key := relation_key(relation.base, tidy(option))) in known]
    if not facts and relation.base == "have":
        facts = list(find_thing(relation.object, known))
    if len(options) > 1 or not facts:
        return Answer(tuple(facts))
    return Answer(tuple(facts), not (facts[0].value or "").startswith("not "))


def _of_theirs(core: str, known: Known) -> Answer | None:
    if not (found := _OF_THEIRS.fullmatch(core)):
        return None
    words = fold(found[2]).split()
    for key, fact in known.items():
        thing, colon, verb = key.partition(": ")
        spoken = f"{thing} {verb}".split()
        if not colon or fact.content.startswith("I ") or thing == NOTE:
            continue
        if spoken[: len(words)] == words:
            return Answer((fact,))
        if not found[1] and words[: len(spoken)] == spoken:
            return _judged(fact, " ".join(words[len(spoken) :]))
    return Answer()


def _noted(core: str, known: Known) -> Answer:
    words = frozenset(fold(core).split()) - _COMMON
    if len(words) < 2 or re.search(r"\b(?:i|my|me|our)\b", core, re.I):
        return Answer()
    notes = tuple(fact for key, fact in known.items() if key.startswith(f"{NOTE}: ") and mentions(fact, words))
    return Answer(notes[:MAX_LISTED])


_RULES: tuple[Callable[[str, Known], Answer | None], ...] = (_thing, _verb, _of_theirs, _check)
