"""What a responder may do for the person whose turn it is. The person is bound here, and is no argument of any tool."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from muxi_identity.arguments import check_text
from muxi_identity.context.memories.checks import checked_memory
from muxi_identity.context.memories.rows import NewMemory
from muxi_identity.context.preferences.rows import write_preference
from muxi_identity.context.redaction import find_secret
from muxi_identity.context.tasks.task import NewTask, new_task
from muxi_identity.context.working.rows import shorten
from muxi_identity.errors import CredentialNotFoundError, InvalidRequestError, SecretRefusedError
from muxi_identity.identity.running import SYSTEM_CLOCK
from muxi_identity.models import Audience, MemoryRecord, iso
from muxi_identity.secret import Secret

# How much one turn may change, so that a model that has lost its way does not fill a person's memory.
MAX_EFFECTS = 50
MAX_REMEMBERED = 4_000  # characters of one memory
MAX_RECALLED = 20
_SECRET_PART = 6  # characters of a field of a credential


class PersonReader(Protocol):
    """What tools read of the person of a turn, at once."""

    async def search(self, query: str, limit: int) -> Sequence[MemoryRecord]:
        """Return the memories that fit ``query``, the best first."""

    async def find(self, memory_id: str) -> MemoryRecord | None:
        """Return a memory by its id, None where the person has none of it."""

    async def secret(self, service: str, name: str) -> Secret:
        """Return the secret of a credential."""


@dataclass(slots=True)
class Effects:
    """What the tools of one turn will have changed when it is recorded."""

    memories: list[NewMemory] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    preferences: dict[str, Any] = field(default_factory=dict)
    tasks: list[NewTask] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many changes there are."""
        lists = (self.memories, self.forgotten, self.preferences, self.tasks, self.topics)
        return sum(len(each) for each in lists)


class TurnTools:
    """The tools of one turn. What they change is recorded with the turn, or not at all.

    A responder, and the tools that you give to a model, call them for the person who is being answered; nothing here
    takes a user. All raise InvalidRequestError after the turn has ended.
    """

    def __init__(self, reader: PersonReader, audience: Audience, clock: Callable[[], int]) -> None:
        self._reader = reader
        self._audience = audience
        self._clock = clock
        self._effects = Effects()
        self._over = False
        self._revealed: list[Secret] = []

    @classmethod
    def detached(cls) -> TurnTools:
        """Return the tools of a turn that was made by hand: nobody's, so that nothing is found and nothing is kept."""
        return cls(_Nobody(), "private", SYSTEM_CLOCK.now)

    @property
    def now(self) -> str:
        """The time, as ISO 8601 in UTC, to the minute."""
        return f"{iso(self._clock())[:16]}Z"

    @property
    def audience(self) -> Audience:
        """Who reads the conversation: ``"private"`` or ``"shared"``."""
        return self._audience

    async def remember(
        self, content: str, *, key: str | None = None, value: str | None = None, type: str = "note"
    ) -> None:
        """Keep a memory. With ``key`` it replaces what was remembered of the same type and key.

        Raises:
            SecretRefusedError: It looks like a key or a password.
            InvalidRequestError: It is blank, too long (TooLargeError), has a value without a key, or is one too many
                for one turn.
        """
        check_text("content", content, MAX_REMEMBERED)
        shareable = self._audience == "shared"  # it was said before others
        self._add(self._effects.memories, checked_memory(content, type, key, value, shareable=shareable))

    async def recall(self, query: str, limit: int = 5) -> Sequence[MemoryRecord]:
        """Return the person's memories that fit ``query``, the best first. For a shared audience only shareable ones.

        Raises:
            InvalidRequestError: The query is blank or too long, or the limit is not from 1 to 20.
        """
        self._check_open()
        check_text("query", query, 1_000)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_RECALLED:
            raise InvalidRequestError(f"limit must be a whole number from 1 to {MAX_RECALLED}.")
        return await self._reader.search(query, limit)

    async def forget(self, what: str) -> Sequence[MemoryRecord]:
        """Delete a memory by its id, or the one that fits a text best, and return what will be gone.

        Empty where nothing fits; nothing is deleted on a guess between several: they are returned by :meth:`recall`.

        Raises:
            InvalidRequestError: ``what`` is blank or too long, or one too many for one turn.
        """
        self._check_open()
        check_text("what", what, 1_000)
        found = await self._reader.find(what.strip()) if what.strip().startswith("mem_") else None
        if found is None:
            best = await self._reader.search(what, 2)
            found = best[0] if best and _is_plainly_best(what, best) else None
        if found is None:
            return []
        self._add(self._effects.forgotten, found["memory_id"])
        return [found]

    async def set_preference(self, key: str, value: Any) -> None:
        """Set a preference to a JSON value.

        Raises:
            SecretRefusedError: It looks like a key or a password.
            InvalidRequestError: The key or the value cannot be kept, or it is one too many for one turn.
        """
        form, _ = write_preference(key, value)
        self._room()
        self._effects.preferences[form] = value

    async def schedule_task(
        self, message: str, *, cron: str | None = None, at: str | datetime | None = None, timezone: str = "UTC"
    ) -> None:
        """Have the assistant take up ``message`` later: again and again by a cron expression, or once at a time.

        Raises:
            InvalidScheduleError: The schedule or the time zone cannot be read, or no run lies ahead.
            SecretRefusedError: The message looks like a key or a password.
            InvalidRequestError: The message is blank or too long, or it is one too many for one turn.
        """
        self._add(self._effects.tasks, new_task(message, cron=cron, at=at, timezone=timezone, now=self._clock()))

    async def note_topic(self, text: str) -> None:
        """Note in a few words what is being spoken of, for the person's other channels to know.

        Raises:
            SecretRefusedError: It looks like a key or a password.
            InvalidRequestError: It is blank or too long, or one too many for one turn.
        """
        check_text("text", text, 1_000)
        if looks_like := find_secret(text):
            raise SecretRefusedError(f"This looks like {looks_like}, and is not noted.")
        self._add(self._effects.topics, shorten(text))

    async def credential(self, service: str, name: str = "default") -> Secret:
        """Return the person's secret for a service, for code that calls that service. Never shown to a model.

        Where the tool's own answer to the model holds it, it is taken out.

        Raises:
            CredentialNotFoundError: There is none, or others read the conversation.
            CredentialUnreadableError: None of the configured keys opens it.
        """
        self._check_open()
        if self._audience != "private":
            raise CredentialNotFoundError(
                "Credentials are not used where others read the conversation; ask in private.", service=service
            )
        secret = await self._reader.secret(service, name)
        self._revealed.append(secret)
        return secret

    def without_secrets(self, text: str) -> str:
        """Return ``text`` without the secrets that :meth:`credential` gave out in this turn."""
        for secret in self._revealed:
            for part in _parts(secret.reveal()):
                text = text.replace(part, "[secret]")
        return text

    def finish(self) -> Effects:
        """End the turn's tools, and return what they will have changed."""
        self._over = True
        return self._effects

    def _add(self, effects: list[Any], effect: object) -> None:
        self._room()
        effects.append(effect)

    def _room(self) -> None:
        self._check_open()
        if self._effects.count >= MAX_EFFECTS:
            raise InvalidRequestError(f"One turn changes at most {MAX_EFFECTS} things.")

    def _check_open(self) -> None:
        if self._over:
            raise InvalidRequestError("The turn of these tools has ended.")


class _Nobody:
    """The reader of nobody."""

    async def search(self, query: str, limit: int) -> Sequence[MemoryRecord]:
        return ()

    async def find(self, memory_id: str) -> MemoryRecord | None:
        return None

    async def secret(self, service: str, name: str) -> Secret:
        raise CredentialNotFoundError("This turn belongs to nobody.", service=service)


def _is_plainly_best(what: str, found: Sequence[MemoryRecord]) -> bool:
    """Tell whether the first of two candidates is meant, and not just a little nearer than the other."""
    if len(found) == 1 or found[0]["content"].casefold() == what.casefold():
        return True
    best, next_best = ((each["score"] or 0.0) for each in found[:2])
    return best >= 1.25 * next_best


def _parts(secret: str) -> list[str]:
    """Return a secret and, where it is a JSON object, the texts in it that are long enough to be secrets."""
    parts = [secret]
    try:
        held = json.loads(secret)
    except ValueError:
        return parts
    if isinstance(held, dict):
        parts += [each for each in held.values() if isinstance(each, str) and len(each) >= _SECRET_PART]
    return sorted(parts, key=len, reverse=True)
