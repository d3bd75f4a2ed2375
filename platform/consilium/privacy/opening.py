"""The server's part: from masked uploads and disclosed shares to the sum of the survivors, no more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consilium.privacy import masking
from consilium.privacy.shamir import combine
from consilium.privacy.window import KINDS, Dealt, public_of


@dataclass
class Opening:
    """Collects shares for one question: the sum of `survivors` among the window's `dealt` in `slot`.

    `dealt` has every participant of the window. A survivor's self-seed and a dropped participant's mask key
    are needed, each from `threshold` holders.
    """

    threshold: int
    slot: int
    survivors: frozenset[int]
    dealt: Mapping[int, Dealt]
    shares: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """Participant → holder → share of the one secret that is asked of it."""

    def kind(self, site: int) -> str:
        """Which of a participant's secrets is asked for."""
        return "seed" if site in self.survivors else "mask"

    def offer(self, holder: int, shares: Mapping[int, bytes]) -> frozenset[int]:
        """Take one holder's shares, by participant; returns the participants whose share is wrong.

        A share is right if its hash is the one that the dealer published for this slot, holder and kind.
        """
        wrong = set()
        for site, piece in shares.items():
            known = self.dealt.get(site)
            if known is None:
                wrong.add(site)
                continue
            expected = known.share_hashes[self.slot, holder, KINDS.index(self.kind(site))].tobytes()
            if hashlib.sha256(piece).digest() != expected:
                wrong.add(site)
            else:
                self.shares.setdefault(site, {})[holder + 1] = piece
        return frozenset(wrong)

    @property
    def missing(self) -> frozenset[int]:
        """Participants whose secret has fewer than T shares so far; empty once the sum can be opened."""
        return frozenset(site for site in self.dealt if len(self.shares.get(site, {})) < self.threshold)

    def unmask(self, total: masking.Ring, transcript: bytes) -> None:
        """Turn the sum of the survivors' uploads into the sum of what they encoded, in place.

        Raises:
            ValueError: shares are missing, or a participant's shares do not give the secret it published:
                then the dealer lied, and no sum that needs it can be opened.
        """
        if self.missing:
            raise ValueError(f"shares of {sorted(self.missing)}: fewer than the threshold, {self.threshold}")
        secrets = {site: combine(self.shares[site], self.threshold) for site in self.dealt}
        for site, secret in secrets.items():
            self._check(site, secret)
        plus: list[bytes] = []
        minus = [masking.self_key(secrets[site], transcript, site) for site in sorted(self.survivors)]
        for gone in sorted(set(self.dealt) - self.survivors):
            private = X25519PrivateKey.from_private_bytes(secrets[gone])
            for site in sorted(self.survivors):
                shared = masking.shared_secret(private, self.dealt[site].masks[self.slot].tobytes())
                key = masking.pair_key(shared, transcript, min(gone, site), max(gone, site))
                (minus if gone < site else plus).append(key)
        masking.add_masks(total, plus, minus)

    def _check(self, site: int, secret: bytes) -> None:
        dealt = self.dealt[site]
        if site in self.survivors:
            right = hashlib.sha256(secret).digest() == dealt.seed_hashes[self.slot].tobytes()
        else:
            right = public_of(secret) == dealt.masks[self.slot].tobytes()
        if not right:
            raise ValueError(f"participant {site}: its shares do not give the secret that it published")
