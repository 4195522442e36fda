"""Inputs by chance from good ones, without knowing what they reach: for Pythons that atheris has no wheel for."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Change = Callable[[random.Random, bytearray, int, Sequence[bytes]], None]


def _turn(chance: random.Random, data: bytearray, at: int, _: Sequence[bytes]) -> None:
    data[at] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, data: bytearray, at: int, _: Sequence[bytes]) -> None:
    data[at] = chance.choice([0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF, chance.randrange(256)])


def _number(chance: random.Random, data: bytearray, at: int, _: Sequence[bytes]) -> None:
    data[at : at + 2] = chance.choice([0, 1, 11, 12, 255, 256, 0xC00C, 0x7FFF, 0xFFFF]).to_bytes(2)


def _insert(chance: random.Random, data: bytearray, at: int, _: Sequence[bytes]) -> None:
    data[at:at] = chance.randbytes(chance.randrange(1, 17))


def _drop(chance: random.Random, data: bytearray, at: int, _: Sequence[bytes]) -> None:
    del data[at : at + chance.randrange(1, 17)]


def _repeat(chance: random.Random, data: bytearray, at: int, _: Sequence[bytes]) -> None:
    data[at:at] = data[at : at + chance.randrange(1, 33)] * chance.choice([1, 2, 20])


def _cut(_: random.Random, data: bytearray, at: int, __: Sequence[bytes]) -> None:
    del data[at:]


def _splice(chance: random.Random, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    data[at:] = other[chance.randrange(len(other) + 1) :]


CHANGES: tuple[Change, ...] = (_turn, _turn, _set, _set, _number, _insert, _drop, _repeat, _cut, _splice)
MAX_SIZE = 8192


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after one to eight changes."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice([1, 1, 2, 3, 8])):
        if data:
            chance.choice(CHANGES)(chance, data, chance.randrange(len(data)), seeds)
    return bytes(data[:MAX_SIZE])
