"""The charter: everything a hospital agrees to when it joins a study, as one frozen document.

Its id is the SHA-256 of its canonical JSON. Sites sign that id; a vault refuses any other. What is not
in the charter cannot be set by a server: run-config overrides are ignored.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from consilium.contracts.base import Document, PublicKey, Sha256, SiteName, Title, explain
from consilium.errors import CharterError
from consilium.learning.registry import check_model
from consilium.privacy.fixed_point import FixedPoint
from consilium.privacy.plan import PrivacyPlan
from consilium.privacy.tags import LIMBS
from consilium.vocabulary import Modality, Region

RING_BITS = 32
TAIL = ("weight", "loss", "scored", "dice_tc", "dice_wt", "dice_et")
"""Extra coordinates of every upload, after the parameters, in this order (DESIGN §5)."""

Axis = Annotated[int, Field(ge=16, le=256)]


class Data(Document):
    """What a hospital must bring: contrasts, regions, and a minimum of usable cases."""

    modalities: tuple[Modality, ...] = tuple(Modality)
    regions: tuple[Region, ...] = tuple(Region)
    minimum_cases: int = Field(default=1, ge=1, le=100_000, description="usable cases a site must have")

    @model_validator(mode="after")
    def _brats(self) -> Data:
        if self.modalities != tuple(Modality) or self.regions != tuple(Region):
            raise ValueError(
                "today's pipeline reads t1, t1ce, t2, flair and scores TC, WT, ET, in this order"
            )
        return self


class Model(Document):
    """A network from the registry and its initial parameters, fixed by the hash of their file."""

    name: str = Field(description="a name from the model registry, such as 'unet'")
    arguments: dict[str, Any] = Field(default_factory=dict)
    parameters: int = Field(ge=1, le=2_000_000_000, description="number P of float32 parameters")
    initial: Sha256 = Field(description="SHA-256 of the safetensors file with the initial parameters")
    frozen: int = Field(default=0, ge=0, le=2_000_000_000, description="parameters in that file that stay")

    @model_validator(mode="after")
    def _known(self) -> Model:
        check_model(self.name, self.arguments)
        return self


class Training(Document):
    """How a hospital trains between two sums: the same number of local steps everywhere."""

    spacing_mm: float = Field(default=1.0, gt=0.2, le=6.0, description="isotropic voxel size in mm")
    patch: tuple[Axis, Axis, Axis] = Field(default=(48, 48, 48), description="training patch in voxels")
    batch: int = Field(default=4, ge=1, le=64)
    steps: int = Field(default=20, ge=1, le=100_000, description="local optimiser steps a round")
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    loss: Literal["dice_ce", "toy"] = Field(default="dice_ce", description="'toy' belongs to the toy model")
    foreground: float = Field(default=0.66, ge=0.0, le=1.0, description="share of patches centred on tumour")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _patch(self) -> Training:
        if any(axis % 8 for axis in self.patch):
            raise ValueError(f"patch {self.patch}: every axis must be a multiple of 8 voxels")
        return self


class Strategy(Document):
    """The server optimiser, applied by every vault itself in float32 (FedAvg, McMahan et al. 2017)."""

    name: Literal["fedavg"] = "fedavg"
    learning_rate: float = Field(default=1.0, gt=0.0, le=10.0)


class SecureAggregation(Document):
    """Numbers of the sum over Z_2^32 (DESIGN §6).

    `masked` says that nobody sees one site's update; without it the aggregator sees each in the clear.
    Colluding bound `c` and threshold `T` always follow from the roster's N.
    """

    masked: bool = True
    slots: int = Field(default=24, ge=1, le=256, description="attempts that one set of one-time keys serves")
    threshold: int = Field(ge=2, le=100)
    colluding: int = Field(ge=1, le=33)
    clip: float = Field(default=64.0, gt=0.0, le=1e6, description="bound C on the L2 norm of an update")
    scale_bits: int = Field(ge=0, le=30, description="an update is multiplied by 2**scale_bits and rounded")
    weight_cap: int = Field(default=1024, ge=1, le=1_000_000, description="most patients a site counts for")


class Privacy(Document):
    """Differential privacy of a run; `none` says plainly that nothing is proven.

    `distributed`: every site adds a share of the noise before it masks, so that nobody sees a sum without
    it. `local`: every site adds all of it. `central`: the aggregator adds it to the opened sum, and is
    trusted with that. ε counts the whole run, metrics included. See docs/security/privacy.md.
    """

    mechanism: Literal["none", "distributed", "local", "central"] = "none"
    unit: Literal["patient", "site"] = Field(default="patient", description="whose part is bounded")
    epsilon: float = Field(default=8.0, gt=0.0, le=1000.0, description="most ε that the run may spend")
    delta: float = Field(default=1e-5, gt=0.0, le=0.01, description="δ of the run; below 1 in all patients")
    noise: float = Field(default=1.0, gt=0.0, le=1e6, description="noise multiplier σ: deviation over clip")
    clip: float = Field(default=1.0, gt=0.0, le=1e4, description="bound C on the norm of one unit's part")
    sampling: float = Field(default=1.0, gt=0.0, le=1.0, description="a patient's chance to be in a round")
    cohort: int = Field(default=100, ge=1, description="training patients expected of a site")
    cohort_cap: int = Field(default=1024, ge=1, le=1_000_000, description="most patients a site may bring")
    evaluations: int = Field(default=3, ge=1, description="models scored; each is charged to who is held out")
    when_spent: Literal["go_on", "stop"] = Field(
        default="go_on", description="what the run does when a hospital's budget is spent"
    )
    tick_seconds: float = Field(default=1.0, ge=0.0, le=3600.0, description="answers leave on this tick")


class Release(Document):
    """What may be shown beyond sums."""

    site_metrics: bool = Field(default=True, description="may a site's own Dice be shown to the consortium")
    minimum_cohort: int = Field(default=1, ge=1, description="fewest training patients a site may bring")


class Rounds(Document):
    """How long the run is and how patient the aggregator is."""

    count: int = Field(default=8, ge=1, le=10_000)
    deadline_seconds: float = Field(default=600.0, ge=5.0, le=86_400.0, description="time limit of a round")
    minimum_sites: int = Field(ge=1, le=100, description="fewest uploads that close a round; T at least")


class Member(Document):
    """One site of the roster with its Ed25519 identity key."""

    site: SiteName
    hospital: Title
    identity: PublicKey


class Charter(Document):
    """A study as hospitals sign it. Raises `CharterError` through `read_charter` on any broken rule."""

    version: Literal[1] = 1
    title: Title
    purpose: str = Field(min_length=1, max_length=4000)
    data: Data = Data()
    model: Model
    training: Training = Training()
    rounds: Rounds
    strategy: Strategy = Strategy()
    secure_aggregation: SecureAggregation
    privacy: Privacy = Privacy()
    release: Release = Release()
    roster: tuple[Member, ...] = Field(min_length=2, max_length=100)

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON: the study's id everywhere."""
        return self.digest()

    def upload_size(self, finishing: bool = False) -> int:
        """Ring coordinates of an upload: parameters (none when finishing), tail, and tags if masked."""
        parameters = 0 if finishing else self.model.parameters
        return parameters + len(TAIL) + (LIMBS if self.secure_aggregation.masked else 0)

    def member(self, site: str) -> Member | None:
        """The roster's entry for `site`, or None."""
        return next((member for member in self.roster if member.site == site), None)

    @property
    def plan(self) -> PrivacyPlan | None:
        """What the run promises a patient, or None where it promises nothing."""
        dp, agg = self.privacy, self.secure_aggregation
        if dp.mechanism == "none":
            return None
        return PrivacyPlan(
            unit=dp.unit,
            mechanism=dp.mechanism,
            sites=len(self.roster),
            threshold=agg.threshold,
            colluding=agg.colluding,
            parameters=self.model.parameters,
            rounds=self.rounds.count,
            steps=self.training.steps,
            evaluations=dp.evaluations,
            sampling=dp.sampling,
            cohort=dp.cohort,
            cohort_cap=dp.cohort_cap,
            clip=dp.clip,
            noise=dp.noise,
            bits=agg.scale_bits,
            epsilon=dp.epsilon,
            delta=dp.delta,
        )

    @model_validator(mode="after")
    def _private(self) -> Charter:
        dp = self.privacy
        if dp.mechanism == "none":
            return self
        if self.release.site_metrics:
            raise ValueError("release.site_metrics must be false: a hospital's exact scores are outside ε")
        if dp.mechanism != "local" and not self.secure_aggregation.masked:
            raise ValueError(
                f"privacy.mechanism {dp.mechanism!r} needs secure_aggregation.masked: one upload alone does "
                "not hold the noise"
            )
        if 4 * dp.tick_seconds > self.rounds.deadline_seconds:
            raise ValueError(
                f"privacy.tick_seconds {dp.tick_seconds:g} must be at most a quarter of "
                f"rounds.deadline_seconds {self.rounds.deadline_seconds:g}: answers would come too late"
            )
        if dp.unit == "patient" and self.training.batch < 2:
            raise ValueError("training.batch: patches of a patient and pass, must be 2 or more")
        assert self.plan is not None
        self.plan.check_ring()
        self.plan.check_fine()
        if dp.mechanism == "local":
            FixedPoint(len(self.roster), self.secure_aggregation.clip, self.secure_aggregation.scale_bits, 1)
        return self

    @model_validator(mode="after")
    def _roster(self) -> Charter:
        names = [member.site for member in self.roster]
        keys = [member.identity for member in self.roster]
        if len(set(names)) != len(names) or len(set(keys)) != len(keys):
            raise ValueError("roster: every site and every identity key may appear once")
        if names != sorted(names):
            raise ValueError("roster: sites must be sorted by name")
        n, agg = len(names), self.secure_aggregation
        if agg.colluding != colluding_bound(n):
            raise ValueError(f"secure_aggregation.colluding must be {colluding_bound(n)} for {n} sites")
        if agg.threshold != threshold(n):
            raise ValueError(f"secure_aggregation.threshold must be {threshold(n)} for {n} sites")
        if agg.masked and n < 3:
            raise ValueError(
                f"secure_aggregation.masked needs 3 sites or more, the roster has {n}: of two, each could "
                "subtract its own update from the sum and read the other's"
            )
        if self.privacy.mechanism == "none" and agg.scale_bits > largest_scale_bits(n, agg.clip):
            raise ValueError(
                f"secure_aggregation.scale_bits {agg.scale_bits} could overflow the ring: at most "
                f"{largest_scale_bits(n, agg.clip)} for {n} sites and clip {agg.clip}"
            )
        if not threshold(n) <= self.rounds.minimum_sites <= n:
            raise ValueError(
                f"rounds.minimum_sites {self.rounds.minimum_sites} must be from {threshold(n)} to {n}: fewer "
                "could not sign the checkpoint that brings back a site that was away"
            )
        return self


def colluding_bound(sites: int) -> int:
    """`c = max(1, ⌊(N−1)/3⌋)`: how many sites may help a lying aggregator (DESIGN §6)."""
    return max(1, (sites - 1) // 3)


def threshold(sites: int) -> int:
    """`T = ⌊(N+c)/2⌋ + 1`, capped at N for the two-site toy case, so that 2T > N + c."""
    return min(sites, (sites + colluding_bound(sites)) // 2 + 1)


def largest_scale_bits(sites: int, clip: float) -> int:
    """Largest s with `N · (2**s · C + 1) < 2**31`: the sum of N rounded coordinates stays in the ring."""
    room = (2 ** (RING_BITS - 1) - 1) / sites - 1
    return max(0, min(30, math.floor(math.log2(room / clip))))


def read_charter(text: str | bytes, what: str = "charter") -> Charter:
    """Parse and check a charter from JSON.

    Raises:
        CharterError: names the field, the rule and the value of the first broken rules.
    """
    try:
        return Charter.model_validate_json(text, strict=False)
    except ValidationError as error:
        raise CharterError(f"{what}: {explain(error)}") from None
