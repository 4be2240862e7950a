"""Requests that are sent again: done once, whoever asks, whichever worker answers."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.conversation.responder import Response, Turn
from muxi_identity.errors import ModelUnavailableError, OutcomeUnknownError, StorageUnavailableError
from muxi_identity.server import idempotency
from muxi_identity.server.idempotency import LEASE_SECONDS, Claim, Once, Stored
from muxi_identity.server.routes import GROUPS
from tests.formations import Time, dump, rows_of
from tests.invariants import check_invariants
from tests.server.places import ADMIN, data, piecemeal, problem, serve, user, with_keys

HELLO = {"message": "Hello!"}
EVENTS = "text/event-stream; charset=utf-8"


class Slow:
    """Answers when it is let, and counts how often it was asked."""

    restartable = False

    def __init__(self) -> None:
        self.asked = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.fail: Exception | None = None

    async def respond(self, turn: Turn) -> Response:
        self.asked += 1
        self.begun.set()
        await self.go_on.wait()
        if self.fail is not None:
            raise self.fail
        return Response(f"Answer {self.asked}")


def with_key(headers: dict[str, str], key: str) -> dict[str, str]:
    return {**headers, "X-Muxi-Idempotency-Key": key}


async def test_sent_again_it_is_answered_from_the_first_time(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        alice = with_key(user("alice@email.com"), "k1")
        first = await http.post("/v1/chat", json=HELLO, headers=alice)
        again = await http.post("/v1/chat", json=HELLO, headers=alice)
        assert data(again) == data(first)
        assert again.json()["request"]["id"] != first.json()["request"]["id"]
        assert again.json()["request"]["idempotency_key"] == "k1"
        streamed = await http.post("/v1/chat", json=HELLO, headers={**alice, "Accept": "text/event-stream"})
        assert "event: done" in streamed.text
        assert data(first)["request_id"] in streamed.text
        session = data(await http.get(f"/v1/sessions/{data(first)['session_id']}", headers=user("alice@email.com")))
        assert session["message_count"] == 2

        for other in ({**HELLO, "session_id": "s"}, {"message": "Hello"}):
            problem(await http.post("/v1/chat", json=other, headers=alice), 422, "INVALID_REQUEST")
        problem(await http.post("/v1/memories", json={"detail": "x"}, headers=alice), 422, "INVALID_REQUEST")
        # Another user, or another caller, has keys of their own.
        problem(await http.post("/v1/chat", json=HELLO, headers=with_key(user("b"), "k1")), 422, "INVALID_REQUEST")
        as_admin = {**ADMIN, "X-Muxi-User-ID": "alice@email.com"}
        assert data(await http.post("/v1/chat", json=HELLO, headers=with_key(as_admin, "k1"))) != data(first)
        for key in ("x" * 256, "", "a\x00b"):
            response = await http.post("/v1/chat", json=HELLO, headers=with_key(user("a"), key))
            problem(response, 422, "INVALID_REQUEST")


async def test_nothing_of_an_answer_lies_open(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        said = with_key(user("alice@email.com"), "key-one")
        data(await http.post("/v1/chat", json={"message": "My xylophone is red"}, headers=said))
        (row,) = rows_of(await dump(database_config), "muxi_requests")
        assert row["answer"] is not None
        for value in row.values():
            shown = value if isinstance(value, bytes) else str(value).encode()
            for word in (b"xylophone", b"alice", b"key-one"):
                assert word not in shown


async def test_at_once_it_is_done_once(database_config: FormationConfig) -> None:
    slow = Slow()
    async with serve(with_keys(database_config), responder=slow) as (_, http):
        headers = with_key(user("alice@email.com"), "k")
        calls = [asyncio.create_task(http.post("/v1/chat", json=HELLO, headers=headers)) for _ in range(8)]
        await slow.begun.wait()
        slow.go_on.set()
        answers = [data(response) for response in await asyncio.gather(*calls)]
        assert slow.asked == 1
        assert all(answer == answers[0] for answer in answers)
    await check_invariants(database_config)


async def test_two_workers_do_it_once(database_config: FormationConfig) -> None:
    config, slow = with_keys(database_config), Slow()
    async with serve(config, responder=slow) as (_, one), serve(config, responder=slow) as (_, other):
        headers = with_key(user("alice@email.com"), "k")
        calls = [asyncio.create_task(http.post("/v1/chat", json=HELLO, headers=headers)) for http in (one, other) * 3]
        await slow.begun.wait()
        slow.go_on.set()
        answers = [data(response) for response in await asyncio.gather(*calls)]
        assert slow.asked == 1
        assert all(answer == answers[0] for answer in answers)


async def test_what_takes_too_long_is_asked_for_later(database_config: FormationConfig) -> None:
    slow = Slow()
    async with serve(with_keys(database_config), responder=slow) as (app, http):
        for site in app.sites:
            site.once._wait_seconds = 0.01
        headers = with_key(user("alice@email.com"), "k")
        first = asyncio.create_task(http.post("/v1/chat", json=HELLO, headers=headers))
        await slow.begun.wait()
        waiting = await http.post("/v1/chat", json=HELLO, headers=headers)
        problem(waiting, 409, "REQUEST_IN_PROGRESS")
        assert int(waiting.headers["retry-after"]) >= 1
        for site in app.sites:
            site.once._wait_seconds = 20.0
        slow.go_on.set()
        answer = data(await first)
        assert data(await http.post("/v1/chat", json=HELLO, headers=headers)) == answer


async def test_what_was_refused_is_done_when_it_is_sent_again(database_config: FormationConfig) -> None:
    slow = Slow()
    slow.go_on.set()
    async with serve(with_keys(database_config), responder=slow) as (_, http):
        slow.fail = ModelUnavailableError("The model is overloaded.")
        headers = with_key(user("alice@email.com"), "k")
        problem(await http.post("/v1/chat", json=HELLO, headers=headers), 503, "MODEL_UNAVAILABLE")
        slow.fail = None
        assert data(await http.post("/v1/chat", json=HELLO, headers=headers))["message"]["content"] == "Answer 2"
        assert data(await http.post("/v1/chat", json=HELLO, headers=headers))["message"]["content"] == "Answer 2"
        unknown = {"identifiers": ["a@x.com"], "muxi_user_id": "usr_late"}
        link = with_key(ADMIN, "l")
        problem(await http.post("/v1/users/identifiers", json=unknown, headers=link), 404, "USER_NOT_FOUND")
        data(await http.post("/v1/users", json={"muxi_user_id": "usr_late"}, headers=ADMIN), 201)
        assert data(await http.post("/v1/users/identifiers", json=unknown, headers=link))["muxi_user_id"] == "usr_late"


@pytest.mark.parametrize("fault", [StorageUnavailableError("gone"), RuntimeError("a mistake")])
async def test_what_may_have_been_done_is_not_done_again(
    database_config: FormationConfig, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    slow, time = Slow(), Time()
    slow.go_on.set()
    async with serve(with_keys(database_config), time=time, responder=slow) as (app, http):
        for site in app.sites:
            site.once._wait_seconds = 0.01
        slow.fail = fault
        headers = with_key(user("alice@email.com"), "k")
        failed = await http.post("/v1/chat", json=HELLO, headers=headers)
        assert failed.status_code in (500, 503)
        slow.fail = None
        problem(await http.post("/v1/chat", json=HELLO, headers=headers), 409, "REQUEST_IN_PROGRESS")
        time.advance(LEASE_SECONDS + 1)
        told = problem(await http.post("/v1/chat", json=HELLO, headers=headers), 409, "OUTCOME_UNKNOWN")
        assert "new idempotency key" in told["message"]
        assert slow.asked == 1
        assert data(await http.post("/v1/chat", json=HELLO, headers=with_key(headers, "k2")))
        time.advance(idempotency.KEEP_SECONDS)
        assert data(await http.post("/v1/chat", json=HELLO, headers=headers))


async def test_what_does_no_harm_is_done_again_after_a_death(database_config: FormationConfig) -> None:
    time = Time()
    async with serve(with_keys(database_config), time=time) as (app, _):
        (site,) = app.sites
        begun = await site.once.begin("k", b"me", b"request", repeatable=True)
        assert isinstance(begun, Claim)
        begun.let_go()  # its worker died
        time.advance(LEASE_SECONDS + 1)
        with pytest.raises(OutcomeUnknownError):
            await site.once.begin("k", b"me", b"request", repeatable=False)
        again = await site.once.begin("k", b"me", b"request", repeatable=True)
        assert isinstance(again, Claim)
        await begun.finish(200, {"late": True})  # it was not dead, only slow: what it says comes too late
        await again.finish(201, {"done": [1, None, "é"]})
        assert await site.once.begin("k", b"me", b"request", repeatable=False) == Stored(201, {"done": [1, None, "é"]})


async def test_a_held_claim_outlives_its_lease(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 0.3)
    async with serve(with_keys(database_config)) as (app, _):
        (site,) = app.sites
        once = Once(site.formation, wait_seconds=0.9)
        claim = await once.begin("k", b"me", b"request", repeatable=True)
        assert isinstance(claim, Claim)
        other = asyncio.create_task(once.begin("k", b"me", b"request", repeatable=True))
        with pytest.raises(Exception, match="being done"):
            await other
        await claim.finish(200, {})


async def test_formations_do_not_share_keys(database_config: FormationConfig) -> None:
    config = with_keys(database_config)
    other = dataclasses.replace(config, id=f"{config.id}-b")
    async with serve(config, other) as (_, http):
        headers = with_key(user("alice@email.com"), "k")
        one = data(await http.post("/v1/chat", json=HELLO, headers=headers))
        two = data(await http.post(f"/api/{other.id}/v1/chat", json=HELLO, headers=headers))
        assert one["user_id"] != two["user_id"]


async def test_a_link_is_exact_also_where_its_worker_died(database_config: FormationConfig) -> None:
    time = Time()
    async with serve(with_keys(database_config), time=time) as (app, http):
        (site,) = app.sites
        finish = Claim.finish
        died = pytest.MonkeyPatch()

        async def die(claim: Claim, _status: int, _data: object) -> None:
            claim.let_go()

        body, headers = {"identifiers": ["a@x.com", ["U1", "slack"]]}, with_key(ADMIN, "k")
        with died.context() as patch:
            patch.setattr(Claim, "finish", die)
            first = data(await http.post("/v1/users/identifiers", json=body, headers=headers))
        assert Claim.finish is finish
        time.advance(LEASE_SECONDS + 1)
        again = data(await http.post("/v1/users/identifiers", json=body, headers=headers))
        assert again == first
        assert again["created"] is True
        assert site.config.id == database_config.id


STREAMED = {**HELLO, "stream": True}


async def test_a_stream_that_was_left_may_be_sent_again(database_config: FormationConfig) -> None:
    slow = Slow()
    async with serve(with_keys(database_config), responder=slow) as (app, http):
        headers = with_key(user("alice@email.com"), "k")
        async with piecemeal(app, "POST", "/v1/chat", headers=headers, json=STREAMED):
            await slow.begun.wait()
        assert (await check_invariants(database_config))["messages"] == []
        slow.go_on.set()
        again = await http.post("/v1/chat", json=STREAMED, headers=headers)
        assert "Answer 2" in again.text
        assert (await http.post("/v1/chat", json=STREAMED, headers=headers)).text == again.text
        assert slow.asked == 2
        assert [site.metrics.streams for site in app.sites] == [0]


async def test_a_stream_whose_client_was_gone_before_it_began_leaves_no_claim(
    database_config: FormationConfig,
) -> None:
    slow = Slow()
    slow.go_on.set()
    async with serve(with_keys(database_config), responder=slow) as (app, http):
        headers = with_key(user("alice@email.com"), "k")
        gone = piecemeal(app, "POST", "/v1/chat", headers=headers, json=STREAMED)
        await gone.leave()
        again = await http.post("/v1/chat", json=STREAMED, headers=headers)
        assert "event: done" in again.text
        assert [site.metrics.streams for site in app.sites] == [0]


async def test_a_stream_that_is_left_while_it_is_recorded_is_not_done_again(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, time = Slow(), Time()
    slow.go_on.set()
    async with serve(with_keys(database_config), time=time, responder=slow) as (app, http):
        (site,) = app.sites
        site.once._wait_seconds = 0.01
        begun, go_on = asyncio.Event(), asyncio.Event()
        runner = site.formation._runner
        change = runner.guarded_change

        async def slowly(*arguments: Any, **named: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await change(*arguments, **named)

        monkeypatch.setattr(
            runner, "guarded_change", lambda *given, **named: runner._to_the_end(slowly(*given, **named))
        )
        headers = with_key(user("alice@email.com"), "k")
        async with piecemeal(app, "POST", "/v1/chat", headers=headers, json=STREAMED) as left:
            await begun.wait()
            await left.leave()
        go_on.set()
        await runner.finish()
        assert len((await check_invariants(database_config, now=time.at))["messages"]) == 2
        time.advance(LEASE_SECONDS + 1)
        assert '"OUTCOME_UNKNOWN"' in (await http.post("/v1/chat", json=STREAMED, headers=headers)).text
        assert slow.asked == 1


async def test_a_repetition_is_told_in_the_form_that_its_body_asks_for(database_config: FormationConfig) -> None:
    slow = Slow()
    async with serve(with_keys(database_config), responder=slow) as (app, http):
        for site in app.sites:
            site.once._wait_seconds = 0.01
        headers = with_key(user("alice@email.com"), "k")
        first = asyncio.create_task(http.post("/v1/chat", json=STREAMED, headers=headers))
        await slow.begun.wait()
        waiting = await http.post("/v1/chat", json=STREAMED, headers=headers)
        assert (waiting.status_code, waiting.headers["content-type"]) == (409, EVENTS)
        assert '"REQUEST_IN_PROGRESS"' in waiting.text
        assert int(waiting.headers["retry-after"]) >= 1
        slow.go_on.set()
        told = await first
        again = await http.post("/v1/chat", json=STREAMED, headers=headers)
        assert told.headers["content-type"] == again.headers["content-type"] == EVENTS
        assert again.text == told.text
        other = await http.post("/v1/chat", json={**STREAMED, "session_id": "s"}, headers=headers)
        assert (other.status_code, other.headers["content-type"]) == (422, EVENTS)
        for body in (b'{"stream": 1, "message": "x"}', b'[{"stream": true}]', b"{"):
            refused = await http.post("/v1/chat", content=body, headers=user("a"))
            assert (refused.status_code // 100, refused.headers["content-type"]) == (4, "application/json")


@pytest.mark.parametrize(
    ("path", "body", "secret"),
    [("/v1/users/link-codes", {}, "code"), ("/v1/users/tokens", {"user_id": ["U1", "slack"]}, "token")],
)
async def test_what_is_made_to_be_handed_on_is_made_once(
    database_config: FormationConfig, path: str, body: dict[str, Any], secret: str
) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        headers = {**ADMIN, "X-Muxi-User-ID": "alice@email.com"}
        made = [data(await http.post(path, json=body, headers=with_key(headers, key)), 201) for key in ("k", "k", "l")]
        assert made[0] == made[1] != made[2]
        for row in rows_of(await dump(database_config), "muxi_requests"):
            assert made[0][secret].encode() not in b"".join(each for each in row.values() if isinstance(each, bytes))
            assert made[0][secret] not in str(row)


def test_each_post_that_writes_is_done_once() -> None:
    """What README and docs say of all of them: those without are readings, and the two that the documents name."""
    without = {
        operation.name
        for group in GROUPS
        for operation in group.operations
        if operation.method == "POST" and operation.repetition is None
    }
    assert without == {"explain_pair", "query_user_context", "search_memories", "resolve_user", "import_users"}
