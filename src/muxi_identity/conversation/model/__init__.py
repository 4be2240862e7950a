"""The responder that asks a language model: any that pydantic-ai knows. Needs the extra ``llm``.

``responder.py`` is what the rest of the library imports, and it imports the extra only when one is made. ``prompt.py``
says what a model is told, ``offered.py`` what it may do, ``agent.py`` runs it, ``patience.py`` asks again where that
may help, and ``failures.py`` turns what went wrong into the errors of this library.
"""

from muxi_identity.conversation.model.responder import ModelResponder

__all__ = ["ModelResponder"]
