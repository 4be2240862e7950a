"""Listening to a person: whatever process it came from, in order, nothing twice, and to that person alone."""

from __future__ import annotations

import asyncio
import gc

import msgspec
import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.context.feed import rows, service
from muxi_identity.context.feed.rows import Happening
from muxi_identity.context.feed.service import Listener
from muxi_identity.errors import (
    ClientClosedError,
    IdentityChangedError,
    StorageUnavailableError,
    UnauthorizedError,
    UserNotFoundError,
)
from muxi_identity.formation import Formation
from muxi_identity.server.event_shapes import STREAMS
from tests.formations import Time, client_of

PATIENCE = 20


async def opened(client: AsyncFormationClient) -> Formation:
    return await client._lifecycle.formation()


async def next_of(listener: Listener, number: int = 1) -> list[Happening]:
    found = []
    async with asyncio.timeout(PATIENCE):
        async for each in listener:
            found.append(each)
            if len(found) == number:
                break
    return found


async def end_of(listener: Listener) -> None:
    async with asyncio.timeout(PATIENCE):
        async for _ in listener:
            pass


async def test_turns_and_runs_of_another_client_are_told_once_and_in_order(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as here, AsyncFormationClient(database_config) as there:
        await there.associate_user_identifiers(["alice@email.com", ("U1", "slack")])
        await there.chat("What was said before", "alice@email.com")
        formation = await opened(here)
        assert formation.feed._task is None  # nobody listens: nothing is asked
        async with await formation.feed.listen(formation.parse("alice@email.com")) as listener:
            await there.chat("Hello!", "bob@email.com")
            said = []
            for number in range(5):
                who = ("alice@email.com", ("U1", "slack"))[number % 2]
                reply = await there.chat(f"My lucky number is {number}", who)
                said.append((reply.session_id, reply.text))
            found = await next_of(listener, 5)
            assert [(each.data["session_id"], each.data["message"]["content"]) for each in found] == said
            assert {each.data["user_id"] for each in found} == {listener.user_id}
            await there.record_turn(
                "alice@email.com",
                [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello, by hand"}],
            )
            (turn,) = await next_of(listener)
            assert turn.data["message"]["content"] == "Hello, by hand"
        assert formation.feed._task is None


async def test_a_run_of_a_task_is_told(database_config: FormationConfig) -> None:
    time = Time()
    async with client_of(database_config, time) as here, client_of(database_config, time) as there:
        await there.chat("My budget is $5", "alice@email.com")
        await there.schedule_task("alice@email.com", "What is my budget?", cron="0 9 * * *")
        formation = await opened(here)
        async with await formation.feed.listen(formation.parse("alice@email.com")) as listener:
            time.advance(86_400)
            await there.run_due_tasks()
            found = {each.kind: each.data for each in await next_of(listener, 2)}
            assert found["job"]["reply"] == found["turn"]["message"]["content"] == "Your budget is $5."
            assert found["job"]["session_id"] == found["turn"]["session_id"]
    for kind, data in found.items():  # as the OpenAPI document says
        told = {"type": kind, **data}
        assert msgspec.convert(told, STREAMS["stream_events"].events[kind]) == told


async def test_somebody_goes_on_where_they_left_off(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.chat("Hello!", "alice@email.com")
        formation = await opened(client)
        reference = formation.parse("alice@email.com")
        async with await formation.feed.listen(reference) as listener:
            await client.chat("My lucky number is 1", "alice@email.com")
            (last,) = await next_of(listener)
        for number in (2, 3):
            await client.chat(f"My lucky number is {number}", "alice@email.com")
        async with await formation.feed.listen(reference, after=last.at) as listener:
            await client.chat("My lucky number is 4", "alice@email.com")
            found = [each.data["message"]["content"] for each in await next_of(listener, 3)]
            assert [text[-2] for text in found] == ["2", "3", "4"]
        async with await formation.feed.listen(reference, after=0) as listener:
            assert len(await next_of(listener, 5)) == 5
        async with await formation.feed.listen(reference, after=2**60) as listener:
            await client.chat("My lucky number is 6", "alice@email.com")
            assert "6" in (await next_of(listener))[0].data["message"]["content"]


async def test_turns_of_many_messages_are_all_told_to_who_comes_back(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_AT_ONCE", 4)
    monkeypatch.setattr(service, "MOST_AT_ONCE", 4)
    time = Time()
    async with client_of(database_config, time) as client:
        await client.chat("Hello!", "alice@email.com")
        for number in range(6):
            time.advance(120)
            said = [{"role": "assistant", "content": text} for text in ("Let me see.", "Still looking.", f"{number}.")]
            await client.record_turn("alice@email.com", [{"role": "user", "content": "Well?"}, *said])
        formation = await opened(client)
        async with await formation.feed.listen(formation.parse("alice@email.com"), after=0) as listener:
            found = [each.data["message"]["content"] for each in await next_of(listener, 7)]
            assert found[1:] == [f"{number}." for number in range(6)]


async def test_who_reads_slowly_misses_nothing_and_costs_nothing(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.chat("Hello!", "alice@email.com")
        formation = await opened(client)
        reference = formation.parse("alice@email.com")
        async with await formation.feed.listen(reference) as slow, await formation.feed.listen(reference) as quick:
            for number in range(12):
                await client.chat(f"My lucky number is {number}", "alice@email.com")
                await next_of(quick)
            assert len(slow.waiting) < 12
            assert len({each.key for each in await next_of(slow, 12)}) == 12


@pytest.mark.parametrize("change", ["unlink", "merge", "delete", "split"])
async def test_a_stream_ends_with_who_it_is_about(database_config: FormationConfig, change: str) -> None:
    async with AsyncFormationClient(database_config) as client:
        linked = await client.associate_user_identifiers(["alice@email.com", ("U1", "slack")])
        await client.chat("Hello!", ("U1", "slack"))
        formation = await opened(client)
        listener = await formation.feed.listen(formation.parse(("U1", "slack")))
        if change == "unlink":
            await client.unlink_user_identifier(("U1", "slack"))
        elif change == "delete":
            await client.delete_user(linked["muxi_user_id"])
        elif change == "split":
            await client.split_user(linked["muxi_user_id"], [("U1", "slack")])
        else:
            bob = await client.associate_user_identifiers(["bob@email.com"])
            await client.merge_users(bob["muxi_user_id"], linked["muxi_user_id"])
        with pytest.raises(IdentityChangedError):
            await end_of(listener)


async def test_it_ends_with_the_token_and_with_the_formation(database_config: FormationConfig) -> None:
    time = Time()
    async with client_of(database_config, time) as client:
        await client.chat("Hello!", "alice@email.com")
        formation = await opened(client)
        reference = formation.parse("alice@email.com")
        bound = await formation.feed.listen(reference, until=time.at + 60_000_000)
        free = await formation.feed.listen(reference)
        time.advance(61)
        with pytest.raises(UnauthorizedError):
            await end_of(bound)
        with pytest.raises(UserNotFoundError):
            await formation.feed.listen(formation.parse("nobody@email.com"))
    with pytest.raises(ClientClosedError):
        await end_of(free)


async def test_a_database_that_is_away_for_a_while_costs_no_event(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.chat("Hello!", "alice@email.com")
        formation = await opened(client)
        async with await formation.feed.listen(formation.parse("alice@email.com")) as listener:
            tried, read = asyncio.Event(), formation.feed._look

            async def fail() -> None:
                tried.set()
                raise StorageUnavailableError("away")

            monkeypatch.setattr(formation.feed, "_look", fail)
            await client.chat("My lucky number is 7", "alice@email.com")
            async with asyncio.timeout(PATIENCE):
                await tried.wait()
            assert not listener.waiting
            monkeypatch.setattr(formation.feed, "_look", read)
            assert "7" in (await next_of(listener))[0].data["message"]["content"]


async def test_a_listener_that_nobody_holds_is_gone(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.chat("Hello!", "alice@email.com")
        formation = await opened(client)
        listener = await formation.feed.listen(formation.parse("alice@email.com"))
        task = formation.feed._task
        assert task is not None
        del listener
        gc.collect()
        formation.feed.wake()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task])
        assert len(formation.feed._listeners) == 0
