"""Identifiers: parse, normalise, refuse. Pure: no clock, no database, no key.

Three texts come out of one identifier. ``spelling`` is what was given, and what people are shown. ``value``
is its normal form under its type, and what a typed look-up compares. ``fold`` does not depend on the type: it
names the bucket in which all spellings of an identifier meet, typed or not. Hence the rule that holds this
module together, for every spelling that is valid for a type: ``fold(normalise(s, type)) == fold(s)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from unicodedata import normalize

from email_validator import EmailNotValidError, EmailSyntaxError, ValidatedEmail, validate_email

from muxi_identity.errors import ConfigurationError, InvalidIdentifierError
from muxi_identity.refusals import (
    MAX_CHARACTERS,
    MAX_SECRET_BYTES,
    check_refused,
    check_words,
    clean,
    compose,
    kind_of,
    parse_expiry,
    parse_metadata,
    parse_scope,
    parse_type,
    quote,
    refuse,
)

MIN_SECRET_CHARACTERS: Final = 8


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What a formation says of one identifier type."""

    secret: bool = False
    max_per_user: int | None = None


_PLAIN_RULE: Final = TypeRule()
_PLAIN_TYPES: Final = ("email", "slack", "github", "telegram", "discord", "phone", "internal", "anonymous")
BUILT_IN_TYPES: Final[Mapping[str, TypeRule]] = MappingProxyType(
    {**dict.fromkeys(_PLAIN_TYPES, _PLAIN_RULE), "api_key": TypeRule(secret=True)}
)


@dataclass(frozen=True, slots=True)
class IdentifierRules:
    """What a formation says of identifiers.

    ``types`` is complete: built-in rules with the formation's own over them. ``refuse`` adds words that are
    nobody's identifier, typed or not; ``allow`` takes words off the built-in lists (not off ``refuse``). Both
    are compared without regard to case, and kept case folded.
    """

    types: Mapping[str, TypeRule] = field(default_factory=lambda: BUILT_IN_TYPES)
    refuse: frozenset[str] = frozenset()
    allow: frozenset[str] = frozenset()
    max_per_user: int = 100

    def __post_init__(self) -> None:
        refused = frozenset(form.casefold() for word in self.refuse for form in (word.strip(), fold(word)))
        object.__setattr__(self, "refuse", refused)
        object.__setattr__(self, "allow", frozenset(fold(word).casefold() for word in self.allow))

    def rule(self, type: str | None) -> TypeRule:
        """Return the rule of ``type``; the plain one for a type that nobody declared, and for none."""
        return _PLAIN_RULE if type is None else self.types.get(type, _PLAIN_RULE)


DEFAULT_RULES: Final = IdentifierRules()


@dataclass(frozen=True, slots=True)
class PublicId:
    """A user named by its public id, ``usr_...``."""

    user_id: str


class Identifier(NamedTuple):
    """One identifier, parsed and normalised.

    Of a secret, ``spelling`` is a hint and ``value`` is empty; only ``fold`` has the clear text, for the
    engine to turn into a keyed hash at once. Never store, print or log ``fold``. (A frozen dataclass of as many
    fields takes four times as long to make: a sixth of what a look-up takes in Python.)
    """

    spelling: str
    value: str
    fold: str
    type: str | None = None
    scope: str | None = None
    secret: bool = False
    verified: bool = False
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    guessed: bool = False
    """The caller gave no type: the identifier may be a spelling of one of any type."""
    exact: bool = False
    """It means the one row of this type and this scope, of none where it has none: no other of the same spelling."""
    known: bool = False
    """Somebody had it when it was made exact: where nobody has it any more, it makes no first contact."""

    def __hash__(self) -> int:
        return hash(self._replace(metadata=None)[:])  # a mapping has none

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items() if name != "fold")
        return f"Identifier({shown})"

    @property
    def shown(self) -> str:
        """The spelling, of a secret the hint: all that may stand in a result, an error or a log."""
        return self.spelling


_PUBLIC_ID: Final = re.compile(r"usr_[A-Za-z0-9_-]{1,64}")
_KEYS: Final = ("identifier", "type", "scope", "verified", "expires_at", "metadata")
_FORMS: Final = 'pass "value", ("value", "type") or {"identifier": "value", "type": "type"}'


def parse_reference(
    given: object,
    rules: IdentifierRules = DEFAULT_RULES,
    *,
    type: str | None = None,
    scope: str | None = None,
) -> Identifier | PublicId:
    """Parse what ``user_id=`` takes: an identifier in any form or, also through a channel, a bare public id.

    What was parsed already is returned as it is.

    Raises:
        InvalidIdentifierError: It can be neither.
        ConfigurationError: As ``parse_identifier``.
    """
    if isinstance(given, str):
        text = str.__str__(given)
        if len(text) <= MAX_CHARACTERS:
            text = text.strip()
        if text.startswith("usr_"):
            if not _PUBLIC_ID.fullmatch(text):
                refuse(
                    f"{quote(text)} is not a public id: usr_ and 1 to 64 ASCII letters, digits, _ or -. An "
                    "identifier that starts with usr_ needs its type.",
                    "not_a_public_id",
                )
            return PublicId(text)
    elif isinstance(given, Identifier | PublicId):
        return given
    return parse_identifier(given, rules, type=type, scope=scope)


def parse_identifier(
    given: object,
    rules: IdentifierRules = DEFAULT_RULES,
    *,
    type: str | None = None,
    scope: str | None = None,
) -> Identifier:
    """Parse ``"value"``, ``("value", "type")`` or a mapping: the one parser of identifiers.

    ``type`` and ``scope`` are a channel's own and apply to a bare value only. Integers are taken as their
    decimal text. An untyped e-mail address is typed ``email``; nothing else is guessed. Lengths are checked
    before anything else, so that a megabyte is refused as fast as a word.

    Raises:
        InvalidIdentifierError: It can be nobody's identifier; ``reason`` is a short stable word for why.
        ConfigurationError: It is typed ``phone`` and the extra ``phone`` is not installed.
    """
    form = read_form(given, type=type, scope=scope)
    return _identify(form, rules)


class Form(NamedTuple):
    """An identifier as it was given, in one shape: nothing of its value is checked yet.

    ``bare``: it was the value alone.
    """

    text: str
    type: str | None
    scope: str | None
    verified: bool = False
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    bare: bool = False


def read_form(given: object, *, type: str | None = None, scope: str | None = None) -> Form:
    """Read any of the three forms, by rules that are the same for every formation.

    Raises:
        InvalidIdentifierError: It has another shape, or its type, scope or anything beside the value cannot be one.
    """
    if isinstance(given, str | int):
        return Form(*_parts(given, type, scope), bare=True)
    if isinstance(given, tuple | list):
        if len(given) != 2:
            refuse(f"An identifier cannot be a list of {len(given)}; {_FORMS}.", "wrong_shape")
        return Form(*_parts(given[0], given[1], None))
    if not isinstance(given, dict):
        refuse(f"An identifier cannot be {kind_of(given)}; {_FORMS}.", "wrong_type")
    unknown = list(islice((key for key in given if key not in _KEYS), 3))
    if unknown:
        named = ", ".join(quote(key) if isinstance(key, str) else kind_of(key) for key in unknown)
        refuse(f"An identifier has no {named}; its keys are {', '.join(_KEYS)}.", "wrong_shape")
    if "identifier" not in given:
        refuse(f'The key "identifier" is missing; {_FORMS}.', "wrong_shape")
    verified = given.get("verified", False)
    if not isinstance(verified, bool):
        refuse(f"verified must be true or false, not {kind_of(verified)}.", "wrong_type")
    expires_at = given.get("expires_at")
    metadata = given.get("metadata")
    expiry = None if expires_at is None else parse_expiry(expires_at)
    kept = None if metadata is None else parse_metadata(metadata)
    return Form(*_parts(given["identifier"], given.get("type"), given.get("scope")), verified, expiry, kept)


def _parts(value: object, given_type: object, given_scope: object) -> tuple[str, str | None, str | None]:
    kind = None if given_type is None else parse_type(given_type)
    scope = None if given_scope is None else parse_scope(given_scope)
    if kind is None and scope is not None:
        refuse("A scope without a type says nothing; pass the type as well.", "wrong_shape")
    return _text(value), kind, scope


def _identify(given: Form, rules: IdentifierRules) -> Identifier:
    text, kind, scope, verified, expires_at, metadata, bare = given
    guessed = kind is None
    if guessed and not rules.refuse and (email := _plainest_email(text)) is not None:
        return Identifier(text, email, email, "email", None, False, verified, expires_at, metadata, True)
    if rules.rule(kind).secret:
        secret = _secret(text, rules)
        return Identifier(hint(secret), "", secret, kind, scope, True, verified, expires_at, metadata)

    spelling = clean(text)
    form = compose(spelling)
    # Bare, such a row could never be found again: user_id= would always read it as a public id.
    if (bare or guessed) and form.startswith("usr_"):
        refuse(
            "What starts with usr_ is a user's public id, not an identifier; pass it as user_id=.",
            "public_id",
        )
    check_words(form, rules.allow, typed=not guessed)
    # ("api_key", "key_..."): the secret would be kept and listed in clear, as the name of a type.
    if rules.rule(form).secret and kind not in rules.types:
        refuse(f"{quote(form)} is a type; in a pair the value comes first: (value, type).", "wrong_shape")
    if guessed:
        email = _as_email(form)
        kind, normal = (None, form) if email is None else ("email", email)
    else:
        normal = _normal_form(form, kind)
    bucket = normal if kind in _FOLDED_TYPES else _fold(form)
    check_refused(form, bucket, rules.refuse)
    return Identifier(spelling, normal, bucket, kind, scope, False, verified, expires_at, metadata, guessed)


def _text(value: object) -> str:
    # A subclass is not asked for its own text: an Enum answers with the name of its member.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        # 512 digits are at most 1,701 bits. The text of a huge one takes quadratic time, or raises.
        if value.bit_length() > 1701:
            refuse(f"The identifier has more than {MAX_CHARACTERS} digits.", "too_long")
        return int.__repr__(value)
    refuse(f"An identifier's value must be text or an integer, not {kind_of(value)}; {_FORMS}.", "wrong_type")


def _secret(text: str, rules: IdentifierRules) -> str:
    what = "The secret"
    form = compose(clean(text, what, limit=MAX_SECRET_BYTES), what, limit=MAX_SECRET_BYTES)
    if len(form.encode()) > MAX_SECRET_BYTES:
        refuse(f"The secret is longer than {MAX_SECRET_BYTES} bytes.", "too_long")
    check_words(form, rules.allow, typed=True, secret=True)
    check_refused(form, form, rules.refuse, secret=True)
    # Anybody may know these; as secrets they would let anybody in.
    if _as_email(form) is not None or _digits(form) is not None or form.startswith("usr_"):
        refuse(
            "An e-mail address, a phone number or a public id is not a secret; link it under its own type.",
            "not_a_secret",
        )
    if len(form) < MIN_SECRET_CHARACTERS:
        refuse(
            f"A secret needs at least {MIN_SECRET_CHARACTERS} characters; make a longer one.",
            "secret_too_short",
        )
    return form


def hint(secret: str) -> str:
    """Return just enough of a secret to recognise it: ``key_...c123``.

    At most a quarter of its characters show: four at the end, and in front four or, of a long secret, its
    prefix up to a ``_`` or ``-``. Of one under 16 characters nothing shows.
    """
    size = len(secret)
    if size < 16:
        return "..."
    budget = size // 4
    front = min(4, budget // 2)
    if size >= 24:
        prefix = re.match(r"[^_-]{0,7}[_-]", secret)
        if prefix is not None and prefix.end() <= budget:
            front = prefix.end()
    return f"{secret[:front]}...{secret[size - min(4, budget - front) :]}"


def normalise(spelling: str, type: str | None) -> str:
    """Return the normal form of a spelling under a type. Idempotent; does not ask a formation's words.

    Raises:
        InvalidIdentifierError: It is not valid for that type.
        ConfigurationError: The type is ``phone`` and the extra ``phone`` is not installed.
    """
    return _normal_form(compose(clean(spelling)), type)


def same_value(spelling: str, type: str | None, value: str) -> bool:
    """Tell whether ``value``, a normal form of ``type``, is that of ``spelling``. An invalid one has none."""
    try:
        form = compose(clean(spelling))
        # The stored number was checked when it was linked; a newer library must not lose it.
        return (_digits(form) if type == "phone" else _normal_form(form, type)) == value
    except InvalidIdentifierError:
        return False


def fold(spelling: str) -> str:
    """Return the form that names a spelling's bucket, whatever its type. Idempotent; never raises.

    An e-mail address folds to its normal form and ``+`` with digits to those digits; everything else to NFC,
    trimmed, its case kept. No phone library is asked: all installations agree.
    """
    return _fold(normalize("NFC", spelling.strip()))


# Types whose normal form is the fold itself.
_FOLDED_TYPES: Final = frozenset({"email", "phone"})


def _fold(form: str) -> str:
    return _as_email(form) or _digits(form) or form


def _normal_form(form: str, type: str | None) -> str:
    if type == "email":
        return _email(form)
    if type == "phone":
        return _phone(form)
    return form


_MAX_EMAIL: Final = 254
_ATOM: Final = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Addresses that need no validator, which takes a fifth of a look-up's time. A test holds the two together.
_PLAIN_EMAIL: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


# Addresses that need no look at all: nothing in them can be debris, a word, a public id or out of its normal form.
# What follows says the same of them and takes three times as long. A test holds the two together.
_PLAIN_ATOM: Final = "[a-z0-9+_-]+"
_PLAINEST_EMAIL: Final = re.compile(rf"(?!usr_){_PLAIN_ATOM}(?:\.{_PLAIN_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def _plainest_email(text: str) -> str | None:
    if len(text) > _MAX_EMAIL or not text.isascii():
        return None
    lower = text.lower()
    return lower if _PLAINEST_EMAIL.fullmatch(lower) else None


def _as_email(form: str) -> str | None:
    if "@" not in form:
        return None
    try:
        return _email(form)
    except InvalidIdentifierError:
        return None


def _email(form: str) -> str:
    """Return the normal form: lower case, the domain in ASCII. Dots and plus tags are the host's affair."""
    if form.isascii() and len(form) <= _MAX_EMAIL and _PLAIN_EMAIL.fullmatch(form.lower()):
        return form.lower()
    try:
        if len(form) > _MAX_EMAIL or form.count("@") != 1:
            raise EmailSyntaxError(f"It needs one @-sign, and at most {_MAX_EMAIL} characters.")
        email = _validated(form)
        # Lower case can be longer ("\u0130"): what is not its own normal form would not be found again.
        if _validated(email) != email:
            raise EmailSyntaxError("It has no stable form in lower case.")
    except EmailNotValidError as fault:
        why = str(fault).encode("ascii", "backslashreplace").decode()[:120]
        refuse(f"{quote(form)} is not an e-mail address: {why}", "not_an_email")
    return email


def _validated(form: str) -> str:
    try:
        found, tail = _validate(form), ""
    except EmailNotValidError as fault:
        # The validator refuses special-use domains such as .local whatever its options; not under .local.x.
        tail = ".x"
        try:
            found = _validate(form + tail)
        except EmailNotValidError:
            raise fault from None
    return f"{normalize('NFC', found.local_part.lower())}@{found.ascii_domain.removesuffix(tail)}"


def _validate(form: str) -> ValidatedEmail:
    # Every option is passed: a host may change the validator's global ones, and rows outlive that.
    return validate_email(
        form,
        allow_smtputf8=True,
        allow_empty_local=False,
        allow_quoted_local=False,
        allow_domain_literal=False,
        allow_display_name=False,
        strict=False,
        check_deliverability=False,
        test_environment=False,
        globally_deliverable=False,
    )


_SEPARATORS: Final = " \u00a0\u202f./()\\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
_PHONE: Final = re.compile(rf"\+[{_SEPARATORS}]*[0-9][0-9{_SEPARATORS}]*")


def _digits(form: str) -> str | None:
    if not form.startswith("+") or not _PHONE.fullmatch(form):
        return None
    return "+" + re.sub("[^0-9]", "", form)


def _phone(form: str) -> str:
    digits = _digits(form)
    if digits is None or len(digits) > 20:
        refuse(f"{quote(form)} is not a phone number with its country; write it as +442079460958.", "not_a_phone")
    try:
        import phonenumbers  # noqa: PLC0415 -- an optional extra
    except ImportError:
        raise ConfigurationError(
            "Identifiers of type phone need the extra: pip install 'muxi-identity[phone]'."
        ) from None
    try:
        number = phonenumbers.parse(digits)
    except phonenumbers.NumberParseException:
        refuse(f"{quote(form)} is not a phone number of any country; write it as +442079460958.", "not_a_phone")
    if not phonenumbers.is_possible_number(number):
        refuse(f"{quote(form)} has too few or too many digits for its country.", "not_a_phone")
    normal = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    # "+44 (0)20": the fold knows no country and would keep the zero, and lead to another bucket.
    if normal != digits:
        refuse(f"{quote(form)} has digits that are not dialled; write it as {normal}.", "not_a_phone")
    return normal
