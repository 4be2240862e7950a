"""Read what is asked to be set, changed, noted or forgotten, and what "it" stands for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from muxi_identity.context.memories.facts import Fact
from muxi_identity.conversation.offline.leads import Lead
from muxi_identity.conversation.offline.recall import NAME, NOTE, held, is_given_name, relation_key
from muxi_identity.conversation.offline.statements import SUPERLATIVE, read_statement, retract, state, tidy
from muxi_identity.conversation.offline.verbs import PLURAL, read_relation, without_subject
from muxi_identity.conversation.offline.wording import fold, shape

# What was spoken of, the latest first; the facts of one message stand together.
Focus = Sequence[Sequence[Fact]]

_SET = re.compile(
    r"(?:let's )?(?:set|change|update|switch|increase|raise|lower|decrease|reduce|bump|correct|adjust|"
    r"save|store|record|register|make|"
    r"note)(?: up| down)? (?:my|our) ((?:[\w'&-]+ ){0,6}?[\w'&-]+)(?: up|"
    r" down)?(?: from .{1,200}?)? (?:to be|to|as|=|into|at|be) (.+)",
    re.I,
)
_MAKE = re.compile(r"(?:make|set) (?:my|our) (.+)", re.I)
_FORGET = re.compile(
    r"(?:forget|delete|remove|erase|clear|drop|unset|discard|wipe|stop remembering)(?: about)?"
    r"(?: (?:that|the fact that|what (?:i|you) (?:said|know|told you|remember) about))? (.+)",
    re.I,
)
_EVERYTHING = re.compile(
    r"(?:everything|all)(?: of it| (?:of )?(?:that )?(?:you know|i (?:said|told you)|"
    r"my facts))?(?: about me)?|me",
    re.I,
)
_MAKE_IT = re.compile(
    r"(?:let's )?(?:make|set|change|update|switch|bump|raise|lower|increase|decrease|reduce|correct|"
    r"adjust)(?: it| that| this)"
    r"(?: up| down)?(?: from .{1,200}?)?(?: (?:to be|to|into|as|be|=))? (.+)",
    re.I,
)
_IT_IS = re.compile(
    r"(it|that|this)(?:'s| is| was| should be| should have been| will be|'ll be| has to be) (now |"
    r"actually |really )?(.+)",
    re.I,
)
_IT_WENT = re.compile(
    r"(?:it|that)(?:'s| has| was| is)?(?: now)?(?: been)? (?:went|gone|go|changed|moved|increased|"
    r"dropped|fell|rose|raised|lowered|"
    r"updated|set|reduced|rescheduled|postponed)(?: up| down)?(?: from .{1,200}?)? to (.+)",
    re.I,
)
_NOT_OLD = re.compile(r"(.+?),? not .+|not .+?(?:,| but)(?: rather)? (.+)", re.I)
_NO_ANSWER = re.compile(
    r"(?:no|not|yes|wrong|right|correct|incorrect|ok|okay|fine|good|great|true|false|all|enough|thanks?|"
    r"thank|nothing|never|"
    r"stop|wait|please|sorry|problem|worries|way|idea|it|that|this|you|i|we|they|he|she|there|because|"
    r"bad|nice|cool|very|so|too|"
    r"\w+ing|what|why|how|who|when|where|do|don't|can|could|is|are)\b",
    re.I,
)


def read_change(lead: Lead, known: Mapping[str, Fact], focus: Focus) -> list[Fact] | None:
    """Return what a request to set, forget or amend changes; None if the clause is no such request.

    ``focus`` is what was spoken of in this session, the latest first: what "it" may mean.
    """
    text = re.sub(r"^please ", "", lead.text, flags=re.I)
    if found := _SET.fullmatch(text):
        return state(found[1], found[2], known) or None
    if found := _MAKE.fullmatch(text):
        return _made(found[1].split(), known)
    if found := _FORGET.fullmatch(text):
        return _forgotten(found[1], known, focus[0] if focus else ())
    return None


def forgets_everything(lead: Lead) -> bool:
    """Tell whether a request is to forget everything, and not only what is known here."""
    found = _FORGET.fullmatch(re.sub(r"^please ", "", lead.text, flags=re.I))
    return bool(found and _EVERYTHING.fullmatch(tidy(found[1])))


def read_introduction(lead: Lead) -> list[Fact] | None:
    """Return the name in "Hello, I'm Ada": without the greeting, a capital letter alone makes no name."""
    found = re.fullmatch(r"(?:this is|i'm|i am) (.+)", lead.text, re.I) if lead.greeted else None
    return [Fact(NAME, f"My {NAME} is {found[1]}", found[1])] if found and is_given_name(found[1]) else None


def read_note(text: str, known: Mapping[str, Fact]) -> list[Fact] | None:
    """Return what somebody asked in so many words to remember, whoever it is about."""
    if found := re.fullmatch(r"the ((?:[\w'&-]+ ){0,6}?[\w'&-]+) (is|are|was|were) (.+)", text, re.I):
        facts = state(found[1], found[3], known, "The", found[2].lower())
        if facts:
            return facts
    value = tidy(text)
    if len(value.split()) < 3 or re.match(r"(?:to|me|how|when|what|if)\b", value, re.I):
        return None
    return [Fact(f"{NOTE}: {fold(value)}", value[:1].upper() + value[1:], value)]


def amend(lead: Lead, focus: Focus) -> list[Fact] | None:
    """Return the fact in focus with another value; None unless it is clear which fact and which value are meant."""
    text = lead.text
    explicit, certain = _MAKE_IT.fullmatch(text), lead.meant
    if explicit:
        value, certain = explicit[1], True
    elif found := _IT_WENT.fullmatch(text):
        value, certain = found[1], True
    elif found := _IT_IS.fullmatch(text):
        value, certain = found[3], certain or bool(found[2])
        if found[1].lower() != "it" and shape(value) == "word":
            return None
    elif (lead.corrected or (focus and any(not fact.value for fact in focus[0]))) and not re.match(
        r"(?:my|our|i|the)\b", text, re.I
    ):
        value, certain = text, certain and len(text.split()) <= 6
        if shape(text) == "number" and (len(text.split()) > 5 or re.search(r" (?:is|are|was|were|has|have) ", text)):
            return None
    else:
        return None
    if found := _NOT_OLD.fullmatch(value):
        value, certain = found[1] or found[2], True
    value = tidy(value)
    if not value or len(value.split()) > 12 or (_NO_ANSWER.match(value) and not explicit):
        return None
    fact = _meant(value, focus, explicit is not None)
    if fact is None:
        return None
    return _amended(fact, value) if certain or _alike(value, fact, text) else None


def _alike(value: str, fact: Fact, text: str) -> bool:
    # Without a word that says so, only what looks like the old value can be meant as the new one: "no, 7" after a
    # number, "no, Rome" after a name; but any phrase may follow "no,".
    kind = shape(value)
    if fact.value and kind != shape(fact.value):
        return False
    if kind == "number" or _IT_IS.match(text):
        return True
    return kind == "proper" and bool(fact.value) and (is_given_name(value) or value[0] in "\"'")


def _meant(value: str, focus: Focus, explicit: bool) -> Fact | None:
    # A number is not meant for what was a name: then it is meant for what was spoken of before that.
    for facts in focus:
        fitting = [fact for fact in facts if _could_become(fact, value)]
        if len(fitting) == 1 and (len(facts) == 1 or shape(fitting[0].value or value) == shape(value)):
            return fitting[0]
        if fitting:
            return None
    return focus[0][0] if explicit and focus and len(focus[0]) == 1 and shape(value) == "word" else None


def _could_become(fact: Fact, value: str) -> bool:
    return not fact.value or (shape(fact.value) == "number") == (shape(value) == "number")


def _amended(fact: Fact, value: str) -> list[Fact] | None:
    old = fact.value or ""
    if not fact.content.endswith(old):
        return None
    content = fact.content[: len(fact.content) - len(old)] + value
    base, colon, _ = fact.key.partition(": ")
    if colon and fact.content.startswith("I "):
        return [Fact(relation_key(base, value), content, value), retract(fact)]
    return [Fact(fact.key, content, value)]


def _made(words: list[str], known: Mapping[str, Fact]) -> list[Fact] | None:
    # "make my <thing> <value>" has no word between the two: a known thing decides, else the first word that looks
    # like a value.
    for at in range(min(len(words) - 1, 7), 0, -1):
        if held(" ".join(words[:at]), known) in known:
            return state(" ".join(words[:at]), " ".join(words[at:]), known) or None
    for at in range(1, min(len(words), 7)):
        if shape(words[at]) != "word" or words[at].startswith(("$", "€", "£")):
            return state(" ".join(words[:at]), " ".join(words[at:]), known) or None
    if len(words) > 2 and SUPERLATIVE.match(words[0]):
        return state(" ".join(words[:-1]), words[-1], known) or None
    return None


def _forgotten(what: str, known: Mapping[str, Fact], focus: Sequence[Fact]) -> list[Fact] | None:
    what = tidy(what)
    if _EVERYTHING.fullmatch(what):
        return [retract(fact) for fact in known.values()]
    if what.lower() in ("it", "that", "this"):
        return [retract(fact) for fact in focus if fact.value] if len(focus) == 1 else None
    if said := read_statement(what, known):
        return [retract(known[fact.key]) for fact in said if fact.key in known]
    phrase = re.sub(
        r"^(?:where|what|who|when|how old|how) (?=i )|^(?:what|who|when|"
        r"where) (?=my )",
        "",
        what,
        flags=re.I,
    )
    phrase = re.sub(r"(?<=\w) (?:is|are|was|were|am)$", "", phrase)
    predicate = without_subject(phrase)
    if predicate and (relation := read_relation(predicate, asked=True)):
        return [
            retract(fact)
            for key, fact in known.items()
            if fact.content.startswith("I ") and key.startswith(relation.base)
        ]
    if not re.match(r"(?:my|our|the) |.+ of mine$", phrase, re.I):
        return None
    key = held(phrase, known)
    return [retract(known[key])] if key in known else []


def replaced(facts: Sequence[Fact], known: Mapping[str, Fact], lead: Lead) -> list[Fact]:
    """Return the retractions of what a correction of a manifold relation puts out of force.

    "Actually I drive a Volvo now" ends the earlier car; "actually I like jazz" ends nothing.
    """
    ended = []
    for fact in facts:
        base, colon, _ = fact.key.partition(": ")
        manifold = colon and fact.content.startswith("I ") and base not in PLURAL
        if manifold and (lead.corrected or re.search(r"\bnow\b", lead.text, re.I)):
            new = {other.key for other in facts}
            ended += [
                retract(old)
                for key, old in known.items()
                if key.startswith(f"{base}: ") and key not in new and old.content.startswith("I ")
            ]
    return ended
