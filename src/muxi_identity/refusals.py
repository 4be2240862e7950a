"""What is refused: characters, lengths, debris and words, and what may not stand beside them. Pure.

Two people who share an identifier share a memory. Most of what is refused here is what a broken front end
sends for *everybody* ("undefined"), or what makes two identifiers look alike to the operator who links them.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from unicodedata import category, normalize

from muxi_identity.errors import InvalidIdentifierError

MAX_CHARACTERS: Final = 512
MAX_SECRET_BYTES: Final = 8192
MAX_SCOPE_CHARACTERS: Final = 255
MAX_METADATA_BYTES: Final = 4096
MAX_METADATA_DEPTH: Final = 16
QUOTED_CHARACTERS: Final = 64

# What serialising "nobody" yields in JavaScript, C, Go, JSON and UUID libraries. Always refused.
_DEBRIS: Final = frozenset(
    {
        "null",
        "undefined",
        "nan",
        "infinity",
        "-infinity",
        "(null)",
        "(undefined)",
        "(none)",
        "<null>",
        "<nil>",
        "<none>",
        "%!s(<nil>)",
        "{}",
        "[]",
        "00000000-0000-0000-0000-000000000000",
    }
)
# What front ends send for a visitor they do not know, or by default. Each could also be somebody's login
# ("none" and "nil" are names), so that they are refused only where no type says whose login they are.
_RESERVED: Final = frozenset(
    {
        "guest",
        "none",
        "nil",
        "true",
        "false",
        "0",
        "-1",
        "n/a",
        "na",
        "unknown",
        "anonymous",
        "default",
        "user",
        "user_id",
        "userid",
        "nobody",
        "string",  # the example value of a generated API console
        "-",
    }
)
# Objects printed instead of their id, and templates that nothing filled in: one text for every visitor. Each
# alternative excludes its own opening character, so that 8 kB of "{{{{" cannot make the search quadratic.
_UNFILLED: Final = re.compile(
    r"\[object \w+\]"
    r"|\{\{[^{}]*\}\}|\$\{[^{}]*\}|<%[^<>%]*%>"
    r"|<[^<>]* at 0x[0-9a-f]+>|<built-in [^<>]*>",
    re.IGNORECASE,
)
# "\"null\"": the same debris, serialised once more.
_WRAPPING: Final = "\"'`\\ “”‘’«»"

_TYPE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
TYPE_PATTERN: Final = "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
"""How a type may be written, for schemas."""
_NO_TYPE: Final = frozenset({"null", "undefined", "none", "nan"})

_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Drawn as nothing although Unicode calls them letters, marks or symbols: "ali\u3164ce" reads "alice".
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # joiner, Hangul fillers, Khmer vowels, blank Braille
    "\u180b\u180c\u180d\u180f"  # Mongolian variation selectors
) | {chr(code) for block in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in block}

# By category: the reason, and what to call it.
_REFUSED_CATEGORIES: Final = {
    "Cc": ("control_character", "a control character"),
    "Cf": ("invisible_character", "an invisible character"),
    "Cs": ("surrogate", "half a character (a lone surrogate)"),
    "Co": ("private_use_character", "a private-use character, which means something else on every machine"),
    "Cn": ("unassigned_character", "not a character of Unicode"),
    "Zl": ("line_separator", "a line separator"),
    "Zp": ("line_separator", "a line separator"),
}


def refuse(message: str, reason: str) -> NoReturn:
    """Raise the one error of this module and its callers, without what led to it: that may quote the value whole."""
    raise InvalidIdentifierError(message, reason=reason) from None


def quote(value: str) -> str:
    """Return ``value`` fit for a message: at most 64 of its characters, none that a terminal would act on."""
    if len(value) <= QUOTED_CHARACTERS:
        return ascii(value)
    return ascii(value[:QUOTED_CHARACTERS]) + "..."


def clean(given: str, what: str = "The identifier", *, limit: int = MAX_CHARACTERS) -> str:
    """Return ``given`` without the white space around it, its length and its characters checked.

    ``limit`` is in characters and counts the white space. The message never quotes the value: a value that is
    too long or holds odd bytes is often a secret in the wrong place.

    Raises:
        InvalidIdentifierError: It is blank, too long, or holds a character that cannot be seen or printed.
    """
    # First of all: nothing below may walk through a megabyte.
    if len(given) > limit:
        refuse(f"{what} has {len(given)} characters; at most {limit} are allowed.", "too_long")
    text = given.strip()
    if not text:
        refuse(f"{what} is empty; leave it out or send the real one.", "empty")
    if not (text.isascii() and text.isprintable()):
        _check_characters(text, what)
    return text


def compose(text: str, what: str = "The identifier", *, limit: int = MAX_CHARACTERS) -> str:
    """Return the NFC form of a text from ``clean``: one row, whichever way a keyboard writes "é".

    Raises:
        InvalidIdentifierError: The form, which can be longer than the text, is too long.
    """
    if text.isascii():
        return text
    form = normalize("NFC", text)
    if len(form) > limit:
        refuse(f"{what} has {len(form)} characters in its NFC form; at most {limit} are allowed.", "too_long")
    return form


def _check_characters(text: str, what: str) -> None:
    for position, character in enumerate(text):
        found = fault_of(character)
        if found is not None:
            reason, kind = found
            refuse(
                f"{what} holds U+{ord(character):04X} at position {position}, {kind}; send it without.",
                reason,
            )


def fault_of(character: str) -> tuple[str, str] | None:
    """Return why ``character`` may stand in no identifier, and what to call it; None where it may."""
    # Right-to-left overrides draw one identifier as another in the operator's console.
    if character in _BIDI:
        return "bidi_character", "a control of writing direction that makes one text look like another"
    if character in _INVISIBLE:
        return "invisible_character", "which cannot be seen, so that two different identifiers look the same"
    # Where a decoder has given up, different names have become the same text.
    if character == "\ufffd":
        return "undecodable", "the mark of bytes that could not be decoded (send UTF-8)"
    return _REFUSED_CATEGORIES.get(category(character))


def check_words(form: str, allowed: frozenset[str], *, typed: bool, secret: bool = False) -> None:
    """Check an identifier against what stands for nobody or for everybody; ``allowed`` is case folded.

    Raises:
        InvalidIdentifierError: It is debris or, without a type, a reserved word.
    """
    word = form.casefold()
    bare = word.strip(_WRAPPING)
    if allowed and (word in allowed or bare in allowed):
        return
    if not bare or bare in _DEBRIS or (("{" in word or "<" in word or "[" in word) and _UNFILLED.search(word)):
        refuse(
            f"{'The secret' if secret else quote(form)} is what a program sends when it has nothing to send; "
            "find out why it had nothing, and call only when it has something.",
            "debris",
        )
    if not typed and bare in _RESERVED:
        refuse(
            f"{quote(form)} could be anybody; pass the person's own identifier or, if this is somebody's "
            f"login, its type as well: ({quote(form)}, 'internal').",
            "reserved_word",
        )


def check_refused(form: str, fold: str, refused: frozenset[str], *, secret: bool = False) -> None:
    """Check an identifier against a formation's own words, which are case folded.

    ``fold`` is compared too, so that a refused address is refused in every spelling.

    Raises:
        InvalidIdentifierError: It is one of them.
    """
    if refused and not refused.isdisjoint((form.casefold(), fold.casefold())):
        shown = "The secret" if secret else quote(form)
        refuse(f"{shown} is refused by this formation; send the person's own identifier.", "refused_word")


def kind_of(value: object) -> str:
    """Return what to call a value of the wrong type in a message, without its content."""
    return "None" if value is None else quote(value.__class__.__name__)[1:-1]


def parse_type(given: object) -> str:
    """Return an identifier's type in lower case.

    Raises:
        InvalidIdentifierError: It is not text, not a name, or debris.
    """
    if not isinstance(given, str):
        refuse(f"An identifier's type must be text, not {kind_of(given)}.", "wrong_type")
    text = str.__str__(given)
    # ASCII before lower(): the Kelvin sign lowers to "k" and would make a second "slack" of "slac\u212a".
    kind = text.strip().lower() if len(text) <= MAX_CHARACTERS and text.isascii() else ""
    if not _TYPE.fullmatch(kind) or kind in _NO_TYPE:
        # Not quoted: in a pair the wrong way round it may be a secret.
        refuse(
            "An identifier's type is a letter and up to 63 more of a-z, 0-9, _, . and -, after the value: "
            "(value, type). If there is none, leave it out.",
            "bad_type",
        )
    return kind


def parse_scope(given: object) -> str:
    """Return an identifier's scope, trimmed; its case is kept.

    Raises:
        InvalidIdentifierError: It is not text, blank, over 255 characters, unprintable or debris.
    """
    if not isinstance(given, str):
        refuse(f"An identifier's scope must be text, not {kind_of(given)}.", "wrong_type")
    text = clean(str.__str__(given), "The scope", limit=MAX_SCOPE_CHARACTERS)
    scope = compose(text, "The scope", limit=MAX_SCOPE_CHARACTERS)
    # "undefined" as everybody's workspace makes one person of equal member ids of two workspaces.
    check_words(scope, frozenset(), typed=True)
    return scope


def parse_expiry(given: object) -> datetime:
    """Return ``expires_at``, an aware datetime or its ISO 8601 text, in UTC.

    Raises:
        InvalidIdentifierError: It is neither, has no offset, or lies outside the years 1 to 9999.
    """
    moment = given
    if isinstance(given, str) and len(given) <= QUOTED_CHARACTERS:
        try:
            moment = datetime.fromisoformat(str.__str__(given).strip())
        except ValueError:
            moment = None
    # A naive time means another moment on every machine: a secret would outlive its end by hours.
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        refuse(
            "expires_at must be a time with its offset: 2030-01-31T12:00:00Z, or an aware datetime.",
            "bad_expiry",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        refuse("expires_at lies outside the years 1 to 9999.", "bad_expiry")


def parse_metadata(given: object) -> dict[str, Any]:
    """Return a copy of ``metadata``, a JSON object of at most 4 KiB (compact, in UTF-8).

    Raises:
        InvalidIdentifierError: It is not, or holds what a database cannot keep.
    """
    if not isinstance(given, dict):
        refuse(f"metadata must be a JSON object, not {kind_of(given)}.", "bad_metadata")
    _check_json(given)
    try:
        encoded = json.dumps(given, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(encoded.encode())
    except ValueError:  # a NaN, or a lone surrogate
        refuse("metadata holds a number or a character that JSON in UTF-8 cannot express.", "bad_metadata")
    if size > MAX_METADATA_BYTES:
        refuse(f"metadata takes {size} bytes as JSON; at most {MAX_METADATA_BYTES} are kept.", "bad_metadata")
    copy: dict[str, Any] = json.loads(encoded)
    return copy


def _check_json(root: dict[Any, Any]) -> None:
    # A walk with a budget before anything is encoded: megabytes, cycles and towers of brackets end here.
    waiting: list[tuple[object, int]] = [(root, 1)]
    size = 0
    while waiting:
        value, depth = waiting.pop()
        size += 1
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, int):
            size += value.bit_length() // 4
        elif isinstance(value, dict | list | tuple):
            size += len(value)
        elif value is not None and not isinstance(value, float):
            refuse(f"metadata holds {kind_of(value)}, which is not JSON.", "bad_metadata")
        if size > MAX_METADATA_BYTES or depth > MAX_METADATA_DEPTH:
            refuse(
                f"metadata is over {MAX_METADATA_BYTES} bytes or {MAX_METADATA_DEPTH} levels deep.",
                "bad_metadata",
            )
        if isinstance(value, str) and "\0" in value:
            refuse("metadata holds U+0000, which PostgreSQL cannot keep.", "bad_metadata")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                refuse("metadata has a key that is not text.", "bad_metadata")
            waiting += [(key, depth) for key in value]
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple):
            waiting += [(item, depth + 1) for item in value]
