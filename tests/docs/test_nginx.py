"""The sample for nginx lets through what the server takes, and waits for as long as the server may need."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import uvicorn

from muxi_identity.client.remote.conversation import PATIENCE
from muxi_identity.refusals import MAX_SECRET_BYTES
from muxi_identity.server.streams import KEEP_ALIVE_SECONDS
from muxi_identity.server_config import ServerConfig

GUIDE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
_UNITS = {"s": 1, "h": 3_600, "k": 1_024, "m": 1_048_576}


def test_the_sample_for_nginx_fits_the_server() -> None:
    found = re.search(r"```nginx\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    sample = re.sub(r" +#.*", "", found[1])
    server, importing = sample.split("location ~ /v1/users/import$")

    def value(name: str, text: str = server) -> int:
        numbers = re.findall(rf"\b{name} [^;]*?(\d+)([shkm]?);", text)
        assert len(numbers) == 1, name
        return int(numbers[0][0]) * _UNITS.get(numbers[0][1], 1)

    idle = inspect.signature(uvicorn.Config).parameters["timeout_keep_alive"].default
    assert value("keepalive_timeout") < idle  # else a request may go to a connection that is just being closed
    assert value("large_client_header_buffers") > MAX_SECRET_BYTES + 100
    assert value("client_max_body_size") > ServerConfig().max_body_bytes
    assert value("proxy_read_timeout") > max(PATIENCE, KEEP_ALIVE_SECONDS)
    assert value("client_max_body_size", importing) == 0
    # With a path behind it, nginx would decode what came, and a slash within an identifier would be one more.
    assert set(re.findall(r"proxy_pass ([^;]+);", sample)) == {"http://muxi"}
    assert "$request " not in sample
    assert "$request_uri" not in sample
