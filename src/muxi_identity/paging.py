"""Pages of lists: how long they may be, and the cursors that lead from one to the next.

A cursor says after which row the next page begins: its time and its key. Keys never leave the engine, so a cursor is
sealed under a key of the formation (AES-SIV): it tells nothing, and one that was made up or belongs to another list is
known for that.
"""

from __future__ import annotations

import base64
import binascii
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from muxi_identity.errors import InvalidRequestError

MAX_PAGE = 500
_PLACE = struct.Struct(">qq")
_CURSOR_CHARACTERS = 44  # 16 bytes of a tag and 16 of the place, in base64


def check_limit(limit: object, most: int = MAX_PAGE) -> None:
    """Check how many rows somebody asks for.

    Raises:
        InvalidRequestError: It is no whole number from 1 to ``most``.
    """
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidRequestError(f"limit must be a whole number from 1 to {most}.")


def write_cursor(key: bytes, call: str, at: int, pk: int) -> str:
    """Return the cursor of ``call`` for what comes after the row of this time and key. ``key`` has 32 bytes."""
    sealed = AESSIV(key).encrypt(_PLACE.pack(at, pk), [call.encode()])
    return base64.urlsafe_b64encode(sealed).decode()


def read_cursor(key: bytes, call: str, cursor: object) -> tuple[int, int]:
    """Return the time and the key that a cursor of ``call`` stands for.

    Raises:
        InvalidRequestError: It is none that ``call`` gave.
    """
    try:
        if not isinstance(cursor, str) or len(cursor) != _CURSOR_CHARACTERS:
            raise ValueError
        sealed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        at, pk = _PLACE.unpack(AESSIV(key).decrypt(sealed, [call.encode()]))
    except (ValueError, binascii.Error, InvalidTag, struct.error):
        raise InvalidRequestError(f"cursor is not one that {call} gave; pass next_cursor of the page before.") from None
    return at, pk
