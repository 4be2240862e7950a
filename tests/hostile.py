"""Hostile identifiers, for every door through which identifiers come.

``HOSTILE`` is what ``parse_reference`` refuses, in any of the three forms. ``VALID_BUT_ODD`` looks as bad and is
somebody's identifier: it must be taken, and come back as it was given.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from muxi_identity.errors import InvalidIdentifierError

MEGABYTE = 1_000_000


class Colour(Enum):
    RED = "red"


class Loud:
    def __str__(self) -> str:
        raise AssertionError("nobody may ask a stranger for its text")

    __repr__ = __str__


def _dict(**attributes: object) -> dict[str, object]:
    return {"identifier": "U98765ABC", "type": "slack", **attributes}


_CYCLE: dict[str, object] = {}
_CYCLE["self"] = _CYCLE
_TOWER: list[object] = []
for _ in range(5000):
    _TOWER = [_TOWER]

_GIVEN: list[tuple[str, object]] = [
    # Nobody, and nothing.
    ("none", None),
    ("empty", ""),
    ("blank", " \t\r\n "),
    ("blank ideographic space", "\u3000"),
    ("empty typed", ("", "slack")),
    ("quotes around nothing", '""'),
    # Other kinds of thing.
    ("true", True),
    ("false", False),
    ("float", 1.5),
    ("float nan", float("nan")),
    ("complex", 1j),
    ("bytes", b"U98765ABC"),
    ("bytearray", bytearray(b"U98765ABC")),
    ("set", {"U98765ABC"}),
    ("enum member", Colour.RED),
    ("object", object()),
    ("object without a text", Loud()),
    ("function", len),
    ("class", str),
    ("exception", ValueError("x")),
    # Wrong shapes.
    ("empty tuple", ()),
    ("empty list", []),
    ("tuple of one", ("U98765ABC",)),
    ("tuple of three", ("U98765ABC", "slack", "T1")),
    ("megabytes of a list", ["U98765ABC"] * MEGABYTE),
    ("nested list", [["U98765ABC", "slack"], ["U1", "slack"]]),
    ("list in the value", (["U98765ABC"], "slack")),
    ("dict in the value", ({"identifier": "U98765ABC"}, "slack")),
    ("none in the value", (None, "slack")),
    ("bool in the value", (True, "slack")),
    ("bytes in the value", (b"U98765ABC", "slack")),
    ("empty dict", {}),
    ("dict without identifier", {"type": "slack"}),
    ("dict with unknown key", _dict(admin=True)),
    ("dict with a bidi key", _dict(**{"\u202enimda": True})),
    ("dict with a key that is no text", {"identifier": "U98765ABC", 7: "slack"}),
    ("dict with a megabyte of a key", _dict(**{"k" * MEGABYTE: 1})),
    ("dict with dict value", {"identifier": {"$ne": None}}),
    ("dict with None value", {"identifier": None}),
    # Types and scopes.
    ("type a number", ("U98765ABC", 7)),
    ("type a bool", ("U98765ABC", True)),
    ("type a list", ("U98765ABC", ["slack"])),
    ("pair the wrong way round", ("api_key", "key_7Hq2mZx9Lw4Tn8Rb5Vc1")),
    ("type's name alone", "api_key"),
    ("dict of a megabyte of keys", {f"key{i}": i for i in range(100_000)}),
    ("type empty", ("U98765ABC", "")),
    ("type with a space", ("U98765ABC", "slack user")),
    ("type starts with a digit", ("U98765ABC", "1slack")),
    ("type with Kelvin sign", ("U98765ABC", "slac\u212a")),
    ("type with a line", ("U98765ABC", "slack\nadmin")),
    ("type too long", ("U98765ABC", "s" * 65)),
    ("type a megabyte", ("U98765ABC", "s" * MEGABYTE)),
    ("type undefined", ("U98765ABC", "undefined")),
    ("scope without type", {"identifier": "U98765ABC", "scope": "T1"}),
    ("scope without type, e-mail", {"identifier": "alice@example.com", "scope": "T1"}),
    ("scope a number", _dict(scope=7)),
    ("scope blank", _dict(scope="  ")),
    ("scope too long", _dict(scope="T" * 256)),
    ("scope with NUL", _dict(scope="T1\0T2")),
    ("scope with bidi", _dict(scope="T1\u202e")),
    ("scope undefined", _dict(scope="undefined")),
    # Attributes.
    ("verified a number", _dict(verified=1)),
    ("verified a text", _dict(verified="true")),
    ("verified none", _dict(verified=None)),
    ("expiry naive", _dict(expires_at="2030-01-31T12:00:00")),
    ("expiry naive datetime", _dict(expires_at=datetime(2030, 1, 31))),
    ("expiry a day", _dict(expires_at="2030-01-31")),
    ("expiry words", _dict(expires_at="tomorrow")),
    ("expiry a number", _dict(expires_at=1893456000)),
    ("expiry a bool", _dict(expires_at=True)),
    ("expiry before all time", _dict(expires_at="0001-01-01T00:00:00+23:59")),
    ("expiry a megabyte", _dict(expires_at="2" * MEGABYTE)),
    ("expiry a surrogate", _dict(expires_at="\ud800")),
    ("metadata a list", _dict(metadata=[1])),
    ("metadata a text", _dict(metadata="{}")),
    ("metadata NaN", _dict(metadata={"score": float("nan")})),
    ("metadata infinity", _dict(metadata={"score": float("inf")})),
    ("metadata bytes", _dict(metadata={"raw": b"x"})),
    ("metadata number key", _dict(metadata={1: "x"})),
    ("metadata nested number key", _dict(metadata={"a": [{None: "x"}]})),
    ("metadata NUL", _dict(metadata={"a": "x\0y"})),
    ("metadata surrogate", _dict(metadata={"a": "\ud800"})),
    ("metadata cycle", _dict(metadata=_CYCLE)),
    ("metadata tower", _dict(metadata={"a": _TOWER})),
    ("metadata over 4 KiB", _dict(metadata={"a": "x" * 4096})),
    ("metadata over 4 KiB of UTF-8", _dict(metadata={"a": "é" * 2100})),
    ("metadata a megabyte", _dict(metadata={"a": ["x"] * MEGABYTE})),
    ("metadata a huge number", _dict(metadata={"a": 10**100_000})),
    # Lengths.
    ("513 characters", "a" * 513),
    ("513 characters, typed", ("a" * 513, "internal")),
    ("a megabyte", "a" * MEGABYTE),
    ("a megabyte of accents", "e\u0301" * (MEGABYTE // 2)),
    ("a megabyte of spaces", " " * MEGABYTE),
    ("a megabyte of an address", "a" * MEGABYTE + "@example.com"),
    ("a megabyte of a public id", "usr_" + "a" * MEGABYTE),
    ("a megabyte before a public id", " " * MEGABYTE + "usr_alice"),
    ("a megabyte of a secret", ("k" * MEGABYTE, "api_key")),
    ("a megabyte of plus", "+" * MEGABYTE),
    ("513 characters once composed", "\U0001d160" * 300),
    ("a number of 100,000 digits", 10**100_000),
    ("a negative number of 600 digits", -(10**600)),
    ("a number of 513 digits", 10**512),
    ("secret over 8192 bytes", ("é" * 4097, "api_key")),
    # Characters.
    ("NUL", "alice\0"),
    ("NUL inside", "ali\0ce"),
    ("NUL in an address", "alice\0@example.com"),
    ("line feed", "alice\nbob"),
    ("header injection", "alice\r\nX-Admin: 1"),
    ("escape sequence", "\x1b[2Jalice"),
    ("delete", "alice\x7f!"),
    ("C1 control", "ali\x9bce"),
    ("bidi override", "alice\u202egro.elpmaxe@"),
    ("bidi isolate", "ali\u2066ce"),
    ("left-to-right mark", "alice\u200e"),
    ("Arabic letter mark", "ali\u061cce"),
    ("bidi in an address", ("alice@\u202eexample.com", "email")),
    ("zero width space", "ali\u200bce"),
    ("zero width joiner", "ali\u200dce"),
    ("byte order mark", "\ufeffalice"),
    ("soft hyphen", "ali\u00adce"),
    ("word joiner", "ali\u2060ce"),
    ("tag characters", "alice\U000e0041"),
    ("Hangul filler", "ali\u3164ce"),
    ("half-width Hangul filler", "\uffa0alice"),
    ("blank Braille", "\u2800"),
    ("combining grapheme joiner", "ali\u034fce"),
    ("variation selector", "alice\ufe0f"),
    ("supplementary variation selector", "alice\U000e0100"),
    ("line separator", "ali\u2028ce"),
    ("paragraph separator", "ali\u2029ce"),
    ("lone surrogate", "alice\ud800"),
    ("surrogates in pairs", "\ud83d\ude00"),
    ("private use", "ali\ue000ce"),
    ("noncharacter", "ali\uffffce"),
    ("unassigned", "ali\u0378ce"),
    ("undecodable bytes", "ren\ufffd"),
    ("NUL in a secret", ("key_abc123\0def456", "api_key")),
    ("surrogate in a secret", ("key_abc123\ud800def456", "api_key")),
    # Debris of broken front ends, under any type.
    *((f"debris {word}", word) for word in (
        "null", "NULL", "undefined", "Undefined", " undefined ", "NaN", "Infinity", "-Infinity", "(null)", "<nil>",
        "[object Object]", "[object object]", "[object Undefined]", "[object Object],[object Object]",
        "[object Promise]", '"null"', "'undefined'", "`null`", '\\"null\\"', "“null”", "''", "{}", "[]",
        "{{user_id}}", "{{ user.id }}", "slack-{{user_id}}", "${user_id}", "${{ secrets.USER }}", "<%= user.id %>",
        "<User object at 0x7f8e4c0b5d30>", "<built-in function id>", "00000000-0000-0000-0000-000000000000",
    )),
    *((f"debris {word}, typed", (word, "slack")) for word in ("null", "undefined", "NaN", "{{user_id}}", '"null"')),
    ("debris as an address", ("undefined", "email")),
    ("debris as a phone number", ("null", "phone")),
    ("debris as a secret", ("undefined", "api_key")),
    ("template as a secret", ("${API_KEY_OF_USER}", "api_key")),
    # What could be anybody, where no type says whose login it is.
    *((f"reserved {word!r}", word) for word in (
        "guest", "Guest", "GUEST", "'guest'", "none", "None", "nil", "true", "True", "false", "0", 0, "-1", -1, "n/a",
        "unknown", "anonymous", "default", "user", "user_id", "nobody", "string", "-",
    )),
    ("reserved in a pair", ("guest", None)),
    ("reserved in a dict", {"identifier": "guest"}),
    # What looks like a public id.
    ("public id without an id", "usr_"),
    ("public id with a space", "usr_a b"),
    ("public id with an accent", "usr_é"),
    ("public id with bidi", "usr_\u202e"),
    ("public id with NUL", "usr_alice\0"),
    ("public id with a slash", "usr_../admin"),
    ("public id with SQL", "usr_' OR 1=1 --"),
    ("public id with a line", "usr_alice\nusr_bob"),
    ("public id with look-alike digits", "usr_\uff11"),
    ("public id of 65", "usr_" + "a" * 65),
    ("public id, an address", "usr_alice@example.com"),
    ("public id in an untyped pair", ("usr_alice", None)),
    ("public id in an untyped dict", {"identifier": "usr_alice"}),
    ("public id as a secret", ("usr_alice_0123456789", "api_key")),
    # What is not of its type.
    *((f"no address {text!r}", (text, "email")) for text in (
        "alice", "@example.com", "alice@", "alice@@example.com", "alice@exa mple.com", '"alice b"@example.com',
        "alice@[127.0.0.1]", "Alice <alice@example.com>", "alice@example..com", "alice@-example.com",
        "a" * 250 + "@example.com", "alice@" + "a" * 64 + ".com", "alice@xn--\u00e9.com", "alice@ab--cd.com",
        12345,
    )),
    *((f"no phone number {text!r}", (text, "phone")) for text in (
        "+", "+1", "020 7946 0958", "442079460958", "+44 (0)20 7946 0958", "+44 20 7946 0958 ext. 7",
        "+44 20 CALL ME", "+999 20 7946 0958", "+" + "4" * 500, "++442079460958", "+\u0664\u0664 20 7946 0958",
        442079460958,
    )),
    ("secret too short", ("key_abc", "api_key")),
    ("secret an address", ("alice@example.com", "api_key")),
    ("secret a phone number", ("+44 20 7946 0958", "api_key")),
]  # fmt: skip

HOSTILE: list[tuple[str, object, type[Exception]]] = [(name, given, InvalidIdentifierError) for name, given in _GIVEN]

VALID_BUT_ODD: list[tuple[str, str]] = [
    ("SQL", "Robert'); DROP TABLE users;--"),
    ("SQL in an expression", "' OR '1'='1"),
    ("SQL comment", "admin'/*"),
    ("LIKE wildcards", "%_%"),
    ("placeholders", ":identifier $1 ? %s %(name)s"),
    ("markup", "<script>alert(1)</script>"),
    ("path", "../../etc/passwd"),
    ("Windows path", "C:\\Users\\alice"),
    ("address", "https://idp.example/users/7?tenant=1#me"),
    ("distinguished name", "CN=Alice Smith,OU=Users,DC=corp,DC=example"),
    ("issuer and subject", "auth0|507f1f77bcf86cd799439011"),
    ("matrix", "@alice:example.org"),
    ("UUID", "507f1f77-bcf8-6cd7-9943-9011507f1f77"),
    ("capital public id", "USR_ALICE"),
    ("public id later", "my_usr_alice"),
    ("number", "12345"),
    ("negative number", "-1001234567890"),
    ("leading zeros", "007"),
    ("float", "1e309"),
    ("one character", "x"),
    ("512 characters", "a" * 512),
    ("a name that starts like debris", "nullable"),
    ("a name that holds debris", "undefined behaviour"),
    ("login with a reserved word", "guest7"),
    ("Cyrillic look-alike", "аlice"),
    ("Chinese", "王小明"),
    ("Arabic", "أليس"),
    ("Hebrew", "אליס"),
    ("Devanagari", "ऐलिस"),
    ("emoji", "🦊"),
    ("emoji with a skin", "👍🏽"),
    ("interior spaces", "Alice  B.  Smith"),
    ("Turkish", "İstanbul ığdır"),
    ("sharp s", "Straße"),
    ("full-width", "ＡＬＩＣＥ"),
    ("full-width at-sign", "alice＠example.com"),
    ("two at-signs", "alice@home@work"),
    ("plus", "+alice"),
    ("braces", "{alice}"),
    ("shell", "$(rm -rf ~) `id` && true | cat"),
    ("JSON", '{"identifier": "alice"}'),
    ("JSON array", '["alice"]'),
    ("format", "{0} {name!r}"),
    ("quoted", '"alice"'),
    ("backslashes", "\\\\server\\alice"),
]
