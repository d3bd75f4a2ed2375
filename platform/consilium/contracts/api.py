"""Bodies of the HTTP API that are not already a contract: what the portal and the CLI read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from consilium.contracts.base import Document, PublicKey, RunId, Sha256, SiteName, Title
from consilium.contracts.charter import Charter
from consilium.contracts.messages import SignedDecision
from consilium.contracts.reports import RoundOpened, RoundRow, SiteAnswered
from consilium.vocabulary import CaseProblem, Decision, RunStatus, Stage


class Health(Document):
    """`GET /health`: the only route without a token."""

    status: str = "ok"
    version: str


class NewSite(Document):
    """A hospital as the coordinator registers it; both keys are public."""

    site: SiteName
    hospital: Title
    identity: PublicKey
    node_key: str = Field(max_length=1000, description="the SuperNode's ECDSA public key in OpenSSH form")
    node_id: int = Field(ge=0, description="the id that Flower gave the SuperNode at registration")


class SiteView(Document):
    """A hospital as people see it; `heartbeat_at` is the site's clock, `seen_at` the platform's."""

    site: SiteName
    hospital: Title
    identity: PublicKey
    node_id: str = Field(description="a string: Flower's ids exceed what JavaScript can hold")
    created_at: str
    heartbeat_at: str | None = None
    seen_at: str | None = None
    online: bool = Field(default=False, description="seen within the last 30 seconds")
    stage: Stage | None = None
    run: RunId | None = None
    round: int | None = None
    cases: int = 0
    skipped: dict[CaseProblem, int] = Field(default_factory=dict)


class HeartbeatAnswer(Document):
    """What the platform tells a relay: charters that name the site and await its decision."""

    charters: tuple[Sha256, ...] = ()


class DecisionView(Document):
    """One site's stand on a study, and its signed word once given."""

    site: SiteName
    hospital: Title
    decision: Decision
    at: str | None = None
    signed: SignedDecision | None = None


class RunView(Document):
    """One run of a study."""

    run: RunId
    study: Sha256
    status: RunStatus
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    rounds_done: int = 0
    rounds_planned: int
    launches: int = 0
    error: str | None = Field(default=None, description="the platform's own words, never a site's")
    model: Sha256 | None = None


class StudyView(Document):
    """A study in a list; `runs` newest first."""

    id: Sha256
    title: Title
    created_at: str
    hospitals: int
    approved: int
    refused: int
    runs: tuple[RunView, ...] = ()


class StudyDetail(Document):
    """A study with its charter and each site's stand."""

    study: StudyView
    charter: Charter
    decisions: tuple[DecisionView, ...]


class LiveRound(Document):
    """The round that is open now, as events tell it."""

    opened: RoundOpened
    opened_at: str
    answered: tuple[SiteAnswered, ...] = ()


class PrivacyView(Document):
    """What a run promises, and how much of it is spent: `spent` of `target` ε at δ.

    `dice_error` is the standard deviation of a region's Dice as reported, about; None before a model is
    scored. `evaluations` models are scored in all. `protects` says for people what unit and mechanism
    protect.
    """

    unit: Literal["patient", "site"]
    mechanism: str
    target: float
    delta: float
    spent: float
    dice_error: float | None = None
    evaluations: int
    protects: tuple[str, str]


class RunDetail(Document):
    """Everything a live page draws: the run, its rows, the open round, and the hospitals."""

    run: RunView
    title: Title
    rows: tuple[RoundRow, ...]
    live: LiveRound | None = None
    sites: tuple[SiteView, ...]
    decisions: tuple[DecisionView, ...]
    secure_aggregation: bool
    privacy: PrivacyView | None = Field(default=None, description="null: nothing is proven")
    server_time: str


class Problem(Document):
    """Every error body: a coded class, a sentence, and what to do."""

    error: str
    detail: str
