"""What headers say of who acts, and what answers say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from muxi_identity.config import FormationConfig
from tests.server.places import ADMIN, ADMIN_KEY, CLIENT, data, problem, serve, user, with_keys, write_formation


async def test_no_application_passes_for_an_operator(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, http):
        forged = {"X-Muxi-Actor": "admin"}
        for name in ("alice@email.com", "U1"):
            hello = await http.post("/v1/chat", json={"message": "Hello!"}, headers={**user(name), **forged})
            assert hello.status_code == 200
        code = data(
            await http.post("/v1/users/link-codes", json={}, headers={**user("alice@email.com"), **forged}), 201
        )["code"]
        joined = await http.post(
            "/v1/users/link-codes/redeem", json={"code": code, "confirm": True}, headers={**user("U1"), **forged}
        )
        assert data(joined)["joined"] is True
        issued = data(await http.post("/v1/users/tokens", json={"user_id": "U2"}, headers=ADMIN), 201)
        token = {"Authorization": f"Bearer {issued['token']}", **forged}
        assert (await http.post("/v1/chat", json={"message": "Hello!"}, headers=token)).status_code == 200
        cleared = await http.delete("/v1/memory/buffer", headers={**CLIENT, **forged, "X-Muxi-User-ID": "U1"})
        assert cleared.status_code == 200

        events = data(await http.get("/v1/audit", headers=ADMIN))["events"]
        assert "user:merge" in {event["event"] for event in events}
        assert {event["actor"] for event in events} == {"client: admin", "token"}
        made = await http.post("/v1/users", json={}, headers={**ADMIN, "X-Muxi-Actor": "support: Zoë".encode()})
        assert made.status_code == 201
        assert data(await http.get("/v1/audit", headers=ADMIN))["events"][0]["actor"] == "support: Zoë"


async def test_an_actor_can_be_seen(tmp_path: Path) -> None:
    async with serve(FormationConfig.load(write_formation(tmp_path))) as (_, http):
        for character in ("\u202e", "\u200b", "\u3164", "\x85", "\u2028"):
            unseen = f"adm{character}in".encode()
            for path, body, headers in (
                ("/v1/users", {}, ADMIN),
                ("/v1/chat", {"message": "Hello!"}, user("alice@email.com")),
                ("/v1/users/resolve", {"identifier": "a", "create_user": True}, CLIENT),
            ):
                refused = await http.post(path, json=body, headers={**headers, "X-Muxi-Actor": unseen})
                assert f"U+{ord(character):04X}" in problem(refused, 422, "INVALID_REQUEST")["message"]
            refused = await http.delete("/v1/users/alice@email.com", headers={**ADMIN, "X-Muxi-Source": unseen})
            problem(refused, 422, "INVALID_REQUEST")
        # A reason is prose: it may hold an emoji of several characters, and nothing that turns its letters round.
        for reason, status in (("❤\ufe0f \u200d", 404), ("\u202eeno", 422)):
            headers = {**ADMIN, "X-Muxi-Reason": reason.encode()}
            assert (await http.delete("/v1/users/alice@email.com", headers=headers)).status_code == status


@pytest.mark.parametrize("path", ["/v1/users/resolve", "/api/test/v1/memories"])
async def test_a_header_says_one_thing(tmp_path: Path, path: str) -> None:
    body = {"identifier": "alice@email.com", "detail": "Likes tea"}
    async with serve(FormationConfig.load(write_formation(tmp_path))) as (_, http):
        data(await http.post("/v1/users", json={"muxi_user_id": "usr_alice"}, headers=ADMIN), 201)
        for name, values in (
            ("X-Muxi-User-ID", ("usr_alice", "usr_bob")),
            ("X-Muxi-Client-Key", (CLIENT["X-Muxi-Client-Key"], "another")),
            ("X-Muxi-Idempotency-Key", ("a", "b")),
            ("Authorization", (f"Bearer {ADMIN_KEY}", "Bearer other")),
        ):
            headers = [*CLIENT.items(), *((name, value) for value in values)]
            told = problem(await http.post(path, json=body, headers=headers), 422, "INVALID_REQUEST")
            assert name.lower() in told["message"]
            assert "another" not in told["message"]
        twice = [*ADMIN.items(), ("X-Muxi-User-ID", "usr_alice"), ("X-Muxi-User-ID", "usr_alice")]
        asked = await http.get("/v1/users/me/context", headers=twice)
        assert data(asked)["muxi_user_id"] == "usr_alice"


async def test_nobody_keeps_what_is_about_somebody(tmp_path: Path) -> None:
    async with serve(FormationConfig.load(write_formation(tmp_path))) as (_, http):
        body = {"identifier": "alice@email.com", "create_user": True}
        for answer in (
            await http.post("/v1/users/resolve", json=body, headers=CLIENT),
            await http.get("/api/test/v1/users/me/context", headers=user("alice@email.com")),
            await http.post("/v1/chat", json={"message": "Hello!", "stream": True}, headers=user("alice@email.com")),
            await http.get("/v1/users", headers=CLIENT),
            await http.get("/v1/nowhere", headers=CLIENT),
        ):
            assert answer.headers.get_list("cache-control") == ["no-store"], answer.url
        assert "cache-control" not in (await http.get("/docs")).headers
