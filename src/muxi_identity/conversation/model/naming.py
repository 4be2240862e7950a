"""From the name of a model, as the configuration gives it, to the model."""

from __future__ import annotations

from typing import Any

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model, parse_model_id
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from muxi_identity.errors import ConfigurationError
from muxi_identity.secret import Secret

# With an address of their own these speak the protocol that compatible servers speak: chat completions.
_COMPATIBLE = ("openai", "openai-chat")


def model_named(name: str, api_key: Secret | None, base_url: str | None) -> Model:
    """Return the model that pydantic-ai calls ``name``.

    ``openai:<model>`` with an address is any server that speaks OpenAI's chat completions; a key in the environment is
    not sent to it. Without an address it is OpenAI itself. Whatever else is not given comes from the environment
    variables that pydantic-ai reads.

    Raises:
        ConfigurationError: There is no such provider or model, its package is missing, or it needs a key.
    """
    provider, _, model = name.partition(":")
    if base_url is not None and provider in _COMPATIBLE:
        key = None if api_key is None else api_key.reveal()
        return OpenAIChatModel(model, provider=OpenAICompatibleProvider(provider, base_url=base_url, api_key=key))
    given: dict[str, Any] = {}
    if api_key is not None:
        given["api_key"] = api_key.reveal()
    if base_url is not None:
        given["base_url"] = base_url

    def make(provider_name: str) -> Provider[Any]:
        return infer_provider_class(provider_name)(**given)

    try:
        parse_model_id(name)
        return infer_model(name, provider_factory=make) if given else infer_model(name)
    except ImportError as error:
        problem = str(error)  # it names the package to install, and nothing else
    except (UserError, ValueError) as error:
        problem = str(error)
    except TypeError:
        problem = f"{provider} takes no {' and no '.join(given)} from the configuration; set it as pydantic-ai says"
    for secret in given.values():
        problem = problem.replace(secret, "***")
    raise ConfigurationError(f"llm.model: {name!r} cannot be used: {problem}", key="llm.model")


def says_when_done(model: Model) -> bool:
    """Tell whether a stream of this model that was not cut off always ends with a reason for its end."""
    return isinstance(model, OpenAIChatModel)
