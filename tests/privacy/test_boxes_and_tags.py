"""What travels through the server's hands: boxes that it cannot read and sums that it cannot change."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.privacy.boxes import OVERHEAD, open_box, seal
from consilium.privacy.tags import LIMBS, Tagger

SHARED = bytes(range(32))


@given(st.binary(max_size=200))
def test_a_box_opens_only_for_whom_it_was_sealed(content: bytes) -> None:
    box = seal(SHARED, b"slot 1", "a", "b", content)
    assert len(box) == len(content) + OVERHEAD
    assert open_box(SHARED, b"slot 1", "a", "b", box) == content
    wrong = [
        (bytes(32), b"slot 1", "a", "b"),
        (SHARED, b"slot 2", "a", "b"),
        (SHARED, b"slot 1", "b", "a"),
        (SHARED, b"slot 1", "a", "c"),
        (SHARED, b"slot 1a", "", "b"),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError, match="was altered, or belongs elsewhere"):
            open_box(*arguments, box)


@given(st.integers(0, 8 * 48 - 1))
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    box = bytearray(seal(SHARED, b"", "a", "b", bytes(32)))
    box[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(ValueError, match="from a to b"):
        open_box(SHARED, b"", "a", "b", bytes(box))


def tagged(n: int, size: int, seed: int, bound: int) -> tuple[Tagger, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    tagger = Tagger(os.urandom(32), os.urandom(32))
    total, limbs = np.zeros(size, np.uint32), np.zeros(LIMBS, np.uint32)
    for site in range(n):
        vector = rng.integers(-bound, bound, size, dtype=np.int32, endpoint=True).view(np.uint32)
        total += vector
        limbs += tagger.tag(vector, site)
    return tagger, total, limbs


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 40), st.integers(0, 2**32), st.data())
def test_the_sum_of_tags_belongs_to_the_sum_and_to_nothing_else(
    n: int, size: int, seed: int, data: st.DataObject
) -> None:
    tagger, total, limbs = tagged(n, size, seed, (2**31 - 1) // n)
    sites = range(n)
    assert limbs.max() < 2**31
    assert tagger.verify(total, limbs, sites)
    changed = total.copy()
    at, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 31))
    changed[at : at + 1] += np.uint32(1 << bit)
    assert not tagger.verify(changed, limbs, sites)
    assert not tagger.verify(total, limbs + np.uint32(1), sites)
    assert not tagger.verify(total, limbs, [*sites, n])
    assert not tagger.verify(total, limbs, list(sites)[1:])
    assert not Tagger(tagger.key, bytes(32)).verify(total, limbs, sites)
    assert not Tagger(bytes(32), tagger.transcript).verify(total, limbs, sites)


def test_the_tag_is_what_the_definition_says_across_chunks() -> None:
    """Python's own integers, apart from numpy's wrapping products."""
    tagger = Tagger(bytes(32), bytes(32))
    vector = np.random.default_rng(0).integers(-(2**31), 2**31, 70_000, dtype=np.int64).astype(np.int32)
    stream = tagger._stream("consilium/tag", 0).update(bytes(8 * vector.size))
    factors = np.frombuffer(stream, "<i8").tolist()
    body = sum(a * q for a, q in zip(factors, vector.tolist(), strict=True))
    expected = (body + tagger._pads(3, vector.size)[0]) % 2**64
    limbs = tagger.tag(vector.view(np.uint32), 3).tolist()
    assert limbs[0] + (limbs[1] << 24) + (limbs[2] << 48) == expected
