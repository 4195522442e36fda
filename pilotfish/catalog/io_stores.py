"""Opens the store that the settings ask for."""

from __future__ import annotations

from pathlib import Path

from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore
from pilotfish.catalog.settings import BadSettings, EtcdOptions
from pilotfish.catalog.store import StoreError

LOCAL_ETCD = "http://127.0.0.1:2379"


def open_etcd(options: EtcdOptions) -> EtcdStore:
    """The etcd store of the settings; nothing is connected yet.

    Raises:
        BadSettings: a file cannot be read, or certificate and key do not come together.
    """
    if bool(options.etcd_cert) != bool(options.etcd_key):
        raise BadSettings(["--etcd-cert and --etcd-key go together"])
    settings = EtcdSettings(
        endpoints=options.etcd or (LOCAL_ETCD,),
        ca=options.etcd_ca,
        cert=options.etcd_cert,
        key=options.etcd_key,
        user=options.etcd_user,
        password=_password(options),
        call_timeout_s=options.etcd_timeout_s,
        watch_stall_s=options.etcd_stall_s,
    )
    try:
        return EtcdStore(settings)
    except (OSError, ValueError) as error:
        raise BadSettings([f"--etcd, --etcd-ca, --etcd-cert, --etcd-key: {error}"]) from error


def _password(options: EtcdOptions) -> str:
    if not options.etcd_password_file:
        return options.etcd_password
    try:
        return Path(options.etcd_password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"--etcd-password-file {options.etcd_password_file}: {error}"]) from error


def open_embedded(path: Path) -> EmbeddedStore:
    """The embedded store in one file.

    Raises:
        CannotStart: another process has it, or it is damaged; the message names the file.
    """
    try:
        return EmbeddedStore(path)
    except StoreError as error:
        raise CannotStart(str(error)) from error
