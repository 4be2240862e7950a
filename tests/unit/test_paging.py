"""Cursors: what one call gave leads that call on, and nothing else does."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxi_identity.errors import InvalidRequestError
from muxi_identity.paging import check_limit, read_cursor, write_cursor

KEY, OTHER = b"k" * 32, b"o" * 32
whole = st.integers(-(2**63), 2**63 - 1)


@given(whole, whole)
def test_a_cursor_comes_back(at: int, pk: int) -> None:
    assert read_cursor(KEY, "list_users", write_cursor(KEY, "list_users", at, pk)) == (at, pk)


def test_a_cursor_tells_nothing_and_is_the_same_for_the_same_place() -> None:
    cursor = write_cursor(KEY, "list_users", 1_800_000_000_000_000, 4711)
    assert cursor == write_cursor(KEY, "list_users", 1_800_000_000_000_000, 4711)
    sealed = base64.urlsafe_b64decode(cursor)
    assert (4711).to_bytes(2, "big") not in sealed
    assert b"4711" not in sealed


def test_only_the_call_and_the_formation_that_gave_it_take_it() -> None:
    cursor = write_cursor(KEY, "list_users", 1, 2)
    for key, call in ((OTHER, "list_users"), (KEY, "list_memories"), (KEY, "")):
        with pytest.raises(InvalidRequestError):
            read_cursor(key, call, cursor)


@given(st.integers(0, 31), st.integers(1, 255))
def test_a_changed_cursor_is_refused(place: int, change: int) -> None:
    sealed = bytearray(base64.urlsafe_b64decode(write_cursor(KEY, "list_users", 1, 2)))
    sealed[place] ^= change
    with pytest.raises(InvalidRequestError):
        read_cursor(KEY, "list_users", base64.urlsafe_b64encode(sealed).decode())


BAD: list[Any] = [
    "",
    "x",
    "é" * 44,
    "\ud800" * 44,
    "=" * 44,
    "!" * 44,
    "A" * 44,
    "A" * 1_000_000,
    b"A" * 44,
    5,
    None,
    [],
]


@pytest.mark.parametrize("cursor", BAD)
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidRequestError, match="list_users"):
        read_cursor(KEY, "list_users", cursor)


@pytest.mark.parametrize("limit", [0, -1, 501, "5", 5.0, None, True, 10**30])
def test_limits(limit: object) -> None:
    check_limit(1)
    check_limit(500)
    with pytest.raises(InvalidRequestError, match="1 to 500"):
        check_limit(limit)
