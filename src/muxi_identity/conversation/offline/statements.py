"""Read what a person says of themselves: "my <thing> is <value>", "I <verb> <something>". Pure.

The rules know the language and no attribute: a thing is whatever stands between "my" and "is".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from muxi_identity.context.memories.facts import Fact
from muxi_identity.conversation.offline.recall import NAME, held, relation_key
from muxi_identity.conversation.offline.verbs import PLURAL, Relation, read_relation, without_subject
from muxi_identity.conversation.offline.wording import MAX_VALUE, fold, shape, unstop, value_words, vocabulary
from muxi_identity.storage.tables import DIGEST

_COPULA = re.compile(
    r"(is|are|was|were|will be|has been|have been|should be|equals?|=|became|becomes|remains?|stays|"
    r"has become|has|"
    r"have|changed|went|got)((?: (?:now|currently|actually|still|really|going to be|supposed to be|set|"
    r"changed|updated|moved|"
    r"increased|reduced|raised|lowered|rescheduled|up|down|been|become|also|again|just))*)(?: (?:to|"
    r"from .{1,80} to)(?! be))?(?= )",
    re.I,
)
_BETWEEN = re.compile(r"(?: (?:just|now|actually|currently|still|recently|also|really|already|therefore))+$", re.I)
_TENSES = frozenset(("is", "are", "was", "were", "will be"))
_MOVING = re.compile(
    r"\b(?:set|changed|updated|moved|increased|reduced|raised|lowered|rescheduled|"
    r"become)\b"
)
_BARE_HELPERS = frozenset(("has", "have", "changed", "went", "got"))
_MAX_THING = 9
# A possession with one of these inside is not one noun phrase, so the verb found behind it is not its own.
_NOT_A_THING = vocabulary(
    """who which that when if where whether i he she it we they and or but because not do don't did can will
    would should said says told thinks is are was were so then what how ain't"""
)
_NOT_A_VALUE = re.compile(r"(?:what|which|who|whose|how|why|whether|if|supposed|that)\b|(?:where|when)$", re.I)
_CONDITION = re.compile(r"\b(?:if|unless|provided that|assuming|in case|or not)\b", re.I)
_TRAILING = re.compile(
    r"[\s,]+(?:please|thanks|thank you|by the way|btw|now|right now|from now on|these days|nowadays|"
    r"at the moment|currently|though|"
    r"too|as well|again|ok|okay|instead|fyi|actually|just so you know|for your information|at present|"
    r"i think|i believe)$",
    re.I,
)
_REASON = re.compile(
    r",? (?:because|although|even though) .*$|, (?:which|so|but|not|rather than|i|we|who) .*$|"
    r"(?:,| and|, and) (?:he|she|it|they) [a-z].*$",
    re.I,
)
# "any more" is not among these: it tells that something ended.
_COURTESY = re.compile(r"[,.]?\s+(?:please|thanks|though|actually|btw|by the way)$", re.I)
_LABEL = re.compile(r"((?:my|our)(?: [\w'&-]+){1,6}?)(?:\s*=\s*|:\s+)", re.I)
_NOT = re.compile(r"(is|are|was|were|will|do|does|has|have)n't\b", re.I)
_DENIED = re.compile(r"(?:not|no longer)(?: any ?more| any longer)? (.+)", re.I)
_INSTEAD = re.compile(r",? (?:but|it's|it is|they're|instead it's|rather)(?: (?:now|rather|is|it's))*,? ", re.I)
_NAMED = re.compile(r"(?:called|named) (.+)", re.I)
_MEASURED = re.compile(
    r"[\d.,'\"]+(?: [\w.]+){0,3} (old|tall|heavy|wide|long|high|deep|thick|big|"
    r"far)",
    re.I,
)
MEASURES = {
    "old": "age",
    "tall": "height",
    "high": "height",
    "heavy": "weight",
    "wide": "width",
    "long": "length",
    "deep": "depth",
    "thick": "thickness",
    "big": "size",
    "far": "distance",
}
_CONTRACTED = re.compile(r"(my|our) ((?:[\w&-]+(?:'s)? ){0,4}?[\w&-]+)'(?:s|re) (.+)", re.I)
_OF_MINE = re.compile(
    r"the ((?:[\w'&-]+ ){0,4}[\w'&-]+) of (mine|(?:my|our) (?:[\w'&-]+ ){0,4}?[\w'&-]+) (is|are|was|"
    r"were) (.+)",
    re.I,
)
_INVERTED = re.compile(
    r"(.{1,400}?) (is|are|was|were) (?:now )?(my|"
    r"our) ((?:[\w'&-]+ ){0,6}[\w'&-]+)",
    re.I,
)
_POINTING = re.compile(
    r"(?:this|that|these|those|it|he|she|they|there|here|one|you|i|we|not|as|when|while|because|of|for|"
    r"to|in)\b",
    re.I,
)
_THIRD = re.compile(
    r"(my|our) ((?:[\w'&-]+ ){0,4}?[\w'&-]+) "
    r"((?!is\b|was\b|has\b|says\b|this\b|as\b)[a-z]{2,15}s (?:in|on|at|to|from|for|as|with|by|around|"
    r"after|before|until)|"
    r"has|likes|loves|hates|prefers|needs|wants|uses|speaks|plays|owns|drives|eats|drinks|studies|"
    r"teaches) (.+)",
    re.I,
)
_CALL_ME = re.compile(
    r"(?:(?:you (?:can|may|should)|everyone|everybody|people|(?:my|all my) friends|they|just|"
    r"please) )*calls? me (.+)|"
    r"(?:i'm|i am|i'm also|i was) (?:called|named|known as) (.+)|i go by (?:the name (?:of )?)?(.+)",
    re.I,
)
_NOT_A_NAME = re.compile(
    r"(?:back|later|when|whenever|at|on|in|if|tomorrow|today|tonight|now|soon|again|any|every|after|"
    r"before|an?|the|my|by|via|for|"
    r"about|old|crazy|maybe|what|whatever|whenever)\b",
    re.I,
)
_OWNED_NAME = re.compile(
    r"have (?:got )?an? ((?:[\w-]+ ){0,3}?[\w-]+) (?:(?:named|called) (.+)|of ([$€£¥]?\d.*))", re.I
)
_AGED = re.compile(r"am (\d{1,3}(?: ?(?:years?|yrs?)(?: of age)?| ?y/?o)?(?: old)?)", re.I)
_MEASURED_ME = re.compile(rf"am ({_MEASURED.pattern})", re.I)
_BORN = re.compile(r"(was born) (in|on|at) (.+?),? (in|on|at) (.+)", re.I)
SUPERLATIVE = re.compile(r"(?:(?:all-time|least|most) )?(?:favou?rite|preferred|usual|loved)\b", re.I)
_LIST = re.compile(r",? and |, ", re.I)


def read_statement(clause: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    """Return the facts that a clause states, an empty list where it states none that fits, None if it is no statement.

    ``known`` are the facts held so far by key: a statement takes over the key of the fact it replaces, and "my budget
    is not 5" retracts that value alone. A retraction is a fact whose value is None.
    """
    clause = _NOT.sub(lambda found: f"{found[1]} not", clause).replace("won't", "will not")
    for read in (_named, _possession, _of_mine, _inverted, _first_person):
        facts = read(clause, known)
        if facts is not None:
            return facts
    return None


def tidy(value: str) -> str:
    """Return a value without the courtesies around it, bounded; empty when it is no value."""
    previous = ""
    while previous != value:
        previous = value
        value = unstop(_TRAILING.sub("", value.strip(" ,:;\t")))
    value = _REASON.sub("", value)
    if not value_words(value) and not value.strip("?.!"):
        return ""
    if _NOT_A_VALUE.match(value) or _CONDITION.search(value):
        return ""
    return value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 3].rstrip() + "..."


def is_thing(phrase: str) -> bool:
    """Tell whether a phrase is one noun phrase that can be asked for, with no verb of its own in it."""
    words = phrase.lower().split()
    return 0 < len(words) <= _MAX_THING and _NOT_A_THING.isdisjoint(words) and not fold(phrase).startswith(DIGEST)


def state(thing: str, value: str, known: Mapping[str, Fact], owner: str = "My", verb: str = "") -> list[Fact]:
    """Return the fact "my <thing> is <value>", none when either is unfit."""
    value = tidy(value)
    words = thing.split()
    if not value or not is_thing(thing):
        return []
    if not verb:
        verb = "are" if re.search(r"[^sui'’]s$", words[-1]) else "is"
    return [Fact(held(thing, known), f"{owner} {thing} {verb} {value}", value)]


def retract(fact: Fact) -> Fact:
    """Return what makes a fact be forgotten."""
    return Fact(fact.key, fact.content, None)


def _named(clause: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    if found := _CALL_ME.fullmatch(clause):
        value = tidy(found[1] or found[2] or found[3])
        if not value or _NOT_A_NAME.match(value) or len(value.split()) > 5:
            return None
        return [Fact(NAME, f"My {NAME} is {value}", value)]
    return None


def _possession(clause: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    if not re.match(r"(?:my|our) ", clause, re.I):
        return None
    clause = _LABEL.sub(r"\1 = ", clause, count=1)
    words = clause.split()
    owner = words[0].capitalize()
    for at in range(2, min(len(words), _MAX_THING + 2)):
        copula = _COPULA.match(" ".join(words[at:]))
        if copula and not (copula[1].lower() in _BARE_HELPERS and not _moved(copula)):
            thing = _BETWEEN.sub("", " ".join(words[1:at]))
            return _copular(owner, thing, copula, known)
        if words[at - 1].lower() in _NOT_A_THING:
            return None
    if found := _CONTRACTED.fullmatch(clause):
        return _contracted(owner, found, known)
    if found := _THIRD.fullmatch(clause):
        value, verb = tidy(found[4]), found[3].lower()
        if not value or not is_thing(found[2]):
            return None
        return [Fact(f"{fold(found[2])}: {fold(verb)}", f"{owner} {found[2]} {verb} {value}", value)]
    return None


def _moved(copula: re.Match[str]) -> bool:
    return bool(_MOVING.search(copula[0].lower())) or copula[0].lower().endswith(" to") or copula[2].strip() == "been"


def _copular(owner: str, thing: str, copula: re.Match[str], known: Mapping[str, Fact]) -> list[Fact] | None:
    value = copula.string[copula.end() :].strip()
    tense = copula[1].lower()
    verb = "" if tense not in _TENSES or _moved(copula) else tense
    if found := _DENIED.fullmatch(value):
        old, *new = _INSTEAD.split(found[1], maxsplit=1)
        if new:
            return state(thing, new[0], known, owner, verb)
        fact = known.get(held(thing, known))
        matches = fact and fact.value and value_words(tidy(old)) <= value_words(fact.value)
        return [retract(fact)] if fact and matches else []
    if found := _NAMED.fullmatch(value):
        return state(f"{thing}'s {NAME}", found[1], known, owner, "is")
    if found := _MEASURED.fullmatch(tidy(value)):
        value = tidy(value)
        key = held(f"{thing} {MEASURES[found[1].lower()]}", known)
        return [Fact(key, f"{owner} {thing} {verb or 'is'} {value}", value)]
    return state(thing, value, known, owner, verb) or None


def _contracted(owner: str, found: re.Match[str], known: Mapping[str, Fact]) -> list[Fact] | None:
    thing, value = found[2], found[3]
    if inner := re.fullmatch(r"([a-z][\w-]*)'s (.+)", value):
        thing, value = f"{thing}'s {inner[1]}", inner[2]
    # "my daughter's school bus" is a possessive and no statement: a small letter is believed only behind a superlative.
    plain = shape(value) == "word" and not re.match(r"(?:an?|the|in|on|at|now|not|called|named)\b|[$€£¥]", value)
    if plain and not SUPERLATIVE.match(thing):
        return None
    return read_statement(f"{owner} {thing} is {value}", known)


def _of_mine(clause: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    if not (found := _OF_MINE.fullmatch(clause)):
        return None
    thing, owner, verb, value = found.groups()
    if owner.lower() == "mine":
        return state(thing, value, known, "My", verb.lower()) or None
    return state(f"{thing} of {owner}", value, known, "The", verb.lower()) or None


def _inverted(clause: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    found = _INVERTED.fullmatch(clause)
    if not found or _POINTING.match(found[1]) or without_subject(clause):
        return None
    return state(found[4], found[1], known, found[3].capitalize(), found[2].lower()) or None


def _first_person(clause: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    predicate = without_subject(clause)
    if predicate is None:
        return None
    if found := _OWNED_NAME.fullmatch(predicate):
        if found[2]:
            return state(f"{found[1]}'s {NAME}", found[2], known)
        return state(found[1], found[3], known)
    whole = tidy(predicate)
    if found := _MEASURED_ME.fullmatch(whole) or _AGED.fullmatch(whole):
        noun = MEASURES[found[2].lower()] if len(found.groups()) > 1 else MEASURES["old"]
        return [Fact(noun, f"I am {found[1]}", found[1])]
    relation = read_relation(_COURTESY.sub("", predicate))
    if relation is None:
        return None
    if (
        (both := _BORN.fullmatch(predicate))
        and shape(both[3]) != shape(both[5])
        and "number" in (shape(both[3]), shape(both[5]))
    ):
        halves = (read_relation(f"{both[1]} {both[at]} {both[at + 1]}") for at in (2, 4))
        return [fact for half in halves if half for fact in _related(half, known)]
    return list(_related(relation, known)) or None


def _related(relation: Relation, known: Mapping[str, Fact]) -> Iterator[Fact]:
    obj = tidy(relation.object)
    if not obj:
        return
    base = "born on" if relation.base == "born in" and shape(obj) == "number" else relation.base
    if relation.single:
        fact = known.get(base)
        if not relation.negative:
            yield Fact(base, relation.sentence(obj), obj)
        elif fact and fact.value and value_words(obj) <= value_words(fact.value):
            yield retract(fact)
        return
    items = [obj]
    if base in PLURAL - {"am", "prefer"}:
        parts = [part.strip() for part in _LIST.split(obj)]
        if all(
            part and len(part.split()) <= 4 and not re.match(r"(?:i|my|to|then|so)\b", part, re.I) for part in parts
        ):
            items = parts
    for item in items:
        yield Fact(relation_key(base, item), relation.sentence(item), f"not {item}" if relation.negative else item)
