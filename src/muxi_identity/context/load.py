"""The one-trip load: who an identifier means and everything that a conversation needs of them, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.sessions.message import Message
from muxi_identity.identity.cache import Hit
from muxi_identity.models import UserContext


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one load brought.

    ``facts`` are the person's memories that have a key and a value, newest first and one for each key.
    ``session_is_new``: no session of that id is there yet, or none to go on with.
    """

    hit: Hit
    context: UserContext
    facts: Sequence[Fact]
    messages: Sequence[Message]
    session_is_new: bool
