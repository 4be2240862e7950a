"""Secrets: what an API key may do, what it can never do again once it is revoked, and that it is kept nowhere."""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentifierConflictError,
    IdentifierNotFoundError,
    InvalidIdentifierError,
    InvalidRequestError,
    LastIdentifierError,
    MuxiError,
    UserNotFoundError,
)
from muxi_identity.identity import cache
from muxi_identity.models import iso
from tests.formations import Time, client_of, dump, rows_of

KEY = "key_7Hq2mZx9Lw4Tn8Rb5Vc1"
HINT = "key_...c1"
TYPED = (KEY, "api_key")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    time.govern_caches(monkeypatch)
    return time


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        await client.create_user("usr_alice")
        yield client


async def link(client: AsyncFormationClient, *identifiers: Any, **options: Any) -> Any:
    return await client.associate_user_identifiers(list(identifiers), "usr_alice", **options)


# What a key does


async def test_a_linked_key_resolves_typed_and_bare_and_is_shown_by_its_hint(client: AsyncFormationClient) -> None:
    linked = await link(client, "alice@example.com", TYPED)
    assert linked["new_identifiers"] == ["alice@example.com", HINT]
    assert linked["identifiers"][1] == {"identifier": HINT, "type": "api_key"}
    for _ in ("from the database", "from the cache"):
        for given in (TYPED, KEY, {"identifier": KEY, "type": "api_key"}, f"  {KEY} "):
            found = await client.resolve_user(given)
            assert found == {"identifier": HINT, "muxi_user_id": "usr_alice", "created": False}
            assert await client.find_user(given) == found
    assert await client.get_user_identifiers(KEY) == ["alice@example.com", HINT]
    assert (await client.chat("My name is Ann", user_id=TYPED)).user_id == "usr_alice"
    assert "Ann" in (await client.chat("What is my name?", user_id=KEY)).text
    assert await client.find_user((KEY, "slack")) is None
    assert await client.find_user(KEY.lower()) is None


async def test_a_key_never_makes_first_contact(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    before = await dump(database_config)
    for call in (
        client.resolve_user(TYPED, create_user=True),
        client.chat("Hello!", user_id=TYPED),
        client.channel("api_key").chat("Hello!", user_id=KEY),
        client.associate_user_identifiers(["new"], TYPED),
    ):
        with pytest.raises(UserNotFoundError):
            await call
    assert await dump(database_config) == before


async def test_a_key_that_is_somebodys_conflicts_by_its_hint(client: AsyncFormationClient) -> None:
    await link(client, TYPED)
    await client.create_user("usr_bob")
    for given in (TYPED, KEY):
        with pytest.raises(IdentifierConflictError) as caught:
            await client.associate_user_identifiers([given], "usr_bob")
        assert [one["identifier"] for one in caught.value.conflicts] == [HINT]
        assert KEY not in str(caught.value)


# For ever


async def never_again(client: AsyncFormationClient, config: FormationConfig) -> None:
    """The key is unknown, by any door, and nothing is made of it."""
    before = await dump(config)
    for given in (TYPED, KEY, {"identifier": KEY, "type": "api_key"}):
        assert await client.find_user(given) is None
        for call in (
            client.resolve_user(given),
            client.resolve_user(given, create_user=True),
            client.chat("Hello!", user_id=given),
            client.get_user(given),
            client.get_user_identifiers(given),
            client.delete_user(given),
            client.associate_user_identifiers(["new"], given),
        ):
            with pytest.raises(UserNotFoundError):
                await call
        with pytest.raises(IdentifierNotFoundError):
            await client.unlink_user_identifier(given)
        for user_id in (None, "usr_bob"):
            for mode in ("raise", "absorb", "merge"):
                with pytest.raises(InvalidIdentifierError) as caught:
                    await client.associate_user_identifiers(
                        ["new", given],
                        user_id,
                        on_conflict=mode,  # type: ignore[arg-type]
                        verified=True,
                    )
                assert caught.value.reason == "revoked"
    assert await dump(config) == before


async def test_a_revoked_key_is_unknown_for_ever(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.create_user("usr_bob")
    await link(client, TYPED, "alice@example.com")
    assert await client.find_user(KEY) is not None
    done = await client.unlink_user_identifier(TYPED)
    assert done["identifier"] == HINT
    await never_again(client, database_config)
    time.advance(400 * 24 * 3600)
    await client.delete_user("usr_alice")
    await never_again(client, database_config)
    assert [user["muxi_user_id"] for user in (await client.list_users())["users"]] == ["usr_bob"]


async def test_the_key_of_somebody_who_was_deleted_is_unknown_for_ever(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.create_user("usr_bob")
    await link(client, {"identifier": KEY, "type": "api_key", "metadata": {"for": "Ann's laptop"}}, "alice@example.com")
    assert await client.find_user(TYPED) is not None
    await client.delete_user("usr_alice")
    await never_again(client, database_config)
    await client.create_user("usr_alice")  # the same id, another person
    await never_again(client, database_config)
    (row,) = rows_of(await dump(database_config), "muxi_identifiers")
    assert (row["user_pk"], row["spelling"], row["value"], row["metadata"]) == (None, "", "", None)


async def test_an_expired_key_is_unknown_for_ever(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.create_user("usr_bob")
    await link(client, {"identifier": KEY, "type": "api_key", "expires_at": iso(time.at + 10_000_000)})
    assert await client.find_user(KEY) is not None
    assert await client.find_user(TYPED) is not None
    time.advance(11)
    await never_again(client, database_config)
    await client.delete_user("usr_alice")
    await never_again(client, database_config)


async def test_a_key_is_rotated_by_a_new_one(client: AsyncFormationClient) -> None:
    await link(client, TYPED)
    await link(client, ("key_9Kd3pWs6Jf2Gh7Yt4Bn8", "api_key"))
    await client.unlink_user_identifier(KEY)
    assert await client.find_user(KEY) is None
    assert (await client.resolve_user("key_9Kd3pWs6Jf2Gh7Yt4Bn8"))["muxi_user_id"] == "usr_alice"


# Nowhere in clear


async def bytes_of(config: FormationConfig) -> bytes:
    """Everything that the database keeps: the files of SQLite as they are, every column on PostgreSQL."""
    path = config.database.path
    if path is None:
        return repr(await dump(config)).encode()
    return b"".join(each.read_bytes() for each in sorted(path.parent.iterdir()) if each.is_file())


def cached_keys() -> str:
    """Every key and entry of every cache in the process."""
    caches = list(cache._shared.values())
    assert caches
    return repr([[dict(each._first.items()), dict(each._second.items()), each.info()] for each in caches])


async def known_bare(client: AsyncFormationClient, key: str) -> str:
    """The key writes in where nobody knows it for one, and is cached."""
    user_id = (await client.chat("My name is Ann", user_id=key)).user_id
    await client.find_user(key)
    return user_id


@pytest.mark.parametrize("history", ["live", "given", "absorbed", "taken", "unlinked", "expired", "deleted"])
async def test_a_key_that_wrote_in_bare_loses_its_clear_text_when_it_is_linked(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time, history: str
) -> None:
    if history == "expired":
        lent = {"identifier": KEY, "expires_at": iso(time.at + 10_000_000)}
        user_id = (await client.resolve_user(lent, create_user=True))["muxi_user_id"]
        await client.find_user(KEY)
        time.advance(11)
    else:
        user_id = await known_bare(client, KEY)
    assert KEY.encode() in await bytes_of(database_config)
    assert KEY in cached_keys()
    if history == "unlinked":
        await client.unlink_user_identifier(KEY, force=True)
    if history == "deleted":
        await client.delete_user(user_id)
        assert KEY.encode() not in await bytes_of(database_config)
    target = {"live": None, "given": user_id}.get(history, "usr_alice")
    options: dict[str, Any] = {"absorbed": {"on_conflict": "absorb"}, "taken": {"verified": True}}.get(history, {})
    linked = await client.associate_user_identifiers([TYPED], target, **options)
    assert linked["muxi_user_id"] == (user_id if history in ("live", "given") else "usr_alice")
    assert KEY.encode() not in await bytes_of(database_config)
    assert KEY not in cached_keys()
    for given in (TYPED, KEY):
        assert await client.resolve_user(given) == {
            "identifier": HINT,
            "muxi_user_id": linked["muxi_user_id"],
            "created": False,
        }
    assert await client.get_user_identifiers(linked["muxi_user_id"]) == [HINT]
    assert KEY not in cached_keys()
    assert all(
        row["value"] == "" and row["spelling"] in (HINT, "")
        for row in rows_of(await dump(database_config), "muxi_identifiers")
    )


async def test_the_log_is_emptied_also_while_somebody_reads(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    path = database_config.database.path
    if path is None:
        return
    await known_bare(client, KEY)
    reader = sqlite3.connect(path)
    try:
        # A reader that holds on to the state before: the link is not held up by it for long, and does not fail.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM muxi_users").fetchone()
        await client.associate_user_identifiers([TYPED])
    finally:
        reader.close()
    assert not any(KEY in repr(row) for rows in (await dump(database_config)).values() for row in rows)
    # The next erasure, and closing, make up for it.
    await client.delete_user("usr_alice")
    assert KEY.encode() not in await bytes_of(database_config)


async def test_a_key_that_is_passed_bare_beside_itself_is_not_echoed(client: AsyncFormationClient) -> None:
    for _ in ("new", "known"):
        linked = await link(client, KEY, TYPED)
        assert KEY not in repr(linked)


async def test_a_key_that_means_several_people_is_not_quoted(client: AsyncFormationClient) -> None:
    # Somebody took the key for a Slack id, before anybody knew it for a key; that is another identifier.
    await client.associate_user_identifiers([(KEY, "slack")])
    await link(client, TYPED)
    with pytest.raises(AmbiguousIdentifierError) as caught:
        await client.find_user(KEY)
    assert KEY not in repr([str(caught.value), caught.value.details])
    assert caught.value.types == ["api_key", "slack"]


@pytest.mark.parametrize("revoke", [False, True])
async def test_a_key_under_another_type_makes_nobody(client: AsyncFormationClient, revoke: bool) -> None:
    await link(client, TYPED)
    if revoke:
        await client.unlink_user_identifier(TYPED, force=True)
    before = await client.list_users()
    for stray in ((KEY, "slack"), (KEY, "internal")):
        with pytest.raises(UserNotFoundError):
            await client.resolve_user(stray, create_user=True)
        with pytest.raises(UserNotFoundError):
            await client.chat("Hello!", user_id=stray)
        with pytest.raises(InvalidIdentifierError) as caught:
            await client.associate_user_identifiers([stray])
        assert KEY not in str(caught.value)
    assert await client.list_users() == before


class Ledger:
    """Keeps all that a caller gets to see: results, and errors with their tracebacks."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def call(self, work: Awaitable[Any], kind: type[MuxiError] | None = None) -> Any:
        try:
            result = await work
        except MuxiError as error:
            if type(error) is not kind:
                raise
            self.seen += [str(error), repr(error), repr(error.details), *traceback.format_exception(error)]
            return None
        assert kind is None
        self.seen.append(f"{result} {result!r}")
        return result


async def test_no_secret_is_found_anywhere(
    database_config: FormationConfig, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "sqlalchemy")  # statements and not their rows: those are the host's to log
    secrets = {name: f"key_{name}_7Hq2mZx9Lw4Tn8Rb5Vc1" for name in ("linked", "bare", "revoked", "expiring", "moved")}
    spare = f"{database_config.id}-spare"
    ledger = Ledger()

    def typed(name: str, **more: Any) -> Any:
        return {"identifier": secrets[name], "type": "api_key", **more}

    async with client_of(database_config, time) as client:
        call, associate = ledger.call, client.associate_user_identifiers
        await call(client.create_user("usr_alice"))
        await call(client.create_user("usr_bob"))
        await client.chat("Hello!", user_id=secrets["bare"])  # nobody knows yet that it is one
        await call(associate([typed("bare"), spare], "usr_alice", on_conflict="absorb", idempotency_key="once"))
        await call(associate([typed("bare"), spare], "usr_alice", on_conflict="absorb", idempotency_key="once"))
        expiry = iso(time.at + 60_000_000)
        await call(associate([typed("linked"), typed("revoked"), typed("moved")], "usr_alice", reason="keys"))
        await call(associate([typed("expiring", expires_at=expiry)], "usr_alice"))
        for name in secrets:
            for given in (typed(name), secrets[name], (secrets[name], "api_key")):
                for _ in ("from the database", "from the cache"):
                    await call(client.resolve_user(given, create_user=True))
                    await call(client.find_user(given))
                await call(client.get_user(given))
                await call(client.get_user_identifiers(given, detailed=True))
                await call(client.chat("My name is Ann", user_id=given))
                await call(associate([given], "usr_bob"), IdentifierConflictError)
                await call(associate([given], "usr_bob", on_conflict="absorb"), IdentifierConflictError)
                await call(associate([given, "usr_alice"]), InvalidIdentifierError)
                await call(associate([given], "usr_nobody"), UserNotFoundError)
                await call(associate([given], idempotency_key="once"), InvalidRequestError)
                await call(associate([given], given))
                await call(
                    associate([{"identifier": secrets[name], "expires_at": "2020-01-01T00:00:00Z"}], "usr_alice"),
                    InvalidRequestError,
                )
        await call(client.unlink_user_identifier(secrets["revoked"]))
        time.advance(61)
        for name in ("revoked", "expiring"):
            for given in (typed(name), secrets[name]):
                await call(client.resolve_user(given, create_user=True), UserNotFoundError)
                await call(client.chat("Hello!", user_id=given), UserNotFoundError)
                await call(associate([given]), InvalidIdentifierError)
                await call(client.unlink_user_identifier(given), IdentifierNotFoundError)
                assert await client.find_user(given) is None
        await call(associate([typed("moved"), "alone"], "usr_bob", on_conflict="merge"))
        await call(client.create_user("usr_carol"))
        only = {"identifier": "key_only_one_7Hq2mZx9Lw4Tn8Rb", "type": "api_key"}
        secrets["only"] = only["identifier"]
        await call(associate([only], "usr_carol"))
        await call(client.unlink_user_identifier(secrets["only"]), LastIdentifierError)
        await call(client.list_users())
        await call(client.delete_user("usr_carol"))
        await call(client.resolve_user(secrets["only"], create_user=True), UserNotFoundError)
        found = await bytes_of(database_config), cached_keys(), repr(client.cache_info)
        await call(client.delete_user("usr_alice", include_merged=True))
        after = await bytes_of(database_config)
    closed = await bytes_of(database_config)

    assert any("SELECT" in record.getMessage() for record in caplog.records)  # it did listen
    logged = [repr(record.__dict__) + record.getMessage() for record in caplog.records]
    places = {
        "database": found[0],
        "database after the deletion": after,
        "database after closing": closed,
        "caches": found[1].encode(),
        "cache_info": found[2].encode(),
        "logs": "\n".join(logged).encode(),
        "results and errors": "\n".join(ledger.seen).encode(),
    }
    assert spare.encode() in places["database"]  # what is no secret is found, where it may be
    assert spare.encode() not in places["database after the deletion"]
    for name, secret in secrets.items():
        # The middle alone would give it away, too.
        for part in (secret, secret[8:24]):
            assert [place for place, content in places.items() if part.encode() in content] == [], name
