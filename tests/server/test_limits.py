"""How much one caller may ask for."""

from __future__ import annotations

import dataclasses
import multiprocessing

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.errors import RateLimitedError
from muxi_identity.server.keys import Role
from muxi_identity.server.limits import RateLimiter
from muxi_identity.server_config import RateLimits
from tests.server.places import ADMIN, CLIENT, data, problem, serve, with_keys


class Clock:
    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


def test_a_minutes_worth_at_once_and_then_evenly() -> None:
    clock = Clock()
    limiter = RateLimiter(RateLimits(client_key=6), clock)
    for _ in range(6):
        limiter.take(Role.CLIENT, b"a")
    with pytest.raises(RateLimitedError) as caught:
        limiter.take(Role.CLIENT, b"a")
    assert caught.value.retry_after == 10
    limiter.take(Role.CLIENT, b"b")  # another key has its own
    limiter.take(Role.ADMIN, b"a")
    clock.at += 9.9
    with pytest.raises(RateLimitedError) as caught:
        limiter.take(Role.CLIENT, b"a")
    assert caught.value.retry_after == 1
    clock.at += 0.1
    limiter.take(Role.CLIENT, b"a")
    clock.at += 100_000
    for _ in range(6):
        limiter.take(Role.CLIENT, b"a")
    with pytest.raises(RateLimitedError):
        limiter.take(Role.CLIENT, b"a")


def test_what_is_kept_of_callers_is_bounded() -> None:
    clock = Clock()
    limiter = RateLimiter(RateLimits(user_token=2), clock)
    size = len(limiter._buckets)
    for number in range(40_000):
        limiter.take(Role.TOKEN, number.to_bytes(4, "big"))
    assert len(limiter._buckets) == size < 300_000
    limiter.take(Role.TOKEN, (39_999).to_bytes(4, "big"))
    with pytest.raises(RateLimitedError):
        limiter.take(Role.TOKEN, (39_999).to_bytes(4, "big"))


def test_few_callers_never_lose_their_count() -> None:
    limiter = RateLimiter(RateLimits(user_token=1), Clock())
    for number in range(300):
        limiter.take(Role.TOKEN, number.to_bytes(4, "big"))
    for number in range(300):
        with pytest.raises(RateLimitedError):
            limiter.take(Role.TOKEN, number.to_bytes(4, "big"))


def test_forks_count_together() -> None:
    limiter = RateLimiter(RateLimits(client_key=30))
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        process = context.Process(target=lambda: [limiter.take(Role.CLIENT, b"a") for _ in range(10)])
        process.start()
        process.join(60)
        assert process.exitcode == 0
    with pytest.raises(RateLimitedError):
        limiter.take(Role.CLIENT, b"a")


async def test_too_many_requests(database_config: FormationConfig) -> None:
    config = with_keys(database_config, rate_limits=RateLimits(client_key=2, user_token=1))
    async with serve(dataclasses.replace(config)) as (_, http):
        body = {"identifier": "a", "create_user": True}
        for _ in range(2):
            data(await http.post("/v1/users/resolve", json=body, headers=CLIENT))
        for path in ("/v1/users/resolve", "/v1/chat"):
            refused = await http.post(path, json=body, headers=CLIENT)
            told = problem(refused, 429, "RATE_LIMITED")
            assert int(refused.headers["retry-after"]) == told["details"]["retry_after"] > 0
        tokens = [
            data(await http.post("/v1/users/tokens", json={"user_id": name}, headers=ADMIN), 201)["token"]
            for name in ("a", "a", "b")
        ]
        statuses = [
            (await http.get("/v1/users/me/synopsis", headers={"Authorization": f"Bearer {token}"})).status_code
            for token in tokens
        ]
        assert statuses == [200, 429, 404]  # a second token of the same identifier is no second allowance


async def test_what_is_forbidden_is_counted(database_config: FormationConfig) -> None:
    config = with_keys(database_config, rate_limits=RateLimits(client_key=2))
    async with serve(config) as (_, http):
        statuses = [(await http.get("/v1/users", headers=CLIENT)).status_code for _ in range(3)]
        assert statuses == [403, 403, 429]
        problem(await http.post("/v1/users/resolve", json={"identifier": "a"}, headers=CLIENT), 429, "RATE_LIMITED")
