"""Tags at their edges: full limbs, even differences, chunk boundaries, and forgeries that must fail."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.privacy import tags
from consilium.privacy.tags import LIMBS, Tagger

SITES = 100
VECTORS = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20)


def ring(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32).view(np.uint32)


def test_full_limbs_of_a_hundred_sites_stay_in_the_ring_and_join_to_the_sum() -> None:
    """Every tag at 2**64 − 1, so that every 24- and 16-bit limb is as large as it can be."""
    limbs = np.array(tags._split(2**64 - 1), np.uint32)
    summed = np.sum([limbs] * SITES, axis=0, dtype=np.uint64)
    assert summed.max() == SITES * (2**24 - 1) < 2**31
    assert tags._join(summed.astype(np.uint32)) == SITES * (2**64 - 1) % 2**64
    assert 128 * (2**24 - 1) < 2**31 < 129 * (2**24 - 1)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=SITES))
def test_summed_limbs_join_to_the_sum_of_tags(values: list[int]) -> None:
    limbs = np.sum([tags._split(value) for value in values], axis=0).astype(np.uint32)
    assert tags._join(limbs) == sum(values) % 2**64
    assert tags._join(limbs + np.array([1, 0, 0], np.uint32)) != sum(values) % 2**64


@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_values_of_a_hundred_sites_verify(sign: int) -> None:
    """Each coordinate as large as a hundred sites may make it without leaving int32."""
    tagger = Tagger(os.urandom(32), os.urandom(32))
    vector = np.full(50, sign * ((2**31 - 1) // SITES), np.int32).view(np.uint32)
    total, limbs = np.zeros(50, np.uint32), np.zeros(LIMBS, np.uint32)
    for site in range(SITES):
        total += vector
        limbs += tagger.tag(vector, site)
    assert limbs.max() < 2**31
    assert tagger.verify(total, limbs, range(SITES))
    total[49] ^= np.uint32(1)
    assert not tagger.verify(total, limbs, range(SITES))


def test_a_sum_that_left_the_integers_is_refused() -> None:
    """The ring wraps and the tags do not: 2**30 + 2**30 is no int32."""
    tagger = Tagger(os.urandom(32), os.urandom(32))
    vector = ring([2**30, 5])
    limbs = tagger.tag(vector, 0) + tagger.tag(vector, 1)
    assert not tagger.verify(vector + vector, limbs, [0, 1])
    small = ring([2**29, 5])
    assert tagger.verify(small + small, tagger.tag(small, 0) + tagger.tag(small, 1), [0, 1])


@settings(deadline=None)
@given(VECTORS, st.integers(0, 31), st.data())
def test_a_difference_divisible_by_two_to_the_m_moves_only_the_upper_bits(
    values: list[int], m: int, data: st.DataObject
) -> None:
    """m bits of each tag are lost to such a forger, which is why there are two tags."""
    tagger = Tagger(os.urandom(32), os.urandom(32))
    vector = ring(values)
    changed = vector.copy()
    at = data.draw(st.integers(0, len(values) - 1))
    changed[at : at + 1] += np.uint32(1 << m)
    moved = [(b - a) % 2**64 for a, b in zip(tagger._bodies(vector), tagger._bodies(changed), strict=True)]
    assert all(step % 2**m == 0 for step in moved)
    assert all(moved)


def test_the_two_tags_have_words_and_pads_of_their_own() -> None:
    tagger = Tagger(os.urandom(32), os.urandom(32))
    one, other = tagger._bodies(ring([1, 0, 0]))
    assert one != other
    assert len({pad for site in range(SITES) for pad in tagger._pads(site, 3)}) == 2 * SITES


@pytest.mark.parametrize("extra", [-1, 0, 1, tags.CHUNK])
def test_a_change_is_noticed_on_both_sides_of_a_chunk(extra: int) -> None:
    tagger = Tagger(os.urandom(32), os.urandom(32))
    vector = np.arange(tags.CHUNK + extra, dtype=np.uint32)
    limbs = tagger.tag(vector, 7)
    assert tagger.verify(vector, limbs, [7])
    for at in {0, tags.CHUNK - 2, vector.size - 1}:
        changed = vector.copy()
        changed[at] ^= np.uint32(1)
        assert not tagger.verify(changed, limbs, [7])


@given(VECTORS.filter(lambda values: len(set(values)) > 1))
def test_two_coordinates_swapped_are_refused(values: list[int]) -> None:
    """A plain sum as a tag would let this pass."""
    tagger = Tagger(os.urandom(32), os.urandom(32))
    place = next(i for i, value in enumerate(values) if value != values[0])
    swapped = list(values)
    swapped[0], swapped[place] = values[place], values[0]
    assert sum(swapped) == sum(values)
    assert not tagger.verify(ring(swapped), tagger.tag(ring(values), 0), [0])


def test_a_site_counted_twice_or_left_out_or_exchanged_is_refused() -> None:
    tagger = Tagger(os.urandom(32), os.urandom(32))
    vector = ring([1, -2])
    limbs = tagger.tag(vector, 0) + tagger.tag(vector, 1)
    total = vector + vector
    assert tagger.verify(total, limbs, [1, 0])
    for sites in ([0], [1], [0, 0], [0, 1, 1], [0, 2], []):
        assert not tagger.verify(total, limbs, sites)


@pytest.mark.parametrize("limb", range(LIMBS))
def test_each_tag_counts_by_itself(limb: int) -> None:
    """A verifier that looked at one tag only would let one of these pass."""
    tagger = Tagger(os.urandom(32), os.urandom(32))
    vector = ring([1, -2, 3])
    limbs = tagger.tag(vector, 0)
    assert tagger.verify(vector, limbs, [0])
    limbs[limb] ^= np.uint32(1)
    assert not tagger.verify(vector, limbs, [0])
