"""A fake Docker engine in a process of its own: `python -m tests.parts.fake_docker_process --socket PATH`.

Each line on stdin is a command such as {"do": "add", "with": {"container": {"name": "web_1", "ports": {"80": 8080}}}}
or {"do": "die", "with": {"container_id": "..."}}; each answer is a line {"ok": true, "result": ...}, the first of them
comes when it listens. It ends when stdin does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from tests.parts.docker_documents import Document, container
from tests.parts.fake_docker import FakeDocker

_COMMANDS = frozenset(
    ("start", "kill", "die", "stop", "restart_container", "remove", "pause", "unpause", "health_status", "rename")
) | {"update", "network_connect", "network_disconnect", "cut_streams", "freeze_streams"}


async def _obey(engine: FakeDocker, command: Document) -> object:
    """Do what a line on stdin says; returns what is answered."""
    name, arguments = command["do"], command.get("with", {})
    if name == "add":
        described = container(**arguments.pop("container"))
        return engine.add(described, **arguments)
    if name in {"down", "up", "restart"}:
        await getattr(engine, name)()
        return None
    if name == "state":
        return {"violations": engine.violations, "requests": engine.requests, "bitten": engine.bitten}
    if name not in _COMMANDS:
        raise ValueError(f"unknown command {name!r}")
    return getattr(engine, name)(**arguments)


async def _serve(socket: str, api: str, name: str) -> None:
    async with FakeDocker(socket, api=api, name=name) as engine:
        loop = asyncio.get_running_loop()
        print(json.dumps({"ok": True, "result": engine.url}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                answer = {"ok": True, "result": await _obey(engine, json.loads(line))}
            except (ValueError, KeyError, TypeError) as error:
                answer = {"ok": False, "error": repr(error)}
            print(json.dumps(answer), flush=True)


def main() -> None:
    """Run one engine until stdin ends."""
    parser = argparse.ArgumentParser(description="A fake Docker engine, told by stdin what happens to its containers.")
    parser.add_argument("--socket", required=True, help="path of the unix socket")
    parser.add_argument("--api", default="1.41", help="highest API version")
    parser.add_argument("--name", default="fake", help="host name in /info")
    options = parser.parse_args()
    asyncio.run(_serve(options.socket, options.api, options.name))


if __name__ == "__main__":
    main()
