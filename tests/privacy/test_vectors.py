"""Clipping, fixed point and signatures."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from consilium.contracts.charter import colluding_bound, largest_scale_bits, threshold
from consilium.learning import averaging
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import FixedPoint, Tail, add_into, fits
from consilium.privacy.signatures import public_hex, sign, verify

VECTORS = arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32))


@given(VECTORS, st.floats(0.01, 1e4))
def test_a_clipped_norm_is_bounded_and_short_vectors_are_untouched(vector: np.ndarray, bound: float) -> None:
    factor = clip_factor(vector, bound)
    norm = np.linalg.norm(vector.astype(np.float64))
    assert norm * factor <= bound * (1 + 1e-9)
    assert (factor == 1.0) == (norm <= bound)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clipping_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        clip_factor(np.array([1.0, bad], np.float32), 1.0)


@given(st.integers(2, 12), st.floats(0.01, 1e4), st.floats(-1.0, 1.0), st.booleans())
def test_no_accepted_coordinate_is_beyond_the_limit(
    sites: int, clip: float, share: float, highest: bool
) -> None:
    """Also at the very bound, where float32 rounds upwards."""
    codec = FixedPoint(sites, clip, min(22, largest_scale_bits(sites, clip)), 1)
    value = np.float32(clip) if highest else np.float32(clip * share)
    ring = codec.encode(np.array([0.0, value, 0.0], np.float32), Tail(1, 0.0, 0, 0.0, 0.0, 0.0))
    assert np.abs(ring[:3].view(np.int32).astype(np.int64)).max() <= codec.limit
    assert sites * (codec.limit + 1) < 2**31


@given(st.data(), st.integers(1, 12))
def test_the_norm_of_a_sum_is_checked_exactly(data: st.DataObject, sites: int) -> None:
    """Sums of accepted updates pass, also where all point one way; one unit of norm more than that fails."""
    clip, size = data.draw(st.sampled_from([0.5, 8.0, 64.0])), data.draw(st.integers(1, 40))
    codec = FixedPoint(12, clip, largest_scale_bits(12, clip), 64)
    drawn = data.draw(arrays(np.float32, size, elements=st.floats(-1e3, 1e3, width=32)))
    ring = codec.encode(drawn, Tail(1, 0.0, 0, 0.0, 0.0, 0.0), clip_factor(drawn, clip))[:size]
    total = np.zeros(size, np.uint32)
    for _ in range(sites):
        total += ring
    assert fits(total, codec.longest(size, sites))
    far = np.zeros(size, np.uint32)
    far[-1] = int(codec.longest(size, sites)) + 1
    assert not fits(far, codec.longest(size, sites))
    far[-1] = 2**32 - int(codec.longest(size, sites))
    assert fits(far, codec.longest(size, sites))


def test_a_norm_above_the_bound_is_refused_before_masking() -> None:
    """Each coordinate is within the bound, all together are not."""
    codec = FixedPoint(4, 8.0, 20, 64)
    update = np.full(100, 7.0, np.float32)
    with pytest.raises(ValueError, match="norm"):
        codec.encode(update, Tail(1, 0.0, 0, 0.0, 0.0, 0.0))
    assert codec.encode(update, Tail(1, 0.0, 0, 0.0, 0.0, 0.0), clip_factor(update, 8.0)).size == 106


@given(st.data(), st.integers(2, 12))
def test_sums_are_exact_and_never_leave_the_ring(data: st.DataObject, sites: int) -> None:
    clip = data.draw(st.sampled_from([0.5, 8.0, 64.0]))
    codec = FixedPoint(sites, clip, largest_scale_bits(sites, clip), 64)
    size = data.draw(st.integers(1, 10))
    total = np.zeros(size + 6, np.uint32)
    exact = np.zeros(size)
    for _ in range(sites):
        drawn = data.draw(arrays(np.float32, size, elements=st.floats(-1e3, 1e3, width=32)))
        factor = clip_factor(drawn, clip)
        tail = Tail(64, 15.0, 64, 64.0, 63.5, 0.0)
        add_into(total, codec.encode(drawn, tail, factor))
        scaled = np.rint(drawn * np.float32(factor * 2.0**codec.bits)).astype(np.float64)
        exact += np.clip(scaled, -codec.limit, codec.limit)
    assert np.array_equal(total[:size].view(np.int32), exact.astype(np.int64))
    opened = codec.decode_tail(total[size:])
    assert (opened.weight, opened.scored) == (64 * sites, 64 * sites)
    assert opened.dice_wt == 63.5 * sites


@given(st.integers(2, 100), st.floats(0.01, 1e5))
def test_the_scale_of_the_charter_always_fits_and_one_more_bit_does_not(sites: int, clip: float) -> None:
    bits = largest_scale_bits(sites, clip)
    if 2.0**bits * clip * sites < 2**30:
        FixedPoint(sites, clip, bits, 1)
    if bits < 30:
        with pytest.raises(ValueError, match="ring"):
            FixedPoint(sites, clip, bits + 1, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_the_encoder_refuses_what_the_proof_does_not_cover(bad: float) -> None:
    codec = FixedPoint(4, 64.0, 20, 64)
    with pytest.raises(ValueError, match="coordinate"):
        codec.encode(np.array([bad], np.float32), Tail(1, 0.0, 0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="weight"):
        codec.encode_tail(Tail(65, 0.0, 0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="Dice"):
        codec.encode_tail(Tail(1, 0.0, 2, 2.5, 0.0, 0.0))


def test_threshold_and_colluding_bound_follow_the_design() -> None:
    assert [(n, colluding_bound(n), threshold(n)) for n in (3, 4, 7, 10, 100)] == [
        (3, 1, 3),
        (4, 1, 3),
        (7, 2, 5),
        (10, 3, 7),
        (100, 33, 67),
    ]


@pytest.mark.parametrize("sites", range(3, 101))
def test_no_two_kinds_of_share_can_be_collected(sites: int) -> None:
    assert 2 * threshold(sites) > sites + colluding_bound(sites)


def test_averaging_is_the_weighted_mean() -> None:
    model = np.zeros(3, np.float32)
    updates = [np.array([1, 2, 3], np.float32), np.array([3, 2, 1], np.float32)]
    weights, cap = [10, 30], 64
    summed = sum(np.float32(averaging.site_share(w, cap)) * u for w, u in zip(weights, updates, strict=True))
    stepped = averaging.step(
        model, np.asarray(summed, np.float32), averaging.fedavg_factor(sum(weights), cap, 1.0)
    )
    assert np.allclose(stepped, (10 * updates[0] + 30 * updates[1]) / 40)
    assert averaging.step(model, stepped, averaging.fedavg_factor(0, cap, 1.0)) is model


def test_signatures_bind_label_message_and_key() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signature = sign(key, "reply", b"message")
    assert verify(public_hex(key), "reply", b"message", signature)
    assert not verify(public_hex(key), "model", b"message", signature)
    assert not verify(public_hex(key), "reply", b"massage", signature)
    assert not verify(public_hex(other), "reply", b"message", signature)
    assert not verify("zz", "reply", b"message", signature)
    assert not verify(public_hex(key), "reply", b"message", "not hex")
