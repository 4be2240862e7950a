"""What each worker of the coherence hunt does: everything at once, at random, and it writes down what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from muxi_identity import AsyncFormationClient
from muxi_identity.errors import AmbiguousIdentifierError, MuxiError
from tests.hunts.records import AMBIGUOUS, UNKNOWN, Asked, Called, Read, Records, Reference
from tests.hunts.truth import token_in

_TYPED = [(f"t{number}", "crm") for number in range(8)]
_DOUBLE = [(f"d{number}", kind) for number in range(4) for kind in ("slack", "github")]
_BARE = [f"b{number}" for number in range(5)]
LINKED: Sequence[Reference] = [*_TYPED, *_DOUBLE, *_BARE]
"""What is linked, merged and taken apart: few enough for everything to meet."""
_GUESSED = [f"d{number}" for number in range(4)] + [f"t{number}" for number in range(8)]
_REMEMBERED = 24


class Share(NamedTuple):
    """What one worker is told."""

    worker: str
    seed: int
    tasks: int
    until: float
    """When to begin nothing new, by CLOCK_MONOTONIC."""
    only: tuple[str, ...] = ()
    """Where not empty: nothing but these, of three identifiers, so that the one meets the other at every turn."""


class Worker:
    """One process's share of the hunt."""

    def __init__(self, client: AsyncFormationClient, share: Share) -> None:
        self._client = client
        self._share = share
        self._random = random.Random(share.seed)
        self._number = 0
        self._merges: list[str] = []
        self._people: list[str] = []
        self.records = Records([], [], [])
        calls: list[tuple[int, Callable[[], Any]]] = [
            (10, self._ask),
            (10, self._remember),
            (5, self._chat),
            (5, self._prefer),
            (4, self._read),
            (4, self._meet),
            (6, self._link),
            (3, self._link_to),
            (5, self._unlink),
            (3, self._merge),
            (4, self._unmerge),
            (4, self._split),
            (3, self._replace),
            (1, self._erase),
        ]
        if share.only:
            calls = [(weight, call) for weight, call in calls if call.__name__.removeprefix("_") in share.only]
        self._linked = LINKED[:3] if share.only else LINKED
        self._calls = [call for _, call in calls]
        self._weights = [weight for weight, _ in calls]

    async def run(self) -> Records:
        """Do something until it is time, a few things at once."""
        await asyncio.gather(*(self._go_on() for _ in range(self._share.tasks)))
        return self.records._replace(hits=self._client.cache_info["hits"])

    async def _go_on(self) -> None:
        while monotonic() < self._share.until:
            (call,) = self._random.choices(self._calls, self._weights)
            await call()
            if self._share.only:
                await asyncio.sleep(0.005)  # whoever only asks would do nothing but fill the records
            else:
                await self._ask()

    async def _ask(self) -> None:
        """Look up a few, most of them from the cache."""
        for _ in range(6):
            await self._ask_for(self._any())
            await asyncio.sleep(0)

    async def _ask_for(self, reference: Reference) -> None:
        begin = monotonic()
        try:
            found = await self._client.find_user(reference)
            answer = UNKNOWN if found is None else found["muxi_user_id"]
        except AmbiguousIdentifierError:
            answer = AMBIGUOUS
        except MuxiError as error:
            answer = f"!{error.code}"
        end = monotonic()
        self.records.asked.append(Asked(self._share.worker, reference, begin, end, answer))
        if answer.startswith("usr_"):
            self._people = [*self._people[-_REMEMBERED:], answer]

    def _any(self) -> Reference:
        kind = self._random.random()
        if kind < 0.6 or self._share.only:
            return self._random.choice(self._linked)
        if kind < 0.8 or not self._people:
            return self._random.choice(_GUESSED)
        return self._random.choice(self._people)

    def _some(self, number: int) -> list[Reference]:
        return self._random.sample(self._linked, number)

    async def _call(
        self, method: str, *arguments: Any, about: Sequence[Reference], token: str | None = None, **options: Any
    ) -> Any:
        """Make a call, write down how it ended, and look at once what this process says of whom it was about."""
        self._number += 1
        name = f"{self._share.worker}-{self._number}"
        if token is None:
            options["source"] = name
        begin = monotonic()
        result = None
        try:
            result = await getattr(self._client, method)(*arguments, **options)
            outcome = "ok"
        except MuxiError as error:
            outcome = error.code
        end = monotonic()
        answer = dict(result) if isinstance(result, dict) and token is None else None
        self.records.called.append(
            Called(self._share.worker, name, method, tuple(about), begin, end, outcome, token, answer)
        )
        if token is None:
            for reference in about:
                await self._ask_for(reference)
        return result

    def _token(self) -> str:
        return f"token-{self._share.worker}-{self._number + 1}"

    async def _remember(self) -> None:
        reference, token = self._any_channel(), self._token()
        await self._call("add_memory", reference, f"Wrote down {token}", about=[reference], token=token)

    async def _chat(self) -> None:
        reference, token = self._any_channel(), self._token()
        await self._call("chat", f"Hello {token}", reference, about=[reference], token=token)

    async def _prefer(self) -> None:
        reference, token = self._any_channel(), self._token()
        key = f"key{self._random.randrange(3)}"
        await self._call("set_preference", reference, key, token, about=[reference], token=token)

    def _any_channel(self) -> Reference:
        return self._random.choice(self._linked)

    async def _read(self) -> None:
        reference = self._any_channel()
        begin = monotonic()
        try:
            if self._random.random() < 0.7:
                page = await self._client.list_memories(reference, limit=500)
                texts = [memory["content"] for memory in page["memories"]]
                whole = page["next_cursor"] is None
            else:
                texts = [str(value) for value in (await self._client.get_preferences(reference)).values()]
                whole = False
        except MuxiError as error:
            self.records.called.append(
                Called(self._share.worker, "", "read", (reference,), begin, monotonic(), error.code)
            )
            return
        end = monotonic()
        tokens = frozenset(token for text in texts if (token := token_in(text)) is not None)
        self.records.read.append(Read(self._share.worker, reference, begin, end, tokens, whole))

    async def _meet(self) -> None:
        reference = self._any_channel()
        begin = monotonic()
        try:
            answer = (await self._client.resolve_user(reference, create_user=True))["muxi_user_id"]
        except AmbiguousIdentifierError:
            answer = AMBIGUOUS
        except MuxiError as error:
            answer = f"!{error.code}"
        self.records.asked.append(Asked(self._share.worker, reference, begin, monotonic(), answer))

    async def _link(self) -> None:
        some = self._some(self._random.choice([2, 2, 3]))
        mode = self._random.choice(["raise", "absorb", "merge"])
        linked = await self._call("associate_user_identifiers", some, about=some, on_conflict=mode)
        self._merges += linked["merge_ids"] if linked else []

    async def _link_to(self) -> None:
        if self._people:
            some = self._some(1)
            await self._call("associate_user_identifiers", some, self._random.choice(self._people), about=some)

    async def _unlink(self) -> None:
        (one,) = self._some(1)
        await self._call("unlink_user_identifier", one, about=[one], force=True)

    async def _merge(self) -> None:
        two = self._some(2)
        merged = await self._call("merge_users", *two, about=two)
        self._merges += [merged["merge_id"]] if merged else []

    async def _unmerge(self) -> None:
        if self._merges:
            merge_id = self._merges.pop(self._random.randrange(len(self._merges)))
            undone = await self._call("unmerge_users", merge_id, about=[])
            for user_id in (undone["muxi_user_id"], undone["separated_user_id"]) if undone else ():
                await self._ask_for(user_id)

    async def _split(self) -> None:
        (one,) = self._some(1)
        await self._call("split_user", one, [one], about=[one])

    async def _replace(self) -> None:
        old, new = self._some(2)
        await self._call("replace_identifier", old, new, about=[old, new])

    async def _erase(self) -> None:
        (one,) = self._some(1)
        await self._call("delete_user", one, about=[one], include_merged=True)


async def work(client: AsyncFormationClient, share: Share) -> Records:
    """Do a worker's share, and return what it wrote down."""
    return await Worker(client, share).run()
