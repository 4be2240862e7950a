"""Words as the offline responder sees them: sentences, keys, values and the second person. Pure.

Every pattern here and in its sister modules is anchored or bounded, and works on one sentence of at most
``MAX_SENTENCE`` characters: the cost of a message grows with its length, whatever it holds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

MAX_TEXT = 200_000
MAX_SENTENCES = 300
MAX_SENTENCE = 1_000
MAX_VALUE = 500
MAX_KEY = 120


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of a table."""
    return frozenset(text.split())


# Controls and lone surrogates cannot be stored; bidi and zero-width characters would let a reply look like another.
_ODD = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."})
_FENCE = "```"
_BOUNDARY = re.compile(r"[.!?;]+[\"')\]]*(?=\s|$)")
# A full stop after these belongs to the word, unless a new sentence plainly begins behind it.
_ABBREVIATIONS = vocabulary(
    "dr mr mrs ms prof st jr sr inc ltd co corp dept approx vs etc e.g i.e a.m p.m no nr mt ave rd blvd apt "
    "jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k u.s.a ph.d b.sc m.sc"
)
_OPENING = re.compile(r"\s*(?:my|our|i|i'm|i've|what|what's|where|who|when|how|do|please|also|the)\b", re.I)
# "Anna: my ..." is a transcript; these words before a colon introduce the writer's own words.
_SPEAKER = re.compile(r"([A-Z][\w.-]{0,30})(?: [A-Z][\w.-]{0,30})?:\s")
_OWN_LABELS = vocabulary("correction update note fyi ps btw question q edit reminder remember sorry actually")
# What follows these is material to work on, not something that the writer says of themselves.
_MATERIAL = re.compile(
    r"(?:(?:please|can you|could you|would you|now)\s+){0,2}(?:translate|summari[sz]e|rephrase|rewrite|"
    r"proofread|paraphrase|"
    r"spell-?check|edit|pretend|imagine|suppose|write|compose|draft|role-?play|(?:say|repeat|print|echo|"
    r"type)\b[^:\"]{0,40}[:\"])",
    re.I,
)
_REPORTED = re.compile(
    r"\b(?:sa(?:id|ys)|wr(?:ote|ites)|told|tells|replied|ask(?:ed|s)|reads?|goes|states?|example|from|"
    r"following|quote)\b"
    r"[^:]{0,200}:$",
    re.I,
)
# Spelling differences between the two shores, by letters rather than by word.
_SPELLINGS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?<=[a-z]{2}[^t])our(?=$|s$|it|ed|ing|y|ful|hood|al)", "or"),
        (r"(?<=[a-z]{2}[tb])re(?=s?$)", "er"),
        (r"(?<=[a-z]{2})isation", "ization"),
        (r"ogue(?=s?$)", "og"),
        (r"(?<=[aeiou]..)ll(?=er|ed|ing)", "l"),
        (r"amme(?=s?$)", "am"),
        (r"^(lic|def|off)ence", r"\1ense"),
        (r"^grey", "gray"),
        (r"^tyre", "tire"),
    )
)
_UNCHANGED = re.compile(r"(?:ss|us|is|as|ics|series|species|news|lens)$|^.{1,3}$")
_IRREGULAR = {"children": "child", "wives": "wife", "people": "person", "feet": "foot", "teeth": "tooth"}
_ARTICLES = frozenset(("a", "an", "the", "my", "our", "your"))
_LEADING = frozenset(("own", "current", "present", "latest", "new", "actual", "very"))
_TOKEN = re.compile(r"[^\W_][\w+#]*(?:[.@&'][\w+#]+)*|[$€£¥]\d+")
_VALUE_TOKEN = re.compile(r"[$€£¥₹%]|\w+(?:[.@]\w+)*")
_EMPTY = vocabulary("a an the my our on at in is are to of it i am really still")
_PERSON = re.compile(r"(?<![\w@./'-])(?:I am|I was|I'm|I've|I'd|I'll|I|my|mine|me|myself|our|ours)(?![\w@/'-]|\.\w)")
_SECOND = {
    "I am": "you are", "I was": "you were", "I'm": "you're", "I've": "you've", "I'd": "you'd", "I'll": "you'll",
    "I": "you", "my": "your", "mine": "yours", "me": "you", "myself": "yourself", "our": "your", "ours": "yours",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence without its end marks; ``asked`` when it ended in a question mark."""

    text: str
    asked: bool


def sentences(message: str) -> Iterator[Sentence]:
    """Yield the sentences that the writer says in their own name.

    Quoted mail, code, transcripts and whatever follows "translate this" or "she wrote:" are left out, because a
    statement in them is somebody else's. At most ``MAX_SENTENCES``, each cut to ``MAX_SENTENCE`` characters.
    """
    text = _ODD.sub("", message[:MAX_TEXT]).translate(_QUOTES)
    text = "\n".join(text.split(_FENCE)[::2])
    count = 0
    for line in text.splitlines():
        line = line.strip()
        speaker = _SPEAKER.match(line)
        if line.startswith((">", "|")) or (speaker and speaker[1].lower() not in _OWN_LABELS):
            continue
        for sentence in _split(line):
            if _MATERIAL.match(sentence.text) or count == MAX_SENTENCES:
                return
            count += 1
            yield sentence
        if _REPORTED.search(line[-MAX_SENTENCE:]):
            return


def _split(line: str) -> Iterator[Sentence]:
    start = seen = quotes = 0
    paired = line.count('"') % 2 == 0
    for mark in _BOUNDARY.finditer(line):
        quotes += line.count('"', seen, mark.end())
        seen = mark.end()
        if (paired and quotes % 2) or _abbreviated(line, mark):
            continue
        yield from _sentence(line[start : mark.end()])
        start = mark.end()
    yield from _sentence(line[start:])


def _abbreviated(line: str, mark: re.Match[str]) -> bool:
    if mark[0] != "." or mark.end() == len(line):
        return False
    before = line[max(0, mark.start() - 12) : mark.start()].split()
    word = before[-1].lower().lstrip("(\"'") if before else ""
    following = line[mark.end() : mark.end() + 12]
    if word == "no":
        return following.lstrip()[:1].isdigit()
    initial = len(word) == 1 and word.isalpha() and word != "i"
    if word in _ABBREVIATIONS or initial:
        return not _OPENING.match(following)
    return False


def _sentence(raw: str) -> Iterator[Sentence]:
    text = " ".join(raw[:MAX_SENTENCE].split())
    tail = raw[-4:]
    if text:
        ended = text.rstrip("!?;").rstrip()
        yield Sentence(unstop(ended) or text, "?" in tail)


def unstop(text: str) -> str:
    """Return the text without the full stop that ends it, keeping one that belongs to an abbreviation."""
    text = text.strip()
    last = text.split()[-1] if text else ""
    if last.endswith(".") and (last[:-1].lower() in _ABBREVIATIONS or re.fullmatch(r"(?:\w\.){2,}", last)):
        return text
    return text.rstrip(".").rstrip()


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not word.endswith("s") or _UNCHANGED.search(word):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if re.search(r"(?:x|ch|sh|ss)es$", word) else word[:-1]


def fold(phrase: str) -> str:
    """Return the key of a phrase: what "My Favourite Colours" and "favorite color" have in common.

    Case, accents, articles, plurals, hyphens, British spelling and "the name of my cat" against "my cat's name"
    are folded. Never empty for a phrase that is not, never longer than ``MAX_KEY``.
    """
    text = unicodedata.normalize("NFKD", phrase[:MAX_VALUE]).casefold().translate(_QUOTES)
    text = re.sub("[\u0300-\u036f]", "", text)
    text = re.sub(r"\b([a-z])-(?=[a-z])", r"\1", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"'s?(?=\s|$)", lambda m: "" if m[0] == "'s" else " ", text)
    words = [word for word in _TOKEN.findall(text) if word not in _ARTICLES]
    while len(words) > 1 and words[0] in _LEADING:
        words.pop(0)
    if "of" in words[1:-1]:
        at = words.index("of", 1)
        words = words[at + 1 :] + words[:at]
    folded = []
    for word in words:
        for pattern, new in _SPELLINGS:
            word = pattern.sub(new, word)
        folded.append(_singular(word))
    return (" ".join(folded) or " ".join(text.split()) or phrase.strip() or "?")[:MAX_KEY].strip()


def squeeze(key: str) -> str:
    """Return a key without its spaces: "wi fi" and "wifi" are one, and so are "-ie" and "-y"."""
    return key.replace(" ", "").replace("ie", "y")


def numbers_of(key: str) -> list[str]:
    """Return the numbers of a key, in their order: however it is spelled, these are the same."""
    return re.findall(r"\d+", key)


def value_words(value: str) -> frozenset[str]:
    """Return the words of a value that count when two values are compared."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", value[:MAX_VALUE].casefold())
    words = frozenset(_VALUE_TOKEN.findall(text))
    return (words - _EMPTY) or words


def same_value(asked: str, known: str) -> bool:
    """Tell whether everything that ``asked`` says is said by ``known``."""
    words = value_words(asked)
    return bool(words) and words <= value_words(known)


def shape(value: str) -> str:
    """Return ``"number"``, ``"proper"`` or ``"word"``: what kind of thing a value looks like."""
    if any(char.isdigit() for char in value):
        return "number"
    return "proper" if value[:1].isupper() or value[:1] in "\"'" else "word"


def second_person(content: str) -> str:
    """Return a statement as said to the one who made it: "My budget is 5" becomes "your budget is 5".

    Words in quotation marks, in addresses and in names ("World War I", "My Fair Lady") are left alone.
    """
    content = re.sub(r"^(?:My|Our|The)\b", lambda m: m[0].lower(), content)
    parts = content.split('"') if content.count('"') % 2 == 0 else [content]
    parts[::2] = [_PERSON.sub(_turn_round, part) for part in parts[::2]]
    return '"'.join(parts)


def _turn_round(found: re.Match[str]) -> str:
    before = found.string[: found.start()].split()
    if found[0] == "I" and before and before[-1][:1].isupper():
        return found[0]
    return _SECOND[found[0]]


def as_sentence(text: str) -> str:
    """Return the text with a capital letter and an end mark."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", '."', '!"', '?"')) else text + "."
