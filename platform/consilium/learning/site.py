"""The site's state machine: what a vault does with an order, decided without I/O, clock or randomness.

    step(state, event) → (state, effects)

`holds` is the round whose starting model the site has: 0 none, 1 the initial model, k the model after
round k−1. The vault carries out the effects, and feeds back `Stepped` and `Done`; each new state is
stored before anything leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from consilium.vocabulary import Decision, Reason


@dataclass(frozen=True)
class SiteState:
    """What a site remembers of one run: the model it holds and the jobs it has answered (job → digest)."""

    holds: int = 0
    answered: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Ordered:
    """An order arrived. `digest` is the hash of its whole content; `carries` what arrays it brings."""

    job: str
    digest: str
    kind: Literal["train", "finish"]
    round: int
    carries: frozenset[str]
    decision: Decision


@dataclass(frozen=True)
class Stepped:
    """The vault has the starting model of `round`, checked and on disk."""

    round: int


@dataclass(frozen=True)
class Done:
    """The answer to `job` is on disk."""

    job: str
    digest: str


Event = Ordered | Stepped | Done


@dataclass(frozen=True)
class Replay:
    """Send the stored answer of this job again."""

    job: str


@dataclass(frozen=True)
class Refuse:
    """Answer with a reason, and do nothing else."""

    reason: Reason


@dataclass(frozen=True)
class Work:
    """Take in what `adopt` names, apply the sum if `apply_sum`, score, and train if `train`."""

    adopt: Literal["nothing", "initial", "checkpoint"]
    apply_sum: bool
    train: bool


Effect = Replay | Refuse | Work


def step(state: SiteState, event: Event) -> tuple[SiteState, tuple[Effect, ...]]:
    """Advance the site. Pure: equal arguments give equal results.

    Guarantees: an answered job is replayed if its content is the same and refused if it is not; without
    approval nothing but a refusal comes out; the model only moves forward, one round at a time or by a
    checkpoint, and never from a message that the round does not allow.
    """
    if isinstance(event, Stepped):
        return replace(state, holds=event.round), ()
    if isinstance(event, Done):
        answered = MappingProxyType({**state.answered, event.job: event.digest})
        return replace(state, answered=answered), ()
    return state, (_decide(state, event),)


def _decide(state: SiteState, order: Ordered) -> Effect:
    if order.decision is Decision.REFUSED:
        return Refuse(Reason.REFUSED_BY_SITE)
    if order.decision is not Decision.APPROVED:
        return Refuse(Reason.NOT_APPROVED)
    if order.job in state.answered:
        same = state.answered[order.job] == order.digest
        return Replay(order.job) if same else Refuse(Reason.JOB_CONFLICT)
    if state.holds > order.round:
        return Refuse(Reason.STALE_ROUND)
    train = order.kind == "train"
    if state.holds == order.round:
        return Work("nothing", False, train)
    if order.round == 1:
        return Work("initial", False, train) if "initial" in order.carries else Refuse(Reason.BAD_MESSAGE)
    if "sum" not in order.carries:
        return Refuse(Reason.BAD_MESSAGE)
    if state.holds == order.round - 1:
        return Work("nothing", True, train)
    return Work("checkpoint", True, train) if "model" in order.carries else Refuse(Reason.BEHIND)
