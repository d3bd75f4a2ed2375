"""What a run needs from outside: a way to reach sites, and a place to tell what happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from consilium.contracts.envelope import Envelope
from consilium.contracts.reports import Event
from consilium.vocabulary import Reason

Tag = tuple[int, int, str]
"""(round, attempt, kind of order) that a message belongs to."""


@dataclass(frozen=True)
class Answer:
    """One site's answer to the order tagged `tag`: an envelope, or the reason why none came."""

    site: str
    tag: Tag
    envelope: Envelope | None
    reason: Reason | None = None


class Transport(Protocol):
    """Carries orders to sites and answers back. No call blocks for long."""

    def online(self) -> frozenset[str]:
        """Sites of the roster that are connected now."""

    def send(self, tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        """Send each site its order; answers are worth waiting for `seconds`."""

    def poll(self) -> Iterable[Answer]:
        """Answers that have arrived since the last call, of any tag, in any order."""


class Journal(Protocol):
    """Where a run's events go."""

    def tell(self, event: Event) -> None:
        """Record one event durably; delivery to the API may come later."""

    def deliver(self) -> None:
        """Deliver what is pending, if the API answers; quick, and never raises for a silent API."""
