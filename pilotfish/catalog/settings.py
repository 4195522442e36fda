"""Settings: one frozen value per part, made by a pure function from flags, environment and file.

An option is one line of a frozen dataclass: name, type, unit, default with its reason, and the sentence that `--help`
and the reference page show. Precedence: flag, then environment (`PILOTFISH_<FLAG>`, then older names that people
already have in their compose files), then file, then default. Everything that is wrong is said at once.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pilotfish.catalog import setting_values, values
from pilotfish.catalog.guard import Limit
from pilotfish.catalog.route import Reserved
from pilotfish.catalog.values import BadValue, quoted

S = TypeVar("S")
ENV_PREFIX = "PILOTFISH_"


class BadSettings(ValueError):
    """Settings that cannot be used: `errors` lists all of them, one sentence each."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(self.errors))


@dataclasses.dataclass(frozen=True)
class Option:
    """How one setting is spelled outside.

    Attributes:
        flag: `--node-name`; empty for a setting that only the environment and the file have.
        help: one sentence, with unit.
        parse: text to value; raises BadValue.
        metavar: what stands for the value in help.
        env: older environment names, after PILOTFISH_<FLAG>.
        env_prefix: collects every variable that begins so into a mapping.
        repeat: a tuple; the flag may come several times, text is split at commas.
        switch: a flag without a value.
        secret: never shown.
        also: other spellings of the flag, for command lines of older tools.
    """

    flag: str
    help: str
    parse: Callable[[str], Any]
    metavar: str
    env: tuple[str, ...] = ()
    env_prefix: str = ""
    repeat: bool = False
    switch: bool = False
    secret: bool = False
    also: tuple[str, ...] = ()


class Known(NamedTuple):
    """A setting of a part: its field, its spelling, its default."""

    name: str
    option: Option
    default: Any

    @property
    def key(self) -> str:
        """Its name in a file: the flag without dashes in front."""
        return self.option.flag.removeprefix("--") or self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its first name in the environment."""
        return ENV_PREFIX + self.key.upper().replace("-", "_")


def option(  # a field specifier, as dataclasses.field is
    help_: str,
    default: Any,  # noqa: ANN401  the type is the field's
    *,
    flag: str,
    parse: Callable[[str], Any] = str,  # of a switch: how the environment spells yes and no
    metavar: str = "TEXT",
    env: tuple[str, ...] = (),
    env_prefix: str = "",
    repeat: bool = False,
    secret: bool = False,
    also: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401  dataclasses.field is typed so too
    """One option as a dataclass field; a default of False makes it a switch."""
    switch = default is False
    if switch and parse is str:
        parse = values.parse_boolean
    spelled = Option(flag, help_, parse, metavar, env, env_prefix, repeat, switch, secret, also)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={"option": spelled}, repr=not secret)
    return dataclasses.field(default=default, metadata={"option": spelled}, repr=not secret)


def spelled_too(metadata: Mapping[str, Any], *flags: str, **changed: object) -> Mapping[str, Any]:
    """An inherited option's metadata, for a part where it has other spellings besides.

    Args:
        metadata: of the inherited field.
        flags: other spellings of its flag.
        changed: what else differs, by attribute of `Option`.
    """
    return {"option": dataclasses.replace(metadata["option"], also=flags, **changed)}


def known(kind: type[Any]) -> Iterator[Known]:
    """The settings of a part, in the order in which they are declared."""
    for field in dataclasses.fields(kind):
        default = {} if field.default is dataclasses.MISSING else field.default
        yield Known(field.name, field.metadata["option"], default)


def resolve(kind: type[S], flags: Mapping[str, object], env: Mapping[str, str], file: Mapping[str, object]) -> S:
    """Make the settings of one part.

    Args:
        kind: a frozen dataclass of `option` fields.
        flags: by field name; only those that were given: text, a tuple of texts, or True for a switch.
        env: the environment.
        file: the part's table of the file over the shared one; keys as flags without dashes.

    Raises:
        BadSettings: every wrong value, each with where it came from.
    """
    errors: list[str] = []
    chosen: dict[str, object] = {}
    for setting in known(kind):
        for where, raw in _sources(setting, flags, env, file):
            try:
                chosen[setting.name] = _value(setting.option, raw)
            except BadValue as error:
                errors.append(f"{where}: {error}")
            except BadSettings as error:
                errors += [f"{where}: {text}" for text in error.errors]
            break
    if errors:
        raise BadSettings(errors)
    return kind(**chosen)


def _sources(
    setting: Known, flags: Mapping[str, object], env: Mapping[str, str], file: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    if setting.name in flags:
        yield setting.option.flag, flags[setting.name]
    if setting.option.env_prefix:
        found = {name: text for name, text in env.items() if name.startswith(setting.option.env_prefix)}
        if found:
            yield f"{setting.option.env_prefix}*", found
    for name in (setting.variable, *setting.option.env):
        if env.get(name):
            yield name, env[name]
    if setting.key in file:
        yield f"file, {setting.key}", file[setting.key]


def _value(spelled: Option, raw: object) -> object:
    if isinstance(raw, Mapping):
        if not spelled.env_prefix:
            raise BadValue("a table is not expected here")
        return {str(name): spelled.parse(str(text)) for name, text in raw.items()}
    if spelled.switch:
        return raw if isinstance(raw, bool) else spelled.parse(str(raw))
    if not spelled.repeat:
        return spelled.parse(_text(raw))
    listed = [_text(part) for part in raw] if isinstance(raw, list | tuple) else _text(raw).split(",")
    found: dict[Any, None] = {}
    errors: list[str] = []
    for part in (part.strip() for text in listed for part in text.split(",")):
        try:
            found |= {spelled.parse(part): None} if part else {}
        except BadValue as error:
            errors.append(str(error))
    if errors:
        raise BadSettings(errors)
    return tuple(found)


def _text(raw: object) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise BadValue(f"{quoted(str(raw))} is neither text nor a number")
    return str(raw)


def unknown_in_file(file: Mapping[str, object], parts: Mapping[str, type[Any]]) -> list[str]:
    """What a file holds that no part knows, each with the nearest known name.

    Args:
        file: the whole file: shared settings at the top, one table a part.
        parts: table name -> its settings.
    """
    errors = []
    everywhere = {setting.key for kind in parts.values() for setting in known(kind)}
    for name, raw in file.items():
        if name in parts and isinstance(raw, Mapping):
            own = {setting.key for setting in known(parts[name])}
            errors += [f"file, [{name}] {_unknown(key, own)}" for key in raw if key not in own]
        elif name not in everywhere:
            errors.append(f"file, {_unknown(name, everywhere | parts.keys())}")
    return errors


def unknown_in_env(env: Mapping[str, str], kinds: Iterable[type[Any]]) -> list[str]:
    """Variables that begin with PILOTFISH_ and that no part knows."""
    variables = {setting.variable for kind in kinds for setting in known(kind)} | {f"{ENV_PREFIX}CONFIG"}
    return [_unknown(name, variables) for name in sorted(env) if name.startswith(ENV_PREFIX) and name not in variables]


def _unknown(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f"{quoted(name)} is no setting" + (f"; did you mean {near[0]}?" if near else "")


@dataclasses.dataclass(frozen=True)
class EtcdOptions:
    """How the store is reached."""

    etcd: tuple[str, ...] = option(
        "etcd endpoint; repeat it, or give a comma list, for a cluster; without it `up` has an embedded store, and a"
        " part alone asks http://127.0.0.1:2379",
        (),
        flag="--etcd",
        parse=setting_values.etcd_url,
        metavar="URL",
        env=("ETCD_ENDPOINTS", "ETCD_MACHINES"),
        repeat=True,
    )
    etcd_ca: str = option("CA file that etcd's certificate is checked against", "", flag="--etcd-ca", metavar="FILE",
                          env=("ETCD_CACERT",))  # fmt: skip
    etcd_cert: str = option("client certificate for etcd", "", flag="--etcd-cert", metavar="FILE", env=("ETCD_TLSPEM",))
    etcd_key: str = option("key of the client certificate", "", flag="--etcd-key", metavar="FILE", env=("ETCD_TLSKEY",))
    etcd_user: str = option("etcd user", "", flag="--etcd-user", metavar="NAME", env=("ETCD_USERNAME",))
    etcd_password_file: str = option(
        "file with the etcd user's password", "", flag="--etcd-password-file", metavar="FILE"
    )
    etcd_password: str = option("the etcd user's password", "", flag="", env=("ETCD_PASSWORD",), secret=True)
    etcd_timeout_s: float = option(
        "how long one call to etcd may take", 5.0, flag="--etcd-timeout", parse=setting_values.period, metavar="TIME"
    )
    etcd_stall_s: float = option(
        "silence after which a watch is no longer believed",
        10.0,
        flag="--etcd-stall",
        parse=setting_values.period,
        metavar="TIME",
    )


@dataclasses.dataclass(frozen=True)
class Shared(EtcdOptions):
    """What every part has."""

    node_name: str = option(
        "name of this Docker host, unique among all; default: the host's name",
        "",
        flag="--node-name",
        parse=values.parse_node,
        metavar="NAME",
    )
    domain: tuple[str, ...] = option(
        "domain that names live under; may be repeated",
        ("svc.internal",),  # .internal is reserved for private use; .local belongs to mDNS (RFC 6762)
        flag="--domain",
        parse=setting_values.domain,
        metavar="DOMAIN",
        env=("SKYDNS_DOMAIN",),
        repeat=True,
    )
    proxy_name: str = option(
        "name, under every domain, that stands for all proxies",
        "proxy",
        flag="--proxy-name",
        parse=values.parse_name,
        metavar="NAME",
    )
    console_host: str = option(
        "host name kept free for the console", "console", flag="--console-host", parse=values.parse_name, metavar="NAME"
    )
    skydns_prefix: str = option(
        "key prefix of SkyDNS records",
        "/skydns",
        flag="--skydns-prefix",
        parse=setting_values.skydns_prefix,
        metavar="PREFIX",
        env=("SKYDNS_PATH_PREFIX",),
    )
    status: tuple[str, int] = option(
        "where /health, /ready, /metrics and /api/state answer",
        ("127.0.0.1", 9700),
        flag="--status",
        parse=setting_values.address_and_port,
        metavar="ADDR:PORT",
    )
    log_level: str = option(
        "least level that is logged: debug, info, warning or error",
        "info",
        flag="--log-level",
        parse=setting_values.log_level,
        metavar="LEVEL",
    )
    log_format: str = option(
        "text for people, json for machines",
        "text",
        flag="--log-format",
        parse=setting_values.choice("text", "json"),
        metavar="FORMAT",
    )
    verify_s: float = option(
        "how often the copy in memory is compared with the store (counts; keys every tenth time)",
        60.0,
        flag="--verify",
        parse=setting_values.period,
        metavar="TIME",
    )
    orphans_s: float = option(
        "how long containers of a registrator that is gone are still served while they take connections; 0: not at all",
        3600.0,
        flag="--orphans",
        parse=values.parse_duration,
        metavar="TIME",
    )
    guard_s: float = option(
        "how long containers that take connections are still served when the records of most are taken away; 0: not",
        600.0,
        flag="--guard",
        parse=values.parse_duration,
        metavar="TIME",
    )
    guard_percent: int = option(
        "how many of all containers, in percent, may be taken away within a minute without --guard's doing",
        50,
        flag="--guard-percent",
        parse=setting_values.whole("percentage", 1, 100),
        metavar="PERCENT",
    )

    @property
    def guard(self) -> Limit:
        """What the blast-radius guard holds."""
        return Limit(self.guard_s, self.guard_percent)

    @property
    def reserved(self) -> Reserved:
        """Names that no service can have."""
        return Reserved(self.domain, (self.proxy_name, self.console_host))
