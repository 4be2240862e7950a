"""Recording a turn of somebody's own agent loop: what chat does after the reply, for who makes the reply themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muxi_identity.arguments import check_audience, check_idempotency_key, check_session_id, read_messages
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.guard import check_theirs
from muxi_identity.context.memories.checks import checked_memory
from muxi_identity.context.memories.rows import NewMemory, add_memories
from muxi_identity.context.redaction import redact
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import Begun, append_messages, begin_or_join, new_session_id, session_id_of
from muxi_identity.context.working.rows import add_items
from muxi_identity.context.working.service import checked_item
from muxi_identity.errors import InvalidRequestError, SessionNotFoundError, TooLargeError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.idempotency import earlier_answer, fingerprint, keep_answer
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import Audience, RecordedTurn

_MEMORY_KEYS = {"content", "type", "key", "value", "metadata", "shareable"}
MAX_LEARNED = 100  # memories, and topics, of one turn


class Recorder:
    """Records turns of the people of one formation."""

    def __init__(self, access: Access, config: FormationConfig) -> None:
        self._access = access
        self._session = config.session
        self._working = config.working

    async def record(
        self,
        reference: Reference,
        messages: object,
        session_id: str | None,
        audience: Audience,
        memories: object,
        topics: object,
        idempotency_key: object,
        caller: Caller,
    ) -> RecordedTurn:
        """Record a turn, whole or not at all: messages, memories, and topics into working memory.

        With ``idempotency_key``, what it did is stored in the transaction that does it, and is the answer to the same
        call within a day.

        Without ``session_id`` the identifier goes on with its current session of that audience, or begins one. What is
        learned in a shared session is shareable: it was said before others.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: Untyped, and several people have it.
            AudienceMismatchError: The session was begun for another audience.
            SecretRefusedError: A memory or a topic looks like a key or a password.
            TooLargeError: Something is too long, or too much at once.
            InvalidRequestError: Something has the wrong shape.
            IdentityChangedError: The identifier went from one to another again and again.
            SessionNotFoundError: It was recorded under this key before, and its session has been deleted since.
        """
        check_session_id(session_id)
        check_audience(audience)
        shared = audience == "shared"
        said = [Message(role, redact(content)) for role, content, _ in read_messages(messages)]
        learned = [_memory(f"memories[{at}]", given, shared) for at, given in enumerate(_listed("memories", memories))]
        spoken_of = [
            checked_item(f"topics[{at}]", given, "topic", shared) for at, given in enumerate(_listed("topics", topics))
        ]
        once = None
        if idempotency_key is not None:
            key = check_idempotency_key(idempotency_key)
            parts = ("record_turn", said, session_id, audience, learned, spoken_of)
            once = _Once(key, fingerprint(self._access.runner.bucket, [], reference, *parts))
            # Before it is looked up: since the first call it may have come to mean somebody else, or nobody.
            done = await self._access.runner.read(once.earlier)
            if done is not None:
                return done

        def work(tx: Transaction, hit: Hit) -> RecordedTurn:
            done = None if once is None else once.earlier(tx)
            if done is not None:
                return done
            session = begin_or_join(
                tx,
                hit,
                session_id or new_session_id(),
                invented=session_id is None,
                audience=audience,
                idle_seconds=self._session.idle_timeout,
            )
            append_messages(tx, hit, session, said, self._session.max_messages)
            # In the order in which a chat does it: of two turns, none waits for the other in a circle.
            memory_ids = add_memories(tx, hit, learned)
            add_items(tx, hit, spoken_of, ttl=self._working.ttl, max_items=self._working.max_items)
            recorded: RecordedTurn = {
                "muxi_user_id": check_theirs(tx, hit),
                "session_id": session.session_id,
                "messages_recorded": len(said),
                "memory_ids": memory_ids,
            }
            if once is not None:
                once.keep(tx, session, recorded)
            return recorded

        return await self._access.write(reference, work, caller, alone=session_id is None)


@dataclass(frozen=True, slots=True)
class _Once:
    """A turn under an idempotency key. Its session is kept by its key: the id may say something about the person."""

    key: str
    request: bytes

    def earlier(self, tx: Transaction) -> RecordedTurn | None:
        answer: Any = earlier_answer(tx, self.key, self.request)
        if answer is None:
            return None
        session_id = session_id_of(tx, answer.pop("session_pk"))
        if session_id is None:
            raise SessionNotFoundError("That turn was recorded, and its session has been deleted since.")
        recorded: RecordedTurn = {**answer, "session_id": session_id}  # type: ignore[typeddict-item]
        return recorded

    def keep(self, tx: Transaction, session: Begun, recorded: RecordedTurn) -> None:
        answer = {name: value for name, value in recorded.items() if name != "session_id"}
        keep_answer(tx, self.key, self.request, {**answer, "session_pk": session.pk})


def _listed(name: str, given: object) -> Sequence[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise InvalidRequestError(f"{name} must be a list.")
    if len(given) > MAX_LEARNED:
        raise TooLargeError(f"{name} has {len(given)} items; at most {MAX_LEARNED} are taken.", limit=MAX_LEARNED)
    return given


def _memory(name: str, given: object, shared: bool) -> NewMemory:
    if isinstance(given, str):
        given = {"content": given}
    if not isinstance(given, Mapping) or "content" not in given or not given.keys() <= _MEMORY_KEYS:
        raise InvalidRequestError(
            f'{name} must be a text, or a mapping with "content" and perhaps type, key, value, metadata and shareable.'
        )
    new = checked_memory(**given)
    return replace(new, shareable=True) if shared else new
