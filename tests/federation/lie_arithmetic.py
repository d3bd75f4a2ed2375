"""Vectors, keystreams and tags of the small world in which lies are played.

An upload is a vector in Z_2^32: five coordinates, a weight, and the limbs of two linear tags. Masks cancel
as in `consilium.privacy.masking`; keys and keystreams are BLAKE2b, which is fast.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from consilium.learning import averaging
from consilium.privacy.fixed_point import FixedPoint
from consilium.privacy.tags import LIMBS, TAGS, Tagger

Ring = NDArray[np.uint32]
Vector = NDArray[np.float32]
Place = tuple[str, int, int]
"""(run, window, slot): where a set of one-time keys belongs."""
P = 5
BODY = P + 1
WORDS = BODY + LIMBS
CAP = 8


def digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=32).hexdigest()


def name_of(model: Vector) -> str:
    """A model's hash."""
    return hashlib.blake2b(model.tobytes(), digest_size=16).hexdigest()


def stream(secret: str, salt: str) -> Ring:
    """A keystream (WORDS,) of one secret under one salt."""
    block = hashlib.blake2b(salt.encode(), digest_size=4 * WORDS, key=secret.encode()[:64]).digest()
    return np.frombuffer(block, "<u4")


@functools.lru_cache(maxsize=1 << 14)
def secret(*names: object) -> str:
    return digest(*names)


class QuickTagger(Tagger):
    """The real tags over BLAKE2b keystreams."""

    def _bodies(self, vector: Ring) -> list[int]:
        numbers = vector.view(np.int32).tolist()
        block = hashlib.blake2b(self.transcript, digest_size=8 * len(numbers), key=self.key).digest()
        other = hashlib.blake2b(block, digest_size=8 * len(numbers), key=self.key).digest()
        sums = (
            sum(map(int.__mul__, np.frombuffer(each, "<i8").tolist(), numbers)) for each in (block, other)
        )
        return [total % 2**64 for total in sums]

    def _pads(self, site: int, size: int) -> list[int]:
        told = self.transcript + bytes((site, size))
        pad = hashlib.blake2b(told, digest_size=8 * TAGS, key=self.key).digest()
        return [int.from_bytes(pad[:8], "big"), int.from_bytes(pad[8:], "big")]


def train(site: int, round_number: int, charter: str, model: str) -> Ring:
    """A site's update and weight, with room for tags (WORDS,): always the same for one model and charter."""
    named = f"{site}/{round_number}/{charter}/{model}".encode()
    block = hashlib.blake2b(named, digest_size=2 * BODY).digest()
    plain = np.zeros(WORDS, np.int32)
    plain[:BODY] = np.frombuffer(block, "<i2")
    plain[P] = 1 + plain[P] % CAP
    return plain.view(np.uint32)


def summed(vectors: Sequence[Ring]) -> Ring:
    """The sum of one vector or more in Z_2^32."""
    return np.asarray(np.sum(vectors, axis=0, dtype=np.uint32))


def stepped(codec: FixedPoint, model: Vector, total: Ring) -> Vector:
    """The model after a sum (BODY or more,)."""
    weight = int(total[P].view(np.int32))
    return averaging.step(model, codec.decode_update(total[:P]), averaging.fedavg_factor(weight, CAP, 1.0))


@functools.lru_cache(maxsize=64)
def codec_of(sites: int) -> FixedPoint:
    return FixedPoint(sites, 1.0, 17, CAP)


def seed_of(world: str, place: Place, site: int) -> str:
    return secret(world, "seed", place, site)


def pair_of(world: str, place: Place, one: int, other: int, forged: bool = False) -> str:
    """The secret of two sites; `forged`: of `one` with the server, which gave it a key as that of `other`."""
    if forged:
        return secret(world, "forged", place, one, other)
    return secret(world, "pair", place, min(one, other), max(one, other))
