"""Every kind of call, once around, on both databases."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.server.logs import ACCESS
from muxi_identity.server.routes import GROUPS
from tests.invariants import check_invariants
from tests.server.places import ADMIN, CLIENT, data, problem, serve, user, with_keys


async def test_who_is_who(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        resolved = data(
            await http.post("/v1/users/resolve", json={"identifier": "a@x.com", "create_user": True}, headers=CLIENT)
        )
        assert resolved["created"] is True
        linked = data(
            await http.post(
                "/v1/users/identifiers", json={"identifiers": ["a@x.com", ["U1", "slack"], "a/b%"]}, headers=ADMIN
            )
        )
        assert linked["muxi_user_id"] == resolved["muxi_user_id"]
        assert (linked["count"], linked["new_identifiers"]) == (3, ["U1", "a/b%"])
        for path in (quote("a/b%", safe=""), "U1", resolved["muxi_user_id"]):
            listed = data(await http.get(f"/v1/users/identifiers/{path}", headers=ADMIN))
            assert [each["identifier"] for each in listed["identifiers"]] == ["a@x.com", "U1", "a/b%"]
            assert listed["count"] == 3
        unlinked = data(await http.delete("/v1/users/identifiers/a/b%25", headers=ADMIN))
        assert unlinked["identifier"] == "a/b%"
        problem(await http.delete("/v1/users/identifiers/a/b%25", headers=ADMIN), 404, "IDENTIFIER_NOT_FOUND")
        made = data(await http.post("/v1/users", json={"muxi_user_id": "usr_bob"}, headers=ADMIN), 201)
        assert made["established"] is True
        problem(await http.post("/v1/users", json={"muxi_user_id": "usr_bob"}, headers=ADMIN), 409, "USER_EXISTS")
        page = data(await http.get("/v1/users", params={"limit": 1}, headers=ADMIN))
        rest = data(await http.get("/v1/users", params={"limit": 1, "cursor": page["next_cursor"]}, headers=ADMIN))
        assert {page["users"][0]["muxi_user_id"], rest["users"][0]["muxi_user_id"]} == {
            "usr_bob",
            resolved["muxi_user_id"],
        }
        conflict = problem(
            await http.post(
                "/v1/users/identifiers", json={"identifiers": ["a@x.com"], "muxi_user_id": "usr_bob"}, headers=ADMIN
            ),
            409,
            "IDENTIFIER_CONFLICT",
        )
        assert conflict["details"]["conflicts"] == [
            {"identifier": "a@x.com", "type": "email", "muxi_user_id": resolved["muxi_user_id"]}
        ]
        events = data(await http.get("/v1/audit", headers=ADMIN))["events"]
        assert {event["event"] for event in events} == {"user:create", "identifier:link", "identifier:unlink"}
        assert "a@x.com" not in str(events)
        erased = data(await http.delete("/v1/users/U1", headers=ADMIN))
        assert erased["muxi_user_id"] == resolved["muxi_user_id"]
        problem(await http.get("/v1/users/U1", headers=ADMIN), 404, "USER_NOT_FOUND")
    await check_invariants(database_config)


async def test_the_audit_log_pages_newest_first(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        for number in range(5):
            await http.post("/v1/users", json={"muxi_user_id": f"usr_{number}", "reason": f"r{number}"}, headers=ADMIN)
        seen, cursor = [], None
        while True:
            params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = data(await http.get("/v1/audit", params=params, headers={**ADMIN}))
            seen += [(event["muxi_user_id"], event["reason"], event["actor"]) for event in page["events"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [(f"usr_{number}", f"r{number}", "admin") for number in (4, 3, 2, 1, 0)]
        problem(await http.get("/v1/audit", params={"cursor": "x" * 44}, headers=ADMIN), 422, "INVALID_REQUEST")
        named = await http.post("/v1/users", json={}, headers={**ADMIN, "X-Muxi-Actor": "support: Zoë".encode()})
        assert data(named, 201)["established"] is True
        newest = data(await http.get("/v1/audit", params={"limit": 1}, headers=ADMIN))["events"][0]
        assert newest["actor"] == "support: Zoë"


async def test_one_person_two_channels(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        identifiers = [["user_123", "internal"], ["U1", "slack"]]
        person = data(await http.post("/v1/users/identifiers", json={"identifiers": identifiers}, headers=ADMIN))
        web, slack = user("user_123", "internal"), user("U1", "slack")
        told = data(await http.post("/v1/chat", json={"message": "My budget is $5,000", "mode": "x"}, headers=web))
        assert told["user_id"] == person["muxi_user_id"]
        asked = data(await http.post("/v1/chat", json={"message": "What's my budget?"}, headers=slack))
        assert asked["message"] == {"role": "assistant", "content": "Your budget is $5,000."}
        assert asked["session_id"] != told["session_id"]

        (session,) = data(await http.get("/v1/sessions", headers=web))["sessions"]
        assert (session["session_id"], session["active"]) == (told["session_id"], True)
        one = data(await http.get(f"/v1/sessions/{told['session_id']}", headers=web))
        assert (one["message_count"], one["channel"]) == (2, "internal")
        problem(await http.get(f"/v1/sessions/{told['session_id']}", headers=slack), 404, "SESSION_NOT_FOUND")
        messages = data(await http.get(f"/v1/sessions/{told['session_id']}/messages", headers=web))
        assert [message["role"] for message in messages["messages"]] == ["user", "assistant"]
        restored = data(
            await http.post(
                f"/v1/sessions/{quote('a/b', safe='')}/restore",
                json={"messages": [{"role": "user", "content": "before"}]},
                headers=web,
            )
        )
        assert (restored["session_id"], restored["messages_loaded"]) == ("a/b", 1)
        changed = data(await http.patch("/v1/sessions/a%2Fb/context", json={"values": {"page": 3}}, headers=web))
        assert changed == {"session_id": "a/b", "context": {"page": 3}}

        memories = data(await http.get("/v1/memories", params={"user_id": "U1"}, headers=slack))
        assert [memory["value"] for memory in memories["memories"]] == ["$5,000"]
        added = data(await http.post("/v1/memories", json={"type": "note", "detail": "Likes tea"}, headers=slack), 201)
        assert added["id"] == added["memory_id"]
        found = data(await http.get("/v1/memories", params={"query": "tea"}, headers=web))
        assert [memory["id"] for memory in found["memories"]] == [added["id"]]
        edited = await http.patch(f"/v1/memories/{added['id']}", json={"content": "Likes green tea"}, headers=web)
        assert data(edited)["content"] == "Likes green tea"
        assert data(await http.delete(f"/v1/memories/{added['id']}", headers=web))["deleted"] is True
        problem(await http.get(f"/v1/memories/{added['id']}", headers=web), 404, "MEMORY_NOT_FOUND")
        problem(await http.post("/v1/memories", json={"type": "note"}, headers=web), 422, "INVALID_REQUEST")

        key = quote("lan/guage", safe="")
        data(await http.put(f"/v1/users/me/preferences/{key}", json={"value": {"a": [1, None]}}, headers=web))
        preferences = data(await http.get("/v1/users/me/preferences", headers=slack))
        assert preferences["preferences"] == {"lan/guage": {"a": [1, None]}}
        assert data(await http.get(f"/v1/users/U1/preferences/{key}", headers=CLIENT))["channel"] == "internal"
        data(await http.delete(f"/v1/users/me/preferences/{key}", headers=slack))
        problem(await http.get(f"/v1/users/me/preferences/{key}", headers=web), 404, "PREFERENCE_NOT_FOUND")

        noted = {"content": "A trip to Lisbon", "kind": "topic"}
        data(await http.post("/v1/users/me/working-memory", json=noted, headers=slack), 201)
        items = data(await http.get("/v1/users/me/working-memory", headers=web))["items"]
        assert "A trip to Lisbon" in [item["content"] for item in items]
        turn = {"messages": [{"role": "user", "content": "I am vegan."}], "memories": ["Is vegan"]}
        recorded = data(await http.post("/v1/users/me/turns", json=turn, headers=slack), 201)
        assert len(recorded["memory_ids"]) == 1
        context = data(await http.get("/v1/users/me/context", params={"query": "vegan"}, headers=web))
        assert context["memories"][0]["content"] == "Is vegan"
        assert "5,000" in data(await http.get("/v1/users/U1/synopsis", headers=CLIENT))["text"]
        assert data(await http.delete("/v1/users/me/working-memory", headers=web))["items_cleared"] > 0

        buffer = data(await http.get("/v1/memory/buffer", headers=user(person["muxi_user_id"])))
        assert (buffer["user_id"], buffer["total_messages"], buffer["sessions"]) == (person["muxi_user_id"], 6, 3)
        cleared = data(await http.delete(f"/v1/memory/buffer/{told['session_id']}", headers=web))
        assert cleared == {"messages_cleared": 2, "sessions_cleared": 1}
        assert data(await http.get("/v1/memory/stats", headers=ADMIN))["total_messages"] == 4
        assert data(await http.delete("/v1/memory/buffer", headers=slack))["messages_cleared"] == 3
        problem(await http.delete("/v1/memory/buffer", headers=CLIENT), 403, "FORBIDDEN")
        assert data(await http.delete("/v1/memory/buffer", headers=ADMIN))["messages_cleared"] == 1
        assert data(await http.get("/v1/memory/stats", headers=ADMIN))["total_messages"] == 0
    await check_invariants(database_config)


async def test_credentials_are_never_answered(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
        alice = user("alice@email.com")
        body = {"service": "github", "credential": secret}
        made = await http.post("/v1/credentials", json=body, headers=alice)
        kept = data(made, 201)
        listed = await http.get("/v1/credentials", headers=alice)
        one = await http.get(f"/v1/credentials/{kept['id']}", headers=alice)
        services = await http.get("/v1/credentials/services", headers=ADMIN)
        assert data(listed)["credentials"] == [kept]
        assert data(one) == kept
        assert data(services)["services"] == [{"service": "github", "count": 1}]
        assert data(await http.post("/v1/credentials/rotate", headers=ADMIN))["kept"] == 1
        for response in (made, listed, one, services):
            assert secret not in response.text
        problem(await http.get(f"/v1/credentials/{kept['id']}", headers=user("b@x.com")), 404, "USER_NOT_FOUND")
        assert data(await http.delete(f"/v1/credentials/{kept['id']}", headers=alice))["deleted"] is True
        problem(await http.get(f"/v1/credentials/{kept['id']}", headers=alice), 404, "CREDENTIAL_NOT_FOUND")


async def test_scheduled_jobs(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        job = {"type": "recurring", "schedule": "0 9 * * 1", "message": "Hello", "user_id": "user_123"}
        made = data(await http.post("/v1/scheduler/jobs", json=job, headers=ADMIN), 201)
        assert (made["type"], made["status"]) == ("recurring", "active")
        once = {**job, "type": "one_time", "schedule": "2100-01-01T00:00:00"}
        data(await http.post("/v1/scheduler/jobs", json=once, headers=ADMIN), 201)
        prompt = {**job, "type": "prompt", "user_id": ["u2", "internal"]}
        assert data(await http.post("/v1/scheduler/jobs", json=prompt, headers=ADMIN), 201)["type"] == "recurring"
        listed = data(await http.get("/v1/scheduler/jobs", params={"user_id": "user_123"}, headers=ADMIN))
        assert sorted(each["type"] for each in listed["jobs"]) == ["one_time", "recurring"]
        problem(await http.get("/v1/scheduler/jobs", headers=ADMIN), 422, "INVALID_REQUEST")
        path = f"/v1/scheduler/jobs/{made['id']}"
        assert data(await http.put(path, json={"schedule": "0 8 * * *"}, headers=ADMIN))["schedule"] == "0 8 * * *"
        assert data(await http.post(f"{path}/pause", headers=ADMIN))["status"] == "paused"
        assert data(await http.post(f"{path}/resume", headers=ADMIN))["status"] == "active"
        assert data(await http.get(f"{path}/runs", headers=ADMIN))["runs"] == []
        assert data(await http.delete(path, headers=ADMIN)) == {
            "deleted": True,
            "id": made["id"],
            "task_id": made["id"],
        }
        problem(await http.get(path, headers=ADMIN), 404, "TASK_NOT_FOUND")
        bad = {**job, "schedule": "every monday"}
        problem(await http.post("/v1/scheduler/jobs", json=bad, headers=ADMIN), 422, "INVALID_SCHEDULE")


async def test_addresses(database_config: FormationConfig) -> None:
    config = with_keys(database_config)
    async with serve(config) as (_, http):
        body = {"identifier": "alice@email.com", "create_user": True}
        ids = {
            data(await http.post(f"{prefix}/v1/users/resolve", json=body, headers=CLIENT))["muxi_user_id"]
            for prefix in ("", f"/api/{config.id}", f"/draft/{config.id}")
        }
        assert len(ids) == 1
        problem(await http.get("/api/nobody/v1/users", headers=ADMIN), 404, "FORMATION_NOT_FOUND")
        others = ("/agents", "/mcp/tools", "/triggers/x", "/audiochat", "/sops", "/skills", "/logs", "/scheduler")
        for path in (*(f"/v1{path}" for path in others), f"/api/{config.id}/v1/events/s/r", "/ping", "/rpc/formations"):
            told = problem(await http.get(path, headers=ADMIN), 404, "NOT_FOUND")
            assert "no call of this server" in told["message"]
        for path in ("/v1/schedulers", "/v1/scheduler/x", "/v1/events/x", "/pings", "/agents"):
            told = problem(await http.get(path, headers=ADMIN), 404, "NOT_FOUND")
            assert "There is nothing at this address" in told["message"]
        refused = await http.get("/v1/users/resolve", headers=ADMIN)
        problem(refused, 405, "METHOD_NOT_ALLOWED")
        assert refused.headers["allow"] == "POST"
        problem(await http.get("/nowhere"), 404, "NOT_FOUND")
        problem(await http.get("/v1/users/%ff", headers=ADMIN), 422, "INVALID_REQUEST")
        for path in ("/health", "/v1/health", f"/api/{config.id}/v1/health"):
            health = await http.get(path)
            assert set(health.json()) == {"status", "version", "uptime_seconds"}
        assert (await http.get("/ready")).json() == {"status": "ready", "database": "available"}
        assert data(await http.get("/v1/status", headers=ADMIN))["formation_id"] == config.id
        shown = (await http.get("/v1/config", headers=ADMIN)).text
        assert "***" in shown
        assert config.secret_key is not None
        for secret in (config.secret_key.reveal(), str(config.database.path), "postgresql://"):
            assert secret not in shown


async def test_naming_the_user(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        hello = {"message": "Hello"}
        problem(await http.post("/v1/chat", json=hello, headers=CLIENT), 422, "INVALID_REQUEST")
        problem(await http.post("/v1/chat", json={**hello, "user_id": "b"}, headers=user("a")), 422, "INVALID_REQUEST")
        by_header = data(await http.post("/v1/chat", json={**hello, "user_id": "a"}, headers=user("a")))
        by_body = data(await http.post("/v1/chat", json={**hello, "user_id": "a"}, headers=CLIENT))
        assert by_header["user_id"] == by_body["user_id"]
        unicode = {**CLIENT, "X-Muxi-User-ID": "zoë@exämple.com".encode()}
        typed = data(await http.post("/v1/chat", json=hello, headers=unicode))
        listed = data(await http.get(f"/v1/users/identifiers/{typed['user_id']}", headers=ADMIN))
        assert listed["identifiers"][0]["identifier"] == "zoë@exämple.com"
        broken = {**CLIENT, "X-Muxi-User-ID": b"\xff\xfe"}
        problem(await http.post("/v1/chat", json=hello, headers=broken), 422, "INVALID_REQUEST")
        problem(await http.post("/v1/chat", json=hello, headers=user("undefined")), 422, "INVALID_IDENTIFIER")
        problem(await http.post("/v1/chat", json=hello, headers=user("usr_nobody")), 404, "USER_NOT_FOUND")
        for name, type in (("7", "telegram"), ("7", "github")):
            data(await http.post("/v1/chat", json=hello, headers=user(name, type)))
        told = problem(await http.post("/v1/chat", json=hello, headers=user("7")), 422, "AMBIGUOUS_IDENTIFIER")
        assert sorted(told["details"]["types"]) == ["github", "telegram"]


async def test_bodies(database_config: FormationConfig) -> None:
    config = with_keys(database_config, max_body_bytes=2_000)
    async with serve(config) as (_, http):
        json = {**user("a"), "Content-Type": "application/json"}
        for path in ("/v1/chat", "/v1/users/resolve"):
            problem(await http.post(path, content=b"{", headers=json), 400, "INVALID_REQUEST")
            problem(await http.post(path, content=b"\xff", headers=json), 400, "INVALID_REQUEST")
            tower = await http.post(path, content=b"[" * 1_900, headers=json)
            problem(tower, 400 if path == "/v1/chat" else 422, "INVALID_REQUEST")
            within = await http.post(path, content=b'{"identifier": ' + b"[" * 1_900, headers=json)
            problem(within, 400, "INVALID_REQUEST")
            problem(await http.post(path, content=b"[]", headers=json), 422, "INVALID_REQUEST")
            problem(await http.post(path, content=b" " * 2_001, headers=json), 413, "TOO_LARGE")

            async def chunks() -> object:  # no length is declared
                for _ in range(3):
                    yield b" " * 1_000

            problem(await http.post(path, content=chunks(), headers=json), 413, "TOO_LARGE")
        wrong = {"identifier": "a", "create_user": "false"}
        problem(await http.post("/v1/users/resolve", json=wrong, headers=CLIENT), 422, "INVALID_REQUEST")
        wrong = {"identifiers": ["a"], "verified": "false"}
        problem(await http.post("/v1/users/identifiers", json=wrong, headers=ADMIN), 422, "INVALID_REQUEST")
        wrong = {"identifiers": ["a"], "on_conflct": "merge"}
        told = problem(await http.post("/v1/users/identifiers", json=wrong, headers=ADMIN), 422, "INVALID_REQUEST")
        assert "on_conflct" in told["message"]
        secret = "key_0123456789abcdef0123456789abcdef"
        refused = await http.post("/v1/credentials", json={"service": secret}, headers=user("a"))
        assert refused.status_code == 422
        assert secret not in refused.text


async def test_a_chat_has_one_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=ACCESS)
    persistent = {"provider": "sqlite", "connection_string": str(tmp_path / "muxi.db")}
    config = FormationConfig.from_mapping({"id": "ids", "memory": {"persistent": persistent}})
    async with serve(with_keys(config)) as (_, http):
        for message in ("Hello!", "/link"):
            for given in ({}, {"X-Request-ID": "trace-1"}):
                caplog.clear()
                headers = {**user("alice@email.com"), **given}
                whole = await http.post("/v1/chat", json={"message": message}, headers=headers)
                streamed = await http.post("/v1/chat", json={"message": message, "stream": True}, headers=headers)
                ids = [answer.headers["x-request-id"] for answer in (whole, streamed)]
                assert ids == [given.get("X-Request-ID", each) for each in ids]
                assert whole.json()["request"]["id"] == data(whole)["request_id"] == ids[0]
                assert json.loads(streamed.text.rpartition("data: ")[2])["request_id"] == ids[1]
                assert [vars(line)["fields"]["request_id"] for line in caplog.records] == ids


async def test_request_ids(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        own = await http.get("/v1/users", headers={**ADMIN, "X-Request-ID": "trace-1.a_B"})
        assert own.headers["x-request-id"] == own.json()["request"]["id"] == "trace-1.a_B"
        for given in ("x" * 65, "a b", "a\tb"):
            made = await http.get("/v1/users", headers={**ADMIN, "X-Request-ID": given})
            assert made.json()["request"]["id"].startswith("req_")
        failed = await http.get("/v1/users/nobody", headers=ADMIN)
        assert failed.headers["x-request-id"] == failed.json()["request"]["id"]


async def test_a_body_is_json_whatever_it_is_called(database_config: FormationConfig) -> None:
    """As ``curl -d`` sends it: alike for the call that is answered before the framework and for all others."""
    calls = {"/v1/users/resolve": b'{"identifier": "a", "create_user": true}', "/v1/chat": b'{"message": "Hello"}'}
    kinds = ({}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain; charset=x"})
    async with serve(with_keys(database_config)) as (_, http):
        for kind in kinds:
            headers = {**user("a"), **kind}
            for path, body in calls.items():
                assert data(await http.post(path, content=body, headers=headers))
                told = {
                    problem(await http.post(path, content=broken, headers=headers), 400, "INVALID_REQUEST")["message"]
                    for broken in (b"message=Hello", b"{", b'{"identifier": "\xff"}')
                }
                (message,) = told
                assert "as application/json" in message


async def test_cross_origin_requests(database_config: FormationConfig) -> None:
    page, other = "https://app.example.com", "https://evil.example.com"
    asking = {"Access-Control-Request-Method": "POST"}
    async with serve(with_keys(database_config, cors_origins=(page,))) as (_, http):
        asked = await http.options("/v1/chat", headers={"Origin": page, **asking})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, page)
        allowed = asked.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "content-type", "last-event-id", "x-muxi-idempotency-key"} <= set(allowed)
        assert not {"x-muxi-client-key", "x-muxi-admin-key"} & set(allowed)  # browsers get none
        answered = await http.get("/v1/users", headers={"Origin": page, **ADMIN})
        assert answered.headers["access-control-allow-origin"] == page
        for response in (
            await http.options("/v1/chat", headers={"Origin": other, **asking}),
            await http.get("/v1/users", headers={"Origin": other, **ADMIN}),
        ):
            assert "access-control-allow-origin" not in response.headers
    async with serve(with_keys(database_config)) as (_, http):
        refused = await http.options("/v1/chat", headers={"Origin": page, **asking})
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (405, False)


async def test_numbers_name_nobody(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        await http.get("/v1/users/alice@email.com", headers=ADMIN)
        await http.get("/v1/users/nothing/like/this", headers=ADMIN)
        problem(await http.get("/metrics", headers=CLIENT), 403, "FORBIDDEN")
        numbers = (await http.get("/metrics", headers={"Authorization": f"Bearer {ADMIN['X-Muxi-Admin-Key']}"})).text
        assert 'muxi_requests_total{method="GET",route="/users/{user_id}",status="404"} 1.0' in numbers
        assert "alice" not in numbers
        assert "nothing" not in numbers
        assert 'muxi_cache_lookups_total{result="miss"}' in numbers


async def test_a_word_of_a_path_is_nobodys_identifier(database_config: FormationConfig) -> None:
    """Each fixed address takes its own methods alone, not those of an address whose parameter it would fit."""
    methods: dict[str, set[str]] = defaultdict(set)
    for group in GROUPS:
        for operation in group.operations:
            methods[operation.path].add(operation.method)
    async with serve(with_keys(database_config)) as (_, http):
        for path in (each for each in methods if "{" not in each):
            refused = await http.request("TRACE", f"/v1{path}", headers=ADMIN)
            assert refused.status_code == 405, path
            assert set(refused.headers["allow"].split(", ")) - {"HEAD"} == methods[path], path
