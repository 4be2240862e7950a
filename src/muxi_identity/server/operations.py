"""What a route is: its address, who may use it, what it answers; and the declaring of it in ``routes/``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from muxi_identity.errors import (
    ConfigurationError,
    ForbiddenError,
    FormationNotFoundError,
    InvalidRequestError,
    MuxiError,
    OutcomeUnknownError,
    RateLimitedError,
    RequestInProgressError,
    RequestTimeoutError,
    ServerUnavailableError,
    StorageUnavailableError,
    TooLargeError,
    UnauthorizedError,
)
from muxi_identity.server.call import Access, Call

Endpoint = Callable[..., Awaitable[Any]]
Repetition = Literal["harmless", "once"] | None
"""What an idempotency key does: ``harmless`` is done again where its first end is unknown, ``once`` is then refused."""
Streams = Literal["always", "asked"] | None

SCOPE = "muxi.call"


def _call(request: Request) -> Call:
    call: Call = request.scope[SCOPE]
    return call


Calling = Annotated[Call, Depends(_call)]
"""The call that an endpoint serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route.

    ``data`` is the type of what it answers, None where it answers no envelope; ``example`` an answer of it, ``body``
    a request, ``media`` the type of what is no envelope. ``takes_rows``: the endpoint
    reads its body as it comes. ``user``: it is about one user, whom header or token may name. ``typed``: headers may
    name the type and the scope of an identifier that stands bare in its path or body. ``noted``: headers may say by
    what way it came and why, for the history. ``streams``: it answers by an event stream, always or where the request
    asks for one.
    """

    method: str
    path: str
    endpoint: Endpoint
    tag: str
    access: Access
    data: Any
    status: int
    raises: tuple[type[MuxiError], ...]
    repetition: Repetition
    user: bool
    typed: bool
    noted: bool
    streams: Streams
    example: Any
    body: Any
    media: str | None
    takes_rows: bool

    @property
    def template(self) -> str:
        """The path with its parameters by name, as logs, numbers and documents show it."""
        return re.sub(r":[a-z]+}", "}", self.path)

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.endpoint.__name__

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (inspect.getdoc(self.endpoint) or "").partition("\n")[0].rstrip(".")

    @property
    def description(self) -> str:
        """What there is to say beyond that."""
        return (inspect.getdoc(self.endpoint) or "").partition("\n")[2].strip()

    @property
    def errors(self) -> tuple[type[MuxiError], ...]:
        """Every error that it can answer."""
        common: list[type[MuxiError]] = [FormationNotFoundError]
        if self.access is not Access.PUBLIC:
            common += [UnauthorizedError, ForbiddenError, InvalidRequestError, RateLimitedError, ConfigurationError]
            common += [StorageUnavailableError, ServerUnavailableError, TooLargeError]
        if self.body is not None:
            common.append(RequestTimeoutError)
        if self.repetition is not None:
            common.append(RequestInProgressError)
        if self.repetition == "once":
            common.append(OutcomeUnknownError)
        return tuple(dict.fromkeys((*self.raises, *common)))


class Routes:
    """The operations of one kind, declared one after the other."""

    def __init__(self, tag: str, about: str) -> None:
        self.tag = tag
        self.about = about
        self.operations: list[Operation] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        access: Access,
        data: Any,
        status: int = 200,
        raises: tuple[type[MuxiError], ...] = (),
        repetition: Repetition = None,
        user: bool = False,
        typed: bool = False,
        noted: bool = False,
        streams: Streams = None,
        example: Any = None,
        body: Any = None,
        media: str | None = None,
        takes_rows: bool = False,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare the decorated function as an operation. Its docstring is the documentation."""

        def declare(endpoint: Endpoint) -> Endpoint:
            # The second of two equal deletions would find nothing: under a key it is told what the first one did.
            repeated: Repetition = "harmless" if repetition is None and method == "DELETE" else repetition
            self.operations.append(
                Operation(
                    method=method,
                    path=path,
                    endpoint=endpoint,
                    tag=self.tag,
                    access=access,
                    data=data,
                    status=status,
                    raises=raises,
                    repetition=repeated,
                    user=user,
                    typed=typed,
                    noted=noted,
                    streams=streams,
                    example=example,
                    body=body,
                    media=media,
                    takes_rows=takes_rows,
                )
            )
            return endpoint

        return declare
