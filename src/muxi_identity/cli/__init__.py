"""The command line: ``muxi``."""

from muxi_identity.cli.main import app, main

__all__ = ["app", "main"]
