"""A credential from the moment it is handed over: checked, wrapped, and never again in a variable of its own.

What fails later (a database that does not answer) has a traceback, and tools print the variables of its frames. So the
first line of a call that takes a credential wraps it, and what is wrong with it is told from a frame that does not
hold it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from muxi_identity.arguments import is_storable, write_json
from muxi_identity.context.redaction import find_secret
from muxi_identity.errors import InvalidRequestError, TooLargeError
from muxi_identity.identifiers import hint
from muxi_identity.secret import Secret

MAX_BYTES: Final = 65_536
_PREVIEW_CHARACTERS: Final = 200
_FIELD_CHARACTERS: Final = 40

CredentialValue: TypeAlias = str | Mapping[str, Any] | Secret
"""A credential as a caller may give it: a text, or a JSON object of texts."""


class Concealed(Secret):
    """A credential that shows its preview at most.

    ``problem`` is the error to raise where it cannot be kept; ``is_object``: it was a JSON object and no text.
    """

    __slots__ = ("is_object", "preview", "problem")

    def __init__(
        self, value: str, preview: str, problem: InvalidRequestError | None, *, is_object: bool = False
    ) -> None:
        super().__init__(value)
        self.preview = preview
        self.problem = problem
        self.is_object = is_object


def conceal(given: object) -> Concealed:
    """Wrap a credential. Never raises: an error's traceback would hold what was given."""
    if isinstance(given, Concealed):
        return given
    if isinstance(given, Secret):
        given = given.reveal()
    preview = ""
    if isinstance(given, Mapping):
        try:
            text = write_json("credential", dict(given), MAX_BYTES)
            preview = _fields(given)
        except InvalidRequestError as error:
            return Concealed("", "", type(error)(error.message, **error.details))
    elif isinstance(given, str):
        text = str.__str__(given)
    else:
        return _refused("credential must be a text, a Secret or a JSON object (a dict).")
    if not text.strip() or text == "{}":
        return _refused("credential is empty; pass the secret itself. To remove one, call delete_credential.")
    if not is_storable(text):
        return _refused("credential must not contain NUL or lone surrogates.")
    size = len(text.encode())
    if size > MAX_BYTES:
        message = f"credential has {size} bytes; at most {MAX_BYTES} are taken."
        return Concealed("", "", TooLargeError(message, limit=MAX_BYTES))
    return Concealed(text, preview or _preview(text), None, is_object=isinstance(given, Mapping))


def _refused(message: str) -> Concealed:
    return Concealed("", "", InvalidRequestError(message))


def _preview(text: str) -> str:
    shown = hint(text.strip())
    return shown if shown.isprintable() else "..."


def _fields(given: Mapping[str, Any]) -> str:
    """Return the names of an object's fields; one that may be a secret itself is not shown."""
    names = [
        name if len(name) <= _FIELD_CHARACTERS and name.isidentifier() and find_secret(name) is None else "..."
        for name in given
    ]
    shown = ", ".join(names)
    return shown if len(shown) <= _PREVIEW_CHARACTERS else f"{shown[:_PREVIEW_CHARACTERS]}..."
