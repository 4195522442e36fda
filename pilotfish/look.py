"""`pilotfish inspect` and `lint`: what containers would publish, live, from saved JSON or from Compose files."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

import msgspec

from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.io_host import default_addresses
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import quoted
from registrator.engines.engine import EngineError
from registrator.engines.io_docker import DockerEngine, DockerSettings
from registrator.explaining.compose import BadCompose, compose
from registrator.explaining.inspect import any_usable, read_document, report
from registrator.explaining.inspect import inspect as inspected
from registrator.explaining.lint import Finding, Seen, Severity
from registrator.explaining.lint import lint as linted
from registrator.fleet import apart
from registrator.io_where import addresses
from registrator.rules.address import Host
from registrator.rules.yaml import parse
from registrator.rules.yaml_scalars import BadYaml
from registrator.settings import RegistratorSettings

# RFC 5737 and RFC 3849: a file does not say on which host it will run; that there is an address is what counts.
SOME_HOST = ("192.0.2.1", "2001:db8::1")
LARGEST = 256 * 1024 * 1024  # octets of saved JSON


class Shown(NamedTuple):
    """What `inspect` prints; `usable` is False where documents were given and none of them could be used."""

    text: str
    usable: bool


def inspect(settings: RegistratorSettings, what: str | None, *, as_json: bool) -> Shown:
    """What would be registered, as text or JSON.

    Args:
        settings: the registrator's own, which decide names and addresses.
        what: a file, `-`, a container's name or id, or None for all that run.
        as_json: JSON instead of text.

    Raises:
        BadSettings: `what` is empty.
        CannotStart: the input is no inspect document, or the engine has no such container.
        CannotReach: the engine does not answer.
    """
    if what == "":
        raise BadSettings(["'' is neither a file nor a container: name one, or nothing for all that run"])
    each = apart(settings)
    usable = True
    if _is_saved(what):
        documents = _saved(what)
        usable = not documents or any_usable(documents)
        result = inspected(documents, Host(each[0].node_name, each[0].ip or default_addresses()), each[0])
    else:
        result = {"containers": asyncio.run(_asked(each, what))}
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode() if as_json else report(result)
    return Shown(text or "there is no container to look at", usable)


def _is_saved(what: str | None) -> TypeGuard[str]:
    return what == "-" or (what is not None and (Path(what).is_file() or "/" in what))


def _saved(what: str) -> list[object]:
    if what == "-":
        return _parsed("standard input", sys.stdin.buffer.read(LARGEST))
    return _parsed(what, _read(what))


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}") from error


def _parsed(where: str, data: bytes) -> list[object]:
    try:
        found = _json(data)
    except BadText as error:
        written = data.lstrip()[:1]
        hint = "; a Compose file is for `pilotfish lint`" if written not in _JSON_BEGINS else ""
        raise CannotStart(f"{where}: no JSON as `docker inspect` prints it: {error}{hint}") from error
    return found if isinstance(found, list) else [found]


class BadText(ValueError):
    """Octets are no text, or no JSON; the message says what is wrong."""


_JSON_BEGINS = (b"{", b"[")


def _json(data: bytes) -> object:
    """A JSON document.

    Raises:
        BadText: it is none.
    """
    try:
        return msgspec.json.decode(data)
    except RecursionError as error:
        raise BadText("JSON is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise BadText(_no_text(error)) from error
    except msgspec.MsgspecError as error:
        raise BadText(str(error)) from error


def _no_text(error: UnicodeDecodeError) -> str:
    return f"no text: octet {error.start} is not UTF-8"


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadText(_no_text(error)) from error


async def _asked(each: Sequence[RegistratorSettings], what: str | None) -> list[object]:
    """What each engine's containers would publish, one engine after another.

    One that is away matters for a container that none of the others has, and where all are asked for.
    """
    found: list[object] = []
    away: list[str] = []
    for settings in each:
        try:
            documents = await _documents(settings, what)
        except EngineError as error:
            away.append(str(error))
            continue
        host = Host(settings.node_name, await addresses(settings.docker[0], settings.ip))
        found += inspected(documents, host, settings)["containers"]
    if away and (what is None or not found):
        no_file = "" if what is None else f"; and there is no file {quoted(what)}"
        raise CannotReach(f"{'; '.join(away)}{no_file}")
    if what is not None and not found:
        where = ", ".join(settings.docker[0] for settings in each)
        raise CannotStart(f"{quoted(what)} is neither a file nor a container of {where}")
    return found


async def _documents(settings: RegistratorSettings, what: str | None) -> list[object]:
    engine = DockerEngine(DockerSettings.of(settings))
    try:
        wanted = [what] if what is not None else list(await engine.running())
        found = [await engine.inspect(container) for container in wanted]
    finally:
        await engine.close()
    return [document for document in found if document is not None]


def lint(settings: RegistratorSettings, files: Sequence[str]) -> list[Finding]:
    """What is wrong with the containers of some files, which are judged together.

    Args:
        settings: the registrator's own, which decide names and addresses.
        files: Compose files, or saved JSON of `docker inspect` or `docker compose config`; `-` is standard input.

    Raises:
        CannotStart: a file cannot be read, or is none of these; or none of the containers can be used.
    """
    seen: list[Seen] = []
    said: list[Finding] = []
    unusable = ""
    for file in files:
        for number, document in enumerate(_of_file(file, said), 1):
            read = read_document(document, number, file)
            if read.notice:
                severity: Severity = "notice" if read.facts else "finding"
                said.append(Finding(file, read.name(), "", "document", severity, read.notice))
            if read.facts:
                seen.append(Seen(file, read.facts))
            else:
                unusable = unusable or f"{file}: {read.notice}"
    if unusable and not seen:
        raise CannotStart(unusable)
    host = Host(settings.node_name or "host", settings.ip or SOME_HOST)
    return [*said, *linted(seen, host, settings)]


def _of_file(file: str, said: list[Finding]) -> list[object]:
    """The containers of one file; what it does not tell goes to `said`."""
    data = sys.stdin.buffer.read(LARGEST) if file == "-" else _read(file)
    try:
        found = _json(data) if data.lstrip()[:1] in _JSON_BEGINS else parse(_decoded(data))
        if isinstance(found, list) or (isinstance(found, dict) and "Config" in found):
            return found if isinstance(found, list) else [found]
        made = compose(found, Path(file).absolute().parent.name)
    except (BadText, BadYaml, BadCompose) as error:
        hint = "; `docker compose config --format json` writes it in a way that can be read"
        hint = hint if isinstance(error, BadYaml) else ""
        raise CannotStart(f"{file}: {error}{hint}") from error
    said += [Finding(file, name, "", "unknown", "notice", text) for name, text in made.notes]
    said += [Finding(file, name, "", "compose", "finding", text) for name, text in made.problems]
    return list(made.documents)
