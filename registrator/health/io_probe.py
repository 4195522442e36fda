"""Runs one check once: HTTP, HTTPS, TCP, gRPC, or a script of the admin's.

Each ends within the check's timeout, reads a few KiB at most, and asks only where it was told to: no proxy of the
environment, no redirect, no cookie. What is wrong comes back as a few words that are the same for the same trouble.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import grpc

from pilotfish.catalog.failure import CannotStart
from registrator.health import probe_wire
from registrator.health.checks import Target
from registrator.rules.probe import How, Probe

MAX_BODY = 4096  # octets that are read behind the head, so that a short answer is not cut off under the application
KNOCK_SHARE = 0.4  # of a check's time, for a connection: between two bridges packets are dropped, not refused
LINGER_S = 0.2  # for them
AUTHORITIES_S = 3600.0  # after so long this host's authorities are read again
NO_AUTHORITIES_S = 10.0  # where none was found; some hosts have a folder, which is read when it is needed
KILLED_S = 1.0  # for a script's process to be gone after SIGKILL

REFUSED = "connection refused"
UNREACHABLE = "out of reach"
CLOSED = "closed without an answer"
_WORDS = {errno.ECONNREFUSED: REFUSED, errno.ECONNRESET: CLOSED, errno.EPIPE: CLOSED}
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
# The address is not ours to reach: where the port is published, it may be.
_ELSEWHERE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL})


def folder(check_dir: str) -> str:
    """The folder of the scripts, absolute; "" for none.

    Raises:
        CannotStart: it is no folder.
    """
    if check_dir and not Path(check_dir).is_dir():
        raise CannotStart(f"--check-dir {check_dir}: there is no such folder")
    return str(Path(check_dir).resolve()) if check_dir else ""


class Failed(Exception):
    """A check found something wrong; the message says what."""


class Elsewhere(Failed):
    """The address is out of reach from here."""


class Unasked(Exception):
    """It could not be asked for want of something of our own; that says nothing about the container."""


class Authorities:
    """TLS that trusts this host's authorities: read in a thread, since it takes 20 ms of a processor, and kept."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._until = 0.0  # by the loop's clock
        self._reading = asyncio.Lock()

    async def context(self) -> ssl.SSLContext:
        """The one context for all checks; an hour old at most."""
        loop = asyncio.get_running_loop()
        async with self._reading:
            if self._context is None or loop.time() >= self._until:
                self._context = await asyncio.to_thread(ssl.create_default_context)
                # Where the file could not be opened, nothing says so but that there is none in it.
                found = self._context.cert_store_stats()["x509_ca"]
                self._until = loop.time() + (AUTHORITIES_S if found else NO_AUTHORITIES_S)
            return self._context


async def ask(
    probe: Probe, targets: tuple[Target, ...], check_dir: str = "", authorities: Authorities | None = None
) -> str | None:
    """Run a check once.

    Args:
        probe: what to ask.
        targets: where, best first; the next one is tried only where one is out of reach or decides nothing.
        check_dir: folder of the scripts.
        authorities: of checks that verify a certificate; whoever checks often keeps them.

    Returns:
        "" when all is well, else what is wrong; None when it could not be asked for want of files or memory here.
    """
    problem = "the container has no address of its own to ask at"
    try:
        async with asyncio.timeout(probe.timeout_s):
            for target in targets:
                knock_s = probe.timeout_s * (1.0 if target is targets[-1] else KNOCK_SHARE)
                try:
                    await _ASK[probe.how](_Attempt(probe, target, check_dir, knock_s, authorities or Authorities()))
                except Elsewhere as error:
                    problem = str(error)
                except Failed as error:
                    problem = str(error)
                    if target.decides or problem != REFUSED:
                        break
                else:
                    return ""
    except TimeoutError:
        return f"no answer within {probe.timeout_s:g} s"
    except Unasked:
        return None
    return problem


class _Attempt(NamedTuple):
    """One try at one target; whoever takes no connection within `knock_s` is out of reach."""

    probe: Probe
    target: Target
    check_dir: str
    knock_s: float
    authorities: Authorities


async def _connect(
    one: _Attempt, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(one.knock_s):
            return await asyncio.open_connection(one.target.ip, one.target.port, ssl=tls, limit=MAX_BODY)
    except TimeoutError as error:
        raise Elsewhere(f"no answer within {one.probe.timeout_s:g} s") from error
    except OSError as error:
        raise _failed(error) from error


def _failed(error: OSError) -> Exception:
    """What an error of a socket or a process means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failed(f"certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return Failed("no TLS")
    if error.errno in _OURS:
        return Unasked()
    if error.errno in _ELSEWHERE:
        return Elsewhere(UNREACHABLE)
    return Failed(_WORDS.get(error.errno or 0) or (os.strerror(error.errno) if error.errno else CLOSED))


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close at once: nothing that we have not sent yet is worth waiting for."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _tcp(one: _Attempt) -> None:
    _, writer = await _connect(one)
    await _close(writer)


async def _http(one: _Attempt) -> None:
    probe, target = one.probe, one.target
    reader, writer = await _connect(one, await _context(one) if probe.how is How.HTTPS else None)
    try:
        writer.write(probe_wire.http_request(probe.method, probe.what, target.ip, target.port))
        status = await _status(reader)
        if status not in probe_wire.GOOD:
            raise Failed(str(status))
        await _read_on(reader)
    except OSError as error:
        raise _failed(error) from error
    finally:
        await _close(writer)


async def _status(reader: asyncio.StreamReader) -> int:
    received = b""
    while True:
        chunk = await reader.read(MAX_BODY)
        if not chunk:
            raise Failed(CLOSED)
        received += chunk
        try:
            status = probe_wire.http_status(received)
        except probe_wire.NotHttp as error:
            raise Failed("no HTTP/1") from error
        if status is not None:
            return status


async def _read_on(reader: asyncio.StreamReader) -> None:
    """Read the rest of a short answer; one that does not end is left."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(LINGER_S):
            left = MAX_BODY
            while left > 0 and (chunk := await reader.read(left)):
                left -= len(chunk)


async def _context(one: _Attempt) -> ssl.SSLContext:
    if one.probe.verify:
        return await one.authorities.context()
    # As nginx does with its upstreams: certificates name the site, not a container's address. Reading this host's
    # authorities for every check would cost more than the check.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CHANNEL = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # each check connects anew: what passes is a connection of today
    ("grpc.max_receive_message_length", probe_wire.MAX_REPLY),
    ("grpc.enable_retries", 0),
)


async def _grpc(one: _Attempt) -> None:
    await _tcp(one)  # gRPC tells a closed port and an address out of reach in one word: knock first
    probe, target = one.probe, one.target
    where = f"ipv6:[{target.ip}]:{target.port}" if ":" in target.ip else f"ipv4:{target.ip}:{target.port}"
    async with grpc.aio.insecure_channel(where, options=_CHANNEL) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(probe_wire.HEALTH_CHECK)
        try:
            reply = await call(probe_wire.health_request(probe.what), timeout=probe.timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from error
            raise Failed(error.code().name) from error
    if problem := probe_wire.health_problem(reply):
        raise Failed(problem)


async def _script(one: _Attempt) -> None:
    target = one.target
    try:
        process = await asyncio.create_subprocess_exec(
            str(Path(one.check_dir, one.probe.what)),
            target.ip,
            str(target.port),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(target, os.environ),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        if error.errno in _OURS:
            raise Unasked from error
        raise Failed(f"cannot be run: {os.strerror(error.errno or 0)}") from error
    try:
        code = await process.wait()
    finally:
        await _kill(process)
    if code:
        raise Failed(f"exit code {code}" if code > 0 else f"ended by signal {-code}")


def _environment(target: Target, ours: Mapping[str, str]) -> dict[str, str]:
    """Only what a script needs: ours holds the store's password."""
    kept = {name: ours[name] for name in ("PATH", "LANG", "TZ") if name in ours}
    return {**kept, "SERVICE_IP": target.ip, "SERVICE_PORT": str(target.port)}


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a script and whatever it began, also what outlives it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILLED_S):
            await asyncio.shield(process.wait())


_ASK = {How.HTTP: _http, How.HTTPS: _http, How.TCP: _tcp, How.GRPC: _grpc, How.CMD: _script}
