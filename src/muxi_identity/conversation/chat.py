"""The chat turn: load the person's context, ask the responder, and record the turn, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from muxi_identity.arguments import MAX_QUERY, check_audience, check_message, check_session_id, check_timeout
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.credentials.service import Credentials
from muxi_identity.context.load import ContextLoader, Loaded
from muxi_identity.context.redaction import redact
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import new_session_id
from muxi_identity.conversation.commands import Commands
from muxi_identity.conversation.deadline import Deadline
from muxi_identity.conversation.reading import TurnReader
from muxi_identity.conversation.responder import Responder, Response, StreamingResponder, Turn
from muxi_identity.conversation.streaming import TurnStream
from muxi_identity.conversation.tools import TurnTools
from muxi_identity.conversation.turn import Ending, check_response, close_turn, storable
from muxi_identity.errors import ModelError
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import ATTEMPTS, Caller, identity_changed
from muxi_identity.models import Audience, ChatReply
from muxi_identity.storage.errors import GuardRefused

# How much a turn starts from: the newest facts, with those that the message is about, and the memories that fit it.
FACTS = 200
MEMORIES = 20


@dataclass(frozen=True, slots=True)
class Said:
    """One message and how it is to be answered. ``timeout`` in seconds; ``continued``: see the table of sessions."""

    message: str
    reference: Reference
    session_id: str | None
    caller: Caller
    audience: Audience = "private"
    timeout: float | None = None
    continued: bool = True


class Conversation:
    """Speaks with the people of one formation."""

    def __init__(
        self,
        access: Access,
        config: FormationConfig,
        responder: Responder,
        loader: ContextLoader,
        credentials: Credentials,
        commands: Commands,
    ) -> None:
        self._access = access
        self._commands = commands
        self._runner = access.runner
        self._config = config
        self._responder = responder
        self._loader = loader
        self._credentials = credentials
        self._streams: set[asyncio.Task[ChatReply]] = set()

    async def chat(
        self,
        message: str,
        reference: Reference,
        session_id: str | None,
        caller: Caller,
        *,
        audience: Audience = "private",
        timeout: float | None = None,
        continued: bool = True,
    ) -> ChatReply:
        """Answer one message of whoever ``reference`` means, and remember the turn, whole or not at all.

        ``continued=False`` begins a session that no call without a session id goes on with.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: Untyped, and several people have it.
            InvalidRequestError: An argument has the wrong shape or size.
            AudienceMismatchError: The session was begun for another audience.
            ModelError: The responder cannot answer, or not in time.
            IdentityChangedError: The identifier went to somebody else while the reply was computed, and the
                responder cannot simply be asked again. Nothing was recorded.
        """
        said = Said(message, reference, session_id, caller.with_request_id(), audience, timeout, continued)
        return await self._answer(said, None)

    def chat_stream(
        self,
        message: str,
        reference: Reference,
        session_id: str | None,
        caller: Caller,
        *,
        audience: Audience = "private",
        timeout: float | None = None,
    ) -> TurnStream:
        """Answer as :meth:`chat` does, giving the reply piece by piece. The turn is recorded with the last one taken.

        A turn of which a piece was given out is never computed anew: where the identity changed, it ends with
        IdentityChangedError.
        """
        said = Said(message, reference, session_id, caller.with_request_id(), audience, timeout)
        stream = TurnStream(lambda stream: self._answer(said, stream))
        self._streams.add(stream.task)
        stream.task.add_done_callback(self._streams.discard)
        return stream

    async def close(self) -> None:
        """End the streams that are under way, unrecorded."""
        streams = list(self._streams)
        for task in streams:
            task.cancel()
        if streams:
            await asyncio.wait(streams)

    async def _answer(self, said: Said, stream: TurnStream | None) -> ChatReply:
        check_message(said.message)
        check_session_id(said.session_id)
        check_audience(said.audience)
        check_timeout(said.timeout)
        if said.continued and (told := await self._answer_command(said, stream)) is not None:
            return told
        for _ in range(ATTEMPTS):
            loaded = await self._loader.load(
                said.reference,
                session_id=said.session_id,
                query=said.message[:MAX_QUERY],
                audience=said.audience,
                memories=MEMORIES,
                facts=FACTS,
                caller=said.caller,
            )
            reader = TurnReader(self._access, self._credentials, loaded.hit, said.audience)
            tools = TurnTools(reader, said.audience, self._runner.clock.now)
            response, given = await self._respond(said, loaded, tools, stream)
            ending = Ending(
                messages=[Message("user", redact(said.message)), Message("assistant", redact(response.text))],
                response=response,
                effects=tools.finish(),
                session_id=loaded.context["session_id"] or new_session_id(),
                invented=said.session_id is None and loaded.session_is_new,
                audience=said.audience,
                continued=said.continued,
            )
            _record(stream, begun=True)
            try:
                session_id = await self._runner.guarded_change(
                    lambda tx, loaded=loaded, ending=ending: close_turn(  # type: ignore[misc]
                        tx, loaded.hit, ending, self._config
                    ),
                    said.caller,
                )
            except GuardRefused:
                _record(stream, begun=False)
                if given or not self._responder.restartable:
                    break
                continue
            return ChatReply(
                message={"role": "assistant", "content": ending.response.text},
                user_id=loaded.context["muxi_user_id"],
                session_id=session_id,
                request_id=said.caller.request_id,
            )
        raise identity_changed()

    async def _answer_command(self, said: Said, stream: TurnStream | None) -> ChatReply | None:
        _record(stream, begun=True)
        told = await self._commands.answer_command(
            said.message, said.reference, said.session_id, said.caller, said.audience
        )
        if told is None:
            _record(stream, begun=False)
        elif stream is not None:
            await stream.give(told.text)
        return told

    async def _respond(
        self, said: Said, loaded: Loaded, tools: TurnTools, stream: TurnStream | None
    ) -> tuple[Response, bool]:
        """Return the response, and whether any of it was given out already."""
        responder = self._responder
        timeout = said.timeout if said.timeout is not None else getattr(responder, "timeout", None)
        deadline = Deadline(timeout)
        turn = Turn(
            message=said.message,
            facts=loaded.facts,
            messages=loaded.messages,
            context=loaded.context,
            tools=tools,
            timeout=timeout,
            request_id=said.caller.request_id,
        )
        try:
            if stream is None or not isinstance(responder, StreamingResponder):
                response = check_response(await deadline.wait(responder.respond(turn)))
                if stream is None or not response.text:
                    return response, False
                await stream.give(response.text)
                return response, True
            return await _stream(responder, turn, deadline, stream)
        finally:
            tools.finish()


def _record(stream: TurnStream | None, *, begun: bool) -> None:
    if stream is not None:
        stream.recording = begun


async def _stream(
    responder: StreamingResponder, turn: Turn, deadline: Deadline, stream: TurnStream
) -> tuple[Response, bool]:
    given = False
    async with _closing(responder.stream(turn)) as pieces:
        while True:
            try:
                piece = await deadline.wait(anext(pieces))
            except StopAsyncIteration:
                break
            if isinstance(piece, Response):
                return check_response(piece), given
            if not isinstance(piece, str):
                raise ModelError("The responder's stream gave what is neither a text nor a Response.")
            if piece := storable(piece):
                await stream.give(piece)
                given = True
    raise ModelError("The responder's stream ended without a Response; nothing of the turn was recorded.")


@asynccontextmanager
async def _closing(pieces: AsyncIterator[str | Response]) -> AsyncGenerator[AsyncIterator[str | Response], None]:
    """Close an asynchronous generator at the end of the block; another iterator has nothing to close."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
