"""An unreliable network between vaults and a server: messages are lost, late or doubled."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from million_vault import Ask, Keys, P, Reply, Ring, Seen, Summed, Tag, Train, Vault, Vector

from consilium.contracts.charter import colluding_bound, threshold
from consilium.learning.disclosure import Bounds

DEADLINE = 12
"""Ticks that the server waits for answers; a message takes 1 to 4, a late one up to eight times as long."""


@dataclass(frozen=True)
class Weather:
    """Chances: a message is lost, late or doubled; a site is offline; a vault or the server dies."""

    lost: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    offline: float = 0.0
    vault_dies: float = 0.0
    server_dies: float = 0.0


CALM = Weather()


class Question(NamedTuple):
    """A question on disk."""

    tag: Tag
    slot: int
    keys: Keys
    transcript: str
    survivors: frozenset[int]
    total: Ring
    model: str


class Closed(NamedTuple):
    """A closed round: its survivors, opened sum, and the model that it started from."""

    round: int
    survivors: frozenset[int]
    total: Ring
    model: Vector


@dataclass
class Disk:
    """What survives the server."""

    window: int = -1
    noted: tuple[int, int] = (0, 0)
    closed: list[Closed] = field(default_factory=list)
    summed: Summed | None = None
    question: Question | None = None
    finished: Closed | None = None


class Network:
    """The vaults of a run of `count` rounds, the messages on their way, and what survives the server."""

    def __init__(self, rng: random.Random, weather: Weather, sites: int, count: int, slots: int) -> None:
        self.rng, self.weather, self.count, self.slots = rng, weather, count, slots
        self.bounds = Bounds(sites, threshold(sites), colluding_bound(sites))
        self.seen, self.disk = Seen(), Disk()
        self.vaults = [Vault(site, self.bounds, self.seen, rng) for site in range(sites)]
        self.names = tuple(f"{site:02d}" for site in range(sites))
        self.initial = np.zeros(P, np.float32)
        self.now, self.sent, self.launches = 0, 0, 0
        self.queue: list[tuple[int, int, int, int, Train | Ask | Reply]] = []
        self.opened: dict[str, frozenset[int]] = {}
        self.counts: Counter[str] = Counter()

    def send(self, site: int, message: Train | Ask | Reply, doubled: bool = True) -> None:
        """Put a message on its way: to `site`, or, a reply, from it to the launch of now."""
        rng, weather = self.rng, self.weather
        if weather.lost and rng.random() < weather.lost:
            return
        delay = rng.randint(1, 4)
        if weather.late and rng.random() < weather.late:
            delay = rng.randint(5, 8 * DEADLINE)
        self.sent += 1
        heapq.heappush(self.queue, (self.now + delay, self.sent, site, self.launches, message))
        if doubled and weather.doubled and rng.random() < weather.doubled:
            self.send(site, message, doubled=False)

    def replies(self, end: int) -> Iterator[Reply]:
        """Deliver messages until `end`; yields the replies that reach the launch which asked."""
        while self.queue and self.queue[0][0] <= end:
            self.now, _, site, launch, message = heapq.heappop(self.queue)
            if isinstance(message, Reply):
                if launch == self.launches:
                    yield message
                continue
            reply = self.vaults[site].answer(message)
            if reply is not None:
                self.send(site, reply)
        self.now = end

    def note_opened(self, question: Question, total: Ring) -> None:
        """A sum that was opened: the right one, and the only one of its model."""
        parts = [self.seen.plain[question.transcript, site] for site in question.survivors]
        assert np.array_equal(np.sum(parts, axis=0, dtype=np.uint32), total), "a wrong sum was opened"
        assert len(question.survivors) >= self.bounds.least
        first = self.opened.setdefault(question.model, question.survivors)
        assert first == question.survivors, f"two sums of model {question.model}"
