"""What others said, made fit for a terminal, and what errors say, in the words of this command line."""

from __future__ import annotations

import json
import re
from typing import Any

from rich.markup import escape

# A terminal obeys these wherever they come from: a name, a reason, a reply or a server's error could paint over what
# stands above it, rename the window, or have the terminal type an answer. Those for the direction of writing make one
# text look like another; lone surrogates cannot be printed at all.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_PYTHON: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r'\bon_conflict="(\w+)"', r"--on-conflict \1"),
        (r"\b(force|include_merged)=True", r"--\1"),
        (r"\bcreate_user=True", "`muxi users resolve --create`"),
        (r"\bcreate_user\(user_id='([^']*)'\)", r"`muxi users create \1`"),
        (r"\bmerge_users\(\w+, \w+\)", "`muxi users merge`"),
        (r"\bget_user_history\(\w+\)", "`muxi users history`"),
        (r"\bimport_id\b", "--import-id"),
        (r"(--\w+)_(\w+)", r"\1-\2"),
    )
)


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return ``text`` with what a terminal would obey spelled out, as in ``\x1b``.

    ``lines``: it may be of several lines, and have tabs in them.
    """
    return _OBEYED.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _spelled(found[0]), text)


def marked(text: str, *, lines: bool = False) -> str:
    """Return :func:`visible` for a console that reads markup."""
    return escape(visible(text, lines=lines))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that says ``value`` and holds nothing that a terminal would obey but the ends of its lines."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _OBEYED.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def in_commands(message: str) -> str:
    """Return an error's message with commands and options in place of the calls and arguments that it names."""
    for pattern, words in _PYTHON:
        message = pattern.sub(words, message)
    return message


def _spelled(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
