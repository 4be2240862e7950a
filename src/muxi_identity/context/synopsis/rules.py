"""A person in a few sentences, by plain rules. Pure: the same memories always make the same text.

What people said is data. Whatever of it comes into the text stands on the one line, without control characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.memories.records import facts_of

MAX_SYNOPSIS = 600  # characters
RECENT_FACTS, RECENT_MEMORIES = 50, 20
"""How many rows a synopsis rests on: the newest facts, and the newest memories of any kind."""
_MAX_SENTENCE = 160
_MAX_PREFERENCES = 8
_MAX_NOTES = 5
# The most telling first: by the beginning of the key. What is none of these follows, the newest first.
_TELLING = (
    re.compile(r"(?:full |first |nick|preferred )?name$"),
    re.compile(r"pronouns?$|age$|birthday$|born\b"),
    re.compile(r"live\b|home\b|location$|city$|country$|address$|am from\b|time ?zone$"),
    re.compile(r"work\b|job\b|employer$|company$|occupation$|profession$|role$|am:"),
    re.compile(r"allerg|diet|health|language|speak\b"),
)
# The verbs of statements in the first person that end otherwise in the third.
_THIRD = {"am": "is", "have": "has", "do": "does", "don't": "doesn't", "was": "was"}
_UNCHANGED = {
    "can",
    "can't",
    "cannot",
    "could",
    "will",
    "would",
    "may",
    "might",
    "must",
    "should",
    "had",
    "did",
    "used",
}
_PRESENT = frozenset(
    """
    live work like love hate prefer own speak need want use drive play study teach read wear learn take eat drink enjoy
    run dislike collect follow support manage lead sell write sing paint cook travel commute park shop sleep sit stay
    vote watch come grow know think believe feel
    """.split()  # noqa: SIM905 (as a list it would have a line for each word)
)
_OF_ME = {"my": "their", "me": "them", "mine": "theirs", "myself": "themselves", "i": "they"}
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def draft(facts: Sequence[Any], recent: Sequence[Any], preferences: Mapping[str, object]) -> str:
    """Return the synopsis of a person of whom ``facts`` and ``recent`` are the newest rows of memories, newest first.

    However many are passed, it rests on the same: whoever loads more of them gets the same text.
    """
    notes = [row.content for row in recent[:RECENT_MEMORIES] if row.value is None]
    return describe(facts_of(facts[:RECENT_FACTS]), notes, preferences)


def describe(facts: Sequence[Fact], notes: Sequence[str], preferences: Mapping[str, object]) -> str:
    """Return what these say of a person in at most :data:`MAX_SYNOPSIS` characters, empty where they say nothing.

    ``facts`` and ``notes`` (memories without a value) come newest first, one for each key. First the name, then what
    tells most of a person, then preferences, other facts, and notes. A sentence that does not fit is left out, and
    shorter ones may still follow.
    """
    order = sorted((fact for fact in facts if fact.value is not None), key=_place)
    telling = [_sentence(fact) for fact in order if _place(fact) < len(_TELLING)]
    others = [_sentence(fact) for fact in order if _place(fact) == len(_TELLING)]
    kept: list[str] = []
    for sentence in [*telling, *_preferences(preferences), *others, *map(_note, notes[:_MAX_NOTES])]:
        if sentence and sentence not in kept and len(" ".join([*kept, sentence])) <= MAX_SYNOPSIS:
            kept.append(sentence)
    return " ".join(kept)


def _place(fact: Fact) -> int:
    return next((place for place, key in enumerate(_TELLING) if key.match(fact.key)), len(_TELLING))


def _sentence(fact: Fact) -> str:
    said = re.fullmatch(r"I ([\w']+)(?: (.*))?", _line(fact.content), re.I)
    if said is None:
        return _ended(f"{_line(fact.key)[:1].upper()}{_line(fact.key)[1:]}: {_line(fact.value or '')}")
    verb, rest = said[1].lower(), said[2] or ""
    third = _third_person(verb)
    if third is None:
        return _ended(f"Said: {_line(fact.content)}")
    rest = re.sub(r"[\w']+", lambda word: _OF_ME.get(word[0].lower(), word[0]), rest)
    return _ended(f"{third.capitalize()} {rest}".strip())


def _third_person(verb: str) -> str | None:
    if verb in _THIRD:
        return _THIRD[verb]
    if verb in _UNCHANGED or verb.endswith("ed"):
        return verb
    if verb not in _PRESENT:
        return None  # it may be a past tense, of which a wrong ending would make nonsense
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}s"


def _preferences(preferences: Mapping[str, object]) -> list[str]:
    shown = []
    for key in sorted(preferences)[:_MAX_PREFERENCES]:
        value = preferences[key]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        shown.append(_cut(f"{_line(key)} = {_line(text)}", _MAX_SENTENCE))
    return [_ended(f"Prefers: {'; '.join(shown)}", 2 * _MAX_SENTENCE)] if shown else []


def _note(content: str) -> str:
    return _ended(f"Note: {_line(content)}") if content.strip() else ""


def _line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _ended(sentence: str, most: int = _MAX_SENTENCE) -> str:
    whole = _cut(sentence, most)
    return whole if whole.endswith((".", "!", "?", "\u2026")) else f"{whole}."


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026"
