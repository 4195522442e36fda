"""What the main file says about https and streams, and the files that come with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from confgen.nginx.quote import Token
from confgen.nginx.streams import Stream
from confgen.nginx.tls import Secure


class Front(msgspec.Struct, frozen=True):
    """What stands in front of the services besides http.

    Attributes:
        modules: to load before anything else, absolute.
        secure: https; None: it is not served.
        stream: ports and names that are passed on; None: there are none.
        files: that stand beside the main file: certificates and their keys.
    """

    modules: tuple[Token, ...] = ()
    secure: Secure | None = None
    stream: Stream | None = None
    files: Mapping[str, bytes] = MappingProxyType({})


PLAIN = Front()


def only_adds(before: Front, after: Front) -> bool:
    """True when what stood in front is still there as it was: https, certificates, and the streams of each service."""
    streams, now = (dict(one.stream.views) if one.stream else {} for one in (before, after))
    return (
        before.secure in (None, after.secure)
        and all(after.files.get(name, text) == text for name, text in before.files.items())
        and all(now.get(service) == view for service, view in streams.items())
    )
