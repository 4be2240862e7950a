"""The routes, one module for each kind. A new module is one line here."""

from muxi_identity.server.routes import (
    audit,
    chat,
    context,
    credentials,
    events,
    identifiers,
    importing,
    link_codes,
    memories,
    merging,
    preferences,
    resolve,
    scheduler,
    sessions,
    system,
    tokens,
    users,
    webhooks,
)

GROUPS = (
    resolve.routes,
    identifiers.routes,
    importing.routes,
    users.routes,
    merging.routes,
    link_codes.routes,
    tokens.routes,
    chat.routes,
    context.routes,
    sessions.routes,
    memories.routes,
    preferences.routes,
    credentials.routes,
    scheduler.routes,
    events.routes,
    audit.routes,
    webhooks.routes,
    system.routes,
)
"""In the order of the documentation."""
