"""A formation over HTTP: the routes, who may use them, and what they answer."""

from muxi_identity.server.app import create_app

__all__ = ["create_app"]
