"""The aggregator's state machine: one run of rounds, decided without I/O, clock or randomness.

    step(state, event) → (state, effects)

A round opens with the sites that are online, gathers answers, and closes when all have answered or the
deadline passes; too few uploads make another attempt of the same round, `ATTEMPTS` at most in a row.
After the last round one `finish` exchange delivers the last sum and scores the final model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from consilium.vocabulary import Reason

ATTEMPTS = 3
Payload = Literal["initial", "sum", "sum+model"]
Phase = Literal["idle", "gathering", "finished", "failed"]


@dataclass(frozen=True)
class AggregatorState:
    """Where the run stands.

    `round` is the one in work (count + 1: finish); `holds` what each site last said it holds;
    `finish_minimum` uploads close the last exchange, `minimum` every other.
    """

    roster: tuple[str, ...]
    count: int
    minimum: int
    round: int = 1
    attempt: int = 0
    failures: int = 0
    phase: Phase = "idle"
    finish_minimum: int = 1
    holds: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    uploaded: frozenset[str] = frozenset()
    missing: Mapping[str, Reason] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def waiting(self) -> frozenset[str]:
        """Sites that were asked and have not answered."""
        return frozenset(self.roster) - self.uploaded - frozenset(self.missing)

    @property
    def finishing(self) -> bool:
        """True in the closing exchange."""
        return self.round > self.count


@dataclass(frozen=True)
class Opened:
    """Open an attempt now; `online` are the sites with a connected SuperNode.

    `keyless` are those of them that have no keys in the window of masked sums, with the reason why.
    """

    online: frozenset[str]
    keyless: Mapping[str, Reason] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Uploaded:
    """A site's checked upload of this attempt; `holds` as its reply says."""

    site: str
    holds: int


@dataclass(frozen=True)
class Refused:
    """A site will not be in this attempt's sum."""

    site: str
    reason: Reason
    holds: int | None = None


@dataclass(frozen=True)
class DeadlinePassed:
    """The attempt's time is over."""


Event = Opened | Uploaded | Refused | DeadlinePassed


@dataclass(frozen=True)
class Ask:
    """Send one site its order with this payload."""

    site: str
    payload: Payload


@dataclass(frozen=True)
class Add:
    """Add the upload at hand to the accumulator."""

    site: str


@dataclass(frozen=True)
class Close:
    """Open the sum of these survivors, checkpoint it, report."""

    survivors: tuple[str, ...]
    missing: Mapping[str, Reason]


@dataclass(frozen=True)
class TryAgain:
    """Too few uploads: drop the accumulator and open the next attempt after a pause."""

    missing: Mapping[str, Reason]


@dataclass(frozen=True)
class GiveUp:
    """`ATTEMPTS` attempts in a row had too few uploads."""

    missing: Mapping[str, Reason]


Effect = Ask | Add | Close | TryAgain | GiveUp


def start(
    roster: tuple[str, ...],
    count: int,
    minimum: int,
    closed: int = 0,
    attempt: int = 0,
    finish_minimum: int = 1,
) -> AggregatorState:
    """A fresh run, or one that resumes after round `closed` whose last attempt number was `attempt`."""
    return AggregatorState(
        roster, count, minimum, round=closed + 1, attempt=attempt, finish_minimum=finish_minimum
    )


def close_asked(state: AggregatorState) -> AggregatorState:
    """The state after an attempt that an earlier launch had asked about, and this one finished."""
    if state.finishing:
        return replace(state, phase="finished")
    return replace(state, round=state.round + 1, attempt=0, failures=0)


def stop(state: AggregatorState) -> AggregatorState:
    """The state of a run that cannot go on now."""
    return replace(state, phase="failed")


def step(state: AggregatorState, event: Event) -> tuple[AggregatorState, tuple[Effect, ...]]:
    """Advance the run. Pure: equal arguments give equal results.

    Guarantees: an attempt number is never used twice; a site is added at most once an attempt; an answer
    of a site that is not waited for changes nothing; a round closes with at least `minimum` uploads.
    """
    if isinstance(event, Opened):
        return _open(state, event.online, event.keyless)
    if state.phase != "gathering":
        return state, ()
    if isinstance(event, DeadlinePassed):
        late = dict.fromkeys(state.waiting, Reason.NO_ANSWER)
        return _close(replace(state, missing=MappingProxyType({**state.missing, **late})))
    if event.site not in state.waiting:
        return state, ()
    if event.holds is not None:
        state = replace(state, holds=MappingProxyType({**state.holds, event.site: event.holds}))
    effects: tuple[Effect, ...] = ()
    if isinstance(event, Uploaded):
        state, effects = replace(state, uploaded=state.uploaded | {event.site}), (Add(event.site),)
    else:
        state = replace(state, missing=MappingProxyType({**state.missing, event.site: event.reason}))
    if state.waiting:
        return state, effects
    state, closing = _close(state)
    return state, effects + closing


def payload_for(round_number: int, holds: int) -> Payload:
    """What a site that holds the starting model of round `holds` needs for `round_number`."""
    if round_number == 1:
        return "initial"
    return "sum" if holds >= round_number - 1 else "sum+model"


def _open(
    state: AggregatorState, online: frozenset[str], keyless: Mapping[str, Reason]
) -> tuple[AggregatorState, tuple[Effect, ...]]:
    offline = {site: Reason.OFFLINE for site in state.roster if site not in online}
    offline |= {site: keyless[site] for site in state.roster if site in online and site in keyless}
    state = replace(
        state,
        attempt=state.attempt + 1,
        phase="gathering",
        uploaded=frozenset(),
        missing=MappingProxyType(offline),
    )
    if not state.waiting:
        return _close(state)
    asks = tuple(
        Ask(site, payload_for(state.round, state.holds.get(site, 0)))
        for site in state.roster
        if site in state.waiting
    )
    return state, asks


def _close(state: AggregatorState) -> tuple[AggregatorState, tuple[Effect, ...]]:
    enough = state.finish_minimum if state.finishing else state.minimum
    if len(state.uploaded) >= enough:
        survivors = tuple(site for site in state.roster if site in state.uploaded)
        closed = Close(survivors, state.missing)
        phase: Phase = "finished" if state.finishing else "idle"
        if not state.finishing:
            state = replace(state, round=state.round + 1, attempt=0)
        return replace(state, phase=phase, failures=0), (closed,)
    failures = state.failures + 1
    if failures >= ATTEMPTS:
        return replace(state, phase="failed", failures=failures), (GiveUp(state.missing),)
    return replace(state, phase="idle", failures=failures), (TryAgain(state.missing),)
