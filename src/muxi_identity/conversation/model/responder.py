"""The responder that asks a language model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from muxi_identity.config import ModelConfig
from muxi_identity.conversation.budget import TokenCounter, estimate_tokens
from muxi_identity.conversation.model.synopsis import ModelSynopsisWriter
from muxi_identity.conversation.responder import Response, Turn
from muxi_identity.conversation.tools import TurnTools
from muxi_identity.errors import ConfigurationError
from muxi_identity.secret import Secret

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from muxi_identity.conversation.model.agent import ModelAgent


class ModelResponder:
    """Answers by a language model: any that pydantic-ai knows. Needs ``pip install 'muxi-identity[llm]'``.

    ``model`` is a name such as ``"openai:gpt-4o"`` or a model of pydantic-ai. ``instructions`` come first in every
    prompt. ``tools`` are functions of yours that the model may call beside those for memory: each takes the turn's
    :class:`TurnTools` first, and its other arguments, their annotations and its docstring are what the model is told.
    Plain functions are run in a thread. A tool that raises does not end the turn: the model is told that it failed.

    ``timeout`` is how many seconds one reply may take, ``context_tokens`` how much a prompt may hold and
    ``reply_tokens`` how much a reply may, ``count_tokens`` what counts them instead of the estimate.

    Raises:
        ConfigurationError: The extra is missing, there is no such model, or a tool cannot be offered.

    >>> from pydantic_ai.models.test import TestModel
    >>> responder = ModelResponder(TestModel(call_tools=[], custom_output_text="Hello!"))
    >>> with FormationClient.ephemeral(responder=responder) as formation:
    ...     print(formation.chat("Hi", user_id="alice@email.com"))
    Hello!
    """

    restartable = False

    def __init__(
        self,
        model: Model | str,
        *,
        api_key: Secret | str | None = None,
        base_url: str | None = None,
        instructions: str = "",
        tools: Sequence[Callable[..., Any]] = (),
        timeout: float = ModelConfig().timeout,
        context_tokens: int = ModelConfig().context_tokens,
        reply_tokens: int = ModelConfig().reply_tokens,
        count_tokens: TokenCounter = estimate_tokens,
    ) -> None:
        self.timeout = timeout
        self._agent = _agent_class()(
            model,
            api_key=Secret(api_key) if isinstance(api_key, str) else api_key,
            base_url=base_url,
            instructions=instructions,
            tools=tools,
            context_tokens=context_tokens,
            reply_tokens=reply_tokens,
            count=count_tokens,
        )

    @classmethod
    def from_config(cls, config: ModelConfig) -> ModelResponder:
        """Return the responder that a formation's ``llm`` section describes."""
        return cls(
            config.name,
            api_key=config.api_key,
            base_url=config.base_url,
            instructions=config.instructions,
            timeout=config.timeout,
            context_tokens=config.context_tokens,
            reply_tokens=config.reply_tokens,
        )

    def __repr__(self) -> str:
        return f"ModelResponder({self._agent.name!r})"

    async def respond(self, turn: Turn) -> Response:
        """Return the model's reply.

        Raises:
            TooLargeError: The message is too long for the model.
            ModelError: It cannot be reached, or answers with what cannot be read.
        """
        async with aclosing(self._run(turn, streaming=False)) as pieces:
            return Response("".join([piece async for piece in pieces]))

    async def stream(self, turn: Turn) -> AsyncGenerator[str | Response, None]:
        """Yield the model's reply as it comes, and last the response.

        Raises:
            TooLargeError: The message is too long for the model.
            ModelError: It cannot be reached, broke off, or answers with what cannot be read.
        """
        given: list[str] = []
        async with aclosing(self._run(turn, streaming=True)) as pieces:
            async for piece in pieces:
                given.append(piece)
                yield piece
        yield Response("".join(given))

    def _run(self, turn: Turn, *, streaming: bool) -> AsyncGenerator[str, None]:
        tools = turn.tools or TurnTools.detached()
        return self._agent.run(turn, tools, now=tools.now, seconds=turn.timeout or self.timeout, streaming=streaming)

    @property
    def synopsis_writer(self) -> ModelSynopsisWriter:
        """What writes the synopses of the formation's people by this model."""
        return ModelSynopsisWriter(self._agent, self.timeout)

    async def aclose(self) -> None:
        """Close the connections to the model, if it was given by its name."""
        await self._agent.close()


def _agent_class() -> type[ModelAgent]:
    try:
        from muxi_identity.conversation.model.agent import ModelAgent  # noqa: PLC0415 - the extra is optional
    except ImportError as error:
        missing = error.name or ""
    else:
        return ModelAgent
    raise ConfigurationError(
        f"A language model needs the extra llm ({missing or 'a package'} is missing): "
        "pip install 'muxi-identity[llm]', or set llm.model to offline.",
        key="llm.model",
    )
