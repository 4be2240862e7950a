"""The words of a text, as full-text search goes by them. Pure.

Both databases are given the same words, so that they find the same: PostgreSQL's own parser reads a text according to
the server's locale (under ``C`` it takes an em dash for a letter), and knows nothing of accents without an extension.
What is left to the databases is what they agree on: the stem of an English word.
"""

from __future__ import annotations

import re
import unicodedata

# No word of a language is longer; what is, is data, and PostgreSQL refuses words above 2,046 bytes.
MAX_WORD = 64
MAX_QUERY_WORDS = 20
MAX_QUERY_READ = 10_000  # characters of a query that are looked at

# PostgreSQL's list for English: it leaves them out whatever it is given, so SQLite is not given them either.
STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
    it its itself they them their theirs themselves what which who whom this that these those am is are was were be
    been being have has had having do does did doing a an the and but if or because as until while of at by for with
    about against between into through during before after above below to from up down in out on off over under
    again further then once here there when where why how all any both each few more most other some such no nor not
    only own same so than too very s t can will just don should now
    """.split()  # noqa: SIM905 (as a list it would have a line for each word)
)
_ACCENTS = re.compile("[\u0300-\u036f]+")
_SHORTENED = re.compile(r"['\u2019](?:s|t|d|m|ll|re|ve)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Written without spaces: each sign is a word.
_SIGNS = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff])")
# Letters that are their own, and that people without the keyboard for them write otherwise.
_SPELT = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i", "ŧ": "t"}
)


def words(text: str) -> list[str]:
    """Return the words of ``text`` in order: lower case, without accents, English stop words left out.

    ``$5,000`` and ``5000`` are the same word, ``what's`` and ``what`` too.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold())))
        text = _SIGNS.sub(r" \1 ", text.casefold().translate(_SPELT))
    text = _THOUSANDS.sub("", _SHORTENED.sub("", text.lower()))
    if text.isascii():
        found = re.findall("[a-z0-9]+", text)
    else:
        found = "".join(character if _in_a_word(character) else " " for character in text).split()
    return [word[:MAX_WORD] for word in found if word not in STOP_WORDS]


def _in_a_word(character: str) -> bool:
    # Marks too: in the scripts of India they are the vowels.
    return character.isalnum() or unicodedata.category(character) in {"Mn", "Mc"}


def searchable(*texts: str | None) -> str:
    """Return the words of these texts as a search keeps them, with single spaces between them.

    A word that several texts have counts as often as the first of them has it.
    """
    found: list[str] = []
    for text in texts:
        known = set(found)
        found += [word for word in words(text or "") if word not in known]
    return " ".join(found)


def query_words(query: str) -> list[str]:
    """Return the different words of a query, the first :data:`MAX_QUERY_WORDS` of them."""
    return list(dict.fromkeys(words(query[:MAX_QUERY_READ])))[:MAX_QUERY_WORDS]
