"""What the main file says about https and streams, and the files that come with it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from confgen.nginx.quote import Token
from confgen.nginx.stream_shapes import Socket, Stream
from confgen.nginx.tls import Secure
from confgen.nginx.urgency import wildcards


class Front(msgspec.Struct, frozen=True):
    """What stands in front of the services besides http.

    Attributes:
        modules: to load before anything else, absolute.
        secure: https; None: it is not served.
        stream: ports and names that are passed on; None: there are none.
        files: that stand beside the main file: certificates and their keys.
        listens: directives of a host's own may listen for it, over TLS perhaps.
    """

    modules: tuple[Token, ...] = ()
    secure: Secure | None = None
    stream: Stream | None = None
    files: Mapping[str, bytes] = MappingProxyType({})
    listens: bool = False

    @property
    def http_only(self) -> bool:
        """Nobody comes over TLS."""
        return self.secure is None and not self.listens


PLAIN = Front()


def only_adds(before: Front, after: Front, elsewhere: Callable[[str, str, str], bool]) -> bool:
    """True when what stood in front is still there as it was: https, certificates, and the streams of each service.

    Args:
        before: as nginx has it.
        after: as it should be.
        elsewhere: whether nginx itself serves another service than this one at a host and path.
    """
    streams, now = (dict(one.stream.views) if one.stream else {} for one in (before, after))
    return (
        before.secure in (None, after.secure)
        and all(after.files.get(name, text) == text for name, text in before.files.items())
        and all(now.get(service) == view for service, view in streams.items())
        and not _takes(before.stream, after.stream, elsewhere)
    )


def _takes(before: Stream | None, after: Stream | None, elsewhere: Callable[[str, str, str], bool]) -> bool:
    """True when clients of a new name, or of one that is kept now, reach another service until now."""
    known, new = _names(before), _names(after)
    https = {int(one.port.text) for one in after.listeners if one.shared} if after else set()
    kept = {host.text for host in set(after.kept if after else ()) - set(before.kept if before else ())}
    if any(_wider(socket, host, known) for socket in {socket for socket, _ in known} for host in kept):
        return True
    return any(
        known.get((socket, _wider(socket, host, known)), service) != service
        or (socket.port in https and elsewhere(service, host, "/"))
        for (socket, host), service in new.items()
        if host and (socket, host) not in known
    )


def _names(stream: Stream | None) -> dict[tuple[Socket, str], str]:
    """Sockets and names of streams, and the service behind each."""
    return {
        (one.socket, one.host): service for service, view in (stream.views if stream else ()) for one in view.behind
    }


def _wider(socket: Socket, host: str, known: Mapping[tuple[Socket, str], str]) -> str:
    """The narrowest wildcard above a name at a socket; empty, for the whole port, when there is none."""
    return next((one for one in wildcards(host) if (socket, one) in known), "")
