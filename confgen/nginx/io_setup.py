"""Before anything is rendered: what the nginx program can do, what the machine gives, whether the flags fit both."""

from __future__ import annotations

from pathlib import Path

import msgspec

from confgen.io_command import CannotRun
from confgen.nginx import io_machine, quote
from confgen.nginx.features import LEAST, Features, NotNginx
from confgen.nginx.io_features import probe
from confgen.nginx.layout import LUA, Machine
from confgen.settings import ConfgenSettings
from pilotfish.catalog.failure import CannotStart

LONGEST_NAME = 64  # of a file with users, `options.FileName`


async def machine(settings: ConfgenSettings, folder: Path, reserved: tuple[str, ...]) -> Machine:
    """Ask program and machine.

    Args:
        settings: of the config generator.
        folder: nginx's folder, absolute.
        reserved: hosts that nobody gets.

    Raises:
        CannotStart: a flag asks for what this nginx cannot do.
    """
    facts = msgspec.structs.replace(
        io_machine.machine(folder, settings.http_port, reserved),
        can=await _features(settings),
        h2c_port=settings.h2c_port,
        trusted=settings.trusted,
        proxy_protocol=settings.proxy_protocol,
        lua=settings.nginx_endpoints == "lua",
        public_port=settings.public_port,
    )
    if problem := misfit(settings, facts.can):
        raise CannotStart(problem)
    return facts


async def _features(settings: ConfgenSettings) -> Features:
    """What the program can do; one that is not here yet counts as one that can do the least."""
    try:
        return await probe(settings.nginx_bin, settings.nginx_modules)
    except (CannotRun, NotNginx) as error:
        if settings.nginx_endpoints == "lua":  # whether it can is not known
            raise CannotStart(f"--nginx-endpoints lua: --nginx-bin: {error}") from error
        return LEAST  # starting it will say so, and is tried again


def misfit(settings: ConfgenSettings, can: Features) -> str:
    """Which flag asks for what cannot be; empty when none does."""
    if settings.proxy_protocol and not settings.trusted:
        return "--proxy-protocol: name the balancers that send it with --trusted-proxies"
    if settings.trusted and (why := can.why_not("realip")):
        return f"--trusted-proxies: {why}"
    if settings.h2c_port and (why := can.why_not("http_v2")):
        return f"--h2c-port: {why}"
    if settings.h2c_port == settings.http_port:
        return "--h2c-port: it is that of --http-port; choose another"
    if settings.certs and settings.https_port in {settings.http_port, settings.h2c_port}:
        return "--https-port: it is that of --http-port or --h2c-port; choose another"
    if settings.nginx_endpoints == "lua" and (why := _no_balancer(settings, can)):
        return f"--nginx-endpoints lua: {why}"
    for flag, folder in (
        ("--htpasswd", settings.htpasswd),
        ("--snippets", settings.snippets),
        ("--pages", settings.pages),
    ):
        if folder and not Path(folder).is_dir():
            return f"{flag} {folder}: no such folder"
    return _unprintable(settings.htpasswd) if settings.htpasswd else ""


def _no_balancer(settings: ConfgenSettings, can: Features) -> str:
    if settings.nginx == "off":
        return "it needs an nginx to tell: --nginx spawn or signal"
    why = next(filter(None, map(can.why_not, LUA)), "")
    return why and f"{why}: install it (Debian: libnginx-mod-http-lua), or name its folder with --nginx-modules"


def _unprintable(htpasswd: str) -> str:
    try:
        quote.file(f"{Path(htpasswd).absolute()}/{'n' * LONGEST_NAME}")
    except quote.Unprintable as error:
        return f"--htpasswd: {error}; use a path of letters, digits and ._-"
    return ""
