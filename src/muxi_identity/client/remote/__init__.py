"""A formation behind a server: the same operations, sent over HTTP. Nothing here opens a database."""

from muxi_identity.client.remote.formation import RemoteFormation
from muxi_identity.client.remote.place import DEFAULT_RETRIES, DEFAULT_TIMEOUT, Place, read_place

__all__ = ["DEFAULT_RETRIES", "DEFAULT_TIMEOUT", "Place", "RemoteFormation", "read_place"]
