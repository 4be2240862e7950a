"""Who may do what: every route of the application's own table with every kind of credential."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from urllib.parse import quote

import httpx
import jwt

from muxi_identity.config import FormationConfig
from muxi_identity.errors import IdentifierConflictError
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Operation
from muxi_identity.server.problems import problem_of
from muxi_identity.server.routes import GROUPS
from muxi_identity.server_config import hash_key
from tests.formations import Time, dump
from tests.invariants import check_invariants
from tests.server.places import ADMIN, ADMIN_KEY, CLIENT, CLIENT_KEY, data, problem, serve, with_keys

OPERATIONS = [operation for group in GROUPS for operation in group.operations]
ALICE, BOB = ("U1", "slack"), ("bob@email.com", "email")
ENDLESS = {"stream_events"}
MARK = "xylophone"
"""A word that stands in everything that is Bob's."""


def named(who: tuple[str, str]) -> dict[str, str]:
    return {"X-Muxi-User-ID": who[0], "X-Muxi-User-ID-Type": who[1]}


class Bobs:
    """What is Bob's, by the names of parameters."""

    def __init__(self, **parameters: str) -> None:
        self.parameters = parameters

    def path(self, operation: Operation, user: str) -> str:
        parameters = {"user_id": user, "identifier": BOB[0], **self.parameters}
        return "/v1" + re.sub(r"{(\w+)(?::\w+)?}", lambda found: quote(parameters[found[1]], safe=""), operation.path)


async def furnish(http: httpx.AsyncClient) -> Bobs:
    """Give Bob one of everything, each with the mark in it, and let Alice be somebody."""
    bob = {**CLIENT, **named(BOB)}
    data(await http.post("/v1/chat", json={"message": "Hello!"}, headers={**CLIENT, **named(ALICE)}))
    said = data(await http.post("/v1/chat", json={"message": f"My hobby is {MARK}"}, headers=bob))
    memory = data(await http.post("/v1/memories", json={"detail": f"Plays the {MARK}"}, headers=bob), 201)
    data(await http.put("/v1/users/me/preferences/theme", json={"value": MARK}, headers=bob))
    item = {"content": f"Bought a {MARK}", "kind": "topic"}
    data(await http.post("/v1/users/me/working-memory", json=item, headers=bob), 201)
    credential = {"service": MARK, "credential": {"token": "t0ken"}}
    kept = data(await http.post("/v1/credentials", json=credential, headers=bob), 201)
    job = {"type": "recurring", "schedule": "0 9 * * *", "message": MARK, "user_id": list(BOB)}
    task = data(await http.post("/v1/scheduler/jobs", json=job, headers=ADMIN), 201)
    return Bobs(
        session_id=said["session_id"],
        memory_id=memory["id"],
        key="theme",
        credential_id=kept["id"],
        job_id=task["id"],
        event_id="evt_1",
        merge_id="mrg_1",
    )


def test_every_route_says_who_may_use_it() -> None:
    assert {operation.access for operation in OPERATIONS} == set(Access)
    public = {operation.name for operation in OPERATIONS if operation.access is Access.PUBLIC}
    assert public == {"health", "ready"}
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


Refusal = tuple[str, dict[str, str], int, str]


def refusals(operation: Operation, tokens: dict[str, str]) -> list[Refusal]:
    """Return with what an operation must be refused: what it is, the headers, the status and the code."""
    if operation.access is Access.PUBLIC:
        return []
    found: list[Refusal] = [
        ("no key", named(BOB), 401, "UNAUTHORIZED"),
        ("wrong admin key", {**named(BOB), "X-Muxi-Admin-Key": "x" * 20}, 401, "UNAUTHORIZED"),
        ("wrong client key", {**named(BOB), "X-Muxi-Client-Key": "x" * 20}, 401, "UNAUTHORIZED"),
        ("client key as admin key", {**named(BOB), "X-Muxi-Admin-Key": CLIENT_KEY}, 401, "UNAUTHORIZED"),
        ("admin key as client key", {**named(BOB), "X-Muxi-Client-Key": ADMIN_KEY}, 401, "UNAUTHORIZED"),
    ]
    for what in ("unknown", "expired", "foreign", "cut short", "unsigned"):
        found.append((f"{what} token", {"Authorization": tokens[what]}, 401, "UNAUTHORIZED"))
    if operation.access is Access.ADMIN:
        found.append(("client key", {**CLIENT, **named(BOB)}, 403, "FORBIDDEN"))
        found.append(("token", {"Authorization": tokens["good"]}, 403, "FORBIDDEN"))
    else:
        found.append(("token for A used on B", {"Authorization": tokens["good"], **named(BOB)}, 403, "FORBIDDEN"))
        if "{user_id" in operation.path or operation.name == "resolve_user":
            found.append(("token for A, B in path or body", {"Authorization": tokens["good"]}, 403, "FORBIDDEN"))
    return found


def code_of(response: httpx.Response) -> str:
    """Return the code of an error, told by an envelope or by an event."""
    if response.headers["content-type"].startswith("text/event-stream"):
        found = re.fullmatch(r"event: error\ndata: (.*)\n\n", response.text)
        assert found is not None
        return str(json.loads(found[1])["type"])
    return str(problem(response, response.status_code, response.json()["code"])["code"])


async def test_the_matrix(database_config: FormationConfig, tmp_path: Path) -> None:
    config, time = with_keys(database_config), Time()
    other = {"id": "elsewhere", "memory": {"persistent": {"connection_string": str(tmp_path / "other.db")}}}
    elsewhere = with_keys(FormationConfig.from_mapping(other))
    async with serve(config, elsewhere, time=time) as (app, http):
        bobs = await furnish(http)
        sites = {site.config.id: site for site in app.sites}
        old = (await sites[config.id].tokens.issue(ALICE, 60))["token"]
        time.advance(61)
        good = (await sites[config.id].tokens.issue(ALICE))["token"]
        tokens = {
            "good": f"Bearer {good}",
            "unknown": f"Bearer {'x' * 40}",
            "expired": f"Bearer {old}",
            "foreign": f"Bearer {(await sites['elsewhere'].tokens.issue(ALICE))['token']}",
            "cut short": f"Bearer {good[:-4]}",
            "unsigned": f"Bearer {unsigned(good)}",
        }
        before = await dump(config)
        for operation in OPERATIONS:
            path = bobs.path(operation, BOB[0])
            body = {"identifier": BOB[0]} if operation.name == "resolve_user" else operation.body
            for what, headers, status, code in refusals(operation, tokens):
                response = await http.request(operation.method, path, json=body, headers=headers)
                assert response.status_code == status, (operation.name, what, response.text)
                assert code_of(response) == code, (operation.name, what)
                assert MARK not in response.text, (operation.name, what)
                assert (response.headers.get("www-authenticate") == "Bearer") == (status == 401)
        assert await dump(config) == before

        # Acting as herself, Alice names what is Bob's: it does not exist for her, and nothing of it changes.
        held = {"Authorization": tokens["good"]}
        for operation in OPERATIONS:
            if operation.access is not Access.USER or "{user_id" in operation.path or operation.name in ENDLESS:
                continue
            body = {"identifier": ALICE[0]} if operation.name == "resolve_user" else operation.body
            own = await http.request(operation.method, bobs.path(operation, ""), json=body, headers=held)
            assert own.status_code not in (401, 403, 405, 500), (operation.name, own.text)
            assert MARK not in own.text, operation.name
        context = data(await http.get("/v1/users/me/context", headers={**CLIENT, **named(BOB)}))
        assert str(context).count(MARK) >= 5

        for operation in OPERATIONS:
            for key in [ADMIN] if operation.access is Access.ADMIN else [CLIENT, ADMIN]:
                if operation.name in ENDLESS:
                    continue
                headers = {**key, **named(BOB)}
                path = bobs.path(operation, BOB[0])
                allowed = await http.request(operation.method, path, json=operation.body, headers=headers)
                assert allowed.status_code not in (401, 403, 405, 500), (operation.name, allowed.text)
    await check_invariants(config, now=time.at)


def unsigned(token: str) -> str:
    """Return the token with its header saying that there is no signature to check."""
    return str(jwt.encode(jwt.decode(token, options={"verify_signature": False}), None, algorithm="none"))


async def test_several_keys_at_once(database_config: FormationConfig) -> None:
    config = with_keys(database_config)
    rotating = dataclasses.replace(config.server, admin_keys=(*config.server.admin_keys, hash_key("n" * 20)))
    async with serve(dataclasses.replace(config, server=rotating)) as (_, http):
        for key in (ADMIN["X-Muxi-Admin-Key"], "n" * 20):
            assert (await http.get("/v1/users", headers={"X-Muxi-Admin-Key": key})).status_code == 200
        for key in ("", "é", "n" * 19, "n" * 100_000):
            response = await http.get("/v1/users", headers={"X-Muxi-Admin-Key": key.encode()})
            problem(response, 401, "UNAUTHORIZED")


def test_whose_an_identifier_is_takes_the_admin_key_to_know() -> None:
    conflict = {"identifier": "a@x.com", "type": "email", "muxi_user_id": "usr_owner"}
    error = IdentifierConflictError("Nothing was linked: a@x.com is usr_owner's.", conflicts=[conflict])
    told = problem_of(error, "req_1", admin=False)
    assert "usr_owner" not in f"{told.message} {told.details}"
    assert "usr_owner" in str(problem_of(error, "req_1", admin=True).details)
