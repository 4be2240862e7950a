"""What a turn leaves in the database, all of it in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from muxi_identity.arguments import MAX_MESSAGE, is_storable
from muxi_identity.config import FormationConfig
from muxi_identity.context.guard import hold_theirs
from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.memories.rows import (
    FACT,
    NewMemory,
    add_memories,
    find_memory,
    forget_all,
    forget_keys,
    forget_memory,
)
from muxi_identity.context.preferences.rows import set_preferences, write_preference
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import append_messages, begin_or_join
from muxi_identity.context.tasks.rows import add_task
from muxi_identity.context.working.rows import NewItem, add_items, shorten
from muxi_identity.conversation.responder import Response
from muxi_identity.conversation.secrecy import may_keep, may_keep_fact
from muxi_identity.conversation.tools import Effects
from muxi_identity.errors import InvalidRequestError, ModelError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import Audience

T = TypeVar("T")

MAX_TOPICS = 20
MAX_SEVERAL = 1_000  # facts, and topics, of one response
MAX_FACT_KEY = 500  # characters: an index of PostgreSQL's holds no more than some two kilobytes


@dataclass(frozen=True, slots=True)
class Ending:
    """What is to be recorded of a turn. ``messages`` hold no secrets: to look for them takes time, and others wait for
    the transaction. ``invented``: nobody asked for this session id, and none was to go on with.
    """

    messages: Sequence[Message]
    response: Response
    effects: Effects
    session_id: str
    invented: bool
    audience: Audience
    continued: bool


def check_response(response: Response) -> Response:
    """Return what a responder returned if it can be recorded; characters that no database keeps are taken out.

    Raises:
        ModelError: It is no response, holds what is none of its parts, or too much.
    """
    if not isinstance(response, Response) or not isinstance(response.text, str):
        raise ModelError("The responder returned no Response; nothing of the turn was recorded.")
    learned, topics = _several("learned", response.learned, Fact), _several("topics", response.topics, str)
    texts = [response.text]
    for fact in learned:
        parts = [fact.key, fact.content, *([] if fact.value is None else [fact.value])]
        if not all(isinstance(part, str) for part in parts):
            raise ModelError("The responder learned a Fact that holds what is no text.")
        if len(fact.key) > MAX_FACT_KEY:
            raise ModelError(f"The responder learned a Fact whose key has more than {MAX_FACT_KEY} characters.")
        texts += parts
    if max(map(len, texts)) > MAX_MESSAGE:
        raise ModelError(f"The responder's reply has more than {MAX_MESSAGE} characters; nothing was recorded.")
    _check_preferences(response.preferences)
    if all(map(is_storable, texts)):
        return response
    return Response(
        storable(response.text),
        [Fact(storable(fact.key), storable(fact.content), fact.value and storable(fact.value)) for fact in learned],
        topics,
        response.preferences,
        response.forget_all,
    )


def _several(name: str, given: object, kind: type[T]) -> Sequence[T]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(each, kind) for each in given):
        raise ModelError(f"The responder returned a Response whose {name} is no list of {kind.__name__}.")
    if len(given) > MAX_SEVERAL:
        raise ModelError(f"The responder returned a Response whose {name} has more than {MAX_SEVERAL} items.")
    return given


def _check_preferences(given: object) -> None:
    if not isinstance(given, Mapping):
        raise ModelError("The responder returned a Response whose preferences are no mapping.")
    try:
        for key, value in given.items():
            write_preference(key, value)
    except InvalidRequestError as error:
        raise ModelError(f"The responder set a preference that cannot be kept: {error.message}") from None


def close_turn(tx: Transaction, hit: Hit, ending: Ending, config: FormationConfig) -> str:
    """Record a turn, both messages and everything that it changed, and return the session that it belongs to.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        AudienceMismatchError: The session was begun for others meanwhile.
        TooLargeError: The person would have too many preferences or tasks.
        RaceLost: Another turn wrote the same meanwhile.
    """
    hold_theirs(tx, hit, alone=ending.invented)
    session = begin_or_join(
        tx,
        hit,
        ending.session_id,
        invented=ending.invented,
        audience=ending.audience,
        idle_seconds=config.session.idle_timeout,
        continued=ending.continued,
    )
    append_messages(tx, hit, session, ending.messages, config.session.max_messages)
    _remember(tx, hit, ending, config)
    return session.session_id


def _remember(tx: Transaction, hit: Hit, ending: Ending, config: FormationConfig) -> None:
    response, effects = ending.response, ending.effects
    shareable = ending.audience == "shared"  # it was said before others
    learned = [fact for fact in response.learned if fact.value is not None and may_keep_fact(fact)]
    new = [NewMemory(fact.content, FACT, fact.key, fact.value, shareable=shareable) for fact in learned]
    if response.forget_all:
        forget_all(tx, hit)
    forget_keys(tx, hit, [(FACT, fact.key) for fact in response.learned if fact.value is None])
    for memory_id in effects.forgotten:
        standing = find_memory(tx, hit, memory_id)
        if standing is not None:
            forget_memory(tx, hit, standing)
    add_memories(tx, hit, [*new, *effects.memories])
    set_preferences(tx, hit, {**response.preferences, **effects.preferences}, shareable=shareable)
    for task in effects.tasks:
        add_task(tx, hit, task)
    lately = [NewItem(shorten(each.content), "fact", shareable) for each in (*new, *effects.memories)]
    topics = _topics((*response.topics, *effects.topics))
    lately += [NewItem(topic, "topic", shareable) for topic in topics]
    add_items(tx, hit, lately, ttl=config.working.ttl, max_items=config.working.max_items)


def _topics(given: Iterable[str]) -> list[str]:
    texts = [shorten(storable(text)) for text in given]
    return [text for text in texts if text and may_keep(text)][:MAX_TOPICS]


def storable(text: str) -> str:
    """Return ``text`` without the characters that no database keeps."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
