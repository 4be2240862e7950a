"""Every route, asked in one formation with the names and ids of another in the same database."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from urllib.parse import quote

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.server.operations import Operation
from muxi_identity.server.routes import GROUPS
from muxi_identity.server_config import hash_key
from tests.formations import Time, client_of, dump
from tests.integration.test_isolation_of_calls import ALICE, BOB, IMPORT, NEW_KEY, OLD_KEY, PHONE, Ids, furnish
from tests.invariants import check_invariants
from tests.server.places import ADMIN, piecemeal, problem, serve, with_keys

OPERATIONS = [operation for group in GROUPS for operation in group.operations]
ENDLESS = {"stream_events"}
HERE, THERE = "xylophone", "tuba"
DESTRUCTIVE = ("unmerge_users", "split_user", "delete_user_identifier", "unlink_user_identifier", "delete_user")
PARAMETERS = {"explain": {"b": PHONE[0]}, "import_users": {"import_id": IMPORT, "create_users": "true"}}
OTHER_KEY = "muxi_admin_elsewhere_0123456789"


def body_of(operation: Operation, ids: Ids) -> Any:
    """Return a body that names what is the other formation's, where the operation's body names anything."""
    bodies: dict[str, Any] = {
        "resolve_user": {"identifier": ALICE, "create_user": False},
        "link_user_identifiers": {"identifiers": [ALICE, ["new", "crm"]], "muxi_user_id": ids.user},
        "unlink_user_identifier": {"identifier": ALICE, "force": True},
        "import_users": {"identifiers": [ALICE, ["other", "crm"]], "user_id": ids.user},
        "create_user": {"muxi_user_id": ids.user},
        "merge_users": {"primary": ids.user, "secondary": BOB},
        "split_user": {"identifiers": [PHONE]},
        "replace_identifier": {"old": PHONE, "new": ["5550101", "crm"]},
        "rotate_identifier": {"old": OLD_KEY, "new": NEW_KEY},
        "redeem_link_code": {"code": ids.code, "confirm": True},
        "create_user_token": {"user_id": ALICE},
        "create_job": {**(operation.body or {}), "user_id": ALICE},
        "chat": {"message": "What is my hobby?", "session_id": ids.session},
    }
    return bodies.get(operation.name, operation.body)


def path_of(operation: Operation, user: str, ids: Ids) -> str:
    """Return the path with what is the other formation's in it."""
    parameters = {
        "user_id": user,
        "identifier": ALICE[0],
        "session_id": ids.session,
        "memory_id": ids.memory,
        "key": "theme",
        "credential_id": ids.credential,
        "job_id": ids.task,
        "event_id": "evt_1",
        "merge_id": ids.merge,
    }
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: quote(parameters[found[1]], safe=""), operation.path)


@pytest.mark.parametrize("known", [False, True], ids=["nobody there", "the same people there"])
async def test_no_route_reaches_another_formation(
    database_config: FormationConfig, known: bool, subtests: pytest.Subtests
) -> None:
    config, time = with_keys(database_config), Time()
    elsewhere = dataclasses.replace(config, id=f"{config.id}-elsewhere")
    headers = {**ADMIN, "X-Muxi-User-ID": ALICE[0], "X-Muxi-User-ID-Type": ALICE[1]}
    async with client_of(config, time) as here, client_of(elsewhere, time) as there:
        ids = await furnish(here, HERE)
        if known:
            await furnish(there, THERE)
    async with serve(config, elsewhere, time=time) as (app, http):
        before = await dump(config)
        found = 0
        with subtests.test("stream_events"):
            told = piecemeal(app, "GET", f"/api/{elsewhere.id}/v1/events", headers={**headers, "Last-Event-ID": "0"})
            async with told:
                # Where they are there too, what they hear of the past is theirs: it comes before anything else.
                heard = await (told.wait_for("event: turn") if known else told.end())
            assert (told.status, HERE in heard, THERE in heard) == (200 if known else 404, False, known)
            assert await dump(config) == before
        for operation in sorted(OPERATIONS, key=lambda each: each.name in DESTRUCTIVE):
            if operation.name in ENDLESS:
                continue
            with subtests.test(operation.name):
                for user in ("me", ids.user, ALICE[0]):
                    if user != "me" and "{user_id" not in operation.path:
                        continue
                    response = await http.request(
                        operation.method,
                        f"/api/{elsewhere.id}/v1{path_of(operation, user, ids)}",
                        json=body_of(operation, ids),
                        headers=headers,
                        params=PARAMETERS.get(operation.name),
                    )
                    assert response.status_code < 500, response.text
                    assert HERE not in response.text
                    found += THERE in response.text
                assert await dump(config) == before
        assert bool(found) == known
    await check_invariants(elsewhere, now=time.at)


async def test_the_keys_of_one_open_nothing_in_the_other(database_config: FormationConfig) -> None:
    config, time = with_keys(database_config), Time()
    elsewhere = dataclasses.replace(config, id=f"{config.id}-elsewhere")
    theirs = dataclasses.replace(
        config.server, admin_keys=(hash_key(OTHER_KEY),), client_keys=(hash_key(f"{OTHER_KEY}-client"),)
    )
    elsewhere = dataclasses.replace(elsewhere, server=theirs)
    async with client_of(config, time) as here:
        ids = await furnish(here, HERE)
    async with serve(config, elsewhere, time=time) as (_, http):
        before = await dump(config)
        headers = {"X-Muxi-Admin-Key": OTHER_KEY, "X-Muxi-User-ID": ALICE[0], "X-Muxi-User-ID-Type": ALICE[1]}
        for operation in OPERATIONS:
            if operation.name in {"health", "ready"}:
                continue
            response = await http.request(
                operation.method,
                f"/api/{config.id}/v1{path_of(operation, ids.user, ids)}",
                json=body_of(operation, ids),
                headers=headers,
            )
            if operation.name in ENDLESS or response.headers["content-type"].startswith("text/event-stream"):
                assert response.status_code == 401
            else:
                problem(response, 401, "UNAUTHORIZED")
            assert HERE not in response.text
        assert await dump(config) == before
