"""How commands reach a running catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pilotfish.catalog.failure import CannotReach
from pilotfish.catalog.io_feed_store import FeedStore
from pilotfish.catalog.io_stores import open_etcd
from pilotfish.catalog.store import Store, StoreError
from pilotfish.folders import feed_socket, where_else
from pilotfish.settings import UpSettings


@asynccontextmanager
async def reached(settings: UpSettings) -> AsyncIterator[Store]:
    """The store: the cluster that --etcd names, else that of the `up` whose --data it is.

    Raises:
        CannotReach: it does not answer; the message says what to name.
    """
    store: Store = open_etcd(settings) if settings.etcd else FeedStore(feed_socket(settings.data))
    try:
        yield store
    except StoreError as error:
        raise CannotReach(where_else(str(error), etcd=bool(settings.etcd))) from error
    finally:
        await store.close()
