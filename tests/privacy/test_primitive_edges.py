"""Rules on sizes: what is refused, and that lengths are bound."""

from __future__ import annotations

import numpy as np
import pytest

from consilium.privacy.masking import add_masks, pair_key, self_key
from consilium.privacy.shamir import PRIME, combine
from consilium.privacy.tags import Tagger


def test_a_result_above_32_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="32-byte secret"):
        combine({1: (2**256).to_bytes(33, "big")}, 1)


def test_the_prime_itself_is_no_holder() -> None:
    with pytest.raises(ValueError, match="holder"):
        combine({PRIME: bytes(33)}, 1)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_transcript_hash_is_32_bytes(size: int) -> None:
    """HMAC pads its key with zeros: b"x" and b"x\\0" would be one transcript."""
    for make in (
        lambda: pair_key(bytes(32), bytes(size), 0, 1),
        lambda: self_key(bytes(32), bytes(size), 0),
        lambda: Tagger(bytes(32), bytes(size)),
        lambda: Tagger(bytes(size), bytes(32)),
    ):
        with pytest.raises(ValueError, match="must be 32"):
            make()


@pytest.mark.parametrize("vector", [np.zeros(3, np.uint64), np.zeros((2, 2), np.uint32)])
def test_a_vector_of_another_kind_is_not_masked(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="flat uint32"):
        add_masks(vector, [bytes(32)], [])


def test_a_tag_binds_the_length_and_odd_limbs_are_false() -> None:
    tagger = Tagger(bytes(32), bytes(32))
    vector = np.array([1, 2, 0], np.uint32)
    limbs = tagger.tag(vector, 0)
    assert tagger.verify(vector, limbs, [0])
    assert not tagger.verify(vector[:2], limbs, [0])
    assert not tagger.verify(np.append(vector, np.uint32(0)), limbs, [0])
    assert not tagger.verify(vector, limbs[:5], [0])
    assert not tagger.verify(vector, np.append(limbs, limbs[:1]), [0])
