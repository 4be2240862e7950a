"""The tools that a model is offered. Who the person is was decided below, and is no argument of any of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import PydanticUserError
from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ModelRetry, ToolFailed, UserError
from pydantic_core import PydanticSerializationError, to_json

from muxi_identity.context.memories.rows import FACT
from muxi_identity.conversation.budget import TokenCounter
from muxi_identity.conversation.offline.wording import fold
from muxi_identity.conversation.tools import TurnTools
from muxi_identity.errors import ConfigurationError, MuxiError
from muxi_identity.models import MemoryRecord

logger = logging.getLogger("muxi_identity")

HostTool = Callable[..., Any]
MAX_RESULT = 6_000  # characters of one tool's answer
_CUT_TOKENS = 4  # of saying that it was cut
_LEAST_RESULT = 100  # characters; less is not worth the reading
_NO_ROOM = "There is no room for more in this turn. Answer now with what you have."


class Hands:
    """What the tools of one run have: the person's tools, and the room that is left for answers, in tokens."""

    def __init__(self, tools: TurnTools, room: int, count: TokenCounter) -> None:
        self.tools = tools
        self._room = room
        self._count = count

    def answer(self, text: str) -> str:
        """Return what a tool says to the model: without secrets, and no longer than there is room for."""
        text = self.tools.without_secrets(text)
        cut = text[:MAX_RESULT]
        while cut and self._count(cut) + _CUT_TOKENS > self._room:
            cut = cut[: len(cut) * 3 // 4]
        if len(cut) < min(len(text), _LEAST_RESULT):
            raise ToolFailed(_NO_ROOM)
        if len(cut) < len(text):
            text = f"{cut} [cut]"
        self._room -= self._count(cut) + _CUT_TOKENS
        return text


async def remember(ctx: RunContext[Hands], content: str, key: str | None = None, value: str | None = None) -> str:
    """Remember something that the person said of themselves, for all of their channels.

    Args:
        ctx: The run.
        content: One plain sentence in the person's own words, "My budget is $5,000".
        key: The attribute it is about, "budget", where it is about one. A later memory of that key replaces it.
        value: What is said of the attribute, "$5,000".
    """
    about = fold(key) if key else None
    kind = FACT if about and value else "note"
    await _try(ctx.deps.tools.remember(content, key=about, value=value if about else None, type=kind))
    return ctx.deps.answer("Remembered.")


async def recall(ctx: RunContext[Hands], query: str, limit: int = 5) -> str:
    """Search what is remembered of the person.

    Args:
        ctx: The run.
        query: A few words to look for.
        limit: How many memories to return, 1 to 20.
    """
    return ctx.deps.answer(_listed(await _try(ctx.deps.tools.recall(query, limit)), "Nothing is remembered of that."))


async def forget(ctx: RunContext[Hands], what: str) -> str:
    """Forget one memory, when the person asks for it.

    Args:
        ctx: The run.
        what: The memory's id as recall shows it, or its text.
    """
    gone = await _try(ctx.deps.tools.forget(what))
    if gone:
        return ctx.deps.answer(f"Forgotten: {_listed(gone, '')}")
    return ctx.deps.answer("No single memory fits that. Use recall, and pass the id of the one that is meant.")


async def set_preference(ctx: RunContext[Hands], key: str, value: str | int | float | bool) -> str:
    """Set how the person wants to be served: language, units, tone.

    Args:
        ctx: The run.
        key: What it is about, "language".
        value: What they prefer, "de".
    """
    await _try(ctx.deps.tools.set_preference(key, value))
    return ctx.deps.answer("Set.")


async def schedule_task(
    ctx: RunContext[Hands], message: str, cron: str | None = None, at: str | None = None, timezone: str = "UTC"
) -> str:
    """Have a message taken up later for the person, once or again and again. Pass either cron or at.

    Args:
        ctx: The run.
        message: What is to be done, as an instruction to yourself.
        cron: Five fields, "0 9 * * 1-5" for nine o'clock on weekdays.
        at: One time as ISO 8601, "2030-05-01T09:00".
        timezone: The person's time zone, "Europe/Berlin".
    """
    await _try(ctx.deps.tools.schedule_task(message, cron=cron, at=at, timezone=timezone))
    return ctx.deps.answer("Scheduled.")


async def note_topic(ctx: RunContext[Hands], text: str) -> str:
    """Note in a few words what is being spoken of, so that the person's other channels know.

    Args:
        ctx: The run.
        text: A few words, "planning a trip to Japan".
    """
    await _try(ctx.deps.tools.note_topic(text))
    return ctx.deps.answer("Noted.")


OFFERED = (remember, recall, forget, set_preference, schedule_task, note_topic)


def offered(host_tools: Sequence[HostTool]) -> list[Tool[Hands]]:
    """Return the tools that a model is offered: ours, and the host's, which take the :class:`TurnTools` first.

    Raises:
        ConfigurationError: One cannot be offered as it is written.
    """
    tools: list[Tool[Hands]] = [Tool[Hands](function, takes_ctx=True) for function in OFFERED]
    tools += [_host_tool(function) for function in host_tools]
    names = [tool.name for tool in tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"Two tools are called {twice[0]!r}; give yours another name.")
    return tools


def _host_tool(function: HostTool) -> Tool[Hands]:
    """Wrap a tool of the host: its first argument is the turn's tools, and the model sees the others."""
    name = getattr(function, "__name__", type(function).__name__)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (parameters[0].POSITIONAL_ONLY, parameters[0].POSITIONAL_OR_KEYWORD):
        raise ConfigurationError(f"The tool {name!r} must take the turn's tools (TurnTools) as its first argument.")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    async def call(ctx: RunContext[Hands], *positional: Any, **named: Any) -> str:
        try:
            if is_async:
                result = await function(ctx.deps.tools, *positional, **named)
            else:  # it may wait for something: not on the event loop
                result = await asyncio.to_thread(function, ctx.deps.tools, *positional, **named)
        except (ModelRetry, ToolFailed):
            raise
        except MuxiError as error:
            problem = ctx.deps.tools.without_secrets(error.message)
        except Exception as error:  # noqa: BLE001 - the host's own code, whatever it raises: the model is told that it failed
            # Its text may quote an address with a key in it, so that neither the model nor the log gets it.
            logger.warning("tool %s failed with %s", name, type(error).__name__)
            problem = f"{name} failed ({type(error).__name__})."
        else:
            return ctx.deps.answer(_as_text(name, result))
        raise ToolFailed(problem)

    try:
        hints = typing.get_type_hints(function, localns={"TurnTools": TurnTools}, include_extras=True)
    except NameError as error:
        raise ConfigurationError(f"The tool {name!r}: {error}; its annotations must be known when it runs.") from None
    rest = [each.replace(annotation=hints.get(each.name, each.annotation)) for each in parameters[1:]]
    first = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=RunContext[Hands])
    call.__name__ = call.__qualname__ = name
    call.__doc__ = inspect.getdoc(function)
    call.__annotations__ = {"ctx": RunContext[Hands], **{each.name: each.annotation for each in rest}}
    call.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
    try:
        return Tool[Hands](call, takes_ctx=True)
    except (UserError, PydanticUserError, TypeError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise ConfigurationError(f"The tool {name!r} cannot be offered to a model: {problem}") from None


def _as_text(name: str, result: object) -> str:
    if isinstance(result, str):
        return result
    try:
        return to_json(result).decode()
    except PydanticSerializationError:
        pass
    raise ToolFailed(f"{name} answered with something that is no text.")


T = typing.TypeVar("T")


async def _try(work: Awaitable[T]) -> T:
    """Return what a tool brings; what it refuses is told to the model."""
    try:
        return await work
    except MuxiError as error:
        problem = error.message
    raise ToolFailed(problem)


def _listed(memories: Sequence[MemoryRecord], otherwise: str) -> str:
    lines = [f"[{each['memory_id']}] {' '.join(each['content'].split())[:500]}" for each in memories]
    return "\n".join(lines) or otherwise
