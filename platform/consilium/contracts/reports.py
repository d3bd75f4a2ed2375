"""What the aggregator tells the API while a run goes on, and the rows and report made of it.

Events are facts with codes; the text for people is composed where it is read. `rounds[k]` describes the
model after round k, row 0 the untrained model, so a row fills in two steps: `RoundClosed` at the end of
round k, `ModelScored` when round k+1 (or `finish`) has scored the model.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from consilium.contracts.base import Document, RunId, Sha256, SiteName, Unit
from consilium.contracts.messages import Scores
from consilium.vocabulary import CaseProblem, Reason, Refusal, RunStatus


class Missing(Document):
    """A site of the roster that is not in a sum, and why."""

    site: SiteName
    reason: Reason


class SiteRow(Document):
    """What is known of one participant of one round; `scores` only where the charter shares them."""

    site: SiteName
    scores: Scores | None = None
    cases_train: int = Field(default=0, ge=0)
    cases_test: int = Field(default=0, ge=0)
    skipped: dict[CaseProblem, int] = Field(default_factory=dict)
    seconds: float = Field(default=0.0, ge=0.0)


class RunStarted(Document):
    """The aggregator is up; `resumed_from` is the last round that was already closed (0: fresh)."""

    kind: Literal["run_started"] = "run_started"
    sites: tuple[SiteName, ...]
    rounds: int
    resumed_from: int = 0


class RoundOpened(Document):
    """Orders of this round went out to `asked`; `offline` had no connected SuperNode."""

    kind: Literal["round_opened"] = "round_opened"
    round: int
    attempt: int
    asked: tuple[SiteName, ...]
    offline: tuple[SiteName, ...] = ()
    deadline_seconds: float


class SiteAnswered(Document):
    """One site answered: `reason` is None for an upload that entered the sum.

    `refusal` says why a vault disclosed nothing, where that is the reason.
    """

    kind: Literal["site_answered"] = "site_answered"
    round: int
    attempt: int
    site: SiteName
    reason: Reason | None = None
    refusal: Refusal | None = None
    seconds: float = Field(ge=0.0, description="since the round opened, or since shares were asked for")


class ModelScored(Document):
    """Scores of the model after `round`, from held-out patients of the sites that answered.

    `loss` is the mean training loss of the round that follows. `dice_*` are means over scored patients,
    taken from the sums; `sites` is empty where the charter does not share per-site metrics.
    """

    kind: Literal["model_scored"] = "model_scored"
    round: int = Field(ge=0)
    model: Sha256
    dice_tc: Unit
    dice_wt: Unit
    dice_et: Unit
    scored: int = Field(ge=0)
    worst_site: SiteName | None = None
    worst_site_mean: Unit | None = None
    sites: tuple[SiteRow, ...] = ()
    epsilon: float | None = Field(default=None, ge=0.0, description="spent by the run, this score included")


class RoundClosed(Document):
    """Round `round` is summed and checkpointed; seconds are wall time at the aggregator."""

    kind: Literal["round_closed"] = "round_closed"
    round: int = Field(ge=1)
    attempt: int = Field(ge=1)
    participants: tuple[SiteName, ...]
    missing: tuple[Missing, ...] = ()
    skipped_cases: int = Field(ge=0)
    loss: float | None = None
    seconds: float = Field(ge=0.0)
    seconds_opening: float = Field(default=0.0, ge=0.0, description="of them, for opening the masked sum")
    bytes_up: int = Field(ge=0)
    bytes_down: int = Field(ge=0)
    late_uploads: int = Field(default=0, ge=0, description="uploads of earlier rounds that came too late")
    epsilon: float | None = Field(default=None, ge=0.0, description="spent by the run so far")


class RunFinished(Document):
    """The last model is scored and written as `checkpoints/<file>.safetensors`.

    `model` is the hash of its (P,) float32 bytes, which the sites in `signed_by` have signed; `file` is
    the hash of the file.
    """

    kind: Literal["run_finished"] = "run_finished"
    model: Sha256
    file: Sha256
    signed_by: tuple[SiteName, ...]
    seconds: float = Field(ge=0.0)


class RunFailed(Document):
    """The aggregator gave up; `text` is its own, free of anything a site said."""

    kind: Literal["run_failed"] = "run_failed"
    text: str = Field(max_length=500)


Event = Annotated[
    RunStarted | RoundOpened | SiteAnswered | ModelScored | RoundClosed | RunFinished | RunFailed,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class NumberedEvent(Document):
    """An event with its number in the run: a number posted twice is stored once."""

    number: int = Field(ge=1)
    at: str = Field(description="aggregator's clock, UTC, ISO 8601")
    event: Event


class Dice(Document):
    """Mean Dice by region and their mean."""

    TC: Unit
    WT: Unit
    ET: Unit
    mean: Unit


class RoundRow(Document):
    """One row of a run's report."""

    round: int = Field(ge=0)
    dice: Dice | None = None
    worst_site: SiteName | None = None
    worst_site_mean: Unit | None = None
    scored: int = 0
    loss: float | None = None
    participants: int = 0
    participant_sites: tuple[SiteName, ...] = ()
    missing: tuple[Missing, ...] = ()
    skipped_cases: int = 0
    seconds: float = 0.0
    seconds_opening: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    late_uploads: int = 0
    sites: tuple[SiteRow, ...] = ()
    epsilon: float | None = None


class PrivacyReport(Document):
    """The proven bound of a run: `epsilon` is spent, `target` is the most that the charter lets it spend.

    `audited` is a lower bound found by attacking the mechanism with canaries (95 % confidence), and
    `certifiable` the largest that so many canaries can show; None where nobody has audited.
    """

    unit: Literal["patient", "site"]
    mechanism: str
    epsilon: float
    delta: float
    target: float
    audited: float | None = None
    certifiable: float | None = None


class RunReport(Document):
    """What `consilium demo --report FILE` writes; row 0 is the untrained model."""

    status: RunStatus
    hospitals: int
    secure_aggregation: bool
    privacy: PrivacyReport | None = None
    rounds: tuple[RoundRow, ...]
    seconds_total: float
    model: str | None = None
    database: str | None = None
    run: RunId | None = None
    study: Sha256 | None = None
    error: str | None = None
