"""Take off what only leads in to a statement or wraps a question: "by the way", "could you tell me". Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKS = r"[\s,:;.!-]*"
_LEADS = tuple(
    (re.compile(rf"(?:{pattern})(?:(?=[,:;.!-]){_MARKS}|\s+)", re.I), kind)
    for pattern, kind in (
        (
            r"no(?! longer)|nope|nah|not quite|actually|(?:no,? )?wait|hang on|hold on|scratch that|oops|"
            r"whoops|update(?=[,:.-])|on second thoughts?",
            "corrected",
        ),
        (
            r"(?:i'm |i am )?(?:so )?sorry|my (?:mistake|bad)|correction|i (?:meant|"
            r"mean)(?: to say)?(?: that)?|rather|or rather",
            "meant",
        ),
        (
            r"(?:please )?(?:remember|keep in mind|bear in mind|make a note|take a note|don't forget|"
            r"do not forget)(?: for me)?(?: that(?= )|,|:|(?= my | i | i'm ))",
            "noted",
        ),
        (
            r"remember(?= my | our | i | i'm | the )|(?:(?:please|do|also) )*note(?: down)?(?: that)?|"
            r"memori[sz]e(?: that)?|save(?: the fact)? that",
            "noted",
        ),
        (
            r"(?:i want|i'd like|i would like|i need) you to (?:know|remember|note|"
            r"keep in mind)(?: that)?",
            "noted",
        ),
        (
            r"(?:hi|hello|hey|good (?:morning|afternoon|evening)|dear)(?: (?:there|again|all|assistant|bot))?"
            r"(?=[,.!:-]| my | i | i'm | this is )",
            "greeted",
        ),
        (
            r"(?:and|but|so|also|plus|then|well|ok|okay|oh|ah|um|uh|right|yes|yeah|yep|sure|please|now|"
            r"today|thanks|thank you|anyway|listen|look|great|cool)",
            "",
        ),
        (
            r"by the way|btw|fyi|for your information|just so you know|so you know|for the record|in fact|"
            r"in addition|as (?:a|an) (?:side note|reminder|update|fyi)",
            "",
        ),
        (r"(?:a )?(?:quick |small |friendly )?(?:note|reminder|ps|p\.s\.|edit|heads[- ]up|side note)", ""),
        (
            r"(?:you should|you may want to|you need to|you ought to|just|please|"
            r"you must) (?:also )?know(?: that)?|as you (?:may )?know",
            "",
        ),
        (
            r"let me (?:tell|remind|inform) you(?: that)?|i (?:should|must|forgot to|want to|wanted to|"
            r"'d like to) (?:also )?(?:mention|add|say|tell you)(?: that)?",
            "",
        ),
        (
            r"(?:it )?turns out(?: that)?|as of (?:today|now|this \w+)|from now on|starting (?:today|now)|"
            r"these days|nowadays|at the moment|currently",
            "",
        ),
        (
            r"i (?:think|believe|guess)(?: that)?|i'm (?:pretty |quite )?sure(?: that)?|as (?:i|"
            r"we) (?:said|mentioned|discussed)(?: before| earlier)?",
            "",
        ),
        (
            r"as for|regarding|concerning|about(?= my )|(?:could|can|would|"
            r"will) you(?: please)?(?= (?:remember|note|set|change|update|forget|call|save|store|delete|"
            r"remove|make|keep|please))",
            "",
        ),
    )
)
_TOPIC = re.compile(r"((?:my|our) [\w' &-]{1,80}), (?:it's|it is|that's|that is|they're|they are)(?: now)? ", re.I)
_POLITE = re.compile(
    r"(?:hi|hello|hey|so|ok|okay|well|now|and|but|also|please|then|btw|by the way|sorry|actually|"
    r"quick question|question|um|oh|ah|"
    r"again|just|remember|thanks|great|cool|wait|hmm|no|yes|right)(?: there| again)?(?:[,:!.-]+\s*|\s+)",
    re.I,
)
_WRAPPERS = re.compile(
    r"(?:(?:can|could|would|will) you (?:please |kindly |just |quickly |maybe )*(?:tell|remind|show|"
    r"give) me|"
    r"(?:can|could|would|will) you (?:please |kindly )*(?:say|recall|remember|look up|check|confirm)|"
    r"(?:do|did|can|would|could) you (?:still |happen to |even |by any chance |perhaps |"
    r"already )*(?:know|remember|recall|have|store|keep)|"
    r"(?:you (?:still )?(?:know|remember)|tell me|remind me|show me|give me|let me know|"
    r"help me remember|look up|confirm|recall)|"
    r"i(?:'ve| have)? (?:totally |completely |just |already )?(?:forgot|forgotten)|"
    r"i (?:don't|do not|can't|cannot|can not) (?:know|remember|recall|quite remember)|i (?:want|need|"
    r"would like|wanted) to know|"
    r"i'd (?:like|love) to know|i(?:'m| am|'m just)(?: just)? (?:wondering|not sure|unsure|"
    r"trying to remember|curious)|i was wondering|"
    r"i wonder|any idea|any chance you (?:know|remember)|(?:have|did) i (?:ever |already )?(?:tell|told|"
    r"mention|mentioned|say|said|"
    r"give|given)(?: you| to you)?|what (?:did|have|do) i (?:ever |just )?(?:tell|told|say|said|mention|"
    r"mentioned|give|given|set|save|"
    r"saved|store)(?: you)?(?: about| as| for)?|what (?:do|did) you (?:know|remember|have|got)(?: down|"
    r" stored| saved)?(?: about| for| as| of| on)|"
    r"what about|how about|are you aware)(?:,? (?:again|please|about|of|that|if|whether|exactly|"
    r"once more|know|down))*[,:]?\s+",
    re.I,
)
_TRAILERS = re.compile(
    r",?\s+(?:again|please|now|right now|currently|these days|at the moment|nowadays|by the way|btw|"
    r"then|exactly|once more|anyway|"
    r"actually|today|for me|ok|okay|thanks|thank you|right|correct|yes|no|isn't it|don't i|aren't i|true|"
    r"(?:that |which )?i (?:told|gave|mentioned|said|set|saved)(?: to)?(?: you)?(?: (?:about|before|"
    r"earlier|yesterday))?|"
    r"do you (?:know|remember|recall)|did i say|set to|going to be|supposed to be|"
    r"(?:do )?you have(?: on file| stored)?|on file|"
    r"do you have(?: on file| stored)?|if you (?:know|remember)|you (?:know|remember))$",
    re.I,
)
ABOUT_ME = re.compile(
    r"(?:what (?:do|did|can|else do) you (?:know|remember|have|recall|tell me)(?: so far)?(?: (?:about|"
    r"on) me)?|"
    r"what (?:have|did) i (?:told|tell) you(?: so far)?(?: about (?:me|myself))?|"
    r"(?:everything|anything|all|what)?(?: (?:that )?you (?:know|remember|have))?(?: (?:about|on) me)|"
    r"do you know (?:me|anything about me)|"
    r"(?:list|show|summari[sz]e)(?: me)? (?:everything|all|what|my facts|"
    r"the facts)(?: you know)?(?: about me)?|know anything about me|who i am|who am i)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Lead:
    """A clause without the words that only lead in to it, and what those said of it."""

    text: str
    corrected: bool = False
    meant: bool = False
    noted: bool = False
    greeted: bool = False


def without_lead(clause: str) -> Lead:
    """Return the clause behind "actually", "by the way", "please remember that" and their like."""
    kinds: set[str] = set()
    text = clause
    for _ in range(8):
        for pattern, kind in _LEADS:
            if (found := pattern.match(text)) and found.end() < len(text):
                kinds.add(kind)
                text = text[found.end() :]
                break
        else:
            break
    text = _TOPIC.sub(r"\1 is ", text, count=1)
    return Lead(text, bool(kinds & {"corrected", "meant"}), "meant" in kinds, "noted" in kinds, "greeted" in kinds)


def without_courtesy(text: str) -> str:
    """Return a question without the interjections before it."""
    while (found := _POLITE.match(text)) and found.end() < len(text):
        text = text[found.end() :]
    return text.strip(" ,")


def without_wrapping(text: str) -> tuple[str, bool]:
    """Return the question inside "could you tell me ... again", and whether such words made it a question."""
    wrapped = False
    text = re.sub(r"^(what|who|where|when|how)s(?= )", r"\1's", text, flags=re.I)
    for _ in range(6):
        text = without_courtesy(text)
        if ABOUT_ME.fullmatch(text):
            break
        if not (found := _WRAPPERS.match(text)) or found.end() == len(text):
            break
        text, wrapped = text[found.end() :], True
    while trimmed := _TRAILERS.search(text):
        text = text[: trimmed.start()]
    return text.strip(" ,:.?!"), wrapped
