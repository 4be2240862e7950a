"""Lists of people that a search finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muxi_identity import AsyncFormationClient, InvalidIdentifierError, InvalidRequestError, TooLargeError
from muxi_identity.config import FormationConfig
from tests.formations import Time, client_of


async def _found(client: AsyncFormationClient, **search: Any) -> list[str]:
    """Return the people whom a search finds, read in pages of one."""
    found: list[str] = []
    cursor = None
    while True:
        page = await client.list_users(**search, limit=1, cursor=cursor)
        found += [user["muxi_user_id"] for user in page["users"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config) as client:
        yield client


@pytest.fixture
async def people(client: AsyncFormationClient) -> AsyncFormationClient:
    for name, identifiers in {
        "usr_alice": ["Alice@Email.com", ("U98765ABC", "slack")],
        "usr_albert": [("albert", "github"), "al_b%t"],
        "usr_key": [("key_live_0123456789abcdef", "api_key")],
        "usr_zoe": ["Zo\u00eb", ("alice", "telegram")],
    }.items():
        await client.create_user(name)
        await client.associate_user_identifiers(identifiers, name)
    return client


async def test_the_beginning_of_an_identifier_finds_whoever_has_it(people: AsyncFormationClient) -> None:
    assert await _found(people, identifier="al") == ["usr_alice", "usr_albert", "usr_zoe"]
    assert await _found(people, identifier="ALICE@") == ["usr_alice"]  # kept in lower case
    assert await _found(people, identifier="alice@email.com") == ["usr_alice"]
    assert await _found(people, identifier="U98") == ["usr_alice"]
    assert await _found(people, identifier="u98") == []  # this type keeps its case
    assert await _found(people, identifier="Zoe\u0308") == ["usr_zoe"]  # composed, as it is kept


async def test_type_and_beginning_are_those_of_one_identifier(people: AsyncFormationClient) -> None:
    assert await _found(people, type="api_key") == ["usr_key"]
    assert await _found(people, identifier="al", type="telegram") == ["usr_zoe"]
    assert await _found(people, identifier="al", type="slack") == []


async def test_nothing_in_a_beginning_is_a_pattern(people: AsyncFormationClient) -> None:
    for pattern in ("%", "_", "al%b", "al\\", "al_bx", "*", "'", "a.*"):
        assert await _found(people, identifier=pattern) == []
    assert await _found(people, identifier="al_b%") == ["usr_albert"]


async def test_the_order_of_code_points_decides(client: AsyncFormationClient) -> None:
    values = ("a\ud7fb", "a\uff21", "a\U0001f600")
    made = [(await client.resolve_user((value, "crm"), create_user=True))["muxi_user_id"] for value in values]
    for value, user in zip(values, made, strict=True):
        assert await _found(client, identifier=value) == [user]
    assert await _found(client, identifier="a") == made
    # The last before the surrogates, and the last of all: what comes after them is no character, or nothing.
    for beginning in ("a\ud7ff", "a\U0010ffff", "\U0010ffff"):
        assert await _found(client, identifier=beginning) == []


async def test_a_secret_cannot_be_guessed_by_its_beginning(people: AsyncFormationClient) -> None:
    for beginning in ("k", "key_", "key_live_0123456789abcdef", "key_...", "..."):
        assert await _found(people, identifier=beginning) == []


async def test_members_lead_to_their_person_and_what_was_unlinked_to_nobody(people: AsyncFormationClient) -> None:
    await people.merge_users("usr_alice", "usr_albert")
    assert await _found(people, identifier="albert") == ["usr_alice"]
    assert await _found(people, identifier="al") == ["usr_alice", "usr_zoe"]
    await people.unlink_user_identifier(("albert", "github"))
    assert await _found(people, identifier="albert") == []


async def test_times_bound_when_people_were_made(database_config: FormationConfig) -> None:
    time = Time()
    async with client_of(database_config, time) as client:
        for name in ("usr_a", "usr_b", "usr_c"):
            await client.create_user(name)
            time.advance(10)
        made = [user["created_at"] for user in (await client.list_users())["users"]]
        assert await _found(client, created_from=made[1]) == ["usr_b", "usr_c"]
        assert await _found(client, created_before=made[1]) == ["usr_a"]
        second = datetime.fromisoformat(made[1])
        assert await _found(client, created_from=second, created_before=second + timedelta(seconds=10)) == ["usr_b"]
        assert await _found(client, created_from=second.astimezone(UTC).replace(tzinfo=None)) == ["usr_b", "usr_c"]


async def test_what_cannot_be_searched_for_is_refused(client: AsyncFormationClient) -> None:
    bad: list[Any] = ["", "  ", "\0", "\ud800", 7, ["a"]]
    for beginning in bad:
        with pytest.raises(InvalidRequestError, match="identifier"):
            await client.list_users(identifier=beginning)
    with pytest.raises(TooLargeError):
        await client.list_users(identifier="a" * 513)
    with pytest.raises(InvalidIdentifierError):
        await client.list_users(type="no type")
    times: list[Any] = ["yesterday", 5, "", "1969-01-01", datetime(1, 1, 1)]
    for at in times:
        with pytest.raises(InvalidRequestError, match="created_before"):
            await client.list_users(created_before=at)
