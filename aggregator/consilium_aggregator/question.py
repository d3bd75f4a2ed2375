"""The question of a masked attempt: on disk before it is asked, finished and never retried after.

Who survived, under which transcript, the sum of their masked uploads, and the hashes that shares are
checked against. A launch that finds one finishes it before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from consilium.contracts.base import Document, Sha256, SiteName
from consilium.contracts.envelope import Arrays, Envelope, unpack
from consilium.contracts.masked import OpenedAttempt, SiteSignature
from consilium.contracts.messages import Reply
from consilium.contracts.reports import Missing
from consilium.files import write_atomic
from consilium.learning import aggregator as machine
from consilium.privacy.opening import Opening
from consilium.privacy.window import Dealt
from consilium_aggregator.intake import Expected
from consilium_aggregator.orders import Slot
from consilium_aggregator.ports import Tag


@dataclass
class Gathered:
    """What one attempt has collected: the accumulator and what came with each upload, not the uploads."""

    total: NDArray[np.uint32]
    replies: dict[str, Reply] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    late: int = 0
    opening_seconds: float = 0.0
    opened: OpenedAttempt | None = None


class Question(Document):
    """Header of the file. `replies` are the survivors' own words, for the report of the round."""

    charter: Sha256
    round: int = Field(ge=1)
    attempt: int = Field(ge=1)
    window: int = Field(ge=0)
    setups: Sha256
    slot: int = Field(ge=0)
    model: Sha256
    transcript: Sha256
    sites: tuple[SiteName, ...] = Field(description="the roster, in the order in which shares are numbered")
    participants: tuple[SiteName, ...]
    survivors: tuple[SiteName, ...]
    missing: tuple[Missing, ...]
    replies: tuple[Reply, ...]
    seconds: dict[str, float]
    bytes_up: int
    bytes_down: int

    @property
    def opened(self) -> OpenedAttempt:
        """Where the sum is opened."""
        return OpenedAttempt(window=self.window, setups=self.setups, slot=self.slot, attempt=self.attempt)

    @property
    def claims(self) -> tuple[SiteSignature, ...]:
        """Each survivor's signed claim on the transcript."""
        return tuple(SiteSignature(site=reply.site, signature=reply.claim or "") for reply in self.replies)


@dataclass(frozen=True)
class Asked:
    """A question with the masked sum and what its participants dealt for its slot alone."""

    question: Question
    total: NDArray[np.uint32]
    dealt: dict[str, Dealt]

    def opening(self, threshold: int) -> Opening:
        """A fresh opening; slot 0 of the cut-out arrays."""
        number = self.question.sites.index
        survivors = frozenset(number(site) for site in self.question.survivors)
        return Opening(threshold, 0, survivors, {number(site): each for site, each in self.dealt.items()})

    def gathered(self) -> Gathered:
        """What the attempt had collected, with the sum still masked."""
        question = self.question
        return Gathered(
            self.total,
            {reply.site: reply for reply in question.replies},
            question.seconds,
            question.bytes_up,
            question.bytes_down,
        )

    def close(self) -> machine.Close:
        """How the attempt closed."""
        missing = {each.site: each.reason for each in self.question.missing}
        return machine.Close(self.question.survivors, missing)

    def save(self, path: Path) -> None:
        """Write it, fsynced."""
        names = self.question.participants
        arrays: Arrays = {
            "total": self.total,
            "masks": np.stack([self.dealt[name].masks for name in names]),
            "seed_hashes": np.stack([self.dealt[name].seed_hashes for name in names]),
            "share_hashes": np.stack([self.dealt[name].share_hashes for name in names]),
        }
        write_atomic(path, Envelope(self.question.canonical().decode(), arrays).parts())


def ask_about(close: machine.Close, tag: Tag, slot: Slot, gathered: Gathered, expected: Expected) -> Asked:
    """The question of an attempt that has just closed."""
    window, number = slot
    question = Question(
        charter=expected.charter.id,
        round=tag[0],
        attempt=tag[1],
        window=window.number,
        setups=window.digest,
        slot=number,
        model=expected.model,
        transcript=expected.transcript or "",
        sites=window.plan.sites,
        participants=tuple(sorted(window.participants)),
        survivors=close.survivors,
        missing=tuple(Missing(site=site, reason=reason) for site, reason in close.missing.items()),
        replies=tuple(gathered.replies[site] for site in close.survivors),
        seconds=gathered.seconds,
        bytes_up=gathered.bytes_up,
        bytes_down=gathered.bytes_down,
    )
    return Asked(question, gathered.total, {name: cut(each, number) for name, each in window.dealt.items()})


def cut(dealt: Dealt, slot: int) -> Dealt:
    """What a participant dealt for one slot, as a window of that slot alone, without boxes."""
    part = slice(slot, slot + 1)
    return Dealt(
        dealt.masks[part], dealt.seed_hashes[part], dealt.share_hashes[part], np.zeros((0, 0), np.uint8)
    )


def load(path: Path) -> Asked | None:
    """The question on disk, or None if there is none."""
    if not path.exists():
        return None
    stored = unpack(path.read_bytes(), path.name)
    question = Question.parse(stored.header, path.name)
    n = len(question.sites)
    rows = {
        name: Dealt(
            stored.arrays["masks"][number].reshape(1, 32),
            stored.arrays["seed_hashes"][number].reshape(1, 32),
            stored.arrays["share_hashes"][number].reshape(1, n, 2, 32),
            np.zeros((0, 0), np.uint8),
        )
        for number, name in enumerate(question.participants)
    }
    return Asked(question, stored.arrays["total"], rows)
