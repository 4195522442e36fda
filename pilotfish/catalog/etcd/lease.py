"""Renewing a lease: a stream for one question and its answer.

etcd has no unary call for it. A stream per renewal costs one round trip like any call and leaves nothing to supervise;
we hold one or two leases, renewed every ten seconds.
"""

from __future__ import annotations

import asyncio

import grpc

from pilotfish.catalog.etcd.channel import Link, Metadata
from pilotfish.catalog.etcd.errors import EtcdError, from_rpc
from pilotfish.catalog.etcd.messages import METHODS, Message


async def keep_alive(link: Link, lease: int, metadata: Metadata, timeout_s: float) -> int:
    """Renew a lease.

    Returns:
        The seconds it now has; 0 when it has ended: etcd does not call that an error.

    Raises:
        EtcdError: no answer.
    """
    call = link.stream("lease_keep_alive", metadata, timeout_s)
    try:
        await call.write(METHODS["lease_keep_alive"].request(ID=lease))
        reply: Message = await call.read()
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, link.endpoint.name) from None
    except asyncio.InvalidStateError:  # written to a stream that has ended
        raise EtcdError(str((await call.code()).name), await call.details(), link.endpoint.name) from None
    finally:
        call.cancel()
    if reply is grpc.aio.EOF:
        raise EtcdError("UNAVAILABLE", "the renewal was not answered", link.endpoint.name)
    return int(reply.TTL)
