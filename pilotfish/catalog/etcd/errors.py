"""What can go wrong between us and an etcd server, as one error with the server's own words.

gRPC's codes alone do not tell: etcd answers PERMISSION_DENIED, INVALID_ARGUMENT or UNAUTHENTICATED for a token that
ran out, depending on call and version. The tables below hold the texts it uses (etcd `api/v3rpc/rpctypes/error.go`).
"""

from __future__ import annotations

import grpc

# Another endpoint, or the same one later, may answer. UNKNOWN and INTERNAL are what proxies and dying servers say.
BROKEN_CODES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED"})
LOGIN_AGAIN = (
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
    "user name not found",
)


class EtcdError(Exception):
    """A call to etcd failed.

    Attributes:
        code: gRPC's name for it, "UNAVAILABLE".
        reason: the server's or gRPC's text; nothing that we sent is in it.
        endpoint: the address it came from, as it was given to us.
        compact_revision: of a watch whose past is compacted: the first revision still known; else 0.
    """

    def __init__(self, code: str, reason: str, endpoint: str, *, compact_revision: int = 0) -> None:
        super().__init__(f"etcd {endpoint}: {reason} ({code})")
        self.code = code
        self.reason = reason
        self.endpoint = endpoint
        self.compact_revision = compact_revision

    @property
    def broken(self) -> bool:
        """True when the endpoint did not serve us, as against: it served us a refusal."""
        return self.code in BROKEN_CODES

    @property
    def stale_login(self) -> bool:
        """True when a new login may help."""
        return self.code == "UNAUTHENTICATED" or any(text in self.reason for text in LOGIN_AGAIN)


def from_rpc(error: grpc.aio.AioRpcError, endpoint: str) -> EtcdError:
    """The same error in our words."""
    return EtcdError(error.code().name, error.details() or "no reason given", endpoint)
