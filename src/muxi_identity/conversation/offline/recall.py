"""Find the fact that a phrase means among those that are known. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from muxi_identity.context.memories.facts import Fact
from muxi_identity.conversation.offline.wording import fold, numbers_of, squeeze, value_words

NAME = "name"
_GIVEN_NAME = re.compile(r"[A-Z][\w'-]+(?: [A-Z][\w.'-]*){0,3}")
NOTE = "note"
_GIVEN = frozenset(("first", "full", "given", "real", "last", "preferred", "middle", "family"))


def held(phrase: str, known: Mapping[str, Fact]) -> str:
    """Return the key for a phrase: that of a known fact that means the same, else the folded phrase."""
    key = fold(phrase)
    if key in known:
        return key
    words = sorted(key.split())
    for other in known:
        if numbers_of(other) != numbers_of(key):
            continue  # "locker 1-12" is not "locker 11-2"
        if squeeze(other) == squeeze(key) or (len(words) > 1 and sorted(other.split()) == words):
            return other
    return key


def relation_key(base: str, obj: str) -> str:
    """Return the key of one object of a relation that has many."""
    if base == "prefer":
        obj = re.split(r" (?:to|over|rather than|instead of) ", obj, maxsplit=1)[0]
    if base in ("have", "drink", "eat"):
        obj = re.sub(
            r"^(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|some|several|many) (?=\w)",
            "",
            obj,
            flags=re.I,
        )
    return f"{base}: {fold(obj)}"


def is_given_name(value: str) -> bool:
    """Tell whether a value is written like a person's name."""
    return bool(_GIVEN_NAME.fullmatch(value))


def mentions(fact: Fact, words: frozenset[str]) -> bool:
    """Tell whether a note holds all of these folded words."""
    return words <= frozenset(fold(fact.content).split()) | value_words(fact.content) | {squeeze(fact.key)}


def find_thing(phrase: str, known: Mapping[str, Fact]) -> tuple[Fact, ...]:
    """Return the facts about a thing, however it is spelled; none when nothing fits without guessing."""
    key = held(phrase, known)
    if key in known:
        return (known[key],)
    owner = key.removesuffix(f" {NAME}")
    if owner != key and owner in known and is_given_name(known[owner].value or ""):
        return (known[owner],)
    verbs = tuple(
        fact for other, fact in known.items() if other.startswith(f"{key}: ") and not fact.content.startswith("I ")
    )
    if verbs and key != NOTE:
        return verbs
    if key == NAME:
        called = [fact for other, fact in known.items() if other.startswith("am: ") and is_given_name(fact.value or "")]
        named = [
            fact
            for other, fact in known.items()
            if other.endswith(f" {NAME}") and _GIVEN.issuperset(other.split()[:-1])
        ]
        return tuple((named or called)[:1])
    # "the deadline" of somebody who named one deadline only, with an adjective, is that one; of "my dog's vet" not.
    heads = [
        fact for other, fact in known.items() if other.endswith(f" {key}") and _own(fact) and len(other.split()) <= 3
    ]
    return tuple(heads) if len(heads) == 1 else ()


def _own(fact: Fact) -> bool:
    head = fact.content.removesuffix(fact.value or "")
    return head.startswith(("My ", "Our ")) and "'s " not in head and " of " not in head
