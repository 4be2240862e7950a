"""Cut a sentence where another statement or a question begins. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from muxi_identity.conversation.offline.leads import without_lead
from muxi_identity.conversation.offline.verbs import without_subject

_SEAM = re.compile(
    r"(?:(?:\s*,\s*|\s+-+\s+|\s*[–—]\s*)(?:{0}[\s,]+){{0,3}}|\s+(?:{0}[\s,]+){{1,3}})".format(
        "(?:and|but|so|also|plus|then|yet|while|though|actually|no|wait|sorry)"
    )
    + r"(?=(?:my|our|i|i'm|i've|call me|make (?:it|that)|the [\w' ]{1,40} of m(?:y|ine)|that's my)\b)",
    re.I,
)
_ELIDED = re.compile(
    r"(?:,\s*|\s+)(?:and|but) (?=(?:(?:also|now|currently|really|don't|do not|"
    r"never) )?(?:live|work|like|love|hate|enjoy|"
    r"dislike|prefer|use|need|want|have|speak|play|drive|study|teach|eat|drink|own|"
    r"come from|was born)\b)",
    re.I,
)
ASIDE = re.compile(
    r"\s*[,;–—]\s*(?:(?:and|so|but|now|please)\s+)?(?=(?:what|what's|who|who's|where|where's|when|"
    r"when's|how|which|can you|could you|do you|"
    r"tell me|remind me)\b)",
    re.I,
)
ALSO_ASKED = re.compile(
    r",? (?:and|or) (?:also )?(?=(?:what|what's|who|where|when|how|which|do i|am i|is my|are my)\b)", re.I
)


def clauses(text: str, is_statement: Callable[[str], bool]) -> list[str]:
    """Cut at the seams behind which a statement of its own begins; "my friends are Tom and my sister" has none."""
    starts = [0]
    for pattern in (_SEAM, _ELIDED):
        starts += [seam.start() for seam in pattern.finditer(text)][:40]
    starts = sorted(set(starts))
    found: list[str] = []
    for at, start in enumerate(starts):
        end = starts[at + 1] if at + 1 < len(starts) else len(text)
        piece = text[start:end]
        seam = _SEAM.match(piece) or _ELIDED.match(piece) if start else None
        own = re.sub(r"^[\s,;–—-]+", "", piece) if seam else piece
        if seam and _ELIDED.match(piece) and not _SEAM.match(piece):
            about_me = found and without_subject(without_lead(found[-1]).text)
            own = f"I {piece[seam.end() :]}" if about_me else ""
        lead_in = len(found) == 1 and without_lead(f"{found[0]}, x").text == "x"
        if found and (not own or lead_in or not is_statement(own)):
            found[-1] += piece
        else:
            found.append(own)
    return found
