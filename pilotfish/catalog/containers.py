"""Container records as they stand in the store, decoded when somebody looks at them.

Pure. A decoded record takes four times the room of its octets, and most are looked at once in a long while; the octets
are those that the mirror holds anyway. Some decoded ones stay at hand: a name that is asked for is asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping

from pilotfish.catalog import keys
from pilotfish.catalog.keys import BadKey, ContainerKey
from pilotfish.catalog.record import BadRecord, Container, decode

AT_HAND = 4096  # decoded records; about 8 MB


class Containers(Mapping[ContainerKey, Container]):
    """All container records, by their keys. Change it by `take` and `drop`; everything else is for reading.

    Args:
        at_hand: how many decoded records stay; the one that was decoded first makes room.
    """

    def __init__(self, at_hand: int = AT_HAND) -> None:
        self._values: dict[str, bytes] = {}  # key in the store -> octets, which decode
        self._decoded: OrderedDict[str, Container] = OrderedDict()
        self._at_hand = at_hand

    @property
    def held(self) -> Collection[str]:
        """The keys in the store of all that are held."""
        return self._values.keys()

    def take(self, key: str, means: ContainerKey, value: bytes) -> Container:
        """Put the record of a key in the store, in the place of the one that it had.

        Args:
            key: as it is spelled.
            means: what it stands for.
            value: of the key.

        Raises:
            BadRecord: it is none, or one of another key.
        """
        container = decode(Container, value)
        if (container.node, container.id) != means:
            raise BadRecord(f"says it is {container.node}/{container.id}, which is not its key")
        self._values[key] = value
        if key in self._decoded or len(self._decoded) < self._at_hand:
            self._decoded[key] = container
        return container

    def drop(self, key: str) -> None:
        """Remove the record of a key in the store, if there is one."""
        self._values.pop(key, None)
        self._decoded.pop(key, None)

    def at(self, key: str) -> Container:
        """The record of a key in the store.

        Raises:
            KeyError: there is none.
        """
        found = self._decoded.get(key)
        if found is None:
            found = self._decoded[key] = decode(Container, self._values[key])
            if len(self._decoded) > self._at_hand:
                self._decoded.popitem(last=False)
        return found

    def __getitem__(self, key: ContainerKey) -> Container:
        try:
            return self.at(keys.container_key(*key))
        except BadKey:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[ContainerKey]:
        return (found for key in self._values if isinstance(found := keys.parse(key), ContainerKey))

    def __len__(self) -> int:
        return len(self._values)
