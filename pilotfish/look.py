"""`pilotfish inspect`: what containers would publish, live or from saved JSON."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.io_host import default_addresses
from pilotfish.catalog.values import quoted
from registrator.address import Host
from registrator.engine import EngineError
from registrator.inspect import inspect as inspected
from registrator.inspect import report
from registrator.io_docker import DockerEngine, DockerSettings
from registrator.settings import RegistratorSettings

LARGEST = 256 * 1024 * 1024  # octets of saved JSON


def inspect(settings: RegistratorSettings, what: str | None, *, as_json: bool) -> str:
    """What would be registered, as text or JSON.

    Args:
        settings: the registrator's own, which decide names and addresses.
        what: a file, `-`, a container's name or id, or None for all that run.
        as_json: JSON instead of text.

    Raises:
        CannotStart: the input is no inspect document.
        CannotReach: the engine does not answer, or has no such container.
    """
    documents = _documents(settings, what)
    result = inspected(documents, Host(settings.node_name, settings.ip or default_addresses()), settings)
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode() if as_json else report(result)


def _documents(settings: RegistratorSettings, what: str | None) -> list[object]:
    if what == "-":
        return _parsed("standard input", sys.stdin.buffer.read(LARGEST))
    if what is not None and (Path(what).is_file() or "/" in what):
        return _parsed(what, _read(what))
    return asyncio.run(_asked(settings, what))


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}") from error


def _parsed(where: str, data: bytes) -> list[object]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CannotStart(f"{where}: no JSON as `docker inspect` prints it: {error}") from error
    return found if isinstance(found, list) else [found]


async def _asked(settings: RegistratorSettings, what: str | None) -> list[object]:
    engine = DockerEngine(
        DockerSettings(
            settings.docker, settings.docker_tls_verify, settings.docker_cert_path, settings.docker_timeout_s
        )
    )
    try:
        wanted = [what] if what is not None else list(await engine.running())
        found = [await engine.inspect(container) for container in wanted]
    except EngineError as error:
        raise CannotReach(str(error)) from error
    finally:
        await engine.close()
    if what is not None and found == [None]:
        raise CannotReach(f"{quoted(what)} is neither a file nor a container of {settings.docker}")
    return [document for document in found if document is not None]
