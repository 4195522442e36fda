"""confd's own settings file -> ours.

Pure. What the file says counts less than flags and environment, although confd has it the other way round: there a
flag that was given had no effect. Keys that nobody knows are passed over, as confd does, and told of.
"""

from __future__ import annotations

import tomllib

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import quoted

DEFAULT_CONFDIR = "/etc/confd"
DEFAULT_FILE = "/etc/confd/confd.toml"

# Key of confd.toml -> ours.
_NAMES = {
    "backend": "backend",
    "client_cakeys": "etcd-ca",
    "client_cert": "etcd-cert",
    "client_key": "etcd-key",
    "confdir": "confdir",
    "interval": "interval",
    "keep-stage-file": "keep-stage-file",
    "log-level": "log-level",
    "nodes": "etcd",
    "noop": "noop",
    "onetime": "once",
    "password": "etcd-password",
    "prefix": "prefix",
    "sync-only": "sync-only",
    "username": "etcd-user",
    "watch": "watch",
}
# Settings of other backends, or that etcd does not need: they change nothing.
_WITHOUT_EFFECT = frozenset(
    {
        "app_id", "auth_token", "auth_type", "basic_auth", "file", "filter", "path", "role", "role_id", "scheme",
        "secret_id", "secret_keyring", "separator", "table", "user_id",
    }
)  # fmt: skip


def defaults(name: str, text: str) -> tuple[dict[str, object], list[str]]:
    """Our settings that a confd.toml stands for, by the key they have in a file of ours, and what has no effect.

    Args:
        name: the file's name, for messages.
        text: what is in it.

    Raises:
        BadSettings: it is no TOML, or asks for what cannot be done.
    """
    try:
        table = {key.lower(): value for key, value in tomllib.loads(text.removeprefix("\ufeff")).items()}
    except tomllib.TOMLDecodeError as error:
        raise BadSettings([f"--config-file {name}: {error}"]) from error
    errors = [
        f"--config-file {name}: {key} is not supported; name the etcd endpoints in nodes"
        for key in ("srv_domain", "srv_record")
        if table.get(key)
    ]
    if table.get("client_insecure"):
        errors.append(
            f"--config-file {name}: client_insecure: etcd's certificate is always checked; name client_cakeys"
        )
    if errors:
        raise BadSettings(errors)
    known = {*_NAMES, *_WITHOUT_EFFECT, "srv_domain", "srv_record", "client_insecure"}
    return (
        {_NAMES[key]: value for key, value in table.items() if key in _NAMES and value not in ("", [])},
        [f"--config-file {name}: {quoted(key)} is not known and has no effect" for key in table if key not in known],
    )
