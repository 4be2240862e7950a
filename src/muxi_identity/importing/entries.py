"""What a source yields: one entry a row, before anything in it is looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muxi_identity.errors import InvalidRequestError

INVALID = InvalidRequestError.code


@dataclass(slots=True)
class Entry:
    """A row as it was read: ``row``, or ``raw`` alone where it is a line of JSON that nobody has decoded yet.

    ``raw`` is its text, as bytes: what a digest is made of, and what is handed back where the row is refused. ``fault``
    says why it cannot be read, ``skip`` in a word why it is not meant. Where rows are counted, ``line`` is the number
    of the row, and ``begins`` the line of the file that it begins in.
    """

    line: int
    raw: bytes
    row: Mapping[str, Any] | None = None
    fault: str | None = None
    skip: str | None = None
    begins: int | None = None

    def read(self) -> Mapping[str, Any]:
        """Return the row.

        Raises:
            InvalidRequestError: It cannot be read, or is no JSON object.
        """
        if self.fault is not None:
            raise InvalidRequestError(self.fault)
        if self.row is not None:
            return self.row
        return decode(self.raw)


def decode(raw: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a line.

    Raises:
        InvalidRequestError: It is none; the message quotes nothing of it, since it may hold a key.
    """
    try:
        found = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"Byte {error.start + 1} of the line is no UTF-8; save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"The line is no JSON (character {error.pos + 1}: {error.msg}).") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; thousands of brackets
        raise InvalidRequestError("The line is JSON that nobody means: too deep, or a number too long.") from None
    if not isinstance(found, dict):
        raise InvalidRequestError('Each line is one JSON object: {"identifiers": ["alice@email.com", ...]}.')
    return found
