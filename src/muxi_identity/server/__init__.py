"""A formation over HTTP: the routes, who may use them, and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muxi_identity.server.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    # Keys and tokens are made where nothing is served: they need neither the extra nor the time that it takes to load.
    if name == "create_app":
        from muxi_identity.server.app import create_app  # noqa: PLC0415 (an optional extra)

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
