"""What one process tells the others of a change: which cached answers it makes wrong.

A notice names the formation and the keys of :class:`~muxi_identity.identity.cache.Fence`: bucket keys, which are keyed
hashes, public ids, and keys of members. It never leaves the database server but for the processes that listen there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Hashable
from typing import Any, NamedTuple

CHANNEL = "muxi_identity"
_VERSION = 1
# PostgreSQL refuses a payload of 8,000 bytes, and with it the transaction that sends it.
_MOST_BYTES = 7_900


class Notice(NamedTuple):
    """A change of a formation. ``keys`` are buckets and public ids; ``everything`` stands for all keys there are.

    ``origin`` names the cache that the change was fenced in before it was sent: nobody has to tell that one.
    """

    origin: str
    formation_id: str
    keys: list[Hashable]
    member_pks: list[int]
    everything: bool = False


def write_notice(origin: str, formation_id: str, keys: Collection[Hashable], member_pks: Collection[int]) -> str:
    """Return the payload of a notice. Where it would be too long, it says: everything of this formation."""
    notice: dict[str, Any] = {"v": _VERSION, "o": origin, "f": formation_id}
    buckets = [base64.b64encode(key).decode() for key in keys if isinstance(key, bytes)]
    public_ids = [key for key in keys if isinstance(key, str)]
    whole = json.dumps({**notice, "b": buckets, "u": public_ids, "m": [*member_pks]}, separators=(",", ":"))
    return whole if len(whole) <= _MOST_BYTES else json.dumps({**notice, "all": True}, separators=(",", ":"))


def read_notice(payload: str) -> Notice | None:
    """Return what :func:`write_notice` wrote; None where this is nothing that it writes.

    A newer version of this library may say what this one cannot read, and anybody who may use the database may say
    anything. None then means: something changed, somewhere.
    """
    try:
        said = json.loads(payload)
        if said["v"] != _VERSION:
            return None
        origin, formation_id = said["o"], said["f"]
        if said.get("all"):
            return Notice(origin, formation_id, [], [], everything=True)
        keys: list[Hashable] = [base64.b64decode(each, validate=True) for each in said["b"]]
        return Notice(origin, formation_id, [*keys, *map(str, said["u"])], [int(each) for each in said["m"]])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
