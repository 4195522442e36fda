"""Why a part cannot start or go on, and with which exit code it says so."""

from __future__ import annotations


class CannotStart(Exception):
    """A part cannot start; the message names what is in the way and what to do about it."""

    exit_code = 1


class CannotReach(CannotStart):
    """Something that the part depends on cannot be reached: an engine, the store, nginx."""

    exit_code = 3
