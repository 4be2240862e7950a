from __future__ import annotations

import builtins
import copy
import dataclasses
import enum
import sys
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import email_validator
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.hostile import HOSTILE, MEGABYTE, VALID_BUT_ODD

from muxi_identity import identifiers as module
from muxi_identity import refusals
from muxi_identity.errors import ConfigurationError, InvalidIdentifierError, InvalidRequestError
from muxi_identity.identifiers import (
    BUILT_IN_TYPES,
    DEFAULT_RULES,
    Identifier,
    IdentifierRules,
    PublicId,
    TypeRule,
    fold,
    hint,
    normalise,
    parse_identifier,
    parse_reference,
    same_value,
)

SECRET = "key_7Hq2mZx9Lw4Tn8Rb5Vc1"  # 24 characters


def refusal(given: object, *arguments: Any, **keywords: Any) -> InvalidIdentifierError:
    with pytest.raises(InvalidIdentifierError) as caught:
        parse_reference(given, *arguments, **keywords)
    return caught.value


def reason(given: object, *arguments: Any, **keywords: Any) -> str:
    return str(refusal(given, *arguments, **keywords).reason)


# --- the tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error"), [row[1:] for row in HOSTILE], ids=[f"{i}-{row[0][:40]}" for i, row in enumerate(HOSTILE)]
)
def test_hostile_is_refused(given: object, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_reference(given)
    fault = caught.value
    assert isinstance(fault, InvalidRequestError)
    assert fault.code == "INVALID_IDENTIFIER"
    assert fault.reason.replace("_", "").isalpha()
    assert fault.reason == fault.reason.lower()
    # Fit for a terminal and a log line, whatever was given.
    assert str(fault).isascii()
    assert str(fault).isprintable()
    assert len(str(fault)) < 500
    assert fault.__suppress_context__


@pytest.mark.parametrize(
    "given", [row[1] for row in HOSTILE if isinstance(row[1], tuple) and row[1][1:] == ("api_key",)]
)
def test_no_message_holds_a_secret(given: tuple[object, str]) -> None:
    fault = refusal(given)
    secret = str(given[0])
    assert all(secret[i : i + 6] not in repr(fault.args) for i in range(len(secret) - 6 if len(secret) < 100 else 1))
    assert secret not in str(fault)


def test_the_tables_are_large_and_their_names_unique() -> None:
    assert len(HOSTILE) >= 80
    assert len(VALID_BUT_ODD) >= 20
    assert len({name for name, _, _ in HOSTILE}) == len(HOSTILE)
    assert len({name for name, _ in VALID_BUT_ODD}) == len(VALID_BUT_ODD)


@pytest.mark.parametrize("given", [row[1] for row in VALID_BUT_ODD], ids=[row[0] for row in VALID_BUT_ODD])
def test_valid_but_odd_round_trips(given: str) -> None:
    untyped = parse_reference(given)
    typed = parse_reference((given, "internal"))
    assert isinstance(untyped, Identifier)
    assert isinstance(typed, Identifier)
    assert untyped.spelling == untyped.value == untyped.shown == given
    assert untyped.type is None
    assert typed.value == given
    assert typed.fold == untyped.fold
    assert same_value(given, "internal", typed.value)


@pytest.mark.parametrize(
    "given",
    [
        "a" * MEGABYTE,
        " " * MEGABYTE,
        "é" * MEGABYTE,
        "usr_" * MEGABYTE,
        ("k" * MEGABYTE, "api_key"),
        ("a" * MEGABYTE, "email"),
        10**100_000,
    ],
    ids=["ascii", "spaces", "accents", "public id", "secret", "e-mail", "number"],
)
def test_a_megabyte_is_refused_without_being_walked(given: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def walked(*_: object) -> str:
        raise AssertionError("the length comes first")

    monkeypatch.setattr(refusals, "normalize", walked)
    monkeypatch.setattr(refusals, "category", walked)
    monkeypatch.setattr(module, "validate_email", walked)
    assert reason(given) in {"too_long", "not_a_public_id"}


# --- the three forms --------------------------------------------------------------------------------------------------


def test_three_forms_are_one() -> None:
    expected = Identifier("U98765ABC", "U98765ABC", "U98765ABC", "slack")
    assert parse_identifier(("U98765ABC", "slack")) == expected
    assert parse_identifier(["U98765ABC", "slack"]) == expected
    assert parse_identifier({"identifier": "U98765ABC", "type": "slack"}) == expected
    assert parse_identifier("U98765ABC", type="slack") == expected
    untyped = Identifier("U98765ABC", "U98765ABC", "U98765ABC", guessed=True)
    assert parse_identifier("U98765ABC") == untyped
    assert parse_identifier(("U98765ABC", None)) == untyped
    assert parse_identifier({"identifier": "U98765ABC"}) == untyped
    assert parse_identifier({"identifier": "U98765ABC", "type": None, "scope": None}) == untyped


def test_attributes() -> None:
    metadata = {"plan": "pro", "tags": ["a", {"b": None}], "n": 1.5}
    found = parse_identifier(
        {
            "identifier": " U1 ",
            "type": " Slack ",
            "scope": " T1 ",
            "verified": True,
            "expires_at": "2030-01-31T12:00:00+02:00",
            "metadata": metadata,
        }
    )
    assert (found.spelling, found.type, found.scope, found.verified) == ("U1", "slack", "T1", True)
    assert found.expires_at == datetime(2030, 1, 31, 10, tzinfo=UTC)
    assert found.expires_at is not None
    assert found.expires_at.tzinfo is UTC
    assert found.metadata == metadata
    metadata["tags"].append("later")  # type: ignore[attr-defined]
    assert found.metadata["tags"] == ["a", {"b": None}]
    assert hash(found) == hash(found._replace(metadata=None))


@pytest.mark.parametrize(
    "given",
    [
        "2030-01-31T12:00:00Z",
        " 2030-01-31T12:00:00z ".upper(),
        "2030-01-31T13:00:00+01:00",
        datetime(2030, 1, 31, 12, tzinfo=UTC),
        datetime(2030, 1, 31, 7, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_expiry_is_kept_in_utc(given: object) -> None:
    found = parse_identifier({"identifier": "x7", "expires_at": given})
    assert found.expires_at == datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert str(found.expires_at) == "2030-01-31 12:00:00+00:00"


def test_metadata_has_its_bounds() -> None:
    def parsed(metadata: object) -> object:
        return parse_identifier({"identifier": "x7", "metadata": metadata}).metadata

    assert parsed({}) == {}
    assert parsed(None) is None
    assert parsed({"a": "x" * (4096 - len('{"a":""}'))}) is not None
    assert reason({"identifier": "x7", "metadata": {"a": "x" * (4097 - len('{"a":""}'))}}) == "bad_metadata"
    assert parsed({"pair": (1, 2)}) == {"pair": [1, 2]}


def test_unknown_and_missing_keys_are_named() -> None:
    assert "'expires'" in str(refusal({"identifier": "x7", "expires": "2030"}))
    assert '"identifier"' in str(refusal({"type": "slack"}))
    assert reason({"type": "slack"}) == reason({"identifier": "x7", "expires": 1}) == "wrong_shape"


@pytest.mark.parametrize("number", [1, 12345, -1001234567890, 2**63, 10**511])
def test_integers_are_their_decimal_text(number: int) -> None:
    text = str(number)
    for form in (number, (number, "telegram"), [number, "telegram"], {"identifier": number}):
        assert parse_identifier(form).value == text
    assert parse_identifier(number) == parse_identifier(text)


def test_huge_integers_do_not_depend_on_the_interpreters_limit() -> None:
    before = sys.get_int_max_str_digits()
    try:
        for limit in (640, 0):
            sys.set_int_max_str_digits(limit)
            assert reason(10**512) == reason(10**100_000) == reason(-(10**100_000)) == "too_long"
            assert len(parse_identifier(10**511).value) == 512
    finally:
        sys.set_int_max_str_digits(before)


def test_subclasses_become_plain() -> None:
    class Kind(str, enum.Enum):  # noqa: UP042 -- StrEnum answers str() with its value
        SLACK = "slack"
        NAME = "U98765ABC"

    class Sly(str):
        __slots__ = ()

        def strip(self, *_: object) -> str:  # type: ignore[override]
            return "usr_admin"

        def __str__(self) -> str:
            return "usr_admin"

    class Number(enum.IntEnum):
        SEVEN = 77

    found = parse_identifier((Kind.NAME, Kind.SLACK))
    assert found == Identifier("U98765ABC", "U98765ABC", "U98765ABC", "slack")
    for text in (found.spelling, found.value, found.fold, found.type):
        assert type(text) is str
    sly = parse_reference(Sly("alice"))
    assert isinstance(sly, Identifier)
    assert sly.spelling == "alice"
    assert type(sly.spelling) is str
    assert parse_identifier(Number.SEVEN).value == "77"


# --- channels and public ids ------------------------------------------------------------------------------------------


def test_a_channel_types_bare_values_only() -> None:
    bare = parse_reference("U1", type="slack", scope="T1")
    assert isinstance(bare, Identifier)
    assert (bare.type, bare.scope, bare.guessed) == ("slack", "T1", False)
    number = parse_identifier(77, type="telegram")
    assert (number.type, number.value) == ("telegram", "77")
    pair = parse_identifier(("octocat", "github"), type="slack", scope="T1")
    assert (pair.type, pair.scope) == ("github", None)
    untyped = parse_identifier({"identifier": "U1"}, type="slack", scope="T1")
    assert (untyped.type, untyped.scope, untyped.guessed) == (None, None, True)
    address = parse_identifier("Alice@Example.com", type="slack")
    assert (address.type, address.value, address.fold) == ("slack", "Alice@Example.com", "alice@example.com")
    assert reason("U1", scope="T1") == "wrong_shape"


@pytest.mark.parametrize("text", ["usr_alice", " usr_alice\n", "usr_a", "usr_" + "Z9-_" * 16, "usr_doesnotexist"])
def test_a_bare_public_id(text: str) -> None:
    assert parse_reference(text) == PublicId(text.strip())
    assert parse_reference(text, type="slack", scope="T1") == PublicId(text.strip())
    for keywords in ({}, {"type": "slack"}):
        with pytest.raises(InvalidIdentifierError) as caught:
            parse_identifier(text, **keywords)  # type: ignore[arg-type]
        assert caught.value.reason == "public_id"
    assert parse_identifier((text, "internal")).value == text.strip()


def test_only_lower_case_usr_is_a_public_id() -> None:
    found = parse_reference("USR_alice")
    assert isinstance(found, Identifier)
    assert found.value == "USR_alice"
    assert reason("usr_") == reason("usr_a b", type="slack") == "not_a_public_id"


# --- normal forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("alice@example.com", "alice@example.com"),
        (" Alice.B+Tag@Gmail.COM ", "alice.b+tag@gmail.com"),
        ("root@localhost", "root@localhost"),
        ("alice@corp.local", "alice@corp.local"),
        ("älice@corp.LOCAL", "älice@corp.local"),
        ("alice@bücher.test", "alice@xn--bcher-kva.test"),
        ("alice@BÜCHER.example", "alice@xn--bcher-kva.example"),
        ("alice@XN--BCHER-KVA.example", "alice@xn--bcher-kva.example"),
        ("alice@bu\u0308cher.example", "alice@xn--bcher-kva.example"),
        ("re\u0301ne\u0301@example.com", "réné@example.com"),
        ("RÉNÉ@example.com", "réné@example.com"),
        ("\u212bke@example.com", "åke@example.com"),
        ("a@ｅｘａｍｐｌｅ。com", "a@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("a" * 64 + "b@example.com", "a" * 64 + "b@example.com"),
    ],
)
def test_an_untyped_address_is_typed_email(given: str, value: str) -> None:
    untyped, typed = parse_identifier(given), parse_identifier((given, "email"))
    assert (untyped.type, untyped.value, untyped.fold) == ("email", value, value)
    assert (untyped.guessed, typed.guessed) == (True, False)
    assert untyped._replace(guessed=False) == typed
    assert untyped.spelling == given.strip()
    assert same_value(given, "email", value)
    assert fold(given) == value


def test_gmail_is_not_folded() -> None:
    values = {parse_identifier(text).value for text in ("a.b@gmail.com", "ab@gmail.com", "ab+x@gmail.com")}
    assert len(values) == 3


@pytest.mark.parametrize("text", ["alice", "@alice", "alice@", "alice@home@work", '"a b"@example.com', "a@[::1]"])
def test_nothing_else_is_guessed(text: str) -> None:
    found = parse_identifier(text)
    assert (found.type, found.value, found.fold) == (None, text, text)


def test_the_hosts_options_of_the_validator_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALLOW_QUOTED_LOCAL", "ALLOW_DOMAIN_LITERAL", "ALLOW_DISPLAY_NAME", "STRICT", "GLOBALLY_DELIVERABLE"):
        monkeypatch.setattr(email_validator, name, True)
    monkeypatch.setattr(email_validator, "SPECIAL_USE_DOMAIN_NAMES", ["example"])
    assert parse_identifier("älice@bücher.example").value == "älice@xn--bcher-kva.example"
    assert parse_identifier("ä" * 65 + "@example").type == "email"
    assert reason(('"a b"@example.com', "email")) == reason(("a@[127.0.0.1]", "email")) == "not_an_email"


@pytest.mark.parametrize(
    "given",
    [
        "+442079460958",
        "+44 20 7946 0958",
        "+44-20-7946-0958",
        "+44 (20) 7946/0958",
        "+44\u00a020\u20117946.0958",
        " +44\u201320\u22127946\u202f0958 ",
    ],
)
def test_phone_numbers(given: str) -> None:
    typed = parse_identifier((given, "phone"))
    assert typed.value == typed.fold == fold(given) == "+442079460958"
    assert typed.spelling == given.strip()
    untyped = parse_identifier(given)
    assert (untyped.type, untyped.value, untyped.fold) == (None, given.strip(), typed.fold)
    assert same_value(given, "phone", typed.value)


def test_a_trunk_zero_is_refused_with_the_mend() -> None:
    fault = refusal(("+44 (0)20 7946 0958", "phone"))
    assert "+442079460958" in str(fault)
    assert fault.reason == "not_a_phone"
    assert parse_identifier(("+39 06 1234 5678", "phone")).value == "+390612345678"


def test_without_the_phone_library(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def missing(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "phonenumbers":
            raise ImportError(name)
        return genuine(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"muxi-identity\[phone\]"):
        parse_identifier(("+442079460958", "phone"))
    # What is stored can still be found by its spelling.
    assert fold("+44 20 7946 0958") == "+442079460958"
    assert same_value("+44 20 7946 0958", "phone", "+442079460958")
    assert not same_value("alice", "phone", "+442079460958")
    assert parse_identifier("+44 20 7946 0958").type is None


def test_same_value_is_false_for_what_is_not_of_the_type() -> None:
    assert same_value("U1", "slack", "U1")
    assert not same_value("u1", "slack", "U1")
    assert not same_value("alice", "email", "alice")
    assert not same_value("020 7946", "phone", "+442079460958")
    assert not same_value("", None, "")
    assert not same_value("a" * 513, None, "a" * 513)
    assert not same_value("ali\u200bce", None, "ali\u200bce")


def test_case_and_accents_of_opaque_values() -> None:
    assert parse_identifier("U98765abc").value != parse_identifier("U98765ABC").value
    assert parse_identifier("U98765abc").fold != parse_identifier("U98765ABC").fold
    composed, loose = parse_identifier("réné"), parse_identifier("re\u0301ne\u0301")
    assert composed.value == loose.value == loose.fold
    assert loose.spelling == "re\u0301ne\u0301"


# --- characters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "slug", "named"),
    [
        ("a\0b", "control_character", "U+0000 at position 1"),
        ("a\nb", "control_character", "U+000A"),
        ("a\u202eb", "bidi_character", "U+202E"),
        ("a\u200bb", "invisible_character", "U+200B"),
        ("❤\ufe0f", "invisible_character", "U+FE0F"),
        ("a\u2028b", "line_separator", "U+2028"),
        ("a\ud800b", "surrogate", "U+D800"),
        ("a\ue000b", "private_use_character", "U+E000"),
        ("a\ufdd0b", "unassigned_character", "U+FDD0"),
        ("a\ufffdb", "undecodable", "U+FFFD"),
        ("", "empty", ""),
        ("a" * 513, "too_long", "513"),
    ],
)
def test_character_refusals_say_which(text: str, slug: str, named: str) -> None:
    for form in (text, (text, "slack"), {"identifier": text}):
        fault = refusal(form)
        assert fault.reason == slug
        assert named in str(fault)


def test_no_refused_category_gets_through() -> None:
    refused = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    wrong = []
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        fault = refusals.fault_of(character)
        if unicodedata.category(character) in refused and fault is None:
            wrong.append(code)
        # Composing cannot bring back what was refused.
        if fault is None and any(refusals.fault_of(c) for c in unicodedata.normalize("NFC", character)):
            wrong.append(code)
    assert wrong == []


def test_messages_quote_at_most_64_characters() -> None:
    fault = refusal(("€" * 65 + "x" * 100, "email"))
    assert str(fault).count("\\u20ac") == 64
    assert "xx" not in str(fault)
    assert refusals.quote("\u202e\0'") == ascii("\u202e\0'")
    # What is too long or holds odd characters may be a secret in the wrong place.
    for text in (SECRET + "\0", SECRET * 30, (SECRET + "\u200b", "slack")):
        assert "7Hq2" not in str(refusal(text))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", sorted(refusals._RESERVED))
def test_reserved_words_are_logins_when_typed(word: str) -> None:
    assert reason(word) == reason(word.upper()) == reason(f" '{word}' ") == "reserved_word"
    assert parse_identifier((word, "github")).value == word
    assert parse_identifier(word, type="github").value == word


@pytest.mark.parametrize("word", sorted(refusals._DEBRIS))
def test_debris_is_refused_under_every_type(word: str) -> None:
    for kind in (None, *BUILT_IN_TYPES, "crm"):
        assert reason((word, kind)) == "debris"
        assert reason((f'"{word.upper()}"', kind)) == "debris"


def test_a_formations_own_words() -> None:
    rules = IdentifierRules(
        refuse=frozenset({"Kiosk", " shared@bücher.example ", "+44 20 7946 0958", "none"}),
        allow=frozenset({"NULL", "guest", "none", "{{user}}"}),
    )
    for text in (
        "kiosk",
        " KIOSK ",
        ("Kiosk", "slack"),
        "Shared@XN--bcher-kva.example",
        ("+44-20-7946-0958", "phone"),
        "none",
    ):
        assert reason(text, rules) == "refused_word"
    for text in ("null", ("Null", "slack"), "guest", "{{user}}"):
        assert isinstance(parse_reference(text, rules), Identifier)
    assert reason("undefined", rules) == "debris"
    assert reason("0", rules) == "reserved_word"
    assert dataclasses.replace(rules, max_per_user=5).refuse == rules.refuse
    assert isinstance(parse_reference("kiosk"), Identifier)


def test_rules() -> None:
    assert set(BUILT_IN_TYPES) == {
        "email", "slack", "github", "telegram", "discord", "phone", "api_key", "internal", "anonymous",
    }  # fmt: skip
    assert [name for name, rule in BUILT_IN_TYPES.items() if rule.secret] == ["api_key"]
    assert DEFAULT_RULES.types is BUILT_IN_TYPES
    assert DEFAULT_RULES.max_per_user == 100
    assert DEFAULT_RULES.rule("api_key") == TypeRule(secret=True)
    assert DEFAULT_RULES.rule(None) == DEFAULT_RULES.rule("crm") == TypeRule()
    own = IdentifierRules(types={**BUILT_IN_TYPES, "crm": TypeRule(max_per_user=1)})
    assert own.rule("crm").max_per_user == 1


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_leaves_no_trace_but_the_fold() -> None:
    found = parse_identifier({"identifier": f" {SECRET} ", "type": "api_key", "scope": "Prod"})
    assert (found.spelling, found.shown, found.value) == ("key_...c1", "key_...c1", "")
    assert found.secret
    assert (found.type, found.scope, found.guessed) == ("api_key", "Prod", False)
    assert found.fold == fold(SECRET) == SECRET
    assert "7Hq2mZx9" not in repr(found) + str(found) + repr([found])
    clear = {name for name in Identifier._fields if SECRET[6:20] in str(getattr(found, name))}
    assert clear == {"fold"}
    assert copy.deepcopy(found) == found


def test_a_secret_resolves_typed_or_bare() -> None:
    bare, typed = parse_identifier(SECRET), parse_identifier((SECRET, "api_key"))
    assert bare.fold == typed.fold
    assert (bare.type, bare.secret) == (None, False)


def test_a_pair_the_wrong_way_round_tells_no_secret() -> None:
    for secret in (SECRET, SECRET * 3, SECRET + "+/="):
        assert SECRET[4:10].lower() not in str(refusal(("api_key", secret))).lower()
    assert parse_identifier(("api_key", "github")).value == "api_key"


def test_any_type_can_be_declared_secret() -> None:
    rules = IdentifierRules(types={**BUILT_IN_TYPES, "session_token": TypeRule(secret=True)})
    token = "t" * 4000 + "é" * 2000
    found = parse_identifier((token, "session_token"), rules)
    assert (found.secret, found.value, found.fold) == (True, "", token)
    assert reason((token + "é" * 100, "session_token"), rules) == "too_long"
    assert reason((token, "slack"), rules) == "too_long"


def test_what_is_no_secret() -> None:
    for text in ("alice@example.com", "älice@bücher.local", "+44 20 7946 0958", "usr_0123456789", "usr_not an id"):
        assert reason((text, "api_key")) == "not_a_secret"
    assert reason(("1234567", "api_key")) == "secret_too_short"
    assert parse_identifier(("12345678", "api_key")).shown == "..."
    assert (
        reason(("kiosk-password", "api_key"), IdentifierRules(refuse=frozenset({"Kiosk-Password"}))) == "refused_word"
    )


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("", "..."),
        ("k" * 15, "..."),
        ("abcdefghijklmnop", "ab...op"),
        ("key_" + "x" * 24 + "c123", "key_...c123"),
        ("github_" + "x" * 40 + "wxyz", "github_...wxyz"),
        ("sk-" + "x" * 24 + "wxyz", "sk-...wxyz"),
        ("averylongprefix_" + "x" * 24 + "wxyz", "aver...wxyz"),
    ],
)
def test_hints(secret: str, shown: str) -> None:
    assert hint(secret) == shown


@given(st.text(st.characters(exclude_characters="."), max_size=200))
def test_a_hint_shows_at_most_a_quarter(secret: str) -> None:
    front, back = hint(secret).split("...")
    assert secret.startswith(front)
    assert secret.endswith(back)
    assert len(front + back) <= len(secret) // 4
    assert len(front) <= 4 or (len(front) <= 8 and front[-1] in "_-" and len(secret) >= 24)
    assert len(back) <= 4
    assert bool(front + back) is (len(secret) >= 16)


# --- properties -------------------------------------------------------------------------------------------------------

TYPES = st.sampled_from(
    [None, "email", "slack", "github", "telegram", "discord", "phone", "internal", "anonymous", "crm"]
)
_ATOMS = st.text("abzABZ09.+_-'éÉßẞİıΣσςÅ\u0301\u212b🦊", min_size=1, max_size=12)
_DOMAINS = st.sampled_from(
    ["example.com", "EXAMPLE.com", "corp.local", "localhost", "bücher.example", "BÜCHER.example", "test", "ａ。test",
     "xn--bcher-kva.example", "XN--BCHER-KVA.Example", "bu\u0308cher.example", "straße.de", "ΑΣ.gr", "אב.com", "İ.tr"]
)  # fmt: skip
ADDRESSES = st.builds("{}@{}".format, _ATOMS, _DOMAINS)
PHONES = st.builds(
    lambda lead, parts, gap: "+" + lead + gap.join(parts),
    st.sampled_from(["44", "44 ", "(44)", "1-", "39 0", "49", "33", "7", "86", "55"]),
    st.lists(st.text("0123456789", min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from(["", " ", "-", ".", "/", "\u00a0", "\u2011", "\u2013", ")"]),
)
SPELLINGS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text("aAbB09@+-. \u00a0\u2000\u0301\u0327éÅ\u212bﬁ가ᄀ\u1161", min_size=1, max_size=20),
    ADDRESSES,
    PHONES,
)


def parsed(spelling: str, kind: str | None) -> Identifier:
    """Parse, or leave the example out where the spelling is refused."""
    try:
        return parse_identifier((spelling, kind))
    except InvalidIdentifierError:
        assume(False)
        raise


def bare_identifier(spelling: str) -> Identifier | None:
    """Parse without a type; None for the only two kinds that need one."""
    try:
        return parse_identifier(spelling)
    except InvalidIdentifierError as fault:
        if fault.reason in {"reserved_word", "public_id"}:
            return None
        raise


@settings(max_examples=400)
@given(SPELLINGS, TYPES)
@example("İ@example.com", "email")
@example("A@BÜCHER.local", None)
@example("\u1e9b\u0323", "slack")
@example("+44 20 7946 0958", "phone")
@example("+1 2", "slack")
def test_every_spelling_meets_in_one_bucket(spelling: str, kind: str | None) -> None:
    found = parsed(spelling, kind)
    value = normalise(spelling, kind)
    assert found.value == normalise(spelling, found.type)
    assert normalise(value, kind) == value
    assert found.fold == fold(spelling) == fold(value) == fold(found.value) == fold(found.spelling)
    assert fold(found.fold) == found.fold
    assert same_value(found.spelling, found.type, found.value)
    for text in (found.value, found.fold):
        assert unicodedata.is_normalized("NFC", text)
    # What was linked is found again by what lists show, and by its normal form; typed or not.
    for again in (found.spelling, found.value):
        assert parse_identifier((again, found.type)).value == found.value
        bare = bare_identifier(again)
        assert bare is None or bare.fold == found.fold
        assert bare is None or same_value(bare.spelling, found.type, found.value)


@given(st.text())
def test_fold_never_raises_and_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text("abcXYZ019_-.:|#/", min_size=1, max_size=40), st.sampled_from(["slack", "github", "internal", "crm"]))
def test_case_of_opaque_values_is_kept(text: str, kind: str) -> None:
    found = parsed(text, kind)
    assert found.value == found.fold == found.spelling == text
    swapped = text.swapcase()
    assert (normalise(swapped, kind) == found.value) is (swapped == text)


@given(st.text("abzABZ09.+_-", min_size=1, max_size=12), _DOMAINS)
@example("Alice", "EXAMPLE.com")
def test_addresses_are_equal_in_every_case(local: str, domain: str) -> None:
    found = parsed(f"{local}@{domain}", "email")
    for spelling in (
        f"{local.upper()}@{domain}",
        f"{local.swapcase()}@{domain}",
        f"{local}@{found.value.split('@')[1]}",
    ):
        assert parse_identifier(spelling).value == found.value


@settings(max_examples=300)
@given(
    st.one_of(
        st.builds(
            "{}@{}".format,
            st.text("aZ0.!#+_-'\"<> ", max_size=8),
            st.text("aZx0n.-_", max_size=12),
        ),
        st.builds("a@{}".format, st.lists(st.text("ax0-", max_size=64), max_size=5).map(".".join)),
        st.emails(),
    )
)
@example("a@xn--a")
@example("a@ab--c.com")
@example("a@" + "b" * 63)
@example("a@" + "b" * 64)
@example("a" * 248 + "@b.com")
@example("a" * 249 + "@b.com")
def test_the_quick_way_to_an_address_agrees_with_the_validator(text: str) -> None:
    lowered = text.lower()
    assume(text.isascii() and len(text) <= 254 and text.count("@") == 1)
    if module._PLAIN_EMAIL.fullmatch(lowered):
        assert module._validated(text) == lowered
    else:
        # What it leaves to the validator are Punycode labels, and what is refused.
        try:
            module._validated(text)
        except email_validator.EmailNotValidError:
            return
        assert "xn--" in lowered


@settings(max_examples=300)
@given(
    st.one_of(
        st.text("aB1.+-_@ '{<\u212a", max_size=40),
        st.builds(
            "{}@{}.com".format, st.sampled_from(["null", "usr_x", "USR_x", "{{user}}", "guest"]), st.text("aB-.")
        ),
        st.emails(),
    )
)
@example(" alice@email.com ")
@example("Alice+tag@email.com")
@example("usr_alice@email.com")
@example("\u212aate@email.com")
@example("[object Object]@email.com")
@example("a" * 249 + "@b.com")
def test_the_quickest_way_to_an_address_agrees_with_the_long_one(text: str) -> None:
    # With words of its own, even one that nobody sends, a formation goes the long way.
    long_way = parse_or_refuse(text, IdentifierRules(refuse=frozenset({"a word that nobody sends"})))
    assert parse_or_refuse(text, IdentifierRules()) == long_way
    if (plainest := module._plainest_email(text)) is not None:
        assert isinstance(long_way, Identifier)
        assert long_way.value == long_way.fold == plainest


def parse_or_refuse(text: str, rules: IdentifierRules) -> Identifier | str:
    try:
        return parse_identifier(text, rules)
    except InvalidIdentifierError as fault:
        return fault.reason


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
)


@given(JSON_LIKE)
def test_any_object_is_parsed_or_refused(thing: object) -> None:
    for form in (
        thing,
        (thing, "slack"),
        ("x7", thing),
        {"identifier": thing},
        {"identifier": "x7", "metadata": thing},
        {"identifier": "x7", "type": "slack", "scope": thing},
        {"identifier": "x7", "expires_at": thing},
    ):
        try:
            found = parse_reference(form)
        except InvalidIdentifierError as fault:
            message = str(fault)
        else:
            message = repr(found)
            assert isinstance(found, Identifier | PublicId)
        assert len(message) < 10_000
