"""A process that writes and reads until it is told to stop: ``python -m tests.operations.traffic CONFIG NAME``.

It prints one line once it has begun, and at the end, as JSON, what was acknowledged and what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from muxi_identity import AsyncFormationClient
from muxi_identity.storage import migrate

MOST = 400


async def main(config: dict[str, Any], name: str) -> None:
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    said: dict[str, str] = {}
    errors: list[str] = []
    async with AsyncFormationClient(config) as client:
        number = 0
        while not stop.done() and number < MOST:
            number += 1
            who, other = (f"{name}-{number}", "slack"), (f"{name}-{number}", "github")
            try:
                await client.chat(f"My budget is ${number}", user_id=who)
                linked = await client.associate_user_identifiers([who, other])
                reply = await client.chat("What's my budget?", user_id=other)
                if str(number) not in str(reply):
                    errors.append(f"{who}: {reply}")
                if number % 3 == 0:
                    merged = await client.merge_users((f"{name}-{number - 1}", "slack"), who)
                    await client.unmerge_users(merged["merge_id"])
                said[who[0]] = linked["muxi_user_id"]
            except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
                errors.append(f"{who}: {error!r}")
            if number == 1:
                print("begun", flush=True)
        await stop
    print(json.dumps({"said": said, "errors": errors, "newest": migrate.newest()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))
