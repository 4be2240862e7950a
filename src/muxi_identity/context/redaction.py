"""What looks like a key or a password: found before it is remembered, and replaced in what is kept of a conversation.

Pure. Two kinds of rule: the formats that services give their tokens, which are recognised wherever they stand, and
what people and configuration files *call* a password or a key ("my wifi password is ...", ``API_KEY=...``), where
the value is judged too: "my password is wrong" holds none.

No list finds every secret. A password that nobody calls one looks like any other word, and is kept like one. What
must not be found here either: prices, telephone numbers, e-mail addresses, UUIDs, identifiers of people and commits.
Payment card numbers count as secrets where issuer, length and check digit fit: about one in a hundred other numbers
of 16 digits is taken for one, which costs less than a card number kept in clear.

Every pattern is linear in the length of the text: it begins where a run of its characters begins, and gives back
nothing that it has taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from muxi_identity.identifiers import hint

_NOTHING: Final = "..."


class _Format(NamedTuple):
    """Tokens of one kind. ``marks``: one of them stands in every text that holds one."""

    what: str
    marks: tuple[str, ...]
    pattern: re.Pattern[str]


class _Span(NamedTuple):
    start: int
    end: int
    what: str
    shown: str


def _format(what: str, marks: str, pattern: str) -> _Format:
    """A token after nothing that could be part of it."""
    return _Format(what, tuple(marks.split()), re.compile(rf"(?<![A-Za-z0-9_-])(?:{pattern})"))


_FORMATS: Final = (
    _Format(
        "a private key",
        ("PRIVATE KEY",),
        # To its end, or to the end of the text: half a key is pasted as often as a whole one.
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:.*?-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|.*)",
            re.DOTALL,
        ),
    ),
    _format("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{16,}+"),
    _format("a GitHub token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}+"),
    _format("a GitLab token", "glpat- gldt- glrt- glptt-", r"gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_.-]{20,}+"),
    _format("a Slack token", "xox", r"xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}+"),
    _format("a Slack token", "xapp-", r"xapp-\d-[A-Za-z0-9-]{10,}+"),
    _format("a Slack webhook", "hooks.slack.com/", r"https://hooks\.slack\.com/[a-z]{1,20}/[A-Za-z0-9/]{20,}+"),
    _format("an Anthropic key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{16,}+"),
    # Not "sk-learn-based-text-pipeline": a stretch without a hyphen, and a digit.
    _format("an API key", "sk-", r"sk-(?=[a-z0-9-]{0,16}[A-Za-z0-9_]{16})(?=[A-Za-z_-]*+\d)[A-Za-z0-9_-]{20,}+"),
    _format("an AWS key", "AKIA ASIA", r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _format("a Google key", "AIza", r"AIza[A-Za-z0-9_-]{30,}+"),
    _format("a Google token", "ya29. GOCSPX-", r"(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{20,}+"),
    _format("a Stripe key", "_live_ _test_", r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}+"),
    _format("a signing secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{16,}+"),
    _format("an npm token", "npm_", r"npm_[A-Za-z0-9]{30,}+"),
    _format("a PyPI token", "pypi-", r"pypi-[A-Za-z0-9_-]{40,}+"),
    _format("a Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{30,}+"),
    _format("a SendGrid key", "SG.", r"SG\.[A-Za-z0-9_-]{16,}+\.[A-Za-z0-9_-]{16,}+"),
    _format("an API key", "gsk_ r8_ xai- pplx-", r"(?:gsk_|r8_|xai-|pplx-)[A-Za-z0-9]{30,}+"),
    _format("a DigitalOcean token", "do", r"do[opr]_v1_[a-f0-9]{40,}+"),
    _format("a Shopify token", "shp", r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{30,}+"),
    _format("a Linear key", "lin_api_", r"lin_api_[A-Za-z0-9]{30,}+"),
    _format("a Vault token", "hvs. hvb.", r"hv[sb]\.[A-Za-z0-9_-]{24,}+"),
    _format("a private key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}+"),
    _format("a signed token (JWT)", "eyJ", r"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"),
    _format("a Discord token", ".", r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}+"),
    # Also in https://api.telegram.org/bot123456789:AA...
    _Format("a Telegram bot token", (":",), re.compile(r"(?<!\d)\d{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
)
_AWS_MARKS: Final = ("AKIA", "ASIA", "aws", "AWS")
_AWS_SECRET: Final = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_URL: Final = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@?#]{0,256}:([^\s/]{1,512})@")
_CARD: Final = re.compile(
    r"(?<![\d./_-])(?:\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}|3[47]\d{2}(?P<amex>[ -])\d{6}(?P=amex)\d{5}"
    r"|\d{15,16})(?![\d_-])"
)
_ISSUER: Final = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|5)")

# What is called a secret. A password may be any word; of a key or a token only a string that nobody would say.
_CHOSEN: Final = (
    r"pass[ -]?(?:word|phrase|code)|passwd|pwd|pass(?=\s*=)|kennwort|passwort|contrase(?:ñ|n)a|mot de passe|senha"
)
_ISSUED: Final = (
    r"(?:api|access|secret|private|signing|encryption|license|account|shared|deploy|app)[ _-]?(?:access[ _-]?)?key"
    r"|(?:api|access|auth|authentication|refresh|bearer|bot|session|personal access|security)[ _-]?token|token"
    r"|(?:client|app|api|shared|webhook|signing)[ _-]?secret|secret|credentials?|recovery code|backup code"
)
_LABELS: Final = re.compile(
    r"pass|pwd|wort|contrase|senha|key|token|secret|credential|code|authorization", re.IGNORECASE
)
_NO_LABEL: Final = r"(?![ _-]?(?:manager|generator|vault|app\b|tool|policy|hint|reset))"
_FOR: Final = r"(?:\s+(?:for|to|of|on|at|in|für|para|pour|de)(?:\s+[^\s:=]{1,64}){1,4}?)?"
_SAID: Final = r"(?:[\"'`]?\s*(?::=?|=>?)\s*|\s+(?:is|was|are|equals|ist|es|est)(?:\s*:\s*|\s+))"
_VALUE: Final = (
    r"(?:\"(?P<double>[^\"\n]{1,512})\"|'(?P<single>[^'\n]{1,512})'|`(?P<tick>[^`\n]{1,512})`|(?P<bare>\S++))"
)
_LABELLED: Final = re.compile(
    rf"(?:(?P<password>{_CHOSEN})|(?<![A-Za-z])(?P<key>{_ISSUED})){_NO_LABEL}{_FOR}{_SAID}{_VALUE}", re.IGNORECASE
)
_CHANGED: Final = re.compile(
    rf"\b(?:change|changed|set|reset)\s+(?:\w{{1,32}}\s+){{0,2}}?(?P<password>{_CHOSEN}){_FOR}\s+to\s+{_VALUE}",
    re.IGNORECASE,
)
_REVERSED: Final = re.compile(
    rf"(?<!\S)(?P<bare>\S{{4,}}+)\s+(?:is|as)\s+(?:my|our|the)\s+(?:\w{{1,32}}\s+){{0,2}}?"
    rf"(?P<password>{_CHOSEN}){_NO_LABEL}",
    re.IGNORECASE,
)
_AUTHORIZATION: Final = re.compile(
    r"\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)\s+(\S++)", re.IGNORECASE
)
_NUMBER: Final = re.compile(
    rf"(?<![A-Za-z])(?:(?:pin(?: number)?{_FOR}{_SAID}(?P<pin>\d{{4,8}}))|(?:pin code{_SAID}(?P<code>\d{{4}}|\d{{8}}))"
    rf"|(?:cv[vc]2?{_SAID}(?P<cvv>\d{{3,4}})))(?![\w.])",
    re.IGNORECASE,
)

# What is said of a password that is none. Nothing that people would choose for one.
_SAID_OF_PASSWORDS: Final = """
a about above absolutely accepted again all almost already also always an and another any anymore anything as at based
because before being below between blank both broken but by cached called case changed changing checked common complex
compromised confidential configured correct currently definitely different difficult disabled done easy empty
encrypted encoded enough everywhere exactly expired expiring exposed fine for forgotten found from generated going
gone good great guessable handled hard hashed hidden his her here how if important in incorrect inside insecure
invalid irrelevant it its just kept kind known leaked like likely locked long longer lost made managed maybe mandatory
minimum missing mixed more my needed never new nice no none not nothing now null of off okay old on one only optional
or our out outdated over pending perhaps please probably protected public ready really recommended redacted rejected
remembered required reset reused right rotated safe salted same saved secret secure secured see sent set shared short
shown simple so some something somewhere static still stored strong such supposed synced taken temporary that the
their them then there these they this those too true trivial twice unchanged undefined unique unknown unset until up
updated used useless using valid verified very via visible weak what when where which while who why with without
working written wrong yes yet you your false confirmed denied blocked entered fails failing failed typed automatically
correctly nicht falsch abgelaufen vergessen sicher noch das der die mein incorrecta incorrecto segura oublié
"""
_SAYING: Final = frozenset(_SAID_OF_PASSWORDS.split())
_MEASURE: Final = re.compile(
    r"\d+(?:[.,]\d+)?(?:%|-?(?:char|digit|letter|word|symbol|bit|byte|day|hour|minute|month|year)\w*)"
)
_PLACEHOLDER: Final = re.compile(
    r"\$\{.*|\$\(.*|\$[A-Z_]+|<.*|\{\{.*|%\w+%|\[.*\]|[*•.xX#?_-]+|your[-_].*|[^\s.]{0,8}\.\.\.[^\s.]{0,4}"
)
_CLAUSE_ENDS: Final = re.compile(r"\s*(?:$|[.,;!?)\n\"']|(?:and|but|or|for|please|thanks)\b)")


def find_secret(text: str) -> str | None:
    """Return what the first thing in ``text`` that looks like a secret looks like (``"a GitHub token"``), or None."""
    # Of two that begin together the more particular one: its rule comes first.
    first = min(_spans(text), key=lambda span: span.start, default=None)
    return None if first is None else first.what


def find_secret_in(value: object) -> str | None:
    """Do as :func:`find_secret` for a JSON value, in which a key may tell what its text is (``{"password": ...}``)."""
    # Each text as it is, too: written as JSON, what stands before a token can look like a part of it.
    texts = (json.dumps(value, ensure_ascii=False), *_texts_in(value))
    return next((what for what in map(find_secret, texts) if what is not None), None)


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts_in(each)
    elif isinstance(value, dict):
        for each in (*value, *value.values()):
            yield from _texts_in(each)


def redact(text: str) -> str:
    """Return ``text`` with all that looks like a secret replaced: tokens by their hint (``ghp_...f3a9``), passwords
    and private keys by ``...``, card numbers by their last four digits. Redacting again changes nothing.
    """
    # What stands on both sides of a hint can look like a secret together: a second look, rarely a third.
    for _ in range(4):
        spans = sorted(_spans(text), key=lambda span: (span.start, span.end))
        if not spans:
            break
        parts: list[str] = []
        end = 0
        for span in _joined(spans):
            parts += [text[end : span.start], span.shown]
            end = span.end
        text = "".join([*parts, text[end:]])
    return text


def _joined(spans: list[_Span]) -> Iterator[_Span]:
    """Join what overlaps; a part's hint is shown where that part covers the whole."""
    current = spans[0]
    for span in spans[1:]:
        if span.start >= current.end:
            yield current
            current = span
        elif (span.start, span.end) != (current.start, current.end):
            shown = current.shown if span.end <= current.end else _NOTHING
            current = current._replace(end=max(current.end, span.end), shown=shown)
    yield current


def _spans(text: str) -> Iterator[_Span]:
    for what, marks, pattern in _FORMATS:
        if any(mark in text for mark in marks):
            for match in pattern.finditer(text):
                shown = _NOTHING if what == "a private key" else hint(match[0])
                yield _Span(match.start(), match.end(), what, shown)
    if any(mark in text for mark in _AWS_MARKS):
        for match in _AWS_SECRET.finditer(text):
            if _has(str.isupper, match[0]) and _has(str.islower, match[0]) and _has(str.isdigit, match[0]):
                yield _Span(match.start(), match.end(), "an AWS key", hint(match[0]))
    if "://" in text:
        for match in _URL.finditer(text):
            if not _PLACEHOLDER.fullmatch(match[1]):
                yield _Span(*match.span(1), "an address with a password", _NOTHING)
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if len(digits) == (15 if digits[0] == "3" else 16) and _ISSUER.match(digits) and _has_check_digit(digits):
            yield _Span(match.start(), match.end(), "a payment card number", f"...{digits[-4:]}")
    for match in _NUMBER.finditer(text):
        group = str(match.lastgroup)
        what = "a card's security code" if group == "cvv" else "a PIN"
        yield _Span(*match.span(group), what, _NOTHING)
    if _LABELS.search(text):
        yield from _labelled(text)


def _labelled(text: str) -> Iterator[_Span]:
    for match in _LABELLED.finditer(text):
        yield from _judged(text, match, _is_password if match["password"] else _is_key)
    for pattern in (_CHANGED, _REVERSED):
        for match in pattern.finditer(text):
            yield from _judged(text, match, lambda value, _ends: _is_made_up(value))
    for match in _AUTHORIZATION.finditer(text):
        start, end = match.span(1)
        end -= len(match[1]) - len(match[1].rstrip("\"',;"))
        if end - start >= 6 and not _PLACEHOLDER.fullmatch(text[start:end]):
            yield _Span(start, end, "an access token", _NOTHING)


def _judged(text: str, match: re.Match[str], is_secret: Callable[[str, bool], bool]) -> Iterator[_Span]:
    group = next(name for name in ("double", "single", "tick", "bare") if match.groupdict().get(name) is not None)
    start, end = match.span(group)
    value = match[group]
    if group == "bare":
        kept = value.rstrip(".,;:)]}>\"'`").lstrip("([\"'`")
        start += len(value) - len(value.lstrip("([\"'`"))
        end = start + len(kept)
        value = kept
    # In quotes, it is a value and not a word of the sentence.
    ends = group != "bare" or _CLAUSE_ENDS.match(text, end) is not None
    if value and not _PLACEHOLDER.fullmatch(value) and is_secret(value, ends):
        called = match["password"]
        yield _Span(start, end, "a password" if called else "a key or a token", _NOTHING if called else hint(value))


def _is_password(value: str, ends: bool) -> bool:
    if _is_made_up(value):
        return True
    return ends and len(value) >= 4 and value.isalpha() and value.casefold() not in _SAYING


def _is_key(value: str, ends: bool) -> bool:
    if len(value) >= 8 and _has(str.isdigit, value):
        return not _MEASURE.match(value) and "://" not in value
    return len(value) >= 20 and value.isalpha()


def _is_made_up(value: str) -> bool:
    """Tell whether nobody would say ``value`` in a sentence: digits, symbols or capitals inside a word."""
    if len(value) < 4 or _MEASURE.match(value) or "://" in value:
        return False
    if _has(str.isdigit, value):
        return True
    letters = re.sub(r"[-'\u2019]", "", value)
    if letters.isalpha():
        # "case-sensitive" is said, "correct-horse-battery-staple" is chosen, and so is "openSesame".
        return value.count("-") >= 3 or (letters == value and not value.isupper() and _has(str.isupper, value[1:]))
    return _has(str.isalpha, value) and "/" not in value


def _has(is_kind: Callable[[str], bool], text: str) -> bool:
    return any(map(is_kind, text))


def _has_check_digit(digits: str) -> bool:
    """Tell whether the last digit is the one that Luhn's rule asks for."""
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(double - 9 if double > 9 else double for double in doubled)) % 10 == 0
