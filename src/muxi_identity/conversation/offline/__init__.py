"""The offline responder: an assistant without a model, by rules of the English language. See ``responder``."""

from muxi_identity.conversation.offline.responder import UNKNOWN, OfflineResponder

__all__ = ["UNKNOWN", "OfflineResponder"]
