"""What follows "I": which relation a verb phrase states, and whether a person can stand in it several times. Pure.

Statements ("I live in Rome") and questions ("where do I live?") are read by the same tables, so that whatever can be
said can be asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from muxi_identity.conversation.offline.wording import vocabulary

_PLACE = r"(in|at|on|near|with)"
# (what is said, relation, negative). The first that fits wins; {0} is the first group.
_HEADS = tuple(
    (re.compile(rf"(?:{pattern})(?= |$)", re.I), base, negative)
    for pattern, base, negative in (
        (
            rf"(?:live|reside|am living|am residing|am based|am located|have lived|"
            rf"have been living) {_PLACE}",
            "live {0}",
            False,
        ),
        (r"(?:have )?(?:moved|relocated)(?: from [^,]{1,60}?)? to", "live in", False),
        (r"(?:work|am working|am employed|have worked|have been working) (?:at|for|by)", "work at", False),
        (
            r"(?:work|am working|am employed|have worked|have been working) (as|in|from|with|"
            r"on)",
            "work {0}",
            False,
        ),
        (r"(?:was|am) born (in|on|at)", "born {0}", False),
        (r"(?:am|come|am originally|come originally) from", "am from", False),
        (r"(?:grew|have grown) up (in|on|at)", "grow up {0}", False),
        (r"(?:graduated|have graduated) from", "graduate from", False),
        (r"(?:studied|am studying) (at|in)", "study {0}", False),
        (
            r"like|love|enjoy|adore|am fond of|am into|am keen on|am a (?:big |huge |"
            r"great )?fan of",
            "like",
            False,
        ),
        (
            r"hate|dislike|detest|loathe|despise|(?:can't|cannot|can not) (?:stand|bear)|"
            r"am sick of",
            "like",
            True,
        ),
        (r"prefer|would prefer", "prefer", False),
        (r"(?:have|has) got|have|own", "have", False),
        (r"am allowed|am able", "am", False),
        (r"am (learn|study|read|teach|play|wear|need|see|expect)ing", "{0}", False),
        (r"am (us|driv|tak|writ|mov|rid)ing", "{0}e", False),
        (r"am (in|at|on)", "am {0}", False),
        (r"am", "am", False),
    )
)
_GENERIC = re.compile(
    r"([a-z]{2,20})((?: (?:up|out|off|down|over|about|after|around|in|at|on|to|for|from|with|by|as|"
    r"under|into|of)){0,2})(?= |$)"
)
# Relations that hold for one value at a time: a later one replaces the earlier.
_SINGLE = re.compile(
    r"(?:live|born|grow up|study) \w+|work (?:at|in|as|from)|am (?:from|in|at|on)|(?:report|commute|"
    r"move) to|"
    r"(?:weigh|earn|measure)|vote for|\w+(?: \w+)? (?:at|as|by|under)"
)
# Of these a person has many, even when "actually" or "now" stands before them.
PLURAL = vocabulary("like use speak need want have prefer am know play eat drink collect read own learn")
# Thinking, saying, perceiving, helping verbs: true for a moment, or no statement about the speaker.
_PASSING = vocabulary(
    """think thought know knew guess suppose believe hope wish wonder mean meant see saw hear heard feel felt
    say said tell told ask asked get got give gave try tried can could will would shall should may might
    must do did does done forget forgot remember recall agree disagree understand understood doubt promise
    swear apologize apologise thank appreciate look going went come came found find made make was were wanna
    gonna gotta lost left took keep kept let put assume imagine and or but not to the a an my me you he she
    it we they if when is are be been ask expect wonder notice just wont dont cant didnt am reckon lied lie
    tend used bet seem recommend suggest propose request"""
)
# A state of the moment, not of the person.
_MOODS = vocabulary(
    """sorry fine good well ok okay here back sure unsure happy glad afraid confused tired hungry thirsty ready
    done bored sad angry late early busy free curious certain able about going not very so too lost stuck
    all just only also fed off out now still right wrong excited interested looking trying wondering
    thinking aware serious kidding joking"""
)
_ERRAND = re.compile(
    r"(?:(?:a|an|another|one|some|your|any|more) )*(?:quick |small |more )?"
    r"(?:question|problem|issue|idea|request|moment|look|help|doubt|feeling|favou?r|time|information|"
    r"advice)s?\b",
    re.I,
)
_ADVERBS = re.compile(
    r"(?:really|also|still|just|now|usually|always|often|mostly|currently|actually|absolutely|generally|"
    r"mainly|only|"
    r"especially|particularly|definitely|truly|typically|normally|recently|simply|personally|both|quite|"
    r"originally|"
    r"officially|very much|do(?= (?:like|love|live|work|have|want|need|prefer)))(?= )\s*",
    re.I,
)
_NEGATION = re.compile(r"(?:do not|don't|dont|did not|didn't|never|no longer|rarely|haven't)\s+", re.I)
_NOT_AM = re.compile(r"(am|have) (?:not|no longer)\s+(any\s+)?", re.I)
_OVER = re.compile(r",?\s+(?:any ?more|any longer|no more|now)$", re.I)
_CONTRACTIONS = tuple(
    (re.compile(pattern, re.I), new)
    for pattern, new in (
        (r"(?:i'm|im|i am)(?= )", "am"),
        (r"(?:i've)(?= )", "have"),
        (r"(?:i'd|i would)(?= (?:\w+ )?(?:prefer)\b)", "would"),
        (r"i(?= )", ""),
    )
)


@dataclass(frozen=True, slots=True)
class Relation:
    """A verb phrase: ``base`` names the relation, ``head`` is how it was worded, ``object`` what follows it."""

    base: str
    head: str
    object: str
    negative: bool = False
    negated: bool = False
    ended: bool = False

    @property
    def single(self) -> bool:
        """Whether a later object replaces an earlier one."""
        return bool(_SINGLE.fullmatch(self.base))

    def sentence(self, obj: str) -> str:
        """Return the statement about an object as a sentence of its speaker."""
        if not self.negated:
            return f"I {self.head} {obj}"
        if found := re.match(r"(am|was|have)(?= |$)(?! got)", self.head) if self.base != "have" else None:
            return f"I {found[0]} not{self.head[found.end() :]} {obj}"
        return f"I don't {self.head} {obj}"


def without_subject(clause: str) -> str | None:
    """Return what follows "I" ("I'm" gives "am"), or None when the clause is not about its speaker."""
    for pattern, verb in _CONTRACTIONS:
        if found := pattern.match(clause):
            return f"{verb} {clause[found.end() :].strip()}".strip()
    return None


def read_relation(predicate: str, *, asked: bool = False) -> Relation | None:
    """Read the words after "I"; None for passing moods, thoughts and errands.

    ``asked`` reads the words of a question, where nothing need follow the verb and nothing is learned.
    """
    text, ended, negative = predicate, False, False
    if found := _OVER.search(text):
        ended = found[0].split()[-1].lower() != "now"
        text = text[: found.start()]
    text = _skip_adverbs(text)
    if found := _NEGATION.match(text):
        negative, text = True, _skip_adverbs(text[found.end() :])
        ended = ended or found[0].lower().startswith("no longer")
    if found := _NOT_AM.match(text):
        negative, text = True, f"{found[1]} {text[found.end() :]}"
        ended = ended or "no longer" in found[0].lower()
    first, _, rest = text.partition(" ")
    text = f"{first} {_skip_adverbs(rest)}".strip()
    for pattern, template, opposite in _HEADS:
        if found := pattern.match(text):
            opposed = opposite
            base = template.format(*(group.lower() for group in found.groups() if group))
            break
    else:
        found, opposed = _GENERIC.match(text), False
        if found is None or (
            not asked
            and (
                found[1] in _PASSING
                or re.search(
                    r"(?:[^e]ed|\w{3}ing|"
                    r"\w{4}ly)$",
                    found[1],
                )
            )
        ):
            return None
        base = found[0]
    head = base if base == "live in" and "moved" in found[0].lower() else found[0].lower()
    relation = Relation(base, head, text[found.end() :].strip(), negative != opposed, negative, ended)
    return relation if asked or _lasting(relation) else None


def _skip_adverbs(text: str) -> str:
    while found := _ADVERBS.match(text):
        text = text[found.end() :]
    return text


def _lasting(relation: Relation) -> bool:
    words = relation.object.lower().split()
    if not words or words[0].rstrip(",.") in {
        "it",
        "that",
        "this",
        "them",
        "you",
        "these",
        "those",
        "how",
        "what",
        "when",
        "if",
    }:
        return False
    first = words[0].rstrip(",.")
    if relation.base in ("have", "need") and _ERRAND.match(relation.object):
        return False
    if relation.base == "am":
        return first not in _MOODS and not re.fullmatch(r"\w{2,}ing", first)
    if relation.base == "have":
        return not re.fullmatch(r"to|been|seen|done|gone|had|made|taken|heard|no|never|just|already|\w{2,}ed", first)
    return True
