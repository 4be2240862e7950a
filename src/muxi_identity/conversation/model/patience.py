"""Asking a model again where that may help, as long as the turn has time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from muxi_identity.conversation.model.failures import MALFORMED, is_passing

T = TypeVar("T")

ATTEMPTS = 3
# Seconds before the second attempt, twice as many before the third, where the provider does not say.
PAUSE = 0.5


class PatientModel(WrapperModel):
    """A model that is asked up to three times where it is overloaded or out of reach.

    It waits as long as the provider asks for, if the turn has that time, and gives up at once if it has not. A stream
    is asked for again only before anything of it was given out.
    """

    def __init__(self, wrapped: Model, seconds: float | None) -> None:
        super().__init__(wrapped)
        self._ends_at = None if seconds is None else asyncio.get_running_loop().time() + seconds

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask for a whole reply."""
        return await self._patiently(
            lambda: self.wrapped.request(messages, model_settings, model_request_parameters),
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask for a reply in pieces."""
        async with AsyncExitStack() as stack:

            def opened() -> Awaitable[StreamedResponse]:
                stream = self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context)
                return stack.enter_async_context(stream)

            yield await self._patiently(opened)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await ask()
            except ModelAPIError as error:
                pause = _pause(error, attempt)
                if attempt == ATTEMPTS or not is_passing(error) or not self._has(pause):
                    raise
            except MALFORMED:
                malformed = True
                break
            await asyncio.sleep(pause)
        assert malformed
        raise UnexpectedModelBehavior("The reply has the wrong shape.")

    def _has(self, pause: float) -> bool:
        return self._ends_at is None or asyncio.get_running_loop().time() + pause < self._ends_at


def _pause(error: ModelAPIError, attempt: int) -> float:
    if error.retry_after is not None:
        return max(error.retry_after, 0.0)
    return float(PAUSE * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))  # noqa: S311 (no secret)
