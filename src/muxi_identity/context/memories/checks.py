"""What callers want kept as a memory, checked before anything is read or written."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from muxi_identity.arguments import MAX_KEY, check_flag, check_text, write_json
from muxi_identity.context.memories.rows import NewMemory
from muxi_identity.context.redaction import find_secret
from muxi_identity.errors import InvalidRequestError, SecretRefusedError
from muxi_identity.storage.tables import DIGEST

MAX_CONTENT = 10_000  # characters
MAX_TYPE = 64
MAX_VALUE = 1_000
MAX_METADATA = 8_000  # characters of JSON


def checked_memory(
    content: object,
    type: object = "note",
    key: object = None,
    value: object = None,
    metadata: object = None,
    shareable: object = False,
) -> NewMemory:
    """Return a memory as it will be kept: the type and the key folded, the rest as it was given.

    Raises:
        SecretRefusedError: A part of it looks like a key or a password.
        TooLargeError: A part of it is too long.
        InvalidRequestError: A part of it has the wrong shape.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidRequestError("metadata must be a mapping with texts for keys.")
    kept = NewMemory(
        content=check_text("content", content, MAX_CONTENT),
        type=checked_type(type),
        key=None if key is None else _key(key),
        value=None if value is None else check_text("value", value, MAX_VALUE),
        metadata=dict(metadata) if metadata else None,
        shareable=check_flag("shareable", shareable),
    )
    write_json("metadata", kept.metadata or {}, MAX_METADATA)
    check_whole(kept)
    return kept


def check_whole(kept: NewMemory) -> None:
    """Check how the parts of a memory, each of which is right, go together.

    Raises:
        SecretRefusedError: It looks as if it held a key or a password.
        InvalidRequestError: It has a value without a key.
    """
    if kept.value is not None and kept.key is None:
        raise InvalidRequestError("A value needs a key: what it is the value of, such as key='budget'.")
    _refuse_secrets(kept)


def checked_type(type: object) -> str:
    """Return a memory's type in its normal form: lower case, trimmed.

    Raises:
        TooLargeError: It is too long.
        InvalidRequestError: It is no text, blank or not printable.
    """
    return _name("type", type, MAX_TYPE)


def _key(key: object) -> str:
    form = _name("key", key, MAX_KEY)
    if form.startswith(DIGEST):
        raise InvalidRequestError(f"key must not begin with {DIGEST}.")
    return form


def _name(name: str, given: object, most: int) -> str:
    # "Budget" and "budget " are the same: what is said of the one replaces what was said of the other.
    form = " ".join(unicodedata.normalize("NFKC", check_text(name, given, most)).casefold().split())
    if not form or not form.isprintable() or len(form) > most:
        raise InvalidRequestError(f"{name} must be a printable text of 1 to {most} characters.")
    return form


def _refuse_secrets(kept: NewMemory) -> None:
    texts = [kept.content, kept.value, kept.key, *_texts_in(kept.metadata)]
    if kept.key is not None and kept.value is not None:
        texts.append(f"{kept.key}: {kept.value}")  # what the key says of the value
    for text in texts:
        what = None if text is None else find_secret(text)
        if what is not None:
            raise SecretRefusedError(
                f"The memory looks as if it held {what}; nothing was kept. Keep it as a credential: "
                "set_credential(user_id, service, credential)."
            )


def _texts_in(value: Any, name: str | None = None) -> list[str]:
    if isinstance(value, str):
        return [value] if name is None else [value, f"{name}: {value}"]
    if isinstance(value, Mapping):
        return [text for key, each in value.items() for text in (key, *_texts_in(each, key))]
    if isinstance(value, Sequence):
        return [text for each in value for text in _texts_in(each, name)]
    return []
