"""The routes, one module for each kind. A new module is one line here."""

from muxi_identity.server.routes import chat, identifiers, resolve, sessions, system, tokens, users

GROUPS = (
    resolve.routes,
    identifiers.routes,
    users.routes,
    tokens.routes,
    chat.routes,
    sessions.routes,
    system.routes,
)
"""In the order of the documentation."""
