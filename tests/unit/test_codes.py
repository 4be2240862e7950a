"""Link codes as texts, and what is shown of an identifier to whoever may be somebody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxi_identity.identity.codes import new_code, plain_code, shown


def test_codes_are_never_the_same_and_read_themselves() -> None:
    codes = {new_code() for _ in range(2_000)}
    assert len(codes) == 2_000
    for code in codes:
        assert plain_code(code) == code.replace("-", "")
    assert not set("".join(codes)) & set("ILOUilou")


@pytest.mark.parametrize(
    "typed",
    ["7K3M-Q9T1", "7k3mq9t1", " 7K3M Q9T1 ", "7k3m–q9ti", "7K3M-Q9TL", "7k-3m-q9-tl\n"],
)
def test_how_a_code_may_be_typed(typed: str) -> None:
    assert plain_code(typed) == "7K3MQ9T1"


def test_o_is_read_as_zero() -> None:
    assert plain_code("oOoO-oooo") == "00000000"


@pytest.mark.parametrize(
    "typed", ["", "7K3M-Q9T", "7K3M-Q9T11", "7K3M-Q9TU", "7K3M-Q9T!", "ßßßß-ßßßß", "7" * 100_000, "\x00"]
)
def test_what_can_be_no_code(typed: str) -> None:
    assert plain_code(typed) is None


@given(st.text(max_size=100))
def test_anything_can_be_typed(typed: str) -> None:
    code = plain_code(typed)
    assert code is None or (len(code) == 8 and code.isascii())


@pytest.mark.parametrize(
    ("spelling", "hint"),
    [
        ("alice@email.com", "a...@email.com"),
        ("al@email.com", "...@email.com"),
        ("U98765ABC", "U9...C"),
        ("U1", "..."),
        ("a", "..."),
        ("@", "..."),
        ("user_123", "u...3"),
    ],
)
def test_what_is_shown(spelling: str, hint: str) -> None:
    assert shown(spelling, None, secret=False) == hint


def test_the_hint_of_a_secret_stays_what_it_is() -> None:
    assert shown("key_...c123", "api_key", secret=True) == "key_...c123"


@given(st.text(min_size=1, max_size=64))
def test_a_hint_never_is_the_value(spelling: str) -> None:
    hint = shown(spelling, None, secret=False)
    assert "..." in hint
    name = spelling.rpartition("@")[0] or spelling
    assert name not in hint or len(name) < 4
    before = hint.partition("...")[0]
    assert len(before) <= 2
