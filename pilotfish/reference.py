"""The reference page of all settings, made from the same table as `--help`. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from pilotfish.catalog.settings import Known, Shared, known
from pilotfish.flags import PARTS, shown_default

HEAD = """\
# Settings

Made by `pilotfish reference` from the table that `--help` is made from; a test compares them.

A flag beats the environment, which beats the file (`--config FILE`, `PILOTFISH_CONFIG`), which beats the default. The
file is TOML: shared settings at its top, one table a part (`[registrator]`, `[dns]`, `[confgen]`, `[console]`, `[up]`),
keys as flags without dashes. An unknown setting is an error; all errors are said at once. Long flags may have one dash,
as the older tools spell them. Times are `500ms`, `2s`, `1m30s`; a bare number means seconds.

```toml
domain = ["svc.example.net"]
etcd = ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]

[registrator]
lease-ttl = 20
```

`up` takes the flags of all parts. Its own defaults: `--listen 0.0.0.0:1053` (each address of the host),
`--http-port 8080`, `--nginx-on-exit quit`, `--status 127.0.0.1:9700`, and files in `--data`.

Environment without a flag: `REGISTRATOR_OPTS` and `CONFD_OPTS` are put before the arguments of `registrator` and
`confgen`.
"""


def settings_page() -> str:
    """The whole page, as Markdown."""
    shared = {field.name for field in dataclasses.fields(Shared)} - {"status"}
    sections = [HEAD, _section("Shared by all parts", [one for one in known(Shared) if one.name in shared])]
    for name, kind in PARTS.items():
        own = [one for one in known(kind) if one.name not in shared]
        sections.append(_section(_title(name, kind), own))
    return "\n".join(sections)


def _title(name: str, kind: type[Any]) -> str:
    return f"`pilotfish {name}`: {(kind.__doc__ or '').strip().rstrip('.')}"


def _section(title: str, settings: Iterable[Known]) -> str:
    rows = "\n".join(_row(setting) for setting in settings)
    return f"## {title}\n\n| setting | default | environment | meaning |\n| --- | --- | --- | --- |\n{rows}\n"


def _row(setting: Known) -> str:
    spelled = setting.option
    flag = f"`{spelled.flag}{'' if spelled.switch else f' {spelled.metavar}'}`" if spelled.flag else "—"
    names = [f"{spelled.env_prefix}*"] if spelled.env_prefix else [setting.variable, *spelled.env]
    default = shown_default(setting)
    return (
        f"| {flag} | {f'`{default}`' if default else ''} | {', '.join(f'`{name}`' for name in names)} "
        f"| {spelled.help.replace('|', chr(92) + '|')} |"
    )
