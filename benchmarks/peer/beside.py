"""Ours and the peer's in turn: the same calls for the same people, on one server, on the same cores."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from benchmarks.blocks import Block, compare, timed
from benchmarks.extent import Extent
from benchmarks.peer.environment import VERSION, peer_python
from benchmarks.peer.process import PeerProcess, start_peer
from benchmarks.peer.served import serve_ours
from benchmarks.places import Place, open_place
from benchmarks.results import Row

CALLERS = 64
AT_ONCE = 256
_BLOCK = 20
_THEIRS = f"muxi-runtime {VERSION}"
_numbers = itertools.count()
_KINDS = ("slack", "github", "telegram", "discord", "internal")


async def measure(extent: Extent) -> list[Row]:
    """Measure both on PostgreSQL, which is what the peer asks for."""
    python = peer_python()
    async with open_place("postgres", extent.people) as place:
        assert place.cluster is not None
        # Alone: both packages are called muxi, and PYTHONPATH may lead to ours.
        script = Path(__file__).with_name("theirs.py")
        async with start_peer([str(python), "-I", str(script), place.cluster.create_database()]) as peer:
            return await measure_beside(place, peer, extent.blocks)


async def measure_beside(place: Place, peer: PeerProcess, blocks: int) -> list[Row]:
    """Measure ours and the peer's, which is the floor of each row: a ratio below 1 says that ours is faster."""
    known = [f"known{number}@example.com" for number in range(AT_ONCE)]
    await peer.ask(do="create", names=known)
    for name in known:
        await place.client.resolve_user(name, create_user=True)

    def resolve(name: str) -> Awaitable[object]:
        return place.client.resolve_user(name)

    def create(name: str) -> Awaitable[object]:
        return place.client.resolve_user(name, create_user=True)

    def associate(name: str) -> Awaitable[object]:
        return place.client.associate_user_identifiers([(f"{kind}-{name}", kind) for kind in _KINDS])

    some, new, all_known = (lambda: known[:_BLOCK]), (lambda: _new(_BLOCK)), (lambda: known)
    rows = []
    for path, ours, theirs in (
        ("resolve existing, cached", _block(resolve, some), peer.block("resolve", some)),
        ("resolve existing, uncached", _block(resolve, some, place), peer.block("resolve", some)),
        ("create", _block(create, new), peer.block("create", new)),
        (f"{AT_ONCE} concurrent resolves, uncached", _at_once(place, known), peer.block("concurrent", all_known)),
        ("associate 5, new user", _block(associate, new), peer.block("associate", new)),
    ):
        found = await compare(ours, theirs, blocks)
        rows.append(Row.of(f"peer: {path}", place.database, found, None, _THEIRS))
    rows.append(await _over_http(place, peer, blocks, known))
    return [*rows, *await _race(place, peer, blocks)]


async def _race(place: Place, peer: PeerProcess, blocks: int) -> list[Row]:
    """How many users come out of many first contacts of one identifier, and how many of the callers get an error."""
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(max(2, blocks // 6)):
        (name,) = _new(1)
        calls = (place.client.resolve_user(name, create_user=True) for _ in range(CALLERS))
        found = await asyncio.gather(*calls, return_exceptions=True)
        users = {each["muxi_user_id"] for each in found if not isinstance(each, BaseException)}
        ours.append({"users": len(users), "refused": CALLERS - sum(isinstance(each, dict) for each in found)})
        theirs.append(await peer.ask(do="race", names=[name], callers=CALLERS))
    rows = []
    for path, figure in (("users made by", "users"), ("errors in", "refused")):
        rounds = [[each[figure] for each in side] for side in (ours, theirs)]
        path = f"peer: {path} {CALLERS} first contacts of one identifier"
        rows.append(Row(path, place.database, rounds[0], rounds[1], unit="", note=_THEIRS, counts=True))
    return rows


async def _over_http(place: Place, peer: PeerProcess, blocks: int, known: list[str]) -> Row:
    """One request after the other by one client: its time is in both."""
    port = await peer.ask(do="serve")
    async with serve_ours(place) as (base, key), aiohttp.ClientSession() as session:

        def block(url: str, headers: dict[str, str]) -> Block:
            async def ask(name: str) -> None:
                async with session.post(
                    url, json={"identifier": name, "create_user": True}, headers=headers
                ) as response:
                    await response.read()
                    if response.status != 200:
                        raise RuntimeError(f"{url} answered {response.status}")

            return _block(ask, lambda: known[:_BLOCK])

        ours = block(f"{base}/v1/users/resolve", {"X-Muxi-Client-Key": key})
        theirs = block(f"http://127.0.0.1:{port}/v1/users/resolve", {})
        found = await compare(ours, theirs, blocks)
        return Row.of("peer: resolve over HTTP", place.database, found, None, f"{_THEIRS}, without its gate")


def _new(number: int) -> list[str]:
    return [f"new{each}@example.com" for each in itertools.islice(_numbers, number)]


def _at_once(place: Place, known: list[str]) -> Block:
    async def block() -> list[float]:
        place.formation.cache.clear()
        return [await timed(lambda: asyncio.gather(*map(place.client.resolve_user, known)))]

    return block


def _block(
    call: Callable[[str], Awaitable[object]], names: Callable[[], list[str]], emptied: Place | None = None
) -> Block:
    async def block() -> list[float]:
        if emptied is not None:
            emptied.formation.cache.clear()
        return [await timed(lambda name=name: call(name)) for name in names()]

    return block
