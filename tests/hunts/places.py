"""Where hunts take place."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path
from typing import Any

from muxi_identity.config import FormationConfig, Secret
from tests.postgres import PostgresCluster


def place(kind: str, folder: Path, cluster: PostgresCluster | None) -> FormationConfig:
    """Return a formation in a database of its own: the faults of a hunt are not for anybody else."""
    if kind == "postgres":
        assert cluster is not None
        persistent: dict[str, Any] = {"provider": "postgres", "connection_string": cluster.create_database()}
    else:
        persistent = {"provider": "sqlite", "connection_string": str(folder / "muxi.db")}
    config = FormationConfig.from_mapping({"id": "hunted", "memory": {"persistent": persistent}}, base=folder)
    return dataclasses.replace(config, secret_key=Secret(secrets.token_hex(32)))
