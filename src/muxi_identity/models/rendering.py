"""A person's context as text for a prompt.

What people have said is data. Each piece stands on one line of its own, behind a dash, whatever line ends or control
characters it holds: it cannot look like the beginning of another section, or like an instruction of yours.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

NOTHING = "Nothing is known of this person yet."


def one_line(text: str) -> str:
    """Return ``text`` on one line: runs of white space and control characters become single spaces."""
    if not text.isprintable():
        text = "".join(
            " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text
        )
    return " ".join(text.split())


def render(context: Mapping[str, Any]) -> str:
    """Return everything but the messages, section by section; what is empty is left out."""
    sections = [
        ("About the person", [context.get("synopsis", "")]),
        ("Preferences", (f"{key}: {_json(value)}" for key, value in context.get("preferences", {}).items())),
        ("Memories", (memory["content"] for memory in context.get("memories", ()))),
        ("Lately", (f"{item['kind']}: {item['content']}" for item in context.get("working_memory", ()))),
        ("Credentials, by name", (f"{each['service']}/{each['name']}" for each in context.get("credentials", ()))),
        ("Scheduled tasks", map(_task, context.get("tasks", ()))),
        ("This conversation", (f"{key}: {_json(value)}" for key, value in context.get("session_context", {}).items())),
    ]
    return "\n\n".join(_rendered(sections)) or NOTHING


def _rendered(sections: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    for title, lines in sections:
        shown = [f"- {line}" for line in map(one_line, lines) if line]
        if shown:
            yield "\n".join([f"{title}:", *shown])


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _task(task: Mapping[str, Any]) -> str:
    when = f"next at {task['next_run_at']}" if task["next_run_at"] else "no run ahead"
    return f"{task['message']} ({task['kind']} {task['schedule']}, {task['timezone']}, {when})"
