"""Documents of the masked sum: what sites publish for a window, what an upload is bound to, what they sign.

A window is a set of one-time keys. `SiteChannel` opens it, `SiteSetup` fixes its keys and shares, and the
`Transcript` of an attempt is all that the server chose: its hash is in every mask, so sites that were told
different things give noise. Arrays travel beside these documents and are bound by the hashes in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pydantic import Field

from consilium.contracts.base import Document, PublicKey, RunId, Sha256, Signature, SiteName
from consilium.contracts.charter import Charter
from consilium.privacy.signatures import verify


class SiteChannel(Document):
    """A site's X25519 key for the boxes of one window. Signed with the label "channel"."""

    charter: Sha256
    run: RunId
    window: int = Field(ge=0)
    site: SiteName
    channel: PublicKey


class SignedChannel(Document):
    """A channel key with its site's signature."""

    channel: SiteChannel
    signature: Signature


class SiteSetup(Document):
    """What a site dealt for one window, by the hashes of its arrays. Signed with the label "setup".

    `channels` is the digest of the channel keys that it sealed its boxes for.
    """

    charter: Sha256
    run: RunId
    window: int = Field(ge=0)
    site: SiteName
    channels: Sha256
    masks: Sha256
    seed_hashes: Sha256
    share_hashes: Sha256
    boxes: Sha256
    tag_part: Sha256 = Field(description="of its part of the common tag key, so that all open the same one")


class SignedSetup(Document):
    """A set-up with its site's signature."""

    setup: SiteSetup
    signature: Signature


class Transcript(Document):
    """Everything a server chooses about one attempt; its digest binds masks, tags and claims.

    `setups` is the digest of the set-ups of all participants, `model` the hash of the parameters that
    training starts from.
    """

    charter: Sha256
    run: RunId
    window: int
    setups: Sha256
    slot: int
    kind: str
    round: int
    attempt: int
    model: Sha256


class OpenedAttempt(Document):
    """Where the sum that an order carries was opened: the slot and the attempt of the round before.

    Whoever has the window's tag key checks these words with the sum's tags: none needs to be believed.
    """

    window: int = Field(ge=0)
    setups: Sha256
    slot: int = Field(ge=0)
    attempt: int = Field(ge=1)


class UploadClaim(Document):
    """A site's word that it uploaded under this transcript. Signed with the label "upload"."""

    site: SiteName
    transcript: Sha256


class SetAgreement(Document):
    """A site's word that these are the survivors of this transcript's attempt. Label "survivors"."""

    transcript: Sha256
    survivors: tuple[SiteName, ...]


class SiteSignature(Document):
    """A signature and whose it is."""

    site: SiteName
    signature: Signature


def signed_by(charter: Charter, site: str, label: str, body: Document, signature: str) -> bool:
    """True only if the roster's key of `site` signed this document under this label."""
    member = charter.member(site)
    return member is not None and verify(member.identity, label, body.canonical(), signature)


def channels_digest(channels: Iterable[SignedChannel]) -> str:
    """SHA-256 over the channel documents in the order of their sites: equal sets, equal digest."""
    return _digest(each.channel for each in sorted(channels, key=lambda each: each.channel.site))


def setups_digest(setups: Iterable[SignedSetup]) -> str:
    """SHA-256 over the set-up documents in the order of their sites: this is the list of participants."""
    return _digest(each.setup for each in sorted(setups, key=lambda each: each.setup.site))


def window_context(charter: str, run: str, window: int) -> bytes:
    """32 bytes that bind a window's boxes to charter, run and number."""
    return hashlib.sha256(f"consilium/window\0{charter}\0{run}\0{window}".encode()).digest()


def _digest(documents: Iterable[Document]) -> str:
    return hashlib.sha256(b"\n".join(document.canonical() for document in documents)).hexdigest()
