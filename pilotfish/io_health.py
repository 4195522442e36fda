"""`pilotfish health`: whether a part is alive, or ready. Imports little: health checks run it every few seconds."""

from __future__ import annotations

import http.client
from collections.abc import Sequence

from pilotfish.catalog.values import join_host_port

HEALTH_TIMEOUT_S = 3.0


def health(addresses: Sequence[tuple[str, int]], path: str) -> tuple[bool, str]:
    """Ask the first status server that answers; returns whether it said yes, and what it said."""
    for address in addresses:
        found = _ask(address, path)
        if found is not None:
            return found
    listed = ", ".join(join_host_port(*address) for address in addresses)
    return False, f"nothing answers at {listed}; name the address with --status"


def _ask(address: tuple[str, int], path: str) -> tuple[bool, str] | None:
    connection = http.client.HTTPConnection(address[0], address[1], timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK, response.read(65536).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
