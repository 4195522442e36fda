"""TLS towards an engine, from the files that `docker-machine env` names: ca.pem, cert.pem and key.pem in one folder.

With DOCKER_TLS_VERIFY the engine's certificate is checked against ca.pem, its host name too; without it,
DOCKER_CERT_PATH alone makes the connection private and shows our certificate, and anybody could be at its other end.
The files are read with every new connection, so that renewed ones are used without a restart.
Source: docker/cli and the Go client's FromEnv. Differs: a folder that lacks a file is an error before the first call.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import urllib3
from docker.tls import TLSConfig

FOLDER = "~/.docker"  # where Docker's own command line looks


def has_tls(url: str, *, tls_verify: bool, cert_path: str) -> bool:
    """True when an engine is to be spoken to over TLS with the files of a folder."""
    return not url.startswith("unix://") and (tls_verify or bool(cert_path))


def config(url: str, *, tls_verify: bool, cert_path: str) -> TLSConfig | bool:
    """What the SDK is given for an engine; False without TLS."""
    if not has_tls(url, tls_verify=tls_verify, cert_path=cert_path):
        return False
    if not tls_verify:  # said by us, once, at the start; not with every connection
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    folder = _folder(cert_path)
    return TLSConfig(
        client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
        ca_cert=str(folder / "ca.pem") if tls_verify else None,
        verify=tls_verify,
    )


def problems(url: str, *, tls_verify: bool, cert_path: str) -> list[str]:
    """What is wrong with the TLS settings for an engine, one sentence each; empty when they can be used."""
    if not has_tls(url, tls_verify=tls_verify, cert_path=cert_path):
        return []
    if url.startswith("http://"):
        return [f"--docker-tls-verify, --docker-cert-path: {url} has no TLS: use tcp:// or https://"]
    folder = _folder(cert_path)
    if not folder.is_dir():
        given = "--docker-cert-path" if cert_path else "--docker-tls-verify without --docker-cert-path"
        return [f"{given}: {folder} is no folder; it should hold ca.pem, cert.pem and key.pem for {url}"]
    needed = ["ca.pem"] * tls_verify + ["cert.pem", "key.pem"]
    unread = [f"--docker-cert-path: {why}" for name in needed for why in _unreadable(folder / name)]
    return unread or list(_unusable(folder, tls_verify=tls_verify))


def _folder(cert_path: str) -> Path:
    return Path(cert_path or FOLDER).expanduser()


def _unreadable(path: Path) -> Iterator[str]:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        purpose = {"ca.pem": "checks the engine's certificate", "key.pem": "is the key of cert.pem"}
        what = purpose.get(path.name, "is shown to the engine")
        yield f"{path}, which {what}: {os.strerror(error.errno or 0)}"


def _unusable(folder: Path, *, tls_verify: bool) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Without a password of ours, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem", password="")
    except (ssl.SSLError, ValueError) as error:
        yield f"--docker-cert-path: {folder}/cert.pem and {folder}/key.pem: {_said(error)}"
    if tls_verify:
        try:
            context.load_verify_locations(folder / "ca.pem")
        except ssl.SSLError as error:
            yield f"--docker-cert-path: {folder}/ca.pem holds no CA certificate: {_said(error)}"


# OpenSSL's words -> ours.
_SAID = {
    "KEY_VALUES_MISMATCH": "they do not belong together",
    "PEM lib": "one of them is no PEM file, or the key is encrypted",
    "NO_CERTIFICATE_OR_CRL_FOUND": "it is no PEM file of certificates",
}


def _said(error: Exception) -> str:
    return next((ours for theirs, ours in _SAID.items() if theirs in str(error)), str(error))
