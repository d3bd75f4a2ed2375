"""A server that may lie, with what it has got from sites and helpers, and the judge of what it opened."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from lie_arithmetic import (
    BODY,
    P,
    Place,
    Ring,
    Vector,
    codec_of,
    digest,
    name_of,
    pair_of,
    seed_of,
    stepped,
    stream,
    summed,
)
from lie_sites import CHARTER, SUMS, Handed, Setups, Site, Told, Upload

from consilium.contracts.charter import colluding_bound, threshold
from consilium.learning.disclosure import Bounds

NOBODY: frozenset[int] = frozenset()


@dataclass
class Judge:
    """Knows every honest update, and so what an opened vector is.

    `chain` is the true one: the initial model, then the model after the first right sum of each round.
    """

    bounds: Bounds
    helpers: int
    chain: list[Vector]
    sums: dict[str, frozenset[int]] = field(default_factory=dict)
    wrong: set[tuple[Any, ...]] = field(default_factory=set)
    right: int = 0

    def opened(self, group: list[Upload], vector: Ring) -> None:
        """Judge one vector that the server came to from the uploads of `group`; noise is nothing."""
        total = summed([each.plain for each in group])
        if not np.array_equal(total, vector):
            return
        who, models = frozenset(each.site for each in group), {each.model for each in group}
        if not all(self._honest(each) for each in group) or len(models) > 1:
            self.wrong.add(("not from the model of the round", who, frozenset(models)))
            return
        (model,) = models
        if len(who) < self.bounds.least - self.helpers:
            self.wrong.add(("too few", who, model))
        elif model not in self.sums:
            self.sums[model] = who
            self.right += 1
            self.chain.append(stepped(codec_of(self.bounds.sites), self.chain[-1], total))
        elif self.sums[model] != who:
            self.wrong.add(("second sum", who, model))

    def holds(self, site: Site) -> None:
        """Judge what a site of the last layer has for its model, in every run."""
        for run, memory in site.runs.items():
            number = max(memory.learned.holds, 1)
            if number > len(self.chain) or name_of(self.chain[number - 1]) != name_of(memory.model):
                self.wrong.add(("false model taken in", site.number, run, number))

    def _honest(self, upload: Upload) -> bool:
        started = self.chain[upload.round - 1] if upload.round <= len(self.chain) else None
        return started is not None and upload.charter == CHARTER and name_of(started) == upload.model


class Server:
    """What a server can do to honest sites of one layer. `honest` is a round by the book; lies change it.

    Helpers upload nothing, sign anything, hand out every share they hold, and may be named as survivors.
    """

    def __init__(self, layer: int, sites: int, helped: bool, rng: random.Random) -> None:
        bounds = Bounds(sites, threshold(sites), colluding_bound(sites))
        self.layer, self.bounds, self.rng = layer, bounds, rng
        self.helpers = frozenset(rng.sample(range(sites), bounds.colluding)) if helped else NOBODY
        self.world, self.threshold = digest(rng.random()), bounds.threshold
        self.model = np.frombuffer(rng.randbytes(2 * P), "<i2").astype(np.float32) / np.float32(1 << 16)
        self.everyone = tuple(site for site in range(sites) if site not in self.helpers)
        self.signed: set[tuple[int, str]] = set()
        self.sites = {
            site: Site(site, bounds, layer, self.model, self.world, self.signs) for site in self.everyone
        }
        self.shares: dict[Place, dict[tuple[int, str], set[int]]] = defaultdict(lambda: defaultdict(set))
        self.uploads: dict[Place, list[Upload]] = defaultdict(list)
        self.judge = Judge(bounds, len(self.helpers), [self.model])
        self.setups: Setups = tuple((site, False) for site in range(sites))
        self.run, self.window, self.slot, self.round, self.attempt = "run", 0, -1, 1, 0
        self.handed: Handed | None = None
        self.past: list[tuple[Vector, Handed]] = []

    def signs(self, site: int, what: str) -> bool:
        """Whether a site's signature on this can be shown."""
        return site in self.helpers or (site, what) in self.signed

    def some(self, count: int) -> frozenset[int]:
        """Honest sites at random."""
        return frozenset(self.rng.sample(self.everyone, count))

    def half(self) -> frozenset[int]:
        """About half of the honest sites."""
        return self.some(len(self.everyone) // 2)

    def next_slot(self) -> int:
        """A new attempt: the next slot of the window."""
        self.slot, self.attempt = self.slot + 1, self.attempt + 1
        return self.slot

    def next_window(self) -> None:
        """New keys, of the same participants."""
        self.window, self.slot = self.window + 1, -1

    def told(self, **changes: Any) -> Told:
        """The order of this attempt, by the book but for `changes`."""
        honest = Told(
            self.window, self.slot, self.round, self.attempt, self.setups, run=self.run, handed=self.handed
        )
        return replace(honest, **changes)

    def order(self, sites: Iterable[int] | None = None, **changes: Any) -> list[Upload]:
        """Send the order to these honest sites, to all without `sites`; returns what they upload."""
        told = self.told(**changes)
        found = []
        for site in self.everyone if sites is None else sites:
            upload = self.sites[site].hear(told)
            if upload is not None:
                claim = digest("model", told.run, told.round, upload.model)
                self.signed |= {(site, upload.claim), (site, claim)}
                self.uploads[told.place].append(upload)
                found.append(upload)
        return found

    def ask(
        self,
        survivors: Iterable[int],
        of: Iterable[int] | None = None,
        slot: int | None = None,
        window: int = -1,
    ) -> None:
        """Ask these sites for shares, without `of` the honest survivors; for signatures on the set before."""
        told = frozenset(survivors)
        slot, window = self.slot if slot is None else slot, self.window if window < 0 else window
        asked, agreed = sorted(told - self.helpers if of is None else of), self.helpers
        if self.bounds.sites - len(told) > self.bounds.freely_missing:
            agreed |= {site for site in asked if self.sites[site].sign(self.run, window, slot, told)}
        for site in asked:
            shares = self.sites[site].answer(self.run, window, slot, told, agreed)
            for other, kind in shares.items():
                self.shares[self.run, window, slot][other, kind].add(site)

    def known(self, place: Place, kind: str) -> frozenset[int]:
        """Honest sites whose self-seed or mask key it can put together."""
        enough = self.threshold - len(self.helpers)
        found = (
            site for (site, what), by in self.shares[place].items() if what == kind and len(by) >= enough
        )
        return frozenset(found) - self.helpers

    def open(self, group: Iterable[Upload]) -> Ring | None:
        """Take off a group of uploads all masks that it knows; None where it lacks a self-seed."""
        group = list(group)
        place = group[0].place if group else (self.run, self.window, self.slot)
        seeds, masks = self.known(place, "seed"), self.known(place, "mask") | self.helpers
        if not group or not {each.site for each in group} <= seeds:
            return None
        total = np.zeros_like(group[0].plain)
        for each in group:
            total += each.masked - stream(seed_of(self.world, place, each.site), each.salt)
            for other, forged in each.setups:
                if other != each.site and (forged or other in masks or each.site in masks):
                    pair = stream(pair_of(self.world, place, each.site, other, forged), each.salt)
                    total += np.negative(pair) if other < each.site else pair
        self.judge.opened(group, total)
        return total

    def close(self, uploads: list[Upload]) -> bool:
        """End the round with the sum of these uploads, if it opens."""
        total = self.open(uploads)
        if total is None or not uploads:
            return False
        who, first = frozenset(each.site for each in uploads), uploads[0]
        self.handed = Handed(total, who, first.place[1], first.place[2], self.attempt, self.setups)
        self.past.append((self.model, self.handed))
        self.model = stepped(codec_of(self.bounds.sites), self.model, total)
        self.round, self.attempt = self.round + 1, 0
        return True

    def honest(self, lost: Iterable[int] = (), away: Iterable[int] = ()) -> bool:
        """A round by the book, without those that are away and those whose upload is lost."""
        self.next_slot()
        present = [site for site in self.everyone if site not in set(away)]
        kept = [each for each in self.order(present) if each.site not in set(lost)]
        self.ask(each.site for each in kept)
        return self.close(kept)

    def sweep(self) -> None:
        """Try what a lie may have left: each slot's first and last uploads, and each transcript's."""
        for uploads in list(self.uploads.values()):
            groups: dict[Any, dict[int, Upload]] = defaultdict(dict)
            for each in uploads:
                groups["first"].setdefault(each.site, each)
                groups["last"][each.site] = each
                groups[each.claim][each.site] = each
            seeds = self.known(uploads[0].place, "seed")
            for named in {tuple(sorted(g.items(), key=lambda pair: pair[0])) for g in groups.values()}:
                self.open(each for site, each in named if site in seeds)
        if self.layer >= SUMS:
            for site in self.sites.values():
                self.judge.holds(site)

    def forged(self, body: Ring, handed: Handed) -> tuple[Vector, Handed]:
        """A false sum with the tags of a true one, and the model that it would give."""
        total = np.concatenate([body, handed.total[BODY:]])
        started = self.past[-1][0]
        return stepped(codec_of(self.bounds.sites), started, total), replace(handed, total=total)
