"""`pilotfish health`: whether a part is alive, or ready. Imports little: health checks run it every few seconds."""

from __future__ import annotations

import http.client

from pilotfish.catalog.values import join_host_port

HEALTH_TIMEOUT_S = 3.0


def health(address: tuple[str, int], path: str) -> tuple[bool, str]:
    """Ask a status server; returns whether it said yes, and what it said."""
    connection = http.client.HTTPConnection(address[0], address[1], timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK, response.read(65536).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"nothing answers at {join_host_port(*address)}: {error}"
    finally:
        connection.close()
