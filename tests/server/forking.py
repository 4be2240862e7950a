"""A server that preloads: the application and a client are made, and the client used, before the workers are forked.

Arguments: the formation's YAML file. Prints its port when both workers serve; ends when its standard input does.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

import uvicorn

from muxi_identity import FormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.server import create_app
from muxi_identity.server.running import bind

WORKERS = 2


class Telling(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, told: int) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets=None) -> None:  # type: ignore[no-untyped-def]
        await super().startup(sockets)
        os.write(self._told, b".")


def main(file: str) -> None:
    config = FormationConfig.load(file)
    client = FormationClient(config)
    client.resolve_user("before@email.com", create_user=True)  # connections, caches and threads of the parent's
    app = create_app(config)
    listener = bind("127.0.0.1", 0)
    listener.listen(128)
    read, write = os.pipe()
    pids = []
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert client.resolve_user("before@email.com")["created"] is False  # it opens anew
                client.close()
                settings = uvicorn.Config(app, access_log=False, log_config=None, ws="none", lifespan="on")
                Telling(settings, write).run([listener])
                code = 0
            except SystemExit:
                pass
            except Exception:  # noqa: BLE001 (the outermost handler)
                traceback.print_exc()
            finally:
                if code:
                    os.write(write, b"!")  # or the parent would wait for it
                os._exit(code)
        pids.append(pid)
    for _ in range(WORKERS):
        assert os.read(read, 1) == b".", "a worker did not start"
    print(listener.getsockname()[1], *pids, flush=True)
    sys.stdin.read()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    for pid in pids:
        os.waitpid(pid, 0)
    assert client.resolve_user("before@email.com")["created"] is False  # the parent's own still works
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
