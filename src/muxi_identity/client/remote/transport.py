"""Calls over HTTP: connections that are used again, time-outs, and repetition of what may be repeated."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec
from yarl import URL

from muxi_identity.client.remote.asking import Ask
from muxi_identity.client.remote.failures import rebuild
from muxi_identity.client.remote.place import Place
from muxi_identity.errors import (
    InvalidRequestError,
    MuxiError,
    RateLimitedError,
    RequestInProgressError,
    RequestTimeoutError,
    ServerUnavailableError,
    StorageUnavailableError,
)
from muxi_identity.secret import Secret

T = TypeVar("T")

MAX_ANSWER = 256 * 1024 * 1024  # bytes
MAX_WAIT = 60.0  # seconds that a server may make a call wait before it is tried again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_BROKEN_OFF = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionError)
_WORTH_ANOTHER = (RateLimitedError, RequestInProgressError, RequestTimeoutError, ServerUnavailableError)
_BAD_GATEWAY = frozenset({502, 503, 504})
_JSON = "application/json"
EVENTS = "text/event-stream"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: thousands of brackets


class _Answer(msgspec.Struct, Generic[T]):
    data: T


class _Told(msgspec.Struct):
    code: str
    message: str
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class _Refusal(msgspec.Struct):
    error: _Told


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt: an answer, or why there is none."""

    answer: Any = field(default=None, repr=False)
    error: MuxiError | None = None
    again: bool = False
    wait: float | None = None


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Answer[kind])


_refusals = msgspec.json.Decoder(_Refusal)


class Transport:
    """Sends calls to one formation, on one event loop."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._session = aiohttp.ClientSession(
            # A server's cookie is none of ours, and a redirection would take the keys elsewhere.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=self._limits(),
            headers={"User-Agent": f"muxi-identity/{version('muxi-identity')}", "Accept-Encoding": "identity"},
            skip_auto_headers=("Accept",),
        )

    def _limits(self, **more: float) -> aiohttp.ClientTimeout:
        """Return the limits of one request: getting a connection is never what a patient call is patient for."""
        return aiohttp.ClientTimeout(total=None, connect=self.place.timeout, **more)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def let_go(self) -> None:
        """Forget connections whose event loop has ended. Not for the child of a fork: they are its parent's."""
        connector = self._session.connector
        self._session.detach()
        if connector is not None:
            waiting = connector.close().__await__()
            next(waiting, None)

    # Calls

    async def call(self, ask: Ask, kind: type[T]) -> T:
        """Make a call and return its data, read as ``kind``; what a newer server adds to it is left out.

        Raises:
            MuxiError: What the server told of, as the engine raised it there.
            ServerUnavailableError: No answer of a formation server came, in as many attempts as are allowed.
        """
        headers = self.headers(ask)
        body = encode(ask.body)
        attempt = 0
        while True:
            outcome = await self._attempt(ask, headers, body, kind)
            if outcome.error is None:
                answer: T = outcome.answer
                return answer
            if not self.may_repeat(outcome, attempt):
                raise outcome.error
            await self.pause(attempt, outcome.wait)
            attempt += 1

    def may_repeat(self, outcome: Outcome, attempt: int) -> bool:
        """Tell whether to try again after this outcome of attempt number ``attempt`` (from 0)."""
        return outcome.again and attempt < self.place.retries and (outcome.wait or 0) <= MAX_WAIT

    async def pause(self, attempt: int, wait: float | None) -> None:
        """Wait before the next attempt: at random, so that many who failed at once do not come back at once."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        await asyncio.sleep((wait or 0.0) + random.uniform(0, longest))  # noqa: S311 - a pause is no secret

    async def _attempt(
        self, ask: Ask, headers: Sealed[dict[str, str]], body: Sealed[bytes | None], kind: Any
    ) -> Outcome:
        try:
            async with asyncio.timeout(self.place.timeout + ask.patience):
                async with self._open(ask, headers, body) as response:
                    content = await read(response)
                    return self._judge(ask, response, content, kind)
        except (aiohttp.ClientError, OSError, EOFError) as failure:
            error = self.unavailable(describe(failure, self.place.timeout + ask.patience))
        return Outcome(error=error, again=True)

    def _open(self, ask: Ask, headers: Sealed[dict[str, str]], body: Sealed[bytes | None]) -> Any:
        return self._session.request(
            ask.method,
            self.address(ask),
            headers=headers.content,
            data=body.content,
            allow_redirects=False,
        )

    def open(self, ask: Ask, headers: Sealed[dict[str, str]], body: Sealed[bytes | None], silence: float) -> Any:
        """Begin a call whose answer comes in pieces; no more than ``silence`` seconds may lie between two of them."""
        return self._session.request(
            ask.method,
            self.address(ask),
            headers={**headers.content, "Accept": EVENTS},
            data=body.content,
            allow_redirects=False,
            timeout=self._limits(sock_read=silence),
        )

    async def upload(self, ask: Ask, body: AsyncIterator[bytes], columns: Sequence[str], kind: type[T]) -> T:
        """Make a call whose body comes in pieces, once: what was sent cannot be sent again from here.

        However long it takes; ``columns`` are sent as ``ignore_columns``.

        Raises:
            MuxiError: What the server told of.
            ServerUnavailableError: No answer of a formation server came.
        """
        headers = self.headers(ask)
        address = self.address(ask).extend_query([("ignore_columns", column) for column in columns])
        failed: list[Exception] = []
        # The server is not to wait for rows that take their time: no byte before there is a piece.
        first = await anext(body, b"")
        try:
            async with self._session.request(
                ask.method,
                address,
                headers={**headers.content, "Content-Type": "application/octet-stream"},
                data=_noting(first, body, failed),
                allow_redirects=False,
            ) as response:
                outcome = self._judge(ask, response, await read(response), kind)
        except (aiohttp.ClientError, OSError, EOFError) as failure:
            raise (failed or [self.unavailable(describe(failure))])[0] from None
        if outcome.error is not None:
            raise outcome.error
        answer: T = outcome.answer
        return answer

    def _judge(self, ask: Ask, response: aiohttp.ClientResponse, content: bytes, kind: Any) -> Outcome:
        if 200 <= response.status < 300:
            try:
                return Outcome(answer=_decoder(kind).decode(content).data)
            except UNREADABLE:
                return Outcome(error=self.unavailable("gave an answer that is none of a formation server"), again=True)
        return self.refused(ask, response.status, response.headers.get("Retry-After"), content)

    def refused(self, ask: Ask, status: int, retry_after: str | None, content: bytes) -> Outcome:
        """Return what an answer that is no success means, and whether to ask again."""
        try:
            told = _refusals.decode(content).error
        except UNREADABLE:
            if 300 <= status < 400:
                return Outcome(error=self.unavailable(f"answered {status}: it has moved; use its new address as url"))
            what = f"answered {status}, and not as a formation server does"
            return Outcome(
                error=self.unavailable(what), again=status in _BAD_GATEWAY or status == 429, wait=_seconds(retry_after)
            )
        error = rebuild(status, told.code, told.message, told.details)
        again = isinstance(error, _WORTH_ANOTHER)
        if isinstance(error, StorageUnavailableError):
            # Under a key it may have been done, and the server would make the repetition wait to find out.
            again = not ask.keyed
        return Outcome(error=error, again=again, wait=_seconds(retry_after))

    def unavailable(self, what: str) -> ServerUnavailableError:
        """Return the error for a server that ``what`` is said of."""
        return ServerUnavailableError(f"The formation server at {self.place.origin} {what}.")

    # What is sent

    def headers(self, ask: Ask) -> Sealed[dict[str, str]]:
        """Return the headers of a call, the same for each attempt at it.

        Raises:
            InvalidRequestError: A note cannot be sent.
        """
        headers = {"X-Request-ID": f"req_{secrets.token_hex(10)}"}
        place = self.place
        if place.user_token is not None:
            headers["Authorization"] = f"Bearer {place.user_token.reveal()}"
        elif place.admin_key is not None and (ask.admin or place.client_key is None):
            headers["X-Muxi-Admin-Key"] = place.admin_key.reveal()
        elif place.client_key is not None:
            headers["X-Muxi-Client-Key"] = place.client_key.reveal()
        if ask.user is not None:
            headers.update(ask.user.headers)
        if ask.keyed:
            headers["X-Muxi-Idempotency-Key"] = ask.key or secrets.token_urlsafe(18)
        if ask.body is not None:
            headers["Content-Type"] = _JSON
        for name, note in (("X-Muxi-Actor", place.actor), *ask.notes.items()):
            if note is not None:
                headers[name] = _header(name, note)
        return Sealed(headers)

    def address(self, ask: Ask) -> URL:
        """Return where a call goes; its path is percent-encoded already."""
        query = {name: str(value) for name, value in ask.query.items() if value is not None}
        url = URL(self.place.base + ask.path, encoded=True)
        return url.with_query(query) if query else url


async def _noting(first: bytes, body: AsyncIterator[bytes], failed: list[Exception]) -> AsyncIterator[bytes]:
    """Yield ``first`` and ``body``; what it raises is noted, since whoever sends it tells only that it broke off."""
    yield first
    try:
        async for piece in body:
            yield piece
    except Exception as error:
        failed.append(error)
        raise


class Sealed(Generic[T]):
    """Headers or a body that no traceback shows: they hold keys, credentials, and what people said."""

    __slots__ = ("content",)

    def __init__(self, content: T) -> None:
        self.content = content

    def __repr__(self) -> str:
        return "Sealed(...)"


def encode(body: Any) -> Sealed[bytes | None]:
    """Return a body as JSON.

    Raises:
        InvalidRequestError: JSON has no such value.
    """
    if body is None:
        return Sealed(None)
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_revealed)
        return Sealed(text.encode())
    except (TypeError, ValueError, RecursionError):  # a lone surrogate is a ValueError
        pass
    raise InvalidRequestError("An argument holds what JSON in UTF-8 does not have.")


def _revealed(value: object) -> Any:
    if not isinstance(value, Secret):
        raise TypeError
    return json.loads(value.reveal()) if getattr(value, "is_object", False) else value.reveal()


async def read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer whole, no further than any answer is long."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER:
            raise aiohttp.ClientPayloadError("the answer is too long")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def describe(failure: BaseException, seconds: float | None = None) -> str:
    """Return what happened, in words of ours: those of libraries may hold headers, and with them keys.

    ``seconds``: for how long an answer was waited for, where there was a limit to it.
    """
    if isinstance(failure, aiohttp.ConnectionTimeoutError):
        return "did not take a connection in time"
    if isinstance(failure, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "has no certificate that this machine trusts"
    if isinstance(failure, aiohttp.ClientConnectorDNSError):
        return "has a name that cannot be resolved"
    if isinstance(failure, aiohttp.ClientConnectorError):
        return "cannot be reached"
    if isinstance(failure, _BROKEN_OFF):
        return "broke the connection off before it had answered"
    if isinstance(failure, TimeoutError):
        silent = isinstance(failure, aiohttp.SocketTimeoutError) or seconds is None
        return "fell silent" if silent else f"did not answer within {seconds:g} seconds"
    return f"could not be talked to ({type(failure).__name__})"


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return None
    return float(retry_after[:9])


def _header(name: str, note: str) -> str:
    if not isinstance(note, str) or not note.isprintable():
        raise InvalidRequestError(f"{name} can be sent to a server as printable text on one line alone.")
    return note
