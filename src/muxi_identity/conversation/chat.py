"""The chat turn: resolve, load the context, ask the responder, remember the turn."""

from __future__ import annotations

import secrets

from muxi_identity.arguments import check_message, check_session_id
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.conversation.commands import Commands
from muxi_identity.conversation.responder import Responder
from muxi_identity.conversation.turn import Opening, close_turn, open_turn
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import ATTEMPTS, Caller, identity_changed
from muxi_identity.models import ChatReply
from muxi_identity.storage.errors import GuardRefused


class Conversation:
    """Speaks with the people of one formation."""

    def __init__(self, access: Access, config: FormationConfig, responder: Responder, commands: Commands) -> None:
        self._access = access
        self._commands = commands
        self._runner = access.runner
        self._config = config
        self._responder = responder

    async def chat(self, message: str, reference: Reference, session_id: str | None, caller: Caller) -> ChatReply:
        """Answer one message of whoever ``reference`` means, and remember the turn, whole or not at all.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: Untyped, and several people have it.
            InvalidRequestError: The message or the session id has the wrong shape or size.
            IdentityChangedError: The identifier went to somebody else while the reply was computed, and the
                responder cannot simply be asked again. Nothing was recorded.
        """
        check_message(message)
        check_session_id(session_id)
        if (told := await self._commands.answer_command(message, reference, session_id, caller)) is not None:
            return told
        fresh = False
        for _ in range(ATTEMPTS):
            answer, _created = await self._access.resolver.resolve(reference, create=True, caller=caller, fresh=fresh)
            hit = answer.hit
            assert hit is not None
            try:
                opening = await self._open_turn(hit, message, session_id)
            except GuardRefused:
                fresh = True  # nothing was computed yet: start again, around the cache
                continue
            response = await self._responder.respond(opening.turn)
            try:
                await self._runner.guarded_change(
                    lambda tx, hit=hit, opening=opening, response=response: close_turn(  # type: ignore[misc]
                        tx, hit, opening, response, self._config.session.max_messages
                    ),
                    caller,
                )
            except GuardRefused:
                if not self._responder.restartable:
                    break
                fresh = True
                continue
            return ChatReply(
                message={"role": "assistant", "content": response.text},
                user_id=opening.user_id,
                session_id=opening.session_id,
                request_id=f"req_{secrets.token_hex(10)}",
            )
        raise identity_changed()

    async def _open_turn(self, hit: Hit, message: str, session_id: str | None) -> Opening:
        idle = self._config.session.idle_timeout
        return await self._runner.read(lambda tx: open_turn(tx, hit, message, session_id, idle))
