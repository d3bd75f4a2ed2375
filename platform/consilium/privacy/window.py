"""A site's part in one window of masked sums: dealing keys and shares, masking uploads, handing out shares.

A window has S slots, each good for one attempt. For every slot a site deals an X25519 mask key and a 32-byte
self-seed, both Shamir-shared T of N, and seals each holder's two shares in one box. Holders are numbered as
in the charter's roster, from 0. What a server relays is public or sealed; hashes of every share let it tell a
wrong share from a right one. Who decides what is handed out is `consilium.learning.disclosure`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from consilium.privacy import masking
from consilium.privacy.boxes import OVERHEAD, open_box, seal
from consilium.privacy.shamir import SHARE_BYTES, Random, share

Bytes = NDArray[np.uint8]
KINDS = ("mask", "seed")
"""The two secrets of a slot, in the order in which their shares stand in a box."""
PAIR_BYTES = len(KINDS) * (1 + SHARE_BYTES)
PAIR_BOX = PAIR_BYTES + OVERHEAD
OLD_KEY_BYTES = 36
"""A window's number, 4 bytes, and its tag key: what a site hands on of the last opened sum."""
NO_OLD_KEY = b"\xff" * OLD_KEY_BYTES
KEY_BOX = 32 + OLD_KEY_BYTES + OVERHEAD


@dataclass(frozen=True)
class Plan:
    """What all sites of a window know: the roster's names, T, S, and a hash of charter, run and window."""

    sites: tuple[str, ...]
    threshold: int
    slots: int
    context: bytes

    @property
    def row(self) -> int:
        """Bytes of all boxes from one site to one other."""
        return self.slots * PAIR_BOX + KEY_BOX


@dataclass(frozen=True)
class Secrets:
    """What a site keeps to itself until the window ends. Every field is as secret as the masks."""

    channel: bytes
    """X25519 private key that opens the boxes of this window."""
    masks: tuple[bytes, ...]
    seeds: tuple[bytes, ...]
    own: tuple[tuple[bytes, bytes], ...]
    """This site's own (mask, seed) shares of its own secrets, a slot each."""
    tag_part: bytes
    """Its part of the sites' common tag key."""


@dataclass(frozen=True)
class Held:
    """What a site keeps once a window is open: its boxes are opened, and their key is gone.

    A slot that is spent holds empty keys and no share: what a vault gives away later says nothing of it.
    """

    masks: tuple[bytes, ...]
    seeds: tuple[bytes, ...]
    shares: tuple[Mapping[int, tuple[bytes, bytes]], ...]
    """For each slot, by dealer, this site's (mask, seed) shares; without dealers whose box did not open."""
    tag_key: bytes
    old_key: bytes
    """A window's number and tag key, as most of the others handed it on; or `NO_OLD_KEY`."""
    old_key_votes: int

    def spend(self, slot: int) -> Held:
        """Without the secrets of every slot before this one."""
        gone = tuple(b"" for _ in range(slot))
        return replace(
            self,
            masks=gone + self.masks[slot:],
            seeds=gone + self.seeds[slot:],
            shares=tuple({} for _ in gone) + self.shares[slot:],
        )


@dataclass(frozen=True)
class Dealt:
    """What a site publishes: keys, hashes, and boxes for each holder (its own row is zeros)."""

    masks: Bytes
    """(S, 32) X25519 public mask keys."""
    seed_hashes: Bytes
    """(S, 32) SHA-256 of each self-seed."""
    share_hashes: Bytes
    """(S, N, 2, 32) SHA-256 of each holder's share, mask before seed."""
    boxes: Bytes
    """(N, row) sealed boxes, a row a holder."""


def public_of(private: bytes) -> bytes:
    """The X25519 public key (32 bytes) of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def usable(masks: Bytes) -> bool:
    """True if every one of these (S, 32) public keys is a point that masks can be agreed on with.

    A point of low order would make every other site fail at its upload.
    """
    probe = X25519PrivateKey.generate()
    try:
        for row in masks:
            masking.shared_secret(probe, row.tobytes())
    except ValueError:
        return False
    return True


def deal(
    plan: Plan,
    me: int,
    channel: bytes,
    channels: Mapping[int, bytes],
    random: Random,
    old_key: bytes = NO_OLD_KEY,
) -> tuple[Secrets, Dealt]:
    """Fresh keys and shares for a window; `channels` are the public channel keys of the holders to serve.

    A holder without a channel key gets no box and can help with nothing of this site's. `old_key` tells a
    site that joins the last opened sum's tag key, so that it can check that sum.

    Raises:
        ValueError: a channel key is no X25519 point, or one of low order; names the holder.
    """
    masks = tuple(random(32) for _ in range(plan.slots))
    seeds = tuple(random(32) for _ in range(plan.slots))
    tag_part = random(32)
    n = len(plan.sites)
    shares = [
        tuple(zip(*(share(secret, n, plan.threshold, random) for secret in pair), strict=True))
        for pair in zip(masks, seeds, strict=True)
    ]  # slot → holder → (mask, seed)
    boxes = np.zeros((n, plan.row), np.uint8)
    for holder, public in channels.items():
        if holder != me:
            agreed = _agreed(plan, channel, holder, public)
            sealed = _seal_row(plan, me, holder, agreed, shares, tag_part + old_key)
            boxes[holder] = np.frombuffer(sealed, np.uint8)
    hashes = [hashlib.sha256(piece).digest() for slot in shares for pair in slot for piece in pair]
    dealt = Dealt(
        masks=_rows([public_of(private) for private in masks]),
        seed_hashes=_rows([hashlib.sha256(seed).digest() for seed in seeds]),
        share_hashes=_rows(hashes).reshape(plan.slots, n, len(KINDS), 32),
        boxes=boxes,
    )
    return Secrets(channel, masks, seeds, tuple(slot[me] for slot in shares), tag_part), dealt


def open_shares(
    plan: Plan, me: int, secrets: Secrets, dealer: int, public: bytes, row: bytes, slot: int
) -> tuple[bytes, bytes]:
    """This site's (mask, seed) shares of `dealer`'s secrets in `slot`, from the dealer's row of boxes.

    Raises:
        ValueError: the box was altered, swapped or belongs elsewhere, or its shares are mistyped.
    """
    box = row[slot * PAIR_BOX : (slot + 1) * PAIR_BOX]
    shared = _agreed(plan, secrets.channel, dealer, public)
    plain = open_box(shared, _context(plan, slot), plan.sites[dealer], plan.sites[me], box)
    half = 1 + SHARE_BYTES
    if len(plain) != PAIR_BYTES or (plain[0], plain[half]) != (0, 1):
        raise ValueError(f"box from {plan.sites[dealer]}: holds no mask share and seed share, in this order")
    return plain[1:half], plain[half + 1 :]


def open_window(
    plan: Plan,
    me: int,
    secrets: Secrets,
    publics: Mapping[int, bytes],
    rows: Mapping[int, bytes],
    tag_hashes: Mapping[int, bytes],
) -> Held:
    """Open all boxes for this site; `publics` and `rows` are the participants' channel keys and boxes.

    `tag_hashes` are SHA-256 of each participant's part of the tag key, as it signed them.

    Raises:
        ValueError: a participant's part of the tag key does not open or has another hash; names it.
    """
    parts, told = {me: secrets.tag_part}, Counter[bytes]()
    shares: list[dict[int, tuple[bytes, bytes]]] = [{me: own} for own in secrets.own]
    for dealer in tag_hashes:
        if dealer == me:
            continue
        try:
            parts[dealer], old_key = open_tag_part(plan, me, secrets, dealer, publics[dealer], rows[dealer])
        except (KeyError, ValueError):
            parts[dealer], old_key = b"", NO_OLD_KEY
        told[old_key] += 1
        for slot, held in enumerate(shares):
            with suppress(KeyError, ValueError):
                held[dealer] = open_shares(plan, me, secrets, dealer, publics[dealer], rows[dealer], slot)
    for dealer, expected in tag_hashes.items():
        if hashlib.sha256(parts[dealer]).digest() != expected:
            raise ValueError(f"{plan.sites[dealer]}: its part of the tag key is not the one it signed")
    old_key, votes = told.most_common(1)[0] if told else (NO_OLD_KEY, 0)
    return Held(secrets.masks, secrets.seeds, tuple(shares), tag_key(parts), old_key, votes)


def open_tag_part(
    plan: Plan, me: int, secrets: Secrets, dealer: int, public: bytes, row: bytes
) -> tuple[bytes, bytes]:
    """`dealer`'s part of the common tag key (32 bytes), and its `old_key`.

    Raises:
        ValueError: as `open_shares` does.
    """
    shared = _agreed(plan, secrets.channel, dealer, public)
    names = plan.sites[dealer], plan.sites[me]
    plain = open_box(shared, _context(plan, plan.slots), *names, row[plan.slots * PAIR_BOX :])
    return plain[:32], plain[32:]


def tag_key(parts: Mapping[int, bytes]) -> bytes:
    """The participants' common tag key: every part goes into it, so that one honest part keeps it secret."""
    return hashlib.sha256(b"".join(site.to_bytes(4, "big") + parts[site] for site in sorted(parts))).digest()


def mask(
    secrets: Secrets | Held,
    me: int,
    slot: int,
    publics: Mapping[int, bytes],
    transcript: bytes,
    vector: masking.Ring,
) -> None:
    """Mask `vector` in place for `slot`; `publics` are the participants' mask keys of this slot.

    One (secrets, slot) masks ONE vector, ever: the caller commits that the slot is used before it calls.

    Raises:
        ValueError: a participant's key is no point or of low order.
    """
    private = X25519PrivateKey.from_private_bytes(secrets.masks[slot])
    plus = [masking.self_key(secrets.seeds[slot], transcript, me)]
    minus: list[bytes] = []
    for other, public in publics.items():
        if other == me:
            continue
        shared = masking.shared_secret(private, public)
        key = masking.pair_key(shared, transcript, min(me, other), max(me, other))
        (plus if other < me else minus).append(key)
    masking.add_masks(vector, plus, minus)


def _seal_row(
    plan: Plan,
    me: int,
    holder: int,
    shared: bytes,
    shares: list[tuple[tuple[bytes, bytes], ...]],
    key_word: bytes,
) -> bytes:
    names = plan.sites[me], plan.sites[holder]
    row = b""
    for slot, pairs in enumerate(shares):
        mask_share, seed_share = pairs[holder]
        row += seal(shared, _context(plan, slot), *names, b"\0" + mask_share + b"\1" + seed_share)
    return row + seal(shared, _context(plan, plan.slots), *names, key_word)


def _context(plan: Plan, slot: int) -> bytes:
    """What a box is for: this window and this slot; the number after the last slot is the tag key's."""
    return plan.context + slot.to_bytes(4, "big")


def _agreed(plan: Plan, channel: bytes, other: int, public: bytes) -> bytes:
    try:
        return masking.shared_secret(X25519PrivateKey.from_private_bytes(channel), public)
    except ValueError as error:
        raise ValueError(f"channel key of {plan.sites[other]}: {error}") from None


def _rows(items: list[bytes]) -> Bytes:
    return np.frombuffer(b"".join(items), np.uint8).reshape(len(items), -1)
