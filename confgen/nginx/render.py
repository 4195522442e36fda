"""Views -> the files of one configuration, as bytes.

Jinja2 in a sandbox, strict about undefined names; a template prints tokens and nothing else (`quote.finalize`). A
service's files are rendered again only when its view changed. The configuration's name is the hash of its files,
which stands in a file of its own that the hash leaves out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib import resources
from typing import Any

import msgspec
from jinja2 import DictLoader, StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from confgen.nginx import layout, quote
from confgen.nginx.front import PLAIN, Front
from confgen.nginx.layout import Machine
from confgen.nginx.shapes import Level, ServiceView, clear_file
from confgen.nginx.stream_shapes import Stream, StreamView

GENERATION_FILE = "generation.conf"
DIGITS = 32  # of the hash: 128 bits
_PART = re.compile(rb"^ *include (parts/[!-:<-~]+);", re.MULTILINE)
# Of a service's own file and of its parts. A service that is left out has empty files: others include them.
_TEMPLATES: dict[Level | None, tuple[str, str]] = {
    None: ("service.conf.j2", "part.conf.j2"),
    Level.SILENT: ("quarantined.conf.j2", "quarantined_part.conf.j2"),
    Level.ABSENT: ("", ""),
}


@functools.lru_cache(maxsize=4096)  # certificates are the same objects at each rendering: only new ones cost a hash
def _digest(content: bytes) -> bytes:
    return sha256(content).digest()


class RenderFailed(Exception):
    """A template is broken; the message names it.

    Attributes:
        service: whose files could not be made; empty when it is not about one service.
    """

    def __init__(self, message: str, service: str = "") -> None:
        super().__init__(message)
        self.service = service


class Tree:
    """The files of one configuration: relative path -> bytes.

    Attributes:
        files: all of them, the generation's own file included.
        generation: hash of all others.
        services: file -> the service that it belongs to.
    """

    def __init__(self, files: Mapping[str, bytes], generation: str, services: Mapping[str, str]) -> None:
        self.files, self.generation, self.services = files, generation, services

    @property
    def own_file(self) -> str:
        """The file that the generation's name leaves out: it holds that name."""
        return GENERATION_FILE


def builtin_templates() -> dict[str, str]:
    """The templates that are installed with the package, by file name."""
    folder = resources.files("confgen.templates")
    return {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if one.name.endswith(".j2")}


_ABSENT = object()


class _Environment(SandboxedEnvironment):
    """The sandbox; of our own frozen values, whose fields are nearly all that templates ask for, it asks no more."""

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401  as Jinja2 has it
        if isinstance(obj, msgspec.Struct) and attribute[0] != "_":
            found = getattr(obj, attribute, _ABSENT)
            return self.undefined(obj=obj, name=attribute) if found is _ABSENT else found
        return super().getattr(obj, attribute)


class Renderer:
    """Renders trees, and remembers what did not change.

    Args:
        machine: facts of this machine.
        templates: file name -> template text.

    Raises:
        RenderFailed: a template does not compile.
    """

    def __init__(self, machine: Machine, templates: Mapping[str, str]) -> None:
        self._machine = machine
        self._rules = layout.rules(machine)
        # The output is no HTML: escaping for it would break it, and finalize refuses what is not checked.
        self._env = _Environment(
            loader=DictLoader(templates),
            undefined=StrictUndefined,
            finalize=quote.finalize,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._of_service: dict[str, dict[str, bytes]] = {}
        self._of_stream: dict[str, tuple[StreamView, bytes]] = {}
        self._digests: dict[str, bytes] = {}
        for name in templates:
            self._compiled(name)

    def render(
        self,
        views: Mapping[str, ServiceView],
        changed: Iterable[str],
        hosts: int,
        longest: int,
        *,
        out: Mapping[str, Level] | None = None,
        blamed: Mapping[str, str] | None = None,
        front: Front = PLAIN,
    ) -> Tree:
        """The tree for all views.

        Args:
            views: all services.
            changed: those whose view, or level in `out`, is not as it was at the last call.
            hosts: how many host names there are.
            longest: length of the longest, octets.
            out: services in quarantine.
            blamed: of these, the file that nginx named.
            front: https, its certificates, and streams.

        Raises:
            RenderFailed: a template failed; what was rendered before stays usable.
        """
        levels, named = out or {}, blamed or {}
        for service in changed:
            own = self._own(views[service], levels.get(service), named.get(service, "")) if service in views else {}
            self._replace(service, own)
        main = layout.main(self._machine, hosts=hosts, longest=longest)
        common = {
            "nginx.conf": self._text("nginx.conf.j2", main=main, front=front),
            "unknown.conf": self._text("unknown.conf.j2"),
            **front.files,
        }
        if front.secure is not None:
            common["https.conf"] = self._text("https.conf.j2", secure=front.secure, main=main)
        common |= self._streams(front.stream, main)
        files = dict(common)
        for own in self._of_service.values():
            files.update(own)
        generation = self._hash(common)
        files[GENERATION_FILE] = self._text("generation.conf.j2", generation=quote.digest(generation))
        services = {name: service for service, own in self._of_service.items() for name in own}
        services |= {view.file.text: service for service, view in front.stream.views} if front.stream else {}
        return Tree(files, generation, services)

    def digest(self, view: ServiceView, stream: StreamView | None = None) -> str:
        """Hash of a service's files as they should be, those of its streams too, or of why they cannot be made."""
        whole = sha256(repr(stream).encode() if stream else b"")
        try:
            for name, text in self._service(view).items():
                whole.update(name.encode() + b"\0" + sha256(text).digest())
        except RenderFailed as error:
            whole.update(str(error).encode())
        return whole.hexdigest()[:DIGITS]

    def _own(self, view: ServiceView, level: Level | None, blamed: str) -> dict[str, bytes]:
        try:
            return self._service(view, *_TEMPLATES[level], blamed=blamed)
        except RenderFailed as error:
            raise RenderFailed(str(error), view.name) from error

    def _service(
        self, view: ServiceView, service: str = "service.conf.j2", part: str = "part.conf.j2", *, blamed: str = ""
    ) -> dict[str, bytes]:
        if not view.sites and not view.parts:
            return {}
        files = {view.file.text: self._text(service, service=view, rules=self._rules, blamed=blamed)}
        files.update((file.text, text) for file, text in view.copies)
        for file, site in view.parts:
            for clear in site.sides:
                name = clear_file(file) if clear and site.certificate else file
                files[name.text] = self._text(part, site=site, rules=self._rules, clear=clear)
        return files

    def _streams(self, stream: Stream | None, main: layout.Main) -> dict[str, bytes]:
        """The files of streams; of a service, only when its view is another than at the last call."""
        if stream is None:
            self._of_stream.clear()
            return {}
        before, self._of_stream = self._of_stream, {}
        for service, view in stream.views:
            known, text = before.get(service, (None, b""))
            text = text if known == view else self._text("pools.conf.j2", view=view, rules=self._rules)
            self._of_stream[service] = view, text
        own = {view.file.text: text for view, text in self._of_stream.values()}
        return {"stream.conf": self._text("stream.conf.j2", stream=stream, main=main), **own}

    def _replace(self, service: str, files: dict[str, bytes]) -> None:
        for name in self._of_service.pop(service, {}):
            del self._digests[name]
        if files:
            self._of_service[service] = files
            self._digests.update((name, sha256(text).digest()) for name, text in files.items())

    def _hash(self, common: Mapping[str, bytes]) -> str:
        return _whole(self._digests | {name: _digest(text) for name, text in common.items()})

    def _compiled(self, template: str) -> Template:
        try:
            return self._env.get_template(template)
        except TemplateError as error:
            raise RenderFailed(f"template {template}: {error}") from error

    def _text(self, template: str, **values: object) -> bytes:
        if not template:
            return b""
        try:
            return self._compiled(template).render(values).encode()
        except (TemplateError, quote.Unprintable) as error:
            raise RenderFailed(f"template {template}: {error}") from error


def parts_in(text: bytes) -> list[str]:
    r"""The files with places of others that a service's file includes; most include none.

    >>> parts_in(b"server {\n    include parts/b@a.conf;\n    include unknown.conf;\n}\n")
    ['parts/b@a.conf']
    """
    return [name.decode() for name in _PART.findall(text)] if b"include parts/" in text else []


def generation_of(files: Mapping[str, bytes]) -> str:
    """The name that a configuration with these files has to have; another one: somebody edited it."""
    return _whole({name: sha256(text).digest() for name, text in files.items() if name != GENERATION_FILE})


def _whole(digests: Mapping[str, bytes]) -> str:
    whole = sha256()
    for name in sorted(digests):
        whole.update(name.encode() + b"\0" + digests[name])
    return whole.hexdigest()[:DIGITS]
