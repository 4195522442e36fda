"""What an nginx can do, from what `nginx -V` prints and which loadable modules lie in its folder.

Pure; `io_features.probe` asks the program. What it offers:

    features = read(text_of_nginx_V, modules_folder, files_in_that_folder)
    features.version                 (1, 22, 1)
    features.with_modules            built in: {"http_ssl", "http_v2", ...}, as in --with-NAME_module
    features.has("stream")           True when a configuration may use it; names: the rows of FEATURES
    features.why_not("stream")       a sentence when it may not, "" when it may
    features.load("stream")          file for `load_module` in the main file, "" when it is built in or not there
    features.http2                   "directive": `http2 on;`; "parameter": `listen ... http2`; "none"
    features.h2c_shares              a clear-text listener speaks HTTP/1.1 and HTTP/2; else HTTP/2 needs its own

Invariants: an unknown program counts as one that can do the least; `has` never says yes to what `nginx -t` refuses.
Source: nginx.org's CHANGES for versions, `auto/options` for modules; tried with 1.22.1 (Debian) and 1.31.3.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Version: TypeAlias = tuple[int, int, int]

OLDEST: Version = (1, 22, 1)  # Debian 12; what is written for it is understood by all that follow
MAX_TEXT = 64 * 1024  # octets of `nginx -V` that are looked at

_VERSION = re.compile(r"^nginx version: [A-Za-z0-9_.-]+/([0-9]{1,5})\.([0-9]{1,5})\.([0-9]{1,5})", re.MULTILINE)
_WITH = re.compile(r"(?<!\S)--with-(stream|mail|threads|[a-z0-9_]+_module)(=dynamic)?(?!\S)")
_WITHOUT = re.compile(r"(?<!\S)--without-([a-z0-9_]+?)(?:_module)?(?!\S)")
_MODULES = re.compile(r"(?<!\S)--modules-path=(\S+)")
_PREFIX = re.compile(r"(?<!\S)--prefix=(\S+)")
_FILE = re.compile(r"^[A-Za-z0-9_.-]+\.so\Z")


class Feature(NamedTuple):
    """What a feature needs of nginx.

    Attributes:
        module: that has it; empty: the core.
        since: the first version with it.
        usual: the module is built in unless `--without-...` takes it out; else only `--with-...` brings it.
        parent: the shared object that holds the module when it is loadable; empty: its own.
    """

    module: str = ""
    since: Version = (0, 0, 0)
    usual: bool = False
    parent: str = ""


FEATURES: Mapping[str, Feature] = MappingProxyType(
    {
        "http_ssl": Feature("http_ssl"),
        "http_v2": Feature("http_v2"),
        "http2_directive": Feature("http_v2", (1, 25, 1)),
        "http_v3": Feature("http_v3", (1, 25, 0)),
        "realip": Feature("http_realip"),
        "auth_request": Feature("http_auth_request"),
        "stub_status": Feature("http_stub_status"),
        "gzip_static": Feature("http_gzip_static"),
        "gzip": Feature("http_gzip", usual=True),
        "auth_basic": Feature("http_auth_basic", usual=True),
        "access": Feature("http_access", usual=True),
        "limit_req": Feature("http_limit_req", usual=True),
        "limit_conn": Feature("http_limit_conn", usual=True),
        "grpc": Feature("http_grpc", (1, 13, 10), usual=True),
        "hash": Feature("http_upstream_hash", usual=True),
        "zone": Feature("http_upstream_zone", usual=True),
        "keepalive": Feature("http_upstream_keepalive", usual=True),
        "sticky": Feature("http_upstream_sticky", (1, 29, 6), usual=True),
        "resolve": Feature("http_upstream_zone", (1, 27, 3), usual=True),
        "ssl_reject_handshake": Feature("http_ssl", (1, 19, 4)),
        "stream": Feature("stream"),
        "stream_ssl": Feature("stream_ssl", parent="stream"),
        "stream_ssl_preread": Feature("stream_ssl_preread", parent="stream"),
        "stream_realip": Feature("stream_realip", parent="stream"),
        "stream_geo": Feature("stream_geo", usual=True, parent="stream"),
        "stream_pass": Feature("stream_pass", (1, 25, 5), usual=True, parent="stream"),
        "lua": Feature("http_lua"),
        "ndk": Feature("ndk_http"),  # a shared object without `ngx_` before its name
    }
)


class NotNginx(Exception):
    """The program does not say of itself what nginx says; the message quotes it."""


class Features(msgspec.Struct, frozen=True):
    """What one program can do.

    Attributes:
        version: three numbers.
        with_modules: built in by `--with-...`, without the ending `_module`.
        dynamic: built as shared objects by `--with-...=dynamic`.
        without: taken out by `--without-...`.
        folder: of the shared objects, absolute; empty when it is not known.
        files: the shared objects that lie there.
    """

    version: Version
    with_modules: frozenset[str] = frozenset()
    dynamic: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    folder: str = ""
    files: frozenset[str] = frozenset()

    @property
    def shown(self) -> str:
        """The version as text: `1.22.1`."""
        return ".".join(map(str, self.version))

    @property
    def http2(self) -> Literal["directive", "parameter", "none"]:
        """How HTTP/2 is switched on: `http2 on;` in a server, `http2` behind a `listen`, or not at all."""
        if not self.has("http_v2"):
            return "none"
        return "directive" if self.has("http2_directive") else "parameter"

    @property
    def h2c_shares(self) -> bool:
        """A clear-text listener with `http2 on;` takes HTTP/1.1 too: since 1.25.1 nginx looks at the first octets."""
        return self.has("http2_directive")

    def has(self, name: str) -> bool:
        """True when a configuration may use a feature; name what it needs with `load` first."""
        return not self.why_not(name)

    def why_not(self, name: str) -> str:
        """Why a feature cannot be used; empty when it can.

        Raises:
            KeyError: no row of FEATURES.
        """
        feature = FEATURES[name]
        if self.version < feature.since:
            return f"nginx {self.shown} has no {name}: it came with {'.'.join(map(str, feature.since))}"
        holder = feature.parent or feature.module
        if holder in self.with_modules or (feature.usual and not feature.parent):
            there = not feature.module or feature.usual or feature.module in self.with_modules
            gone = {feature.module, holder} & self.without
            return "" if there and not gone else f"nginx {self.shown} is built without {feature.module}"
        if self._file(holder) not in self.files:
            return (
                f"nginx {self.shown} is built without {holder}, and no {self._file(holder)} lies in its modules' folder"
            )
        if feature.parent and not feature.usual and feature.module not in self.with_modules | self.dynamic:
            return f"nginx {self.shown} is built without {feature.module}"
        return ""

    def load(self, name: str) -> str:
        """The shared object to name in `load_module` before a feature is used, absolute; empty when none is needed.

        Raises:
            KeyError: no row of FEATURES.
        """
        feature = FEATURES[name]
        holder = feature.parent or feature.module
        if self.why_not(name) or holder in self.with_modules or (feature.usual and not feature.parent):
            return ""
        return f"{self.folder}/{self._file(holder)}"

    @staticmethod
    def _file(module: str) -> str:
        return f"{module}_module.so" if module.startswith("ndk_") else f"ngx_{module}_module.so"


LEAST = Features(OLDEST, frozenset({"http_ssl", "http_v2", "http_realip"}))


def read(text: str, folder: str = "", files: Collection[str] = ()) -> Features:
    r"""Read what `nginx -V` prints.

    Args:
        text: its output; only the first 64 KiB count.
        folder: where loadable modules lie, absolute; empty: where the text says.
        files: names of the files in that folder.

    Raises:
        NotNginx: no version is in it.

    >>> found = read("nginx version: nginx/1.25.3\nconfigure arguments: --with-http_v2_module --with-stream=dynamic")
    >>> found.http2, found.has("stream"), found.has("gzip")
    ('directive', False, True)
    """
    text = text[:MAX_TEXT]
    version = _VERSION.search(text)
    if version is None:
        raise NotNginx(f"no nginx: it says {text[:80]!a}")
    given = [(name.removesuffix("_module"), bool(dynamic)) for name, dynamic in _WITH.findall(text)]
    major, minor, patch = (int(number) for number in version.groups())
    return Features(
        version=(major, minor, patch),
        with_modules=frozenset(name for name, dynamic in given if not dynamic),
        dynamic=frozenset(name for name, dynamic in given if dynamic),
        without=frozenset(_WITHOUT.findall(text)),
        folder=(folder or modules_folder(text)).rstrip("/"),
        files=frozenset(name for name in files if _FILE.match(name)),
    )


def modules_folder(text: str) -> str:
    """The folder of loadable modules that `nginx -V` names; empty when it names none, or one that is relative.

    >>> modules_folder("configure arguments: --prefix=/etc/nginx")
    '/etc/nginx/modules'
    """
    named, prefix = _MODULES.search(text), _PREFIX.search(text)
    folder = named[1] if named else f"{prefix[1]}/modules" if prefix else ""
    return folder.strip("'\"") if folder.strip("'\"").startswith("/") else ""
