"""What nginx serves of each service, as far as is known, and what it lacks of what the views say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confgen.nginx.shapes import ServiceView
from confgen.nginx.urgency import Answering, keeps_servers, only_adds


class Serving:
    """The views of services as nginx serves them.

    Args:
        views: as they should be, kept up to date by their owner.

    Attributes:
        sure: what is known here is what it serves.
    """

    def __init__(self, views: Mapping[str, ServiceView]) -> None:
        self.sure = False
        self._views = views
        self._served: dict[str, ServiceView] = {}
        self._pending: set[str] = set()  # their configuration may be another
        self._moved: set[str] = set()  # it may not know all their servers yet

    def changed(self, services: Iterable[str], rendered: Iterable[str]) -> None:
        """Note services whose view changed, and those of them whose configuration did."""
        self._moved |= set(services)
        self._pending |= set(rendered)

    def told(self) -> None:
        """It was sent all servers that do not stand in its configuration."""
        self._take_in(self._moved - self._pending)
        self._moved.clear()

    def applied(self) -> None:
        """It serves what the views say."""
        self._take_in(self._moved | self._pending)
        self._moved.clear()
        self._pending.clear()
        self.sure = True

    def _take_in(self, services: Iterable[str]) -> None:
        for service in services:
            self._served.pop(service, None)
            if service in self._views:
                self._served[service] = self._views[service]

    def lacks_additions_only(self, answering: Answering, *, told: bool) -> bool:
        """True when whatever it serves is still to be served, by the same servers and by others.

        Not when one takes a place from another, whose clients would reach that one meanwhile.

        Args:
            answering: who answers which places now.
            told: it has all servers that do not stand in its configuration.
        """
        lacking = self._pending if told else self._pending | self._moved
        adds = all(only_adds(self._served.get(one), self._views.get(one)) for one in lacking)
        return self.sure and adds and not any(answering.takes(self._views.get(one)) for one in lacking)

    def answering(self) -> Answering:
        """Who answers which places now."""
        return Answering(self._served.values())

    def lacks_no_server(self) -> bool:
        """True when whatever it serves, it serves by the servers that it should, with their weights."""
        return all(keeps_servers(self._served.get(one), self._views.get(one)) for one in self._pending)
