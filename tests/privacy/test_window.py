"""A whole masked sum by hand: deal, seal, mask, drop, disclose, open. Every drop set that is allowed."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.contracts.charter import colluding_bound, largest_scale_bits, threshold
from consilium.learning.disclosure import Bounds, Disclose, Order, Proposal, Question, State, Window, step
from consilium.privacy import window
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import FixedPoint, Tail
from consilium.privacy.opening import Opening
from consilium.privacy.tags import LIMBS, Tagger
from consilium.privacy.window import Dealt, Plan, Secrets

TRANSCRIPT = hashlib.sha256(b"what the server chose").digest()


@dataclass
class Party:
    """One site's view of a window."""

    me: int
    secrets: Secrets
    dealt: Dealt


def set_up(n: int, slots: int = 2, context: bytes = b"charter/run/0") -> tuple[Plan, list[Party]]:
    """A window of n sites that all take part."""
    plan = Plan(
        tuple(f"site-{i:02d}" for i in range(n)), threshold(n), slots, hashlib.sha256(context).digest()
    )
    channels = [os.urandom(32) for _ in range(n)]
    publics = dict(enumerate(map(window.public_of, channels)))
    return plan, [Party(me, *window.deal(plan, me, channels[me], publics, os.urandom)) for me in range(n)]


def channel(party: Party) -> bytes:
    return window.public_of(party.secrets.channel)


def masked(
    parties: list[Party], slot: int, vectors: list[np.ndarray], transcript: bytes = TRANSCRIPT
) -> list[np.ndarray]:
    publics = {party.me: party.dealt.masks[slot].tobytes() for party in parties}
    uploads = [vector.copy() for vector in vectors]
    for party, upload in zip(parties, uploads, strict=True):
        window.mask(party.secrets, party.me, slot, publics, transcript, upload)
    return uploads


def disclosed(
    plan: Plan, parties: list[Party], holder: Party, shares: dict[int, str], slot: int
) -> dict[int, bytes]:
    """What one site hands out after its state machine said so."""
    found = {}
    for dealer, kind in shares.items():
        if dealer == holder.me:
            pair = holder.secrets.own[slot]
        else:
            other = parties[dealer]
            row = other.dealt.boxes[holder.me].tobytes()
            pair = window.open_shares(plan, holder.me, holder.secrets, dealer, channel(other), row, slot)
        found[dealer] = pair[window.KINDS.index(kind)]
    return found


def open_sum(
    plan: Plan, parties: list[Party], slot: int, uploads: list[np.ndarray], dropped: frozenset[int]
) -> np.ndarray:
    """Through real state machines and real cryptography, with shares from any T survivors."""
    n = len(parties)
    bounds = Bounds(n, threshold(n), colluding_bound(n))
    survivors = [site for site in range(n) if site not in dropped]
    told = dict.fromkeys(survivors, TRANSCRIPT.hex())
    opening = Opening(plan.threshold, slot, frozenset(survivors), {p.me: p.dealt for p in parties})
    for site in survivors:
        state, _ = step(State(site, bounds), Window(0, frozenset(range(n))))
        state, _ = step(state, Order(0, slot, TRANSCRIPT.hex(), "m"))
        state, _ = step(state, Proposal(0, slot, told))
        _, (effect,) = step(state, Question(0, slot, told, frozenset(survivors)))
        assert isinstance(effect, Disclose)
        if opening.missing:
            pieces = disclosed(plan, parties, parties[site], dict(effect.shares), slot)
            assert opening.offer(site, pieces) == frozenset()
    total = np.sum([uploads[site] for site in survivors], axis=0, dtype=np.uint32)
    opening.unmask(total, TRANSCRIPT)
    return total


@pytest.mark.parametrize("n", range(3, 8))
def test_the_opened_sum_is_exact_for_every_drop_set(n: int) -> None:
    plan, parties = set_up(n)
    rng = np.random.default_rng(n)
    vectors = [rng.integers(0, 2**32, 100, dtype=np.uint32) for _ in range(n)]
    uploads = masked(parties, 1, vectors)
    for size in range(n - plan.threshold + 1):
        for dropped in map(frozenset, itertools.combinations(range(n), size)):
            expected = np.sum([v for i, v in enumerate(vectors) if i not in dropped], axis=0, dtype=np.uint32)
            assert np.array_equal(open_sum(plan, parties, 1, uploads, dropped), expected), dropped


@settings(max_examples=10, deadline=None)
@given(st.integers(8, 12), st.data())
def test_larger_rosters_too(n: int, data: st.DataObject) -> None:
    plan, parties = set_up(n, slots=1)
    dropped = data.draw(st.frozensets(st.integers(0, n - 1), max_size=n - plan.threshold))
    vectors = [np.full(5, site + 1, np.uint32) for site in range(n)]
    total = open_sum(plan, parties, 0, masked(parties, 0, vectors), dropped)
    assert total.tolist() == [sum(site + 1 for site in range(n) if site not in dropped)] * 5


def test_encoded_updates_with_tags_come_out_exact_and_verified() -> None:
    """The upload of a round: clipped update, tail and tag limbs, masked together."""
    plan, parties = set_up(4)
    codec = FixedPoint(4, 8.0, largest_scale_bits(4, 8.0), 64)
    rng = np.random.default_rng(0)
    updates = [rng.normal(size=50).astype(np.float32) for _ in parties]
    tail = Tail(10, 0.5, 3, 1.5, 2.0, 0.5)
    encoded = [codec.encode(u, tail, clip_factor(u, codec.clip)) for u in updates]
    parts = {party.me: party.secrets.tag_part for party in parties}
    received = {
        dealer: window.open_tag_part(
            plan,
            0,
            parties[0].secrets,
            dealer,
            channel(parties[dealer]),
            parties[dealer].dealt.boxes[0].tobytes(),
        )[0]
        for dealer in (1, 2, 3)
    }
    assert {0: parts[0], **received} == parts
    tagger = Tagger(window.tag_key(parts), TRANSCRIPT)
    vectors = [np.concatenate([vector, tagger.tag(vector, site)]) for site, vector in enumerate(encoded)]
    total = open_sum(plan, parties, 0, masked(parties, 0, vectors), frozenset({2}))
    body, limbs = total[:-LIMBS], total[-LIMBS:]
    assert tagger.verify(body, limbs, [0, 1, 3])
    assert codec.decode_tail(body[50:]).weight == 30
    assert np.array_equal(body, encoded[0] + encoded[1] + encoded[3])
    body[7] += 1
    assert not tagger.verify(body, limbs, [0, 1, 3])


def test_another_transcript_at_one_site_gives_noise() -> None:
    plan, parties = set_up(4)
    vectors = [np.zeros(1000, np.uint32) for _ in parties]
    uploads = masked(parties, 0, vectors)
    uploads[2] = masked(parties, 0, vectors, hashlib.sha256(b"something else").digest())[2]
    assert np.count_nonzero(open_sum(plan, parties, 0, uploads, frozenset())) > 990


def test_slots_are_worlds_apart() -> None:
    plan, parties = set_up(4)
    vectors = [np.zeros(1000, np.uint32) for _ in parties]
    uploads = [*masked(parties, 0, vectors)[:3], masked(parties, 1, vectors)[3]]
    assert np.count_nonzero(open_sum(plan, parties, 0, uploads, frozenset())) > 990


def test_wrong_shares_are_told_apart_and_a_lying_dealer_is_named() -> None:
    plan, parties = set_up(4)
    opening = Opening(plan.threshold, 0, frozenset({0, 1, 2}), {p.me: p.dealt for p in parties})
    kinds = {0: "seed", 1: "seed", 2: "seed", 3: "mask"}
    right = disclosed(plan, parties, parties[0], kinds, 0)
    wrong_kind = disclosed(plan, parties, parties[0], {**kinds, 3: "seed"}, 0)
    other_slot = disclosed(plan, parties, parties[0], kinds, 1)
    assert opening.offer(0, wrong_kind) == {3}
    assert opening.offer(0, other_slot) == {0, 1, 2, 3}
    assert opening.offer(1, right) == {0, 1, 2, 3}, "another holder's shares"
    assert opening.offer(0, {9: bytes(33)}) == {9}
    with pytest.raises(ValueError, match="fewer than the threshold"):
        opening.unmask(np.zeros(5, np.uint32), TRANSCRIPT)
    for site in (0, 1, 2):
        opening.offer(site, disclosed(plan, parties, parties[site], kinds, 0))
    assert opening.missing == frozenset()
    lied = replace(parties[1].dealt, seed_hashes=np.zeros_like(parties[1].dealt.seed_hashes))
    opening.dealt = {**opening.dealt, 1: lied}
    with pytest.raises(ValueError, match="participant 1"):
        opening.unmask(np.zeros(5, np.uint32), TRANSCRIPT)


def test_boxes_of_another_window_slot_or_holder_do_not_open() -> None:
    plan, parties = set_up(4)
    row = parties[1].dealt.boxes[0].tobytes()
    key = channel(parties[1])
    swapped = row[window.PAIR_BOX : 2 * window.PAIR_BOX] + row[: window.PAIR_BOX] + row[2 * window.PAIR_BOX :]
    later = replace(plan, context=hashlib.sha256(b"charter/run/1").digest())
    attempts = [
        (plan, 0, 1, key, swapped),
        (plan, 0, 1, key, parties[1].dealt.boxes[2].tobytes()),
        (plan, 0, 2, key, row),
        (plan, 0, 1, channel(parties[2]), row),
        (later, 0, 1, key, row),
        (plan, 0, 1, key, b"\0" * len(row)),
    ]
    for its_plan, me, dealer, public, boxes in attempts:
        with pytest.raises(ValueError, match="was altered, or belongs elsewhere"):
            window.open_shares(its_plan, me, parties[0].secrets, dealer, public, boxes, 0)
    with pytest.raises(ValueError, match="channel key of site-01"):
        window.open_shares(plan, 0, parties[0].secrets, 1, bytes(32), row, 0)


def test_a_site_without_a_channel_key_gets_no_box_and_the_others_do() -> None:
    plan, parties = set_up(4)
    publics = {party.me: channel(party) for party in parties if party.me != 2}
    _, dealt = window.deal(plan, 0, os.urandom(32), publics, os.urandom)
    assert not dealt.boxes[2].any()
    assert dealt.boxes[1].any()
    assert dealt.boxes.shape == (4, plan.row)


def test_keys_that_nobody_can_agree_with_are_seen_before_they_are_used() -> None:
    _, parties = set_up(3)
    masks = parties[0].dealt.masks.copy()
    assert window.usable(masks)
    masks[1] = 0
    assert not window.usable(masks)
