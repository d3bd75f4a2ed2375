"""What the aggregator asks and what a vault answers: a closed list of message types.

A message is a safetensors blob: its JSON header (one of the documents below) sits under the metadata key
`header`, its arrays under fixed names. Sizes follow from the charter, so a vault can refuse early.

order   ──►  `sum`        uint32 (U,)     opened sum of the previous round        (round ≥ 2, finish)
             `model`      float32 (P,)    the initial model or a signed checkpoint (where needed)
             `masks`      uint8 (M, S·32) participants' mask keys, in the order of `setups`  (new window)
             `boxes`      uint8 (M, row)  their sealed boxes for this site                   (new window)
reply   ◄──  `upload`     uint32 (U,)     this site's fixed-point update and tail, masked    (train)
             `masks` `seed_hashes` `share_hashes` `boxes`  what it dealt, as bytes           (setup)
             `shares`     uint8 (M, 33)   one share a participant, in the roster's order     (unmask)

U = P parameters + the tail + the limbs of two tags if masked: `Charter.upload_size`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from consilium.contracts.base import Document, RunId, Sha256, Signature, SiteName, Unit
from consilium.contracts.masked import OpenedAttempt, SignedChannel, SignedSetup, SiteSignature
from consilium.vocabulary import CaseProblem, Reason, Refusal, Stage


class ModelSignature(Document):
    """One site's signature over the hash of the model that it trained from in `round`."""

    site: SiteName
    signature: Signature


class ModelClaim(Document):
    """What a `ModelSignature` signs: at the start of `round` of this run, my model has this hash."""

    charter: Sha256
    run: RunId
    round: int = Field(ge=1)
    model: Sha256


class Order(Document):
    """One job for one vault.

    `train` of round k: step with the sum of round k−1, score, train, upload. `finish` after the last
    round: step with the last sum, score, sign. A vault that is behind gets `model` too: the model that
    the sum applies to, with signatures of at least T sites over its hash (`certificate`).

    Masked sums: `channel` and `setup` open a window; `train` and `finish` name the window's `slot` and bring
    `setups` the first time; `agree` and `unmask` ask about the `survivors` of this attempt, with each one's
    signed claim on its transcript, and with the agreements where so many are missing that they are needed.
    """

    kind: Literal["train", "finish", "channel", "setup", "agree", "unmask"]
    charter: Sha256
    run: RunId
    round: int = Field(ge=1, description="the round this order belongs to; finish carries count + 1")
    attempt: int = Field(ge=1)
    survivors: tuple[SiteName, ...] = Field(default=(), description="sites in the sum carried here")
    opened: OpenedAttempt | None = Field(default=None, description="where that sum was opened, if masked")
    model: Sha256 | None = Field(default=None, description="hash of the array `model`, where one is carried")
    certificate: tuple[ModelSignature, ...] = ()
    seconds: float = Field(gt=0.0, description="time limit; at it the vault answers too_slow")
    window: int | None = Field(default=None, ge=0)
    slot: int | None = Field(default=None, ge=0)
    channels: tuple[SignedChannel, ...] = ()
    setups: tuple[SignedSetup, ...] = ()
    claims: tuple[SiteSignature, ...] = ()
    agreements: tuple[SiteSignature, ...] = ()

    @property
    def job(self) -> str:
        """The job's name: asking twice by one name gives one answer."""
        return f"{self.run}/{self.round}/{self.attempt}/{self.kind}"


class Scores(Document):
    """Mean Dice of one site's held-out patients by region; `scored` patients, `empty` empty regions."""

    tc: Unit
    wt: Unit
    et: Unit
    scored: int = Field(ge=0)
    empty: int = Field(default=0, ge=0, description="scored regions whose reference was empty")

    @property
    def mean(self) -> float:
        """Mean over the three regions."""
        return (self.tc + self.wt + self.et) / 3.0


class SiteReport(Document):
    """What a site says beside its upload: skipped cases and, if the release allows, cohort and scores.

    Times are monotonic seconds inside the site. No path, case name or pixel has a field here.
    """

    site: SiteName
    scores: Scores | None = None
    cases_train: int = Field(ge=0)
    cases_test: int = Field(ge=0)
    skipped: dict[CaseProblem, int] = Field(default_factory=dict)
    seconds_scoring: float = Field(ge=0.0)
    seconds_training: float = Field(ge=0.0)
    precision: Literal["fp32", "bf16", "cuda", "toy"] = "fp32"


class Reply(Document):
    """A vault's signed answer to one order.

    `refused` carries a reason code and nothing else. `done` carries the hash of the model after the
    step, the site's signature on it (`ModelClaim`), and the hash of `upload` for a train order.
    """

    status: Literal["done", "refused"]
    site: SiteName
    charter: Sha256
    run: RunId
    round: int = Field(ge=1)
    attempt: int = Field(ge=1)
    reason: Reason | None = None
    holds: int = Field(default=0, ge=0, description="the round whose starting model this vault holds")
    model: Sha256 | None = None
    model_signature: Signature | None = None
    upload: Sha256 | None = None
    report: SiteReport | None = None
    channel: SignedChannel | None = Field(default=None, description="with a set-up, of the next window")
    setup: SignedSetup | None = None
    transcript: Sha256 | None = None
    claim: Signature | None = Field(default=None, description="over `UploadClaim`, for the other sites")
    agreement: Signature | None = Field(default=None, description="over `SetAgreement`")
    shares: Sha256 | None = None
    refusal: Refusal | None = Field(default=None, description="why nothing is disclosed")


class SignedReply(Document):
    """A reply with the site's Ed25519 signature over its canonical JSON."""

    reply: Reply
    signature: Signature


class Heartbeat(Document):
    """A vault's sign of life, carried by the relay. `at` is the site's own clock, UTC, ISO 8601."""

    site: SiteName
    at: str
    stage: Stage
    run: RunId | None = None
    round: int | None = None
    version: str
    cases: int = Field(default=0, ge=0, description="usable cases; 0 where the charter keeps counts home")
    skipped: dict[CaseProblem, int] = Field(default_factory=dict)


class SignedHeartbeat(Document):
    """A heartbeat with the site's signature over its canonical JSON."""

    heartbeat: Heartbeat
    signature: Signature


class SiteDecision(Document):
    """A site admin's word on one charter; `approved` allows work under exactly this charter id."""

    site: SiteName
    charter: Sha256
    decision: Literal["approved", "refused"]
    at: str = Field(description="site's clock, UTC, ISO 8601")


class SignedDecision(Document):
    """A decision with the site's signature over its canonical JSON."""

    decision: SiteDecision
    signature: Signature


class RelayNotice(Document):
    """What a relay answers when its vault did not: not signed, so it can only drop the site."""

    notice: Reason
