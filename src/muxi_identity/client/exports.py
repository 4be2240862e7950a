"""Everybody, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

from muxi_identity.models import PersonPage, PersonRow


class AsyncUserExport(AsyncIterator[PersonRow]):
    """People as :meth:`export_users` gives them: iterate over it with ``async for``. A page at a time is in memory."""

    def __init__(self, page: Callable[[str | None], Awaitable[PersonPage]]) -> None:
        self._page = page
        self._rows: Iterator[PersonRow] = iter(())
        self._cursor: str | None = None
        self._ended = False

    async def __anext__(self) -> PersonRow:
        while (row := next(self._rows, None)) is None:
            if not await self._fetch():
                raise StopAsyncIteration
        return row

    async def _fetch(self) -> bool:
        """Fetch the next page; tell whether there was one."""
        if self._ended:
            return False
        page = await self._page(self._cursor)
        self._rows, self._cursor = iter(page["people"]), page["next_cursor"]
        self._ended = self._cursor is None
        return True


class UserExport(Iterator[PersonRow]):
    """People as :meth:`export_users` gives them: iterate over it with ``for``. A page at a time is in memory."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], export: AsyncUserExport) -> None:
        self._run = run
        self._async = export

    def __next__(self) -> PersonRow:
        while (row := next(self._async._rows, None)) is None:
            if not self._run(self._async._fetch()):
                raise StopIteration
        return row
