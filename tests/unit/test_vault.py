"""The vault: what it encrypts opens in its own place, with its own key and unchanged, and nowhere else."""

from __future__ import annotations

import copy
import json
import pickle
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxi_identity.context.credentials.concealed import MAX_BYTES, Concealed, conceal
from muxi_identity.context.credentials.vault import Place, Vault, key_id_of
from muxi_identity.errors import CredentialUnreadableError, InvalidRequestError, TooLargeError
from muxi_identity.secret import Secret

KEY, OTHER = Secret("k" * 32), Secret("o" * 32)
PLACE = Place("cred_1", "github", "default")
VAULT = Vault([KEY], "default")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def closed(vault: Vault, place: Place, key_id: str, sealed: bytes) -> CredentialUnreadableError:
    with pytest.raises(CredentialUnreadableError) as caught:
        vault.open(place, key_id, sealed)
    return caught.value


@given(TEXTS)
def test_what_is_sealed_is_opened(text: str) -> None:
    sealed = VAULT.seal(PLACE, Secret(text))
    assert VAULT.open(PLACE, VAULT.key_id, sealed).reveal() == text
    assert len(text) < 4 or text.encode() not in sealed


@given(TEXTS, st.data())
def test_a_change_of_any_byte_closes_it(text: str, data: st.DataObject) -> None:
    sealed = bytearray(VAULT.seal(PLACE, Secret(text)))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    error = closed(VAULT, PLACE, VAULT.key_id, bytes(sealed))
    assert (error.key_id, error.credential_id) == (VAULT.key_id, "cred_1")
    assert len(text) < 4 or text not in str(error)


def test_every_byte_counts() -> None:
    sealed = VAULT.seal(PLACE, Secret("ghp_secret"))
    for at in range(len(sealed)):
        changed = bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]])
        closed(VAULT, PLACE, VAULT.key_id, changed)
    for size in range(len(sealed)):
        closed(VAULT, PLACE, VAULT.key_id, sealed[:size])
    closed(VAULT, PLACE, VAULT.key_id, sealed + b"\0")


@pytest.mark.parametrize(
    "place",
    [
        Place("cred_2", "github", "default"),
        Place("cred_1", "gitlab", "default"),
        Place("cred_1", "github", "work"),
        Place("cred_1", "githubd", "efault"),
    ],
)
def test_it_opens_in_no_other_place(place: Place) -> None:
    closed(VAULT, place, VAULT.key_id, VAULT.seal(PLACE, Secret("text")))


def test_it_opens_in_no_other_formation() -> None:
    other = Vault([KEY], "other")
    assert other.key_id == VAULT.key_id
    closed(other, PLACE, VAULT.key_id, VAULT.seal(PLACE, Secret("text")))


def test_no_other_key_opens_it() -> None:
    other = Vault([OTHER], "default")
    sealed = VAULT.seal(PLACE, Secret("text"))
    missing = closed(other, PLACE, VAULT.key_id, sealed)
    assert missing.key_id == VAULT.key_id
    assert "MUXI_CREDENTIAL_KEYS" in str(missing)
    assert VAULT.key_id in str(missing)
    closed(other, PLACE, other.key_id, sealed)  # not even where the row claims that it does


def test_the_newest_key_encrypts_and_all_decrypt() -> None:
    both = Vault([OTHER, KEY], "default")
    assert both.key_id == Vault([OTHER], "default").key_id != VAULT.key_id
    assert both.open(PLACE, VAULT.key_id, VAULT.seal(PLACE, Secret("old"))).reveal() == "old"
    assert Vault([OTHER], "default").open(PLACE, both.key_id, both.seal(PLACE, Secret("new"))).reveal() == "new"
    assert both.has(VAULT.key_id)
    assert not VAULT.has(both.key_id)


def test_the_same_twice_looks_different() -> None:
    assert len({VAULT.seal(PLACE, Secret("text")) for _ in range(50)}) == 50
    assert len({VAULT.seal(PLACE, Secret("text"))[1:13] for _ in range(50)}) == 50


def test_what_names_a_key_is_stable_and_tells_nothing_of_it() -> None:
    assert key_id_of(KEY) == "46582ebf8e76"  # it stands in databases
    assert key_id_of(KEY) == key_id_of(Secret("k" * 32)) != key_id_of(OTHER)


# Wrapping


SECRET = "swordfish-" + secrets.token_hex(16)


@pytest.mark.parametrize(
    ("given_value", "text", "preview"),
    [
        ("ghp_1234567890abcdef1234567890abcdef1234", "ghp_1234567890abcdef1234567890abcdef1234", "ghp_...1234"),
        ("short", "short", "..."),
        (Secret("short"), "short", "..."),
        (" kept as it is \n", " kept as it is \n", "..."),
        ("-----BEGIN KEY-----\nabc\n\n\n\n\n-", "-----BEGIN KEY-----\nabc\n\n\n\n\n-", "..."),
        ({"access_token": "a", "expires": 3}, '{"access_token":"a","expires":3}', "access_token, expires"),
        ({"ghp_" + "a1" * 18: "x", "two words": 1}, None, "..., ..."),
        ({f"field_{n}": n for n in range(60)}, None, None),
    ],
)
def test_a_credential_is_wrapped_with_its_preview(given_value: object, text: str | None, preview: str | None) -> None:
    concealed = conceal(given_value)
    assert concealed.problem is None
    if text is not None:
        assert concealed.reveal() == text
    else:
        assert json.loads(concealed.reveal()) == given_value
    if preview is not None:
        assert concealed.preview == preview
    assert len(concealed.preview) < 210
    assert conceal(concealed) is concealed


@pytest.mark.parametrize(
    ("given_value", "problem"),
    [
        ("", InvalidRequestError),
        (" \n", InvalidRequestError),
        ({}, InvalidRequestError),
        (None, InvalidRequestError),
        (12345, InvalidRequestError),
        (b"bytes", InvalidRequestError),
        (["a"], InvalidRequestError),
        ("a\x00b", InvalidRequestError),
        ("a\ud800b", InvalidRequestError),
        ({"a": float("nan")}, InvalidRequestError),
        ({1: "a"}, InvalidRequestError),
        ({"a": b"b"}, InvalidRequestError),
        ("é" * (MAX_BYTES // 2 + 1), TooLargeError),
        ({"a": "é" * (MAX_BYTES // 2)}, TooLargeError),
        ({"a": "b" * MAX_BYTES}, TooLargeError),
    ],
)
def test_what_is_no_credential_is_told_later_and_not_kept(given_value: object, problem: type[Exception]) -> None:
    concealed = conceal(given_value)
    assert type(concealed.problem) is problem
    assert concealed.problem.__traceback__ is None
    assert concealed.problem.__context__ is None
    assert concealed.reveal() == concealed.preview == ""


def test_the_largest_is_taken() -> None:
    assert conceal("x" * MAX_BYTES).problem is None


def test_a_wrapped_credential_shows_nothing() -> None:
    concealed = conceal(SECRET)
    assert isinstance(concealed, Concealed)
    assert SECRET not in repr(concealed) + str(concealed) + f"{concealed:>40}" + repr({"credential": concealed})
    assert copy.deepcopy(concealed) is concealed
    with pytest.raises(TypeError):
        pickle.dumps(concealed)
    with pytest.raises(TypeError):
        json.dumps(concealed)


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.text(max_size=20), st.integers(), st.none()), max_size=5))
@settings(max_examples=50)
def test_wrapping_never_raises(given_value: dict[str, object]) -> None:
    concealed = conceal(given_value)
    if concealed.problem is None:
        assert json.loads(concealed.reveal()) == given_value
