"""Running a model for one turn: rounds of tools until it has an answer."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from weakref import WeakKeyDictionary

from pydantic_ai import Agent, Tool
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from muxi_identity.conversation.budget import TokenCounter
from muxi_identity.conversation.model.failures import FAILURES, BrokenOff, describe, translated
from muxi_identity.conversation.model.naming import model_named, says_when_done
from muxi_identity.conversation.model.offered import Hands, HostTool, offered
from muxi_identity.conversation.model.patience import PatientModel
from muxi_identity.conversation.model.prompt import Prompt, instructions_of, prompt_of
from muxi_identity.conversation.responder import Turn
from muxi_identity.conversation.tools import TurnTools
from muxi_identity.errors import ConfigurationError, ModelError, MuxiError
from muxi_identity.secret import Secret

logger = logging.getLogger("muxi_identity.conversation")

# How often a model may be asked in one turn, each but the last time answering with calls of tools.
ROUNDS = 8
MAX_CALLS = 64
# How often arguments of the wrong shape, or an empty answer, are given back to it.
_RETRIES = 2
# What a turn leaves free for the answers of tools: a quarter of the context, and no more than this.
_MAX_ROOM = 4_000
# What must be left for the person's context and message.
_LEAST = 500


class ModelAgent:
    """A model with its instructions and tools."""

    def __init__(
        self,
        model: Model | str,
        *,
        api_key: Secret | None,
        base_url: str | None,
        instructions: str,
        tools: Sequence[HostTool],
        context_tokens: int,
        reply_tokens: int,
        count: TokenCounter,
    ) -> None:
        self._make = partial(model_named, model, api_key, base_url) if isinstance(model, str) else None
        self._model = model_named(model, api_key, base_url) if isinstance(model, str) else model
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, Model] = WeakKeyDictionary()
        self._count = count
        self._context_tokens = context_tokens
        self._room = min(context_tokens // 4, _MAX_ROOM)
        whole = instructions_of(instructions)
        made = offered(tools)
        taken = self._room + count(whole) + count(_described(made))
        self._budget = context_tokens - taken
        if self._budget < _LEAST:
            raise ConfigurationError(
                f"llm.context_tokens is {context_tokens}, and instructions and tools take {taken} of it; allow "
                f"at least {taken + _LEAST}, or shorten the instructions.",
                key="llm.context_tokens",
            )
        self._settings = ModelSettings(max_tokens=reply_tokens)
        if "max_retries" not in type(self._model).unsupported_settings:
            self._settings["max_retries"] = 0  # we ask again ourselves, knowing how much time the turn has
        self._agent: Agent[Hands, str] = Agent(
            self._model,
            deps_type=Hands,
            instructions=whole,
            tools=made,
            name="muxi",
            retries=_RETRIES,
            model_settings=self._settings,
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.model_name

    def _model_here(self) -> Model:
        """Return the model for the running event loop.

        Connections are one loop's: two clients may share a responder, and a fork must not speak over its parent's, or
        one would read what the other was answered. A model that was made elsewhere is its maker's to share.
        """
        if self._make is None:
            return self._model
        loop = asyncio.get_running_loop()
        model = self._made.get(loop)
        if model is None:
            model = self._made[loop] = self._make()
        return model

    async def run(
        self, turn: Turn, tools: TurnTools, *, now: str, seconds: float | None, streaming: bool
    ) -> AsyncGenerator[str, None]:
        """Yield the text of the reply: in the pieces that the model gives, or else round by round.

        Raises:
            TooLargeError: The message is too long for the model.
            ModelError: It cannot be reached, does not come to an end, or answers with what cannot be read.
        """
        prompt = prompt_of(turn, budget=self._budget, count=self._count, mark=secrets.token_hex(8), now=now)
        pieces = self._pieces(prompt, Hands(tools, self._room, self._count), seconds, streaming)
        failure: MuxiError | None = None
        given = False
        async with aclosing(pieces):
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                except FAILURES as error:
                    failure = self._failure(error, turn.request_id)
                    break
                given = given or bool(piece.strip())
                yield piece
        if failure is not None:
            # Raised here and not above: an error in its context would carry what the provider quoted.
            raise failure
        if not given:
            self._log("no text", ModelError.code, turn.request_id)
            raise ModelError("The language model answered with nothing; nothing of the turn was recorded.")

    def _failure(self, error: BaseException, request_id: str | None = None) -> MuxiError:
        """Return the error to raise in place of ``error``, which is logged where it is the model's."""
        failure = translated(error, self._context_tokens)
        if isinstance(failure, ModelError):
            self._log(describe(error), failure.code, request_id)
        return failure

    def _log(self, what: str, code: str, request_id: str | None) -> None:
        # Kinds and codes alone: providers quote what they were sent, the prompt and sometimes the key.
        fields = {} if request_id is None else {"request_id": request_id}
        logger.warning("the model %s failed with %s: %s", self.name, what, code, extra={"fields": fields})

    async def _pieces(
        self, prompt: Prompt, hands: Hands, seconds: float | None, streaming: bool
    ) -> AsyncGenerator[str, None]:
        separate = False
        async with self._agent.iter(
            prompt.message,
            model=PatientModel(self._model_here(), seconds),
            message_history=_history(prompt),
            deps=hands,
            usage_limits=UsageLimits(request_limit=ROUNDS, tool_calls_limit=MAX_CALLS),
        ) as run:
            async for node in run:
                if streaming and Agent.is_model_request_node(node):
                    begun = False
                    async with node.stream(run.ctx) as events:
                        async for event in events:
                            if piece := _text_of(event):
                                yield piece if begun or not separate else f"\n\n{piece}"
                                begun = separate = True
                elif Agent.is_call_tools_node(node):
                    if streaming:
                        self._check_complete(node.model_response)
                    elif text := _whole_text(node.model_response):
                        yield text if not separate else f"\n\n{text}"
                        separate = True

    async def ask(self, instructions: str, prompt: str, seconds: float | None) -> str:
        """Return the model's answer to a prompt that is no turn: without tools and without a session.

        Raises:
            ModelError: It cannot be reached, or answers with what cannot be read.
        """
        plain: Agent[None, str] = Agent(
            PatientModel(self._model_here(), seconds),
            instructions=instructions,
            name="muxi",
            retries=_RETRIES,
            model_settings=self._settings,
        )
        failure: MuxiError
        try:
            return (await plain.run(prompt, usage_limits=UsageLimits(request_limit=_RETRIES + 1))).output
        except FAILURES as error:
            failure = self._failure(error)
        raise failure

    def within_budget(self, text: str, end: str) -> str:
        """Return ``text`` cut at a line so that it and ``end`` are no more than a prompt may hold, with ``end``."""
        lines = text.splitlines()
        while len(lines) > 1 and self._count("\n".join(lines) + end) > self._budget:
            del lines[-max(len(lines) // 8, 1) :]
        return "\n".join(lines) + end

    def _check_complete(self, response: ModelResponse) -> None:
        # Where the provider gave no reason, pydantic-ai makes one up; what the provider said stands in its details.
        told = "finish_reason" in (response.provider_details or {})
        if not told and says_when_done(self._model):
            raise BrokenOff(self._model.model_name, "The stream broke off.")

    async def close(self) -> None:
        """Close the connections of this loop's model; one that was not made from its name is its maker's to close."""
        model = self._made.pop(asyncio.get_running_loop(), None)
        if model is not None:
            async with model:
                pass  # leaving it is what closes them


def _history(prompt: Prompt) -> list[ModelMessage]:
    history: list[ModelMessage] = []
    for message in prompt.messages:
        if message.role == "user":
            history.append(ModelRequest(parts=[UserPromptPart(message.content)]))
        else:
            history.append(ModelResponse(parts=[TextPart(message.content)]))
    # Right before the message, so that what comes before it is the same from turn to turn and a provider can cache it.
    history.append(ModelRequest(parts=[UserPromptPart(prompt.context)]))
    return history


def _text_of(event: object) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _whole_text(response: ModelResponse) -> str:
    return "".join(part.content for part in response.parts if isinstance(part, TextPart))


def _described(tools: Sequence[Tool[Hands]]) -> str:
    """Return about what describing the tools adds to a prompt."""
    definitions = [tool.tool_def for tool in tools]
    return "\n".join(
        f"{each.name} {each.description} {json.dumps(each.parameters_json_schema)}" for each in definitions
    )
