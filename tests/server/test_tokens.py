"""What a user token may do, and whom it means for as long as it is good."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from muxi_identity.config import FormationConfig
from tests.formations import Time
from tests.invariants import check_invariants
from tests.server.places import ADMIN, data, piecemeal, problem, serve, user, with_keys

ALICE = ("U1", "slack")
NUMBER = "12345"


async def test_what_a_token_may(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        person = data(
            await http.post("/v1/users/identifiers", json={"identifiers": [ALICE, "a@x.com"]}, headers=ADMIN)
        )["muxi_user_id"]
        issued = data(await http.post("/v1/users/tokens", json={"user_id": list(ALICE)}, headers=ADMIN), 201)
        token = {"Authorization": f"Bearer {issued['token']}"}
        hello = {"message": "Hello!"}
        said = data(await http.post("/v1/chat", json=hello, headers=token))
        assert said["user_id"] == person
        # Named bare, by its type, or by the id of the very person: all of it is the token's own identifier.
        for headers in (
            {"X-Muxi-User-ID": "U1", "X-Muxi-User-ID-Type": "slack"},
            {"X-Muxi-User-ID": "U1"},
            {"X-Muxi-User-ID": person},
        ):
            again = data(await http.post("/v1/chat", json=hello, headers={**token, **headers}))
            assert again["session_id"] == said["session_id"]
        assert data(await http.get("/v1/users/me/context", headers=token))["muxi_user_id"] == person
        assert data(await http.get(f"/v1/users/{person}/context", headers=token))["muxi_user_id"] == person
        for headers in (
            {"X-Muxi-User-ID": "U1", "X-Muxi-User-ID-Type": "github"},
            {"X-Muxi-User-ID": "U1", "X-Muxi-User-ID-Type": "slack", "X-Muxi-User-ID-Scope": "T1"},
            {"X-Muxi-User-ID": "a@x.com"},  # the same person, by another identifier: its sessions are not the token's
            {"X-Muxi-User-ID": "usr_somebody"},
            {"X-Muxi-User-ID": "u1"},
        ):
            problem(await http.post("/v1/chat", json=hello, headers={**token, **headers}), 403, "FORBIDDEN")
        problem(await http.post("/v1/chat", json={**hello, "user_id": "a@x.com"}, headers=token), 403, "FORBIDDEN")
        problem(await http.get("/v1/memories", params={"user_id": "a@x.com"}, headers=token), 403, "FORBIDDEN")
        resolved = data(await http.post("/v1/users/resolve", json={"identifier": "U1"}, headers=token))
        assert resolved["muxi_user_id"] == person
        problem(await http.post("/v1/users/resolve", json={"identifier": "a@x.com"}, headers=token), 403, "FORBIDDEN")
        # A key beside the token is what counts, and must be good.
        problem(
            await http.post("/v1/chat", json=hello, headers={**token, "X-Muxi-Client-Key": "x"}), 401, "UNAUTHORIZED"
        )
        acting = await http.post("/v1/chat", json=hello, headers={**token, "X-Muxi-Actor": "the boss"})
        assert data(acting)["user_id"] == person
        assert "the boss" not in (await http.get("/v1/audit", headers=ADMIN)).text


async def test_a_token_hears_its_own_channel_alone(database_config: FormationConfig) -> None:
    time = Time()
    async with serve(with_keys(database_config), time=time) as (app, http):
        people = People(http)
        await people.link("usr_alice", ALICE, "alice@email.com")
        own, _ = await people.issue(ALICE)
        whole, _ = await people.issue("usr_alice")
        mail = user("alice@email.com")

        async def say(word: str, headers: dict[str, str]) -> None:
            data(await http.post("/v1/chat", json={"message": f"My hobby is {word}"}, headers=headers))

        await say("xylophone", mail)
        await say("chess", own)
        job = {"type": "recurring", "schedule": "* * * * *", "message": "What is my hobby?"}
        data(await http.post("/v1/scheduler/jobs", json={**job, "user_id": "alice@email.com"}, headers=ADMIN), 201)
        ask = {"Last-Event-ID": "00"}
        async with (
            piecemeal(app, "GET", "/v1/events", headers={**own, **ask}) as token,
            piecemeal(app, "GET", "/v1/events", headers={**whole, **ask}) as person,
            piecemeal(app, "GET", "/v1/events", headers={**user(*ALICE), **ask}) as key,
        ):
            await token.wait_for("event: turn")  # of the past: what was said in the other channel lies before it
            await say("tuba", mail)
            time.advance(61)
            await app.sites.first.client("task").run_due_tasks()
            await token.wait_for("event: job")
            await say("golf", own)
            heard = await token.wait_for("event: turn", 2)
            for other in (person, key):
                await other.wait_for("event: turn", 5)  # four that were said, and the task's own
        # What the other channel said, and the session that the task spoke in there, are not the token's to read.
        turns = [json.loads(each.partition("data: ")[2]) for each in heard.split("\n\n") if "event: turn" in each]
        assert [each["message"]["content"].split()[-1] for each in turns] == ["chess.", "golf."]
        (told,) = [json.loads(each.partition("data: ")[2]) for each in heard.split("\n\n") if "event: job" in each]
        assert "chess" in told["reply"] or "tuba" in told["reply"]
        assert "xylophone" not in heard
        for other in (person, key):
            assert "xylophone" in other.text
            assert "tuba" in other.text


class People:
    """Links, unlinks and tokens by their numbers alone, and who answers to them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def link(self, user: str, *identifiers: Any) -> None:
        await self.http.post("/v1/users", json={"muxi_user_id": user}, headers=ADMIN)
        body = {"identifiers": identifiers, "muxi_user_id": user}
        data(await self.http.post("/v1/users/identifiers", json=body, headers=ADMIN))

    async def unlink(self, identifier: Any) -> None:
        body = {"identifier": identifier, "force": True}
        data(await self.http.post("/v1/users/identifiers/unlink", json=body, headers=ADMIN))

    async def issue(self, user_id: Any) -> tuple[dict[str, str], tuple[str, str | None, str | None]]:
        made = data(await self.http.post("/v1/users/tokens", json={"user_id": user_id}, headers=ADMIN), 201)
        return {"Authorization": f"Bearer {made['token']}"}, (made["identifier"], made["type"], made["scope"])

    async def of(self, headers: dict[str, str]) -> str | None:
        """Return whose context these headers bring, None where they mean nobody."""
        response = await self.http.get("/v1/users/me/context", headers=headers)
        if response.status_code == 404:
            problem(response, 404, "USER_NOT_FOUND")
            return None
        return str(data(response)["muxi_user_id"])

    async def may_not_speak(self, token: dict[str, str]) -> None:
        for call in (
            self.http.post("/v1/chat", json={"message": "Hello!"}, headers=token),
            self.http.post("/v1/users/resolve", json={"identifier": "12345", "create_user": True}, headers=token),
            self.http.post("/v1/memories", json={"detail": "Plays the cello"}, headers=token),
        ):
            problem(await call, 404, "USER_NOT_FOUND")


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ([NUMBER, "telegram"], [NUMBER, "github"]),
        (
            {"identifier": NUMBER, "type": "slack", "scope": "T1"},
            {"identifier": NUMBER, "type": "slack", "scope": "T2"},
        ),
        ([NUMBER, "slack"], {"identifier": NUMBER, "type": "slack", "scope": "T2"}),
    ],
    ids=["another type", "another scope", "a scope where there was none"],
)
@pytest.mark.parametrize("named", [NUMBER, [NUMBER, "slack"]], ids=["bare", "without its scope"])
async def test_a_token_never_moves_to_another_person(
    database_config: FormationConfig, first: Any, later: Any, named: Any
) -> None:
    if isinstance(named, list) and isinstance(first, list):
        named = first
    async with serve(with_keys(database_config)) as (_, http):
        people = People(http)
        await people.link("usr_a", first, "a@x.com")
        token, pinned = await people.issue(named)
        wanted = first if isinstance(first, dict) else {"identifier": first[0], "type": first[1], "scope": None}
        assert pinned == (NUMBER, wanted["type"], wanted["scope"])
        bare = user(NUMBER)
        assert [await people.of(each) for each in (token, bare, {**token, "X-Muxi-User-ID": NUMBER})] == ["usr_a"] * 3
        await people.unlink(first)
        await people.link("usr_b", later)
        # Not through the cache either, which has the spelling for whoever means it loosely.
        assert [await people.of(each) for each in (bare, token, bare)] == ["usr_b", None, "usr_b"]
        await people.may_not_speak(token)
        await people.unlink(later)
        await people.link("usr_a", first)
        assert await people.of(token) == "usr_a"
    await check_invariants(database_config)


async def test_a_token_for_an_untyped_identifier_means_that_alone(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        people = People(http)
        await people.link("usr_a", NUMBER, "a@x.com")
        token, pinned = await people.issue(NUMBER)
        assert pinned == (NUMBER, None, None)
        await people.link("usr_b", "b@x.com")
        await people.unlink(NUMBER)
        await people.link("usr_b", [NUMBER, "github"])
        # Nor may it make a user of its own there, who would answer to whoever means b by the number alone.
        await people.may_not_speak(token)
        assert [await people.of(each) for each in (user(NUMBER), token)] == ["usr_b", None]
        await people.unlink([NUMBER, "github"])
        await people.link("usr_a", NUMBER)
        assert await people.of(token) == "usr_a"
        # The same person's: but it has a type now, and that is another name to go by.
        await people.link("usr_a", [NUMBER, "github"])
        assert [await people.of(each) for each in (user(NUMBER), token)] == ["usr_a", None]
        await people.may_not_speak(token)
    await check_invariants(database_config)


async def test_a_token_without_a_scope_makes_no_way_around_those_that_have_one(
    database_config: FormationConfig,
) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        people = People(http)
        token, pinned = await people.issue([NUMBER, "slack"])  # nobody has it yet
        assert pinned == (NUMBER, "slack", None)
        await people.link("usr_b", {"identifier": NUMBER, "type": "slack", "scope": "T2"})
        await people.may_not_speak(token)
        assert await people.of(user(NUMBER, "slack")) == "usr_b"


async def test_a_token_for_somebody_new(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        people = People(http)
        for named, pinned in (
            (NUMBER, (NUMBER, None, None)),
            ("new@x.com", ("new@x.com", "email", None)),
            ([NUMBER, "internal"], (NUMBER, "internal", None)),
        ):
            token, told = await people.issue(named)
            assert told == pinned
            said = data(await http.post("/v1/chat", json={"message": "Hello!"}, headers=token))
            assert await people.of(token) == said["user_id"]
            (listed,) = data(await http.get(f"/v1/users/identifiers/{said['user_id']}", headers=ADMIN))["identifiers"]
            assert (listed["identifier"], listed["type"], listed["scope"]) == pinned
            if named == NUMBER:
                await people.unlink(NUMBER)
    await check_invariants(database_config)


async def test_who_is_meant_must_be_clear(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        people = People(http)
        await people.link("usr_a", [NUMBER, "telegram"])
        await people.link("usr_b", [NUMBER, "github"])
        unclear = await http.post("/v1/users/tokens", json={"user_id": NUMBER}, headers=ADMIN)
        told = problem(unclear, 422, "AMBIGUOUS_IDENTIFIER")
        assert told["details"]["types"] == ["github", "telegram"]


async def test_tokens_name_no_secret(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        people = People(http)
        key, revoked = "key_0123456789abcdef0123456789abcdef", "key_fedcba98765432100123456789abcdef"
        await people.link("usr_a", [key, "api_key"], [revoked, "api_key"], "a@x.com")
        await people.unlink([revoked, "api_key"])
        for named in ([key, "api_key"], key, revoked):  # bare, it can be known for one
            refused = await http.post("/v1/users/tokens", json={"user_id": named}, headers=ADMIN)
            problem(refused, 422, "INVALID_REQUEST")
            assert key not in refused.text
        for seconds in (0, 59, 30 * 86_400 + 1, "60", 60.5):
            body = {"user_id": "a", "expires_in": seconds}
            problem(await http.post("/v1/users/tokens", json=body, headers=ADMIN), 422, "INVALID_REQUEST")
