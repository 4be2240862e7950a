"""Which responder a formation has where its client was given none."""

from __future__ import annotations

from muxi_identity.config import ModelConfig
from muxi_identity.conversation.model import ModelResponder
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.conversation.secrecy import may_keep

OFFLINE = ModelConfig().name


def configured_responder(config: ModelConfig) -> OfflineResponder | ModelResponder:
    """Return the responder that the ``llm`` section names.

    Raises:
        ConfigurationError: The extra ``llm`` is missing, or the model cannot be used.
    """
    return OfflineResponder(may_keep) if config.name == OFFLINE else ModelResponder.from_config(config)
