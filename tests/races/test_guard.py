"""The guard: whatever happens to an identifier during a chat turn, nothing is stored under a person it is not of.

A responder that waits places the change exactly between the load of a turn and its record.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.util import await_only

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.conversation.responder import Fact, Response, Turn
from muxi_identity.errors import IdentityChangedError, MuxiError, SessionNotFoundError
from muxi_identity.identifiers import parse_identifier
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.keys import BucketKey
from tests.invariants import Tables, check_invariants
from tests.races.processes import PATIENCE, Swarm, call, values

NAME = ("U98765ABC", "slack")
MINE = "My budget is 5"


class Waiting:
    """Remembers what it was asked, and does not answer the first turn before it is let."""

    def __init__(self, restartable: bool) -> None:
        self.restartable = restartable
        self.turns: list[Turn] = []
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def respond(self, turn: Turn) -> Response:
        self.turns.append(turn)
        self.asked.set()
        await self.answer.wait()
        known = ", ".join(fact.content for fact in turn.facts)
        return Response(f"I know: {known}.", [Fact("topic", turn.message, turn.message)])


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    """Where the changes are made. Two people: the old one has the identifier and a secret plan."""
    async with AsyncFormationClient(database_config) as client:
        for user in ("usr_old", "usr_new"):
            await client.create_user(user)
            await client.associate_user_identifiers([f"{user[4:]}@x.com"], user)
            await client.chat(f"My plan is {user[4:]}", user)
        await client.associate_user_identifiers([NAME], "usr_old")
        yield client


Change = Callable[[AsyncFormationClient], Awaitable[Any]]


async def unlink(client: AsyncFormationClient) -> None:
    await client.unlink_user_identifier(NAME, force=True)


async def relink(client: AsyncFormationClient) -> None:
    await unlink(client)
    await client.associate_user_identifiers([NAME], "usr_new")


async def relink_to_the_same(client: AsyncFormationClient) -> None:
    await unlink(client)
    await client.associate_user_identifiers([NAME], "usr_old")


async def delete(client: AsyncFormationClient) -> None:
    await client.delete_user("usr_old")


async def delete_and_relink(client: AsyncFormationClient) -> None:
    await delete(client)
    await client.associate_user_identifiers([NAME], "usr_new")


async def merge(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([NAME], "usr_new", on_conflict="merge")


def said_by(tables: Tables, message: str) -> list[dict[str, Any]]:
    """Return the rows that a turn with this message left."""
    kept = [row for row in tables["messages"] if row["content"] == message]
    return kept + [row for row in tables["memories"] if row["content"] == message]


def public_id(tables: Tables, user_pk: int) -> str:
    return next(user["public_id"] for user in tables["users"] if user["pk"] == user_pk)


CHANGES: dict[str, tuple[Change, str | None]] = {
    "unlink": (unlink, None),
    "relink": (relink, "usr_new"),
    "relink-to-the-same": (relink_to_the_same, "usr_old"),
    "delete": (delete, None),
    "delete-and-relink": (delete_and_relink, "usr_new"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_computed_turn_is_not_recorded(
    database_config: FormationConfig, client: AsyncFormationClient, change: str
) -> None:
    responder = Waiting(restartable=False)
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        turn = asyncio.create_task(talking.chat(MINE, NAME[0]))
        await asyncio.wait_for(responder.asked.wait(), PATIENCE)
        await CHANGES[change][0](client)
        before = await check_invariants(database_config)
        responder.answer.set()
        with pytest.raises(IdentityChangedError) as raised:
            await turn
        assert raised.value.retryable
        assert await check_invariants(database_config) == before
        assert len(responder.turns) == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_a_restartable_turn_is_computed_again_for_the_new_person(
    database_config: FormationConfig, client: AsyncFormationClient, change: str
) -> None:
    do, owner = CHANGES[change]
    responder = Waiting(restartable=True)
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        turn = asyncio.create_task(talking.chat(MINE, NAME))
        await asyncio.wait_for(responder.asked.wait(), PATIENCE)
        assert [fact.value for fact in responder.turns[0].facts] == ["old"]
        await do(client)
        responder.answer.set()
        reply = await turn
        tables = await check_invariants(database_config)
        rows = said_by(tables, MINE)
        assert len(rows) == 2
        assert {public_id(tables, row["user_pk"]) for row in rows} == {reply.user_id}
        expected = [] if owner is None else [owner[4:]]
        assert [fact.value for fact in responder.turns[1].facts] == expected
        assert len(responder.turns) == 2
        if owner is None:
            assert reply.user_id not in {"usr_old", "usr_new"}  # first contact: nobody has it any more
        else:
            assert reply.user_id == owner


@pytest.mark.parametrize("restartable", [True, False])
async def test_a_merge_in_between_keeps_the_turn_where_it_was_said(
    database_config: FormationConfig, client: AsyncFormationClient, restartable: bool
) -> None:
    """The identifier is still its member's: the turn stands, under the member, and an unmerge will leave it there."""
    responder = Waiting(restartable)
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        turn = asyncio.create_task(talking.chat(MINE, NAME))
        await asyncio.wait_for(responder.asked.wait(), PATIENCE)
        await merge(client)
        responder.answer.set()
        await turn
        tables = await check_invariants(database_config)
        assert {public_id(tables, row["user_pk"]) for row in said_by(tables, MINE)} == {"usr_old"}
        # The next turn knows both.
        await talking.chat("What now?", NAME)
        assert {fact.value for fact in responder.turns[-1].facts} >= {"new"}


@pytest.mark.parametrize("restartable", [True, False])
async def test_a_public_id_that_is_deleted_in_between(
    database_config: FormationConfig, client: AsyncFormationClient, restartable: bool
) -> None:
    responder = Waiting(restartable)
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        turn = asyncio.create_task(talking.chat(MINE, "usr_old"))
        await asyncio.wait_for(responder.asked.wait(), PATIENCE)
        await delete(client)
        responder.answer.set()
        with pytest.raises(MuxiError) as raised:
            await turn
        assert raised.value.code == ("USER_NOT_FOUND" if restartable else "IDENTITY_CHANGED")
        assert not said_by(await check_invariants(database_config), MINE)


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)  # SQLite has one writer at a time
@pytest.mark.parametrize("change", ["unlink", "delete"])
async def test_a_change_that_comes_while_the_turn_is_recorded(
    database_config: FormationConfig, client: AsyncFormationClient, change: str
) -> None:
    """The turn has passed the guard and not committed: the change waits, and finds what the turn has left."""
    responder = Waiting(restartable=False)
    responder.answer.set()
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        await talking.find_user(NAME)
        formation = talking._lifecycle.open_formation
        assert formation is not None
        transact, inside, go_on = formation.database.transact, asyncio.Event(), asyncio.Event()

        async def held(work: Callable[..., Any]) -> Any:
            def whole(connection: Any) -> Any:
                result = work(connection)
                inside.set()
                await_only(go_on.wait())
                return result

            return await transact(whole)

        formation.database.transact = held  # type: ignore[method-assign]
        turn = asyncio.create_task(talking.chat(MINE, NAME))
        await asyncio.wait_for(inside.wait(), PATIENCE)
        changing = asyncio.create_task(CHANGES[change][0](client))  # type: ignore[arg-type]
        engine = client._lifecycle.open_formation
        assert engine is not None
        async with asyncio.timeout(PATIENCE):
            while not await engine.database.read(_somebody_waits):
                assert not changing.done()
        go_on.set()
        await turn
        await changing
        tables = await check_invariants(database_config)
        assert len(said_by(tables, MINE)) == (2 if change == "unlink" else 0)
        assert {public_id(tables, row["user_pk"]) for row in said_by(tables, MINE)} <= {"usr_old"}


def _somebody_waits(connection: Any) -> bool:
    return bool(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar())


# A cache that is wrong


async def plant(client: AsyncFormationClient, owner: str, tables: Tables, identifier_pk: int | None = None) -> None:
    """Make the client's cache say that NAME is ``owner``'s, as if another process had changed it unheard."""
    formation = client._lifecycle.open_formation
    assert formation is not None
    cache = formation.cache
    user = next(user for user in tables["users"] if user["public_id"] == owner)
    if identifier_pk is None:
        identifier_pk = next(row["pk"] for row in tables["identifiers"] if row["spelling"] == NAME[0])
    bucket = formation._bucket(NAME[0])
    for key in (NAME, NAME[0]):
        cache.put(
            key,
            Hit(identifier_pk, user["pk"], user["root_pk"], owner),
            cache.bucket_tokens.take(bucket),
            cache.member_tokens.generation,
        )
    found = await client.find_user(NAME)
    assert found is not None
    assert found["muxi_user_id"] == owner


@pytest.mark.parametrize("restartable", [True, False])
@pytest.mark.parametrize("other_identifier", [False, True])
async def test_a_wrong_cache_misplaces_nothing(
    database_config: FormationConfig, client: AsyncFormationClient, restartable: bool, other_identifier: bool
) -> None:
    responder = Waiting(restartable)
    responder.answer.set()
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        tables = await check_invariants(database_config)
        theirs = None
        if other_identifier:  # the entry of a row that was unlinked long ago
            await relink_to_the_same(client)
            theirs = next(row["pk"] for row in tables["identifiers"] if row["spelling"] == NAME[0])
        await talking.find_user(NAME)
        await plant(talking, "usr_old" if other_identifier else "usr_new", tables, theirs)
        reply = await talking.chat(MINE, NAME)
        # Nothing had been computed when the load found it out: it starts again, whatever the responder.
        assert reply.user_id == "usr_old"
        assert [[fact.value for fact in turn.facts] for turn in responder.turns] == [["old"]]
        tables = await check_invariants(database_config)
        rows = said_by(tables, MINE)
        assert len(rows) == 2
        assert {public_id(tables, row["user_pk"]) for row in rows} == {"usr_old"}


async def test_a_wrong_cache_reads_no_session(database_config: FormationConfig, client: AsyncFormationClient) -> None:
    mine = await client.chat("My plan is a secret", NAME)
    theirs = await client.chat("Hello!", "usr_new")
    await plant(client, "usr_new", await check_invariants(database_config))
    with pytest.raises(SessionNotFoundError):
        await client.get_session_messages(theirs.session_id, NAME)
    await plant(client, "usr_new", await check_invariants(database_config))
    found = await client.get_session_messages(mine.session_id, NAME)
    assert found["messages"][0]["content"] == "My plan is a secret"


async def test_a_wrong_root_reads_the_right_person(
    database_config: FormationConfig, client: AsyncFormationClient, swarm: Swarm
) -> None:
    """Another process merges; this one still has the old root in its cache."""
    responder = Waiting(restartable=False)
    responder.answer.set()
    async with AsyncFormationClient(database_config, responder=responder) as talking:
        await talking.find_user(NAME)
        merging = [[call("associate_user_identifiers", [NAME], "usr_new", on_conflict="merge")]]
        values((await asyncio.to_thread(swarm.run, database_config, merging))[0])
        reply = await talking.chat(MINE, NAME)
        # Both spoke of one plan: the later statement counts, and only the right root has it.
        assert [fact.value for fact in responder.turns[0].facts] == ["new"]
        assert reply.user_id == "usr_new"
        await check_invariants(database_config)


async def test_turns_under_load(database_config: FormationConfig) -> None:
    """Turns, and identifiers that are unlinked, relinked, merged and deleted meanwhile, through two processes' caches.

    Each message names the identifier that it was sent from. However it ends, it lies under a row of that identifier.
    """
    chance = random.Random(11)
    names = [f"n{number}" for number in range(4)]

    class Quick:
        restartable = False

        async def respond(self, turn: Turn) -> Response:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            return Response(turn.message, [Fact("from", turn.message, turn.message)])

    kept: list[str] = []
    refused: set[str] = set()

    async def talk(client: AsyncFormationClient, speaker: int) -> None:
        for number in range(15):
            name = chance.choice(names)
            message = f"{name} {speaker} {number}"
            try:
                reply = await client.chat(message, name)
            except IdentityChangedError:
                continue
            assert reply.text == message
            kept.append(message)

    async def stir(client: AsyncFormationClient) -> None:
        for _ in range(25):
            name, other = chance.sample(names, 2)
            try:
                match chance.randrange(4):
                    case 0:
                        await client.unlink_user_identifier(name, force=True)
                    case 1:
                        await client.unlink_user_identifier(name, force=True)
                        await client.associate_user_identifiers([name, other])
                    case 2:
                        await client.associate_user_identifiers([name, other], on_conflict="merge")
                    case 3:
                        await client.delete_user(name, include_merged=True)
            except MuxiError as error:
                refused.add(error.code)

    async with (
        AsyncFormationClient(database_config, responder=Quick()) as one,
        AsyncFormationClient(database_config, responder=Quick()) as other,
    ):
        await one.find_user("x")
        talkers = [talk(client, speaker) for speaker, client in enumerate((one, other) * 3)]
        await asyncio.gather(*talkers, stir(one), stir(other))
    assert refused <= {"IDENTIFIER_NOT_FOUND", "USER_NOT_FOUND", "IDENTIFIER_CONFLICT"}
    tables = await check_invariants(database_config)
    # By the bucket: of a person who was deleted the spelling goes, also from what others were once known by.
    assert database_config.secret_key is not None
    bucket = BucketKey(database_config.secret_key.reveal(), database_config.id)
    buckets = {row["pk"]: bytes(row["bucket"]) for row in tables["identifiers"]}
    for table in ("messages", "memories"):
        for row in tables[table]:
            assert bucket(parse_identifier(row["content"].split()[0]).fold) == buckets[row["identifier_pk"]]
            assert row["content"] in kept
