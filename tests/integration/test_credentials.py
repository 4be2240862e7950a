"""Credentials: one person's through any identifier, encrypted at rest, shown by previews, rotated without loss."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gc
import json
import logging
import secrets
import sqlite3
import traceback
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import update

from muxi_identity import AsyncFormationClient, FormationClient, FormationConfig, Secret
from muxi_identity.client.lifecycle import Lifecycle
from muxi_identity.context.credentials import rotation, rows
from muxi_identity.context.credentials.concealed import Concealed
from muxi_identity.context.credentials.vault import Place, Vault, key_id_of
from muxi_identity.errors import (
    ClientClosedError,
    CredentialNotFoundError,
    CredentialUnreadableError,
    InvalidRequestError,
    MuxiError,
    SecretRefusedError,
    StorageUnavailableError,
    TooLargeError,
    UserNotFoundError,
)
from muxi_identity.storage.tables import credentials
from tests.formations import Time, client_of, dump, is_heartbeat, rows_of
from tests.invariants import check_invariants

EMAIL, SLACK, WEB = ("alice@example.com", "email"), ("U98765ABC", "slack"), ("user_123", "internal")
TOKEN = "ghp_" + secrets.token_hex(18)
OLD, NEW = Secret(secrets.token_hex(32)), Secret(secrets.token_hex(32))


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        yield client


def with_keys(config: FormationConfig, *keys: Secret) -> FormationConfig:
    return dataclasses.replace(config, credential_keys=keys)


async def execute(config: FormationConfig, statement: str, *arguments: Any) -> None:
    """Do to the database what nobody should."""
    if config.database.path is not None:
        with sqlite3.connect(config.database.path) as connection:
            connection.execute(statement.replace("$", "?"), arguments)
        connection.close()
    else:
        assert config.database.url is not None
        reader = await asyncpg.connect(config.database.url.reveal())
        try:
            await reader.execute(statement, *arguments)
        finally:
            await reader.close()


async def revealed(client: AsyncFormationClient, user_id: Any, service: str, name: str = "default") -> str:
    return (await client.get_credential_secret(user_id, service, name)).reveal()


# Keeping and showing


async def test_a_credential_is_kept_shown_by_its_preview_and_handed_out_by_name(client: AsyncFormationClient) -> None:
    kept = await client.set_credential(WEB, "GitHub ", TOKEN)
    assert kept == {
        "credential_id": kept["credential_id"],
        "service": "github",
        "name": "default",
        "preview": f"ghp_...{TOKEN[-4:]}",
        "created_at": kept["created_at"],
        "updated_at": kept["created_at"],
    }
    assert await client.list_credentials(WEB) == [kept]
    assert await client.get_credential(kept["credential_id"], WEB) == kept
    secret = await client.get_credential_secret(WEB, "github")
    assert isinstance(secret, Secret)
    assert secret.reveal() == TOKEN
    assert TOKEN not in repr(secret) + str(secret) + f"{secret}"


TEXTS: list[str | Secret] = [
    "x",
    "é ñ 👩‍👩‍👧",
    " spaces and\nlines\t",
    "'; DROP TABLE muxi_credentials; --",
    "a" * 65_536,
    Secret("wrapped"),
]


async def test_a_text_comes_back_as_it_was(client: AsyncFormationClient) -> None:
    for given in TEXTS:
        await client.set_credential(WEB, "svc", given)
        assert await revealed(client, WEB, "svc") == (given.reveal() if isinstance(given, Secret) else given)


async def test_an_object_comes_back_as_its_json_and_shows_its_fields(client: AsyncFormationClient) -> None:
    grant = {"access_token": TOKEN, "expires_in": 3600, "scope": ["read", "write"], "extra": {"a": None}}
    kept = await client.set_credential(WEB, "github", grant, name="oauth")
    assert kept["preview"] == "access_token, expires_in, scope, extra"
    assert json.loads(await revealed(client, WEB, "github", "oauth")) == grant


async def test_setting_again_replaces_it_under_its_id(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    first = await client.set_credential(WEB, "github", "the first of them")
    (before,) = rows_of(await dump(database_config), "muxi_credentials")
    time.advance(60)
    second = await client.set_credential(WEB, "github", "the second of them")
    (after,) = rows_of(await dump(database_config), "muxi_credentials")
    assert second["credential_id"] == first["credential_id"]
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    assert before["ciphertext"][1:13] != after["ciphertext"][1:13]
    assert await revealed(client, WEB, "github") == "the second of them"


async def test_services_and_names_tell_credentials_apart(client: AsyncFormationClient) -> None:
    for service, name in (("github", "default"), ("github", "work"), ("gitlab", "default"), ("git.hub-2_x", "default")):
        await client.set_credential(WEB, service, f"{service} {name}", name=name)
    for service, name in (("github", "default"), ("github", "work"), ("gitlab", "default")):
        assert await revealed(client, WEB, service.upper(), f" {name} ") == f"{service} {name}"
    assert [(each["service"], each["name"]) for each in await client.list_credentials(WEB)] == [
        ("git.hub-2_x", "default"),
        ("github", "default"),
        ("github", "work"),
        ("gitlab", "default"),
    ]
    assert len(await client.list_credentials(WEB, service="GitHub")) == 2
    assert await client.list_credentials(WEB, service="bitbucket") == []


NO_NAMES: list[Any] = ["", " ", "a b", "a/b", "%", "_", "a*", "-a", "é", "K\u212a", "a\x00", "a\nb", "n" * 65, None, 5]


async def test_what_is_no_name_is_refused(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    kept = await client.set_credential(WEB, "github", TOKEN)
    before = await dump(database_config)
    for name in NO_NAMES:
        for call in (
            client.set_credential("new", name, TOKEN),
            client.set_credential("new", "github", TOKEN, name=name),
            client.get_credential_secret(WEB, name),
            client.get_credential_secret(WEB, "github", name),
            *([] if name is None else [client.list_credentials(WEB, service=name)]),
        ):
            with pytest.raises(InvalidRequestError):
                await call
    assert await dump(database_config) == before
    assert await client.list_credentials(WEB) == [kept]


async def test_a_secret_in_the_place_of_a_name_is_refused_and_not_repeated(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.list_users()
    before = await dump(database_config)
    for call in (
        client.set_credential(WEB, TOKEN, "github"),
        client.set_credential(WEB, "github", "text", name=TOKEN),
    ):
        with pytest.raises(SecretRefusedError) as caught:
            await call
        assert TOKEN not in str(caught.value)
    with pytest.raises(UserNotFoundError) as unknown:
        await client.get_credential(TOKEN, WEB)
    assert TOKEN not in str(unknown.value)
    assert await dump(database_config) == before


NO_CREDENTIALS: list[tuple[Any, type[MuxiError]]] = [
    ("", InvalidRequestError),
    ({}, InvalidRequestError),
    (None, InvalidRequestError),
    (["a"], InvalidRequestError),
    ("a\x00", InvalidRequestError),
    ("\ud800", InvalidRequestError),
    ({"a": float("nan")}, InvalidRequestError),
    ("a" * 65_537, TooLargeError),
]


async def test_what_is_no_credential_is_refused_before_anything_is_written(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.list_users()
    before = await dump(database_config)
    for given, error in NO_CREDENTIALS:
        with pytest.raises(error) as caught:
            await client.set_credential("somebody new", "github", given)
        assert type(caught.value) is error
    assert await dump(database_config) == before


async def test_their_number_is_bounded_and_replacing_is_always_possible(
    client: AsyncFormationClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_CREDENTIALS", 2)
    kept = await client.set_credential(WEB, "one", "text")
    await client.set_credential(WEB, "two", "text")
    with pytest.raises(TooLargeError) as caught:
        await client.set_credential(WEB, "three", "text")
    assert caught.value.limit == 2
    await client.set_credential(WEB, "two", "another")
    await client.delete_credential(kept["credential_id"], WEB)
    await client.set_credential(WEB, "three", "text")


# Whose they are


async def test_all_identifiers_of_a_person_share_them(client: AsyncFormationClient) -> None:
    linked = await client.associate_user_identifiers([EMAIL, SLACK, WEB])
    kept = await client.set_credential(EMAIL, "github", TOKEN)
    for user_id in (EMAIL, SLACK, WEB, linked["muxi_user_id"]):
        assert await client.list_credentials(user_id) == [kept]
        assert await revealed(client, user_id, "github") == TOKEN
    await client.set_credential(SLACK, "github", "set from slack")
    assert await revealed(client, WEB, "github") == "set from slack"
    # The id of the one that counts no more leads to what counts now.
    assert (await client.get_credential(kept["credential_id"], WEB))["credential_id"] != kept["credential_id"]


async def test_a_merge_shares_them_and_loses_none(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.resolve_user(EMAIL, create_user=True)
    await client.resolve_user(SLACK, create_user=True)
    await client.set_credential(EMAIL, "github", "alice's")
    await client.set_credential(SLACK, "github", "bob's")
    await client.set_credential(SLACK, "notion", "bob's notion")
    merged = await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")
    for user_id in (EMAIL, SLACK):
        assert await revealed(client, user_id, "github") == "bob's"
        assert await revealed(client, user_id, "notion") == "bob's notion"
        assert len(await client.list_credentials(user_id)) == 2
    assert await client.list_credential_services() == [
        {"service": "github", "count": 1},
        {"service": "notion", "count": 1},
    ]
    await client.unmerge_users(*merged["merge_ids"])
    assert await revealed(client, EMAIL, "github") == "alice's"
    assert await revealed(client, SLACK, "github") == "bob's"
    with pytest.raises(CredentialNotFoundError):
        await client.get_credential_secret(EMAIL, "notion")
    assert await client.list_credential_services() == [
        {"service": "github", "count": 2},
        {"service": "notion", "count": 1},
    ]
    await check_invariants(database_config, now=time.at)


async def test_a_delete_is_of_all_members_and_an_unmerge_does_not_take_it_back(client: AsyncFormationClient) -> None:
    await client.resolve_user(EMAIL, create_user=True)
    await client.resolve_user(SLACK, create_user=True)
    older = await client.set_credential(EMAIL, "github", "alice's")
    await client.set_credential(SLACK, "github", "bob's")
    await client.set_credential(SLACK, "github", "bob's work", name="work")
    merged = await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")
    await client.delete_credential(older["credential_id"], SLACK)
    for user_id in (EMAIL, SLACK):
        assert [each["name"] for each in await client.list_credentials(user_id)] == ["work"]
        with pytest.raises(CredentialNotFoundError):
            await client.get_credential(older["credential_id"], user_id)
        with pytest.raises(CredentialNotFoundError):
            await client.delete_credential(older["credential_id"], user_id)
    await client.unmerge_users(*merged["merge_ids"])
    assert await client.list_credentials(EMAIL) == []
    assert await revealed(client, SLACK, "github", "work") == "bob's work"


async def test_another_person_and_another_formation_see_nothing(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    kept = await client.set_credential(EMAIL, "github", TOKEN)
    await client.resolve_user(SLACK, create_user=True)
    other = dataclasses.replace(database_config, id=f"{database_config.id}-other")
    async with client_of(other, time) as elsewhere:
        await elsewhere.resolve_user(EMAIL, create_user=True)
        assert await elsewhere.list_credential_services() == []
        for stranger, user_id in ((client, SLACK), (elsewhere, EMAIL)):
            assert await stranger.list_credentials(user_id) == []
            for call in (
                stranger.get_credential(kept["credential_id"], user_id),
                stranger.get_credential_secret(user_id, "github"),
                stranger.delete_credential(kept["credential_id"], user_id),
            ):
                with pytest.raises(CredentialNotFoundError):
                    await call
    assert await revealed(client, EMAIL, "github") == TOKEN


async def test_unknown_people(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.list_users()
    before = await dump(database_config)
    for user_id in ("unknown_1", "usr_unknown"):
        for call in (
            client.list_credentials(user_id),
            client.get_credential("cred_1", user_id),
            client.get_credential_secret(user_id, "github"),
            client.delete_credential("cred_1", user_id),
        ):
            with pytest.raises(UserNotFoundError):
                await call
    with pytest.raises(UserNotFoundError):
        await client.set_credential("usr_unknown", "github", TOKEN)
    assert await dump(database_config) == before


async def test_the_same_one_set_at_once_is_one_row(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    values = [f"value {number}" for number in range(16)]
    kept = await asyncio.gather(*(client.set_credential(WEB, "github", value) for value in values))
    assert len({each["credential_id"] for each in kept}) == 1
    assert await revealed(client, WEB, "github") in values
    await check_invariants(database_config)


# Keys


async def test_keys_come_and_go_and_nothing_is_lost(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.set_credential(WEB, "first", "before any keys")
    async with client_of(with_keys(database_config, OLD)) as client:
        assert await revealed(client, WEB, "first") == "before any keys"
        await client.set_credential(WEB, "second", "with the old key")
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        await client.set_credential(WEB, "third", "with the new key")
        for service, text in (
            ("first", "before any keys"),
            ("second", "with the old key"),
            ("third", "with the new key"),
        ):
            assert await revealed(client, WEB, service) == text
        before = await client.list_credentials(WEB)
        done = await client.rotate_credentials()
        assert done == {"rotated": 2, "kept": 1, "unreadable": 0, "key_id": key_id_of(NEW), "missing_key_ids": []}
        assert await client.list_credentials(WEB) == before
        again = await client.rotate_credentials()
        assert (again["rotated"], again["kept"]) == (0, 3)
    async with client_of(with_keys(database_config, NEW)) as client:
        assert await revealed(client, WEB, "second") == "with the old key"
        assert await revealed(client, WEB, "first") == "before any keys"
    assert {row["key_id"] for row in rows_of(await dump(database_config), "muxi_credentials")} == {key_id_of(NEW)}


async def test_a_missing_key_is_named_and_everything_else_goes_on(database_config: FormationConfig) -> None:
    async with client_of(with_keys(database_config, OLD)) as client:
        kept = await client.set_credential(WEB, "github", TOKEN)
    before = rows_of(await dump(database_config), "muxi_credentials")
    async with client_of(with_keys(database_config, NEW)) as client:
        with pytest.raises(CredentialUnreadableError) as caught:
            await client.get_credential_secret(WEB, "github")
        assert caught.value.key_id == key_id_of(OLD)
        assert key_id_of(OLD) in str(caught.value)
        assert "MUXI_CREDENTIAL_KEYS" in str(caught.value)
        assert OLD.reveal() not in str(caught.value)
        assert await client.list_credentials(WEB) == [kept]
        await client.set_preference(WEB, "language", "de")
        await client.set_credential(WEB, "gitlab", "another")
        assert await revealed(client, WEB, "gitlab") == "another"
        done = await client.rotate_credentials()
        assert (done["rotated"], done["kept"], done["unreadable"]) == (0, 1, 1)
        assert done["missing_key_ids"] == [key_id_of(OLD)]
    assert [
        row for row in rows_of(await dump(database_config), "muxi_credentials") if row["service"] == "github"
    ] == before
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        assert await revealed(client, WEB, "github") == TOKEN
    async with client_of(with_keys(database_config, NEW)) as client:
        await client.set_credential(WEB, "github", "set anew")
        assert await revealed(client, WEB, "github") == "set anew"


async def test_a_rotation_goes_through_batches_past_what_it_cannot_read(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)
    async with client_of(with_keys(database_config, OLD)) as client:
        for number in range(10):
            await client.set_credential((f"user_{number}", "internal"), "github", f"text {number}")
    broken = rows_of(await dump(database_config), "muxi_credentials")[4]
    await execute(
        database_config,
        "UPDATE muxi_credentials SET ciphertext = $1 WHERE formation_id = $2 AND credential_id = $3",
        b"\x01nonsense",
        database_config.id,
        broken["credential_id"],
    )
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        done = await client.rotate_credentials()
        assert (done["rotated"], done["kept"], done["unreadable"], done["missing_key_ids"]) == (9, 0, 1, [])
    left = [row for row in rows_of(await dump(database_config), "muxi_credentials") if row["key_id"] == key_id_of(OLD)]
    assert [(row["credential_id"], bytes(row["ciphertext"])) for row in left] == [
        (broken["credential_id"], b"\x01nonsense")
    ]


async def test_a_rotation_that_fails_midway_goes_on_where_it_is_called_again(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    async with client_of(with_keys(database_config, OLD)) as client:
        for number in range(7):
            await client.set_credential((f"user_{number}", "internal"), "github", f"text {number}")
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        formation = await client._formation()
        transact, calls = formation.database.transact, 0

        async def failing(work: Any) -> Any:
            nonlocal calls
            calls += not is_heartbeat(work)
            if calls == 3:
                raise StorageUnavailableError("The disk is full.")
            return await transact(work)

        with monkeypatch.context() as patch:
            patch.setattr(formation.database, "transact", failing)
            with pytest.raises(StorageUnavailableError):
                await client.rotate_credentials()
        for number in range(7):
            assert await revealed(client, (f"user_{number}", "internal"), "github") == f"text {number}"
        done = await client.rotate_credentials()
        assert (done["rotated"], done["kept"]) == (3, 4)


async def test_a_rotation_overwrites_nobody(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets a credential between the reading and the writing of a rotation keeps what they set."""
    rotate_row = rotation._rotate_row

    def set_meanwhile(tx: Any, vault: Any, row: Any) -> int:
        # What another transaction has committed by now is seen by the statements to come, as what this one writes is.
        place = Place(row.credential_id, row.service, row.name)
        late = Vault([OLD], database_config.id).seal(place, Secret("set meanwhile"))
        tx.connection.execute(update(credentials).where(credentials.c.pk == row.pk).values(ciphertext=late))
        return rotate_row(tx, vault, row)

    async with client_of(with_keys(database_config, OLD)) as client:
        await client.set_credential(WEB, "github", "set before")
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(rotation, "_rotate_row", set_meanwhile)
            done = await client.rotate_credentials()
        assert (done["rotated"], done["unreadable"]) == (0, 0)
        assert await revealed(client, WEB, "github") == "set meanwhile"
        assert (await client.rotate_credentials())["rotated"] == 1
        assert await revealed(client, WEB, "github") == "set meanwhile"


async def test_rotations_and_sets_at_once(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    people = [(f"user_{number}", "internal") for number in range(6)]
    async with client_of(with_keys(database_config, OLD)) as late:
        for user_id in people:
            await late.set_credential(user_id, "github", "old")
        async with client_of(with_keys(database_config, NEW, OLD)) as client:
            await asyncio.gather(
                client.rotate_credentials(),
                client.rotate_credentials(),
                *(late.set_credential(user_id, "github", f"new {user_id[0]}") for user_id in people),
            )
            await client.rotate_credentials()
            for user_id in people:
                assert await revealed(client, user_id, "github") == f"new {user_id[0]}"
    assert {row["key_id"] for row in rows_of(await dump(database_config), "muxi_credentials")} == {key_id_of(NEW)}
    await check_invariants(database_config)


@pytest.mark.parametrize("column", ["credential_id", "service", "name", "ciphertext", "formation"])
async def test_what_was_moved_in_the_database_does_not_open(database_config: FormationConfig, column: str) -> None:
    """Somebody who may write to the database cannot make another's credential answer for one of theirs."""
    async with client_of(database_config) as client:
        victim = await client.set_credential(EMAIL, "github", TOKEN)
        thief = await client.set_credential(SLACK, "notion", "the thief's own", name="mine")
    where = " WHERE formation_id = $1 AND credential_id = $2"
    mine = (database_config.id, thief["credential_id"])
    stolen = next(
        row["ciphertext"]
        for row in rows_of(await dump(database_config), "muxi_credentials")
        if row["credential_id"] == victim["credential_id"]
    )
    config, given, service, name = database_config, SLACK, "notion", "mine"
    if column == "ciphertext":
        await execute(config, f"UPDATE muxi_credentials SET ciphertext = $3{where}", *mine, stolen)
    elif column == "service":
        await execute(config, f"UPDATE muxi_credentials SET service = 'github'{where}", *mine)
        service = "github"
    elif column == "name":
        await execute(config, f"UPDATE muxi_credentials SET name = 'other'{where}", *mine)
        name = "other"
    elif column == "credential_id":
        await execute(config, f"DELETE FROM muxi_credentials{where}", database_config.id, victim["credential_id"])
        await execute(
            config,
            f"UPDATE muxi_credentials SET credential_id = '{victim['credential_id']}'{where}",
            *mine,
        )
    else:
        config = dataclasses.replace(database_config, id=f"{database_config.id}-thief")
        async with client_of(config) as elsewhere:
            own = await elsewhere.set_credential(SLACK, "notion", "the thief's own", name="mine")
        await execute(
            config, f"UPDATE muxi_credentials SET ciphertext = $3{where}", config.id, own["credential_id"], stolen
        )
    async with client_of(config) as client:
        with pytest.raises(CredentialUnreadableError) as caught:
            await client.get_credential_secret(given, service, name)
        assert TOKEN not in str(caught.value)


# Nothing of it anywhere


def forms(secret: str) -> list[bytes]:
    """What a secret would look like if it were kept."""
    raw = secret.encode()
    return [raw, raw.hex().encode(), raw[::-1], *(base64.b64encode(raw[at:])[4:-4] for at in range(3)), raw[8:-4]]


async def test_no_table_and_no_file_holds_it(database_config: FormationConfig) -> None:
    grant = {"refresh_token": TOKEN}
    async with client_of(database_config) as client:
        await client.set_credential(EMAIL, "github", TOKEN)
        await client.set_credential(EMAIL, "github", grant, name="oauth")
        await client.associate_user_identifiers([EMAIL, SLACK])
        await client.rotate_credentials()
        assert await revealed(client, SLACK, "github") == TOKEN
        everything = repr(await dump(database_config, formation_only=False)).encode()
        assert all(form not in everything for form in forms(TOKEN))
        path = database_config.database.path
        if path is not None:
            for file in path.parent.iterdir():
                if file.is_file():
                    content = file.read_bytes()
                    assert all(form not in content for form in forms(TOKEN)), file.name


async def test_what_was_deleted_or_replaced_is_not_in_the_file_even_encrypted(database_config: FormationConfig) -> None:
    async def ciphertexts() -> list[bytes]:
        return [bytes(row["ciphertext"]) for row in rows_of(await dump(database_config), "muxi_credentials")]

    def is_in_a_file(ciphertext: bytes) -> bool:
        path = database_config.database.path
        return path is not None and any(
            ciphertext in file.read_bytes() for file in path.parent.glob(f"{path.name}*") if file.is_file()
        )

    on_sqlite = database_config.database.path is not None
    async with client_of(with_keys(database_config, OLD)) as client:
        kept = await client.set_credential(EMAIL, "github", TOKEN)
        (first,) = await ciphertexts()
        assert is_in_a_file(first) == on_sqlite
        await client.set_credential(EMAIL, "github", "another")
        (second,) = await ciphertexts()
        assert not is_in_a_file(first)
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        await client.rotate_credentials()
        (third,) = await ciphertexts()
        assert not is_in_a_file(second)
        await client.delete_credential(kept["credential_id"], EMAIL)
        assert await ciphertexts() == []
        assert not is_in_a_file(third)


async def test_no_log_holds_it(database_config: FormationConfig, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("", "sqlalchemy.engine", "sqlalchemy.pool", "asyncio", "muxi_identity", "aiosqlite", "asyncpg"):
        caplog.set_level(logging.DEBUG, logger=name)
    asyncio.get_running_loop().set_debug(True)
    async with client_of(with_keys(database_config, NEW, OLD)) as client:
        await client.set_credential(EMAIL, "github", TOKEN)
        await client.set_credential(EMAIL, "github", {"token": TOKEN}, name="oauth")
        assert await revealed(client, EMAIL, "github") == TOKEN
        await client.list_credentials(EMAIL)
        await client.rotate_credentials()
        with pytest.raises(TooLargeError):
            await client.set_credential(EMAIL, "github", TOKEN * 2_000)
    lines = [record.getMessage() + repr(record.args) + repr(record.__dict__) for record in caplog.records]
    assert any("muxi_credentials" in line for line in lines)  # the statements were logged
    for line in lines:
        for secret in (TOKEN, OLD.reveal(), NEW.reveal()):
            assert secret not in line


def shown(error: BaseException) -> str:
    """An error as the most talkative of tools shows it: with the variables of every frame, and its causes."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(trace.format()) + repr(error) + repr(error.__dict__)


async def test_no_error_and_no_frame_holds_it(client: AsyncFormationClient, monkeypatch: pytest.MonkeyPatch) -> None:
    formation = await client._formation()

    async def failing(work: Any) -> Any:
        def whole(connection: Any) -> Any:
            work(connection)
            raise StorageUnavailableError("The disk is full.")

        return await transact(whole)

    errors: list[BaseException] = []
    with pytest.raises(TooLargeError) as too_large:
        await client.set_credential(EMAIL, "github", TOKEN * 2_000)
    with pytest.raises(InvalidRequestError) as no_json:
        await client.set_credential(EMAIL, "github", {"token": TOKEN, "at": float("nan")})
    with pytest.raises(InvalidRequestError) as no_name:
        await client.set_credential(EMAIL, "no name", TOKEN)
    with pytest.raises(UserNotFoundError) as nobody:
        await client.set_credential("usr_unknown", "github", TOKEN)
    await client.set_credential(EMAIL, "github", TOKEN)
    transact = formation.database.transact
    with monkeypatch.context() as patch:
        patch.setattr(formation.database, "transact", failing)
        with pytest.raises(StorageUnavailableError) as disk:
            await client.set_credential(EMAIL, "github", TOKEN)
        with pytest.raises(StorageUnavailableError) as rotating:
            await client.rotate_credentials()
    await client.close()
    with pytest.raises(ClientClosedError) as closed:
        await client.set_credential(EMAIL, "github", TOKEN)
    errors += [caught.value for caught in (too_large, no_json, no_name, nobody, disk, rotating, closed)]
    for error in errors:
        assert "set_credential" in shown(error) or "rotate_credentials" in shown(error)
        assert TOKEN not in shown(error), type(error)


def test_no_frame_of_the_synchronous_client_holds_it(database_config: FormationConfig) -> None:
    formation = FormationClient(database_config)
    formation.set_credential(EMAIL, "github", TOKEN)
    with pytest.raises(InvalidRequestError) as no_name:
        formation.set_credential(EMAIL, "no name", TOKEN)
    formation.close()
    with pytest.raises(ClientClosedError) as closed:
        formation.set_credential(EMAIL, "github", TOKEN)
    for caught in (no_name, closed):
        assert "set_credential" in shown(caught.value)
        assert TOKEN not in shown(caught.value)


async def test_nothing_of_it_stays_in_memory(client: AsyncFormationClient) -> None:
    made = [secrets.token_hex(20)]
    await client.set_credential(EMAIL, "github", made[0])
    assert await revealed(client, EMAIL, "github") == made[0]
    digest = made[0]
    gc.collect()
    for each in gc.get_objects():
        assert not isinstance(each, Concealed)
        if isinstance(each, Secret):
            assert each.reveal() != digest
        if type(each) in (dict, list, tuple, set) and each is not made:
            values = each.values() if isinstance(each, dict) else each
            assert not any(type(value) in (str, bytes) and value in (digest, digest.encode()) for value in values)


async def test_the_keys_stay_where_they_are(database_config: FormationConfig) -> None:
    config = with_keys(database_config, NEW, OLD)
    lifecycle = Lifecycle(config, responder=None)
    formation = await lifecycle.formation()
    try:
        vault = formation.credentials._vault
        for secret in (NEW, OLD, config.secret_key):
            assert secret is not None
            assert secret.reveal() not in repr(config) + repr(vault) + repr(vault.__dict__)
            assert secret.reveal() not in repr(formation.credentials.__dict__)
    finally:
        await lifecycle.close()


async def test_what_is_set_last_is_handed_out_though_the_clock_went_back(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    """The one before may have been revoked: a machine whose clock is behind must not bring it back."""
    ahead = Time()
    ahead.advance(3600)
    await client.associate_user_identifiers([EMAIL, SLACK])
    async with client_of(database_config, ahead) as fast:
        await fast.set_credential(EMAIL, "github", "the-revoked-one")
    for who, text in ((SLACK, "the-second-one"), (EMAIL, "the-third-one")):
        record = await client.set_credential(who, "github", text)
        for reader in (EMAIL, SLACK):
            assert (await client.get_credential_secret(reader, "github")).reveal() == text
            assert await client.list_credentials(reader) == [record]
