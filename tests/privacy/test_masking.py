"""Masks cancel for every drop set, and one upload is noise."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from consilium.privacy import masking
from consilium.privacy.masking import add_masks, pair_key, self_key, shared_secret

LOW_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)


def reference(key: bytes, words: int) -> np.ndarray:
    """The keystream straight from AES-CTR, in one go."""
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * words))
    return np.frombuffer(stream, "<u4")


@pytest.mark.parametrize(
    "words", [1, 3, masking.CHUNK - 1, masking.CHUNK, masking.CHUNK + 1, 3 * masking.CHUNK + 5]
)
def test_the_keystream_is_aes_ctr_across_chunks(words: int) -> None:
    plus, minus = os.urandom(32), os.urandom(32)
    vector = np.arange(words, dtype=np.uint32)
    add_masks(vector, [plus], [minus])
    expected = np.arange(words, dtype=np.uint32) + reference(plus, words) - reference(minus, words)
    assert np.array_equal(vector, expected)
    add_masks(vector, [minus], [plus])
    assert np.array_equal(vector, np.arange(words, dtype=np.uint32))


def masked(
    vectors: list[np.ndarray], transcript: bytes, swap: bool = False
) -> tuple[list[np.ndarray], dict, list]:
    """Each site's upload, the pair keys by (low, high), and the self keys."""
    n = len(vectors)
    secrets = {pair: os.urandom(32) for pair in itertools.combinations(range(n), 2)}
    pairs = {pair: pair_key(secret, transcript, *pair) for pair, secret in secrets.items()}
    selves = [self_key(os.urandom(32), transcript, site) for site in range(n)]
    uploads = []
    for site, vector in enumerate(vectors):
        plus = [selves[site], *(pairs[other, site] for other in range(site))]
        minus = [pairs[site, other] for other in range(site + 1, n)]
        upload = vector.copy()
        add_masks(upload, *((minus, plus) if swap and site == 0 else (plus, minus)))
        uploads.append(upload)
    return uploads, pairs, selves


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 12), st.data())
def test_masks_cancel_for_every_drop_set(n: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vectors = [rng.integers(0, 2**32, 50, dtype=np.uint32) for _ in range(n)]
    uploads, pairs, selves = masked(vectors, bytes(32))
    survivors = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    total = np.sum([uploads[site] for site in survivors], axis=0, dtype=np.uint32)
    plus, minus = [], [selves[site] for site in survivors]
    for gone in set(range(n)) - set(survivors):
        for site in survivors:
            key = pairs[min(site, gone), max(site, gone)]
            (minus if gone < site else plus).append(key)
    add_masks(total, plus, minus)
    assert np.array_equal(total, np.sum([vectors[site] for site in survivors], axis=0, dtype=np.uint32))


def test_a_swapped_sign_does_not_cancel() -> None:
    vectors = [np.zeros(50, np.uint32) for _ in range(3)]
    uploads, _, selves = masked(vectors, bytes(32), swap=True)
    total = np.sum(uploads, axis=0, dtype=np.uint32)
    add_masks(total, [], selves)
    assert total.any()


def test_keys_differ_by_everything_they_are_bound_to() -> None:
    secret, one, two = os.urandom(32), bytes(32), bytes(31) + b"\1"
    keys = {
        pair_key(secret, one, 0, 1),
        pair_key(secret, two, 0, 1),
        pair_key(secret, one, 0, 2),
        pair_key(secret, one, 1, 0),
        pair_key(os.urandom(32), one, 0, 1),
        self_key(secret, one, 0),
        self_key(secret, one, 1),
        self_key(secret, two, 0),
    }
    assert len(keys) == 8


def test_an_upload_is_noise_by_chi_square_over_bytes() -> None:
    """Masking zeros, the plainest vector there is; an unmasked one fails the same test."""
    uploads, _, _ = masked([np.zeros(100_000, np.uint32) for _ in range(3)], os.urandom(32))
    counts = np.bincount(uploads[0].view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6
    plain = np.random.default_rng(0).normal(0, 1000, 100_000).astype(np.int32)
    assert stats.chisquare(np.bincount(plain.view(np.uint8), minlength=256)).pvalue < 1e-6


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        shared_secret(X25519PrivateKey.generate(), bytes.fromhex(point))


def test_both_ends_share_a_secret() -> None:
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    assert shared_secret(one, other.public_key().public_bytes_raw()) == shared_secret(
        other, one.public_key().public_bytes_raw()
    )
