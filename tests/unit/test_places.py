"""Places: given in order, never lost, never more in the line than allowed."""

from __future__ import annotations

import asyncio

import pytest

from muxi_identity.errors import StorageUnavailableError
from muxi_identity.storage.places import Places


async def line_up(places: Places, number: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(places.take()) for _ in range(number)]
    await asyncio.sleep(0)  # each runs until it waits
    assert places.waiting == number
    return tasks


async def test_places_are_given_in_the_order_of_arrival() -> None:
    places = Places(1, most_waiting=9, seconds=60)
    assert places.take_now()
    assert not places.take_now()
    tasks = await line_up(places, 3)
    for turn in range(3):
        places.give_back()
        await tasks[turn]
        assert [task.done() for task in tasks] == [number <= turn for number in range(3)]
    places.give_back()
    assert not places.all_taken


async def test_whoever_finds_the_line_full_is_refused_at_once() -> None:
    places = Places(1, most_waiting=2, seconds=60)
    await places.take()
    tasks = await line_up(places, 2)
    with pytest.raises(StorageUnavailableError, match="overloaded") as refused:
        await places.take()
    assert refused.value.retryable
    assert refused.value.retry_after == 1
    for task in tasks:
        places.give_back()
        await task


async def test_whoever_waits_too_long_is_told_so_and_leaves_the_line() -> None:
    places = Places(1, most_waiting=2, seconds=0.01)
    await places.take()
    with pytest.raises(StorageUnavailableError, match="busy"):
        await places.take()
    assert places.waiting == 0
    places.give_back()
    assert places.take_now()


@pytest.mark.parametrize("order", ["cancelled first", "given first"])
async def test_one_who_is_cancelled_does_not_take_the_place_along(order: str) -> None:
    """Also where the place was handed over in the moment before."""
    places = Places(1, most_waiting=9, seconds=60)
    await places.take()
    first, second = await line_up(places, 2)
    if order == "cancelled first":
        first.cancel()
        places.give_back()
    else:
        places.give_back()
        first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert places.waiting == 0
    places.give_back()
    assert places.take_now()


async def test_all_who_wait_can_be_turned_away() -> None:
    places = Places(1, most_waiting=9, seconds=60)
    await places.take()
    tasks = await line_up(places, 3)
    places.turn_away(StorageUnavailableError("gone"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(each) for each in found] == ["gone"] * 3
    assert len({id(each) for each in found}) == 3
    assert places.all_taken  # by whoever had it before
    places.give_back()
    assert places.take_now()
