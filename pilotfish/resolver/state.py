"""What can be at a path, and a change from one to another. Knows no disk."""

from __future__ import annotations

import msgspec


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """Nothing."""


class Folder(msgspec.Struct, frozen=True, tag="folder"):
    """A folder, whatever is in it."""


class Link(msgspec.Struct, frozen=True, tag="link"):
    """A symbolic link, with its target as it is written there."""

    target: str


class File(msgspec.Struct, frozen=True, tag="file"):
    """A file: its octets, one character each (ISO 8859-1), so that JSON shows plain text as itself; and its mode.

    >>> File.of(b"nameserver 10.0.0.1").text
    'nameserver 10.0.0.1'
    """

    text: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0

    @classmethod
    def of(cls, data: bytes, like: State | None = None) -> File:
        """A file of these octets, with the mode and owner of what it replaces."""
        text = data.decode("latin-1")
        return cls(text, like.mode, like.uid, like.gid) if isinstance(like, File) else cls(text)

    @property
    def data(self) -> bytes:
        """Its octets."""
        return self.text.encode("latin-1")


State = Absent | Folder | Link | File
ABSENT = Absent()
FOLDER = Folder()


class Change(msgspec.Struct, frozen=True):
    """What is at a path, and what shall be there."""

    path: str
    before: State
    after: State


def same(one: State, other: State) -> bool:
    """True when a reader sees the same: content counts, mode and owner do not."""
    if isinstance(one, File) and isinstance(other, File):
        return one.text == other.text
    return one == other


def meant(state: State) -> str:
    """The text of a file as people read it; octets that are no UTF-8 are shown as such."""
    return state.data.decode("utf-8", "backslashreplace") if isinstance(state, File) else ""
