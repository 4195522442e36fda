"""The token of a user: asked for when there is none, or when etcd refuses the one we have.

etcd's simple tokens end 5 minutes after their last use, and all of them when the server starts again.
"""

from __future__ import annotations

import asyncio

from pilotfish.catalog.etcd.channel import Link, Metadata
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.messages import METHODS


class Auth:
    """One user's login. Without a user, no token is ever asked for.

    Args:
        user: name, empty for none.
        password: sent to etcd and kept here; never in an error or a representation.
        timeout_s: for the login call; etcd needs about 0.1 s to check a password.
    """

    def __init__(self, user: str, password: str, *, timeout_s: float) -> None:
        self.user = user
        self._password = password
        self._timeout_s = timeout_s
        self._token = ""
        self._logins = asyncio.Lock()

    @property
    def metadata(self) -> Metadata:
        """What a call carries."""
        return (("token", self._token),) if self._token else ()

    async def ensure(self, link: Link) -> None:
        """Log in unless there is a token."""
        if self.user and not self._token:
            await self.renew(link, self.metadata)

    async def renew(self, link: Link, refused: Metadata) -> None:
        """Log in again, unless another call has done so since `refused` was in use.

        Raises:
            EtcdError: wrong user or password, or no answer.
        """
        async with self._logins:
            if not self.user or self.metadata != refused:
                return
            request = METHODS["authenticate"].request(name=self.user, password=self._password)
            try:
                self._token = (await link.call("authenticate", request, (), self._timeout_s)).token
            except EtcdError as error:
                if "authentication is not enabled" not in error.reason:
                    raise
                self._token = ""  # users may be configured before the server's switch is turned on
