"""Views -> the files of one configuration, as bytes.

Jinja2 in a sandbox, strict about undefined names; a template prints tokens and nothing else (`quote.finalize`). A
service's files are rendered again only when its view changed. The configuration's name is the hash of its files,
which stands in a file of its own that the hash leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib import resources

from jinja2 import DictLoader, StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from confgen import layout, quote
from confgen.layout import Machine
from confgen.shapes import ServiceView

GENERATION_FILE = "generation.conf"
DIGITS = 32  # of the hash: 128 bits


class RenderFailed(Exception):
    """A template is broken; the message names it."""


class Tree:
    """The files of one configuration: relative path -> bytes.

    Attributes:
        files: all of them, the generation's own file included.
        generation: hash of all others.
        services: file -> the service that it belongs to.
    """

    def __init__(self, files: Mapping[str, bytes], generation: str, services: Mapping[str, str]) -> None:
        self.files, self.generation, self.services = files, generation, services


def builtin_templates() -> dict[str, str]:
    """The templates that are installed with the package, by file name."""
    folder = resources.files("confgen.templates")
    return {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if one.name.endswith(".j2")}


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
        self._env = SandboxedEnvironment(
            loader=DictLoader(templates),
            undefined=StrictUndefined,
            finalize=quote.finalize,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._of_service: dict[str, dict[str, bytes]] = {}
        self._digests: dict[str, bytes] = {}
        for name in templates:
            self._compiled(name)

    def render(self, views: Mapping[str, ServiceView], changed: Iterable[str], hosts: int, longest: int) -> Tree:
        """The tree for all views.

        Args:
            views: all services.
            changed: those whose view is not as it was at the last call.
            hosts: how many host names there are.
            longest: length of the longest, octets.

        Raises:
            RenderFailed: a template failed; what was rendered before stays usable.
        """
        for service in changed:
            self._replace(service, self._service(views[service]) if service in views else {})
        main = layout.main(self._machine, hosts=hosts, longest=longest)
        common = {
            "nginx.conf": self._text("nginx.conf.j2", main=main),
            "unknown.conf": self._text("unknown.conf.j2"),
        }
        files = dict(common)
        for own in self._of_service.values():
            files.update(own)
        generation = self._hash(common)
        files[GENERATION_FILE] = self._text("generation.conf.j2", generation=quote.digest(generation))
        services = {name: service for service, own in self._of_service.items() for name in own}
        return Tree(files, generation, services)

    def _service(self, view: ServiceView) -> dict[str, bytes]:
        if not view.sites and not view.parts:
            return {}
        files = {view.file.text: self._text("service.conf.j2", service=view, rules=self._rules)}
        for file, site in view.parts:
            files[file.text] = self._text("part.conf.j2", site=site, rules=self._rules)
        return files

    def _replace(self, service: str, files: dict[str, bytes]) -> None:
        for name in self._of_service.pop(service, {}):
            del self._digests[name]
        if files:
            self._of_service[service] = files
            self._digests.update((name, sha256(text).digest()) for name, text in files.items())

    def _hash(self, common: Mapping[str, bytes]) -> str:
        digests = self._digests | {name: sha256(text).digest() for name, text in common.items()}
        whole = sha256()
        for name in sorted(digests):
            whole.update(name.encode() + b"\0" + digests[name])
        return whole.hexdigest()[:DIGITS]

    def _compiled(self, template: str) -> Template:
        try:
            return self._env.get_template(template)
        except TemplateError as error:
            raise RenderFailed(f"template {template}: {error}") from error

    def _text(self, template: str, **values: object) -> bytes:
        try:
            return self._compiled(template).render(values).encode()
        except (TemplateError, quote.Unprintable) as error:
            raise RenderFailed(f"template {template}: {error}") from error
